//! Listings: pages of names, one page in memory, whatever the names are.
//!
//! The crate's own listing ends with an error at a key such as `a//b`, which it cannot express; anybody who may write to
//! the bucket could so stop every prune. Here such a key is a line like any other.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::Method;
use object_store::Error;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde::Deserialize;

use super::request::{Ask, Requests};

/// More names than any share has: a fleet of ten thousand agents with ten thousand objects each.
const MOST_NAMES: u64 = 100_000_000;
/// Pages of names in succession that bring nothing further.
const MOST_TURNS: u32 = 8;
/// Empty pages in succession: a service gives some where much was deleted.
const MOST_EMPTY: u32 = 200;
/// Elements within each other; those of the services are four and five deep.
const DEEPEST: usize = 16;

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
    let pages = stream::unfold((Next::First, Progress::default()), move |(next, mut progress)| {
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
                    let error = unreadable("the same page is named as the next one");
                    Some((Err(error), (Next::Nothing, progress)))
                }
                Ok((lines, more)) => Some(match progress.to(&lines) {
                    Ok(()) => (Ok(lines), (more.map_or(Next::Nothing, Next::Page), progress)),
                    Err(error) => (Err(error), (Next::Nothing, progress)),
                }),
                Err(error) => Some((Err(error), (Next::Nothing, progress))),
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

/// How far a listing has come. Services list in the order of the names, so that one whose pages bring nothing behind what was there
/// goes round, with a new token each time; most of them order bytes, some folder by folder, where `a/b` comes before `a-b`.
#[derive(Default)]
struct Progress {
    names: u64,
    /// Pages since the last one that brought something new: with names, and empty.
    turns: u32,
    empty: u32,
    /// The greatest name in the order of bytes, and folder by folder.
    bytes: Option<String>,
    folders: Option<String>,
}

impl Progress {
    fn to(&mut self, lines: &[Line]) -> Result<(), Error> {
        self.names = self.names.saturating_add(lines.len() as u64);
        if self.names > MOST_NAMES {
            return Err(unreadable(format!("it has more than {MOST_NAMES} names, and no end")));
        }
        let by_bytes = further(&mut self.bytes, lines, str::cmp);
        if further(&mut self.folders, lines, |one, other| one.split('/').cmp(other.split('/'))) || by_bytes {
            (self.turns, self.empty) = (0, 0);
            return Ok(());
        }
        let (turns, most) =
            if lines.is_empty() { (&mut self.empty, MOST_EMPTY) } else { (&mut self.turns, MOST_TURNS) };
        *turns += 1;
        if *turns > most {
            return Err(unreadable("the server repeats itself: its pages bring no further names"));
        }
        Ok(())
    }
}

/// Whether one of these names is greater than the greatest one, which it then becomes.
fn further(greatest: &mut Option<String>, lines: &[Line], order: impl Fn(&str, &str) -> Ordering) -> bool {
    let Some(last) = lines.iter().map(|line| line.key.as_str()).max_by(|one, other| order(one, other)) else {
        return false;
    };
    let is_further = greatest.as_deref().is_none_or(|greatest| order(last, greatest).is_gt());
    if is_further {
        *greatest = Some(last.to_owned());
    }
    is_further
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
    shallow(body)?;
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
    shallow(body)?;
    let page: AzurePage = quick_xml::de::from_reader(body).map_err(unreadable)?;
    let lines = page.blobs.blob.into_iter().map(|blob| Line { key: blob.name, size: blob.properties.size });
    Ok((lines.collect(), page.next.filter(|token| !token.is_empty())))
}

/// Refuses what is deeper than any listing: the reader of whole documents counts its elements in 16 bits.
fn shallow(body: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::from_reader(body);
    let mut depth = 0_usize;
    loop {
        match reader.read_event().map_err(unreadable)? {
            Event::Start(_) if depth == DEEPEST => {
                return Err(unreadable("its elements are nested too deeply"));
            }
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Eof => return Ok(()),
            Event::Empty(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
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
