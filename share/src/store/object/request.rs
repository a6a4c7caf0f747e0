//! Requests of our own, signed and sent by the means of the `object_store` crate: what its trait has no call for.
//!
//! Object Lock is one ([`super::lock`]); listings are another ([`super::listing`]), because the crate ends one at the first
//! name that it would not have given itself.

use std::fmt;
use std::io;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, StatusCode};
use object_store::Error;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::HttpClient;

use super::http::read;

/// Longest answer that is read, in bytes: a page of a thousand names of the longest kind.
const LONGEST: usize = 16 << 20;
/// In the errors of the crate.
const STORE: &str = "share";

/// Where requests go, and with which credentials.
pub(super) enum Target {
    /// A bucket.
    S3 {
        /// Address of the bucket, without a slash at its end.
        bucket: String,
        /// The region that requests are signed for.
        region: String,
        credential: AwsCredential,
    },
    /// A container.
    Azure {
        /// Address of the container, without a slash at its end.
        container: String,
        account: String,
        credential: AzureCredential,
    },
}

/// A client for requests that the crate has no call for.
pub(super) struct Requests {
    http: HttpClient,
    target: Target,
}

/// One request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// The object's key; empty for the bucket itself.
    pub(super) key: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) body: Bytes,
}

/// What was answered, with a status of 200 to 299.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Requests {
    /// A client of this target.
    pub(super) fn new(target: Target, http: HttpClient) -> Self {
        Self { http, target }
    }

    /// Whether this is S3.
    pub(super) fn is_s3(&self) -> bool {
        match self.target {
            Target::S3 { .. } => true,
            Target::Azure { .. } => false,
        }
    }

    /// Deletes one object, or one version of it. The crate deletes in bulk, and what became of one object is then told in
    /// other words, by every service in its own.
    ///
    /// # Errors
    /// Those of [`Requests::send`].
    pub(super) async fn delete(&self, key: &str, version: Option<&str>) -> Result<(), Error> {
        let query: Vec<_> = version.iter().map(|version| ("versionId", *version)).collect();
        let ask = Ask { method: Method::DELETE, key, query: &query, headers: &[], body: Bytes::new() };
        self.send(ask).await.map(drop)
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// The crate's kinds of errors, by the status; the service's answer is in their text.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, Error> {
        let base = match &self.target {
            Target::S3 { bucket, .. } => bucket,
            Target::Azure { container, .. } => container,
        };
        let query: Vec<String> =
            ask.query.iter().map(|(name, value)| format!("{name}={}", escape(value, false))).collect();
        let slash = if ask.key.is_empty() { "" } else { "/" };
        let mark = if query.is_empty() { "" } else { "?" };
        let uri = format!("{base}{slash}{}{mark}{}", escape(ask.key, true), query.join("&"));
        let mut request = Request::builder().method(ask.method).uri(uri);
        for (name, value) in ask.headers {
            request = request.header(*name, value);
        }
        if !ask.body.is_empty() {
            // Azure's signature has it, so that it cannot be left to the client.
            request = request.header(CONTENT_LENGTH, ask.body.len());
        }
        let mut request = request.body(ask.body.into()).map_err(generic)?;
        match &self.target {
            Target::S3 { region, credential, .. } => {
                AwsAuthorizer::new(credential, "s3", region).try_authorize(&mut request, None)?;
            }
            Target::Azure { account, credential, .. } => {
                AzureAuthorizer::new(credential, account).try_authorize(&mut request)?;
            }
        }
        let (head, body) = self.http.execute(request).await.map_err(generic)?.into_parts();
        let body = read(body, LONGEST).await.map_err(generic)?;
        if !body.whole {
            return Err(generic(io::Error::other(format!("an answer of more than {LONGEST} bytes"))));
        }
        if head.status.is_success() {
            Ok(Answer { headers: head.headers, body: body.bytes })
        } else {
            Err(refused(head.status, ask.key, &body.bytes))
        }
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its target holds credentials.
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: STORE, source: Box::new(source) }
}

/// The error of a status, with the service's words in it.
fn refused(status: StatusCode, key: &str, body: &[u8]) -> Error {
    let said = format!("{status}: {}", String::from_utf8_lossy(body));
    let (path, source) = (key.to_owned(), Box::new(io::Error::other(said)));
    match status {
        StatusCode::NOT_FOUND => Error::NotFound { path, source },
        StatusCode::FORBIDDEN => Error::PermissionDenied { path, source },
        StatusCode::UNAUTHORIZED => Error::Unauthenticated { path, source },
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Error::AlreadyExists { path, source },
        _ => Error::Generic { store: STORE, source },
    }
}

/// Percent-encoding of all but unreserved characters, as signatures want it (RFC 3986 section 2.3; AWS, *Create a signed
/// request*, `UriEncode`).
fn escape(text: &str, slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn all_but_unreserved_characters_are_escaped() {
        assert_eq!(escape("a b/ü+~", true), "a%20b/%C3%BC%2B~");
        assert_eq!(escape("a/b=&", false), "a%2Fb%3D%26");
    }
}
