//! Listings: pages of names, one page in memory, whatever the names are.
//!
//! The crate's own listing ends with an error at a key such as `a//b`, which it cannot express; anybody who may write to
//! the bucket could so stop every prune. Here such a key is a line like any other.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::Method;
use object_store::Error;
use serde::Deserialize;

use super::request::{Ask, Requests};

/// One object of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: String,
    /// Length in bytes.
    pub(super) size: u64,
}

/// What is asked for next.
enum Next {
    First,
    Page(String),
    Nothing,
}

/// Every object whose key begins with `prefix`, in the order of the service.
pub(super) fn list(requests: Arc<Requests>, prefix: String) -> BoxStream<'static, Result<Line, Error>> {
    let pages = stream::unfold(Next::First, move |next| {
        let (requests, prefix) = (Arc::clone(&requests), prefix.clone());
        async move {
            let token = match next {
                Next::First => None,
                Next::Page(token) => Some(token),
                Next::Nothing => return None,
            };
            match page(&requests, &prefix, token.as_deref()).await {
                // A service that gives the same token again would list for ever.
                Ok((_, Some(again))) if Some(&again) == token.as_ref() => {
                    Some((Err(unreadable("the same page is named as the next one")), Next::Nothing))
                }
                Ok((lines, more)) => Some((Ok(lines), more.map_or(Next::Nothing, Next::Page))),
                Err(error) => Some((Err(error), Next::Nothing)),
            }
        }
    });
    pages
        .flat_map(|page| match page {
            Ok(lines) => stream::iter(lines.into_iter().map(Ok)).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
}

/// One page, and what names the next one.
async fn page(
    requests: &Requests,
    prefix: &str,
    token: Option<&str>,
) -> Result<(Vec<Line>, Option<String>), Error> {
    let mut query = if requests.is_s3() {
        vec![("list-type", "2"), ("prefix", prefix)]
    } else {
        vec![("comp", "list"), ("prefix", prefix), ("restype", "container")]
    };
    if let Some(token) = token {
        query.push((if requests.is_s3() { "continuation-token" } else { "marker" }, token));
    }
    query.sort_unstable();
    let ask = Ask { method: Method::GET, key: "", query: &query, headers: &[], body: Bytes::new() };
    let body = requests.send(ask).await?.body;
    if requests.is_s3() { s3_page(&body) } else { azure_page(&body) }
}

fn s3_page(body: &[u8]) -> Result<(Vec<Line>, Option<String>), Error> {
    let page: S3Page = quick_xml::de::from_reader(body).map_err(unreadable)?;
    let lines = page.contents.into_iter().map(|object| Line { key: object.key, size: object.size });
    let more = page.next.filter(|token| page.truncated && !token.is_empty());
    if page.truncated && more.is_none() {
        return Err(unreadable("the page says that there are more, and names none"));
    }
    Ok((lines.collect(), more))
}

fn azure_page(body: &[u8]) -> Result<(Vec<Line>, Option<String>), Error> {
    // Azure begins its answers with a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let page: AzurePage = quick_xml::de::from_reader(body).map_err(unreadable)?;
    let lines = page.blobs.blob.into_iter().map(|blob| Line { key: blob.name, size: blob.properties.size });
    Ok((lines.collect(), page.next.filter(|token| !token.is_empty())))
}

fn unreadable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "share", source: why.into() }
}

/// `ListBucketResult` of ListObjectsV2 (Amazon S3 API reference).
#[derive(Debug, Deserialize)]
struct S3Page {
    #[serde(rename = "Contents", default)]
    contents: Vec<S3Object>,
    #[serde(rename = "IsTruncated", default)]
    truncated: bool,
    #[serde(rename = "NextContinuationToken", default)]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct S3Object {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Size")]
    size: u64,
}

/// `EnumerationResults` of List Blobs (Azure Blob Storage REST API).
#[derive(Debug, Deserialize)]
struct AzurePage {
    #[serde(rename = "Blobs", default)]
    blobs: AzureBlobs,
    #[serde(rename = "NextMarker", default)]
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct AzureBlobs {
    #[serde(rename = "Blob", default)]
    blob: Vec<AzureBlob>,
}

#[derive(Debug, Deserialize)]
struct AzureBlob {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Properties")]
    properties: AzureProperties,
}

#[derive(Debug, Deserialize)]
struct AzureProperties {
    #[serde(rename = "Content-Length")]
    size: u64,
}

#[cfg(test)]
mod tests {
    use super::{Line, azure_page, s3_page};

    fn line(key: &str, size: u64) -> Line {
        Line { key: key.to_owned(), size }
    }

    #[test]
    fn names_that_are_none_of_ours_are_lines_like_others() {
        let s3 = b"<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>\
            <NextContinuationToken>t=1</NextContinuationToken><KeyCount>2</KeyCount>\
            <Contents><Key>fleet/a//b</Key><Size>3</Size></Contents>\
            <Contents><Key>fleet/ &amp;/../x</Key><Size>0</Size></Contents></ListBucketResult>";
        let want = vec![line("fleet/a//b", 3), line("fleet/ &/../x", 0)];
        assert_eq!(s3_page(s3).expect("reads"), (want, Some("t=1".to_owned())));
        let azure = b"\xef\xbb\xbf<?xml version=\"1.0\"?><EnumerationResults><Blobs>\
            <Blob><Name>a//b</Name><Properties><Content-Length>7</Content-Length></Properties></Blob></Blobs>\
            <NextMarker/></EnumerationResults>";
        assert_eq!(azure_page(azure).expect("reads"), (vec![line("a//b", 7)], None));
        let empty = b"<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
        assert_eq!(azure_page(empty).expect("reads"), (vec![], None));
    }

    #[test]
    fn a_page_that_cannot_be_whole_is_an_error() {
        let nowhere = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert!(s3_page(nowhere).is_err(), "more, and no way to it");
        let cut = b"<ListBucketResult><Contents><Key>a</Key><Size>3</Size></Contents>";
        assert!(s3_page(cut).is_err(), "cut off");
        assert!(azure_page(b"<EnumerationResults><Blobs>").is_err(), "cut off");
        assert!(s3_page(b"").is_err() && azure_page(b"").is_err(), "empty");
    }
}
