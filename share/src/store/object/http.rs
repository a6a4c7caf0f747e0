//! The HTTP client of object storage. What it sends goes to the endpoint and nowhere else, what is answered has an end, and no
//! refusal repeats a secret.
//!
//! ```text
//! 300 to 399    an error that names the other server: redirects would take tokens and signatures there
//! 400 and more  the beginning of the body, secrets masked; its announced length is not believed
//! 200 to 299    as it is: whoever reads it has a limit of its own
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::{Certificate, Url, redirect};

use crate::store::secret::Hidden;

/// To be connected; the calls themselves are limited by [`crate::store::timeout`].
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of a refusal that are read: code and message stand at its beginning.
const REFUSAL: usize = 64 * 1024;
/// Shorter ones would mask parts of words, and protect nothing.
const SHORTEST_SECRET: usize = 4;
/// What signatures and tokens stand behind in addresses, in lower case.
const MARKS: [&str; 4] = ["sig=", "sig%3d", "signature=", "token="];
/// In the place of a secret.
const MASK: &str = "…";

/// Makes the clients of one store: all calls of it share one.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    client: HttpClient,
}

impl Connector {
    /// A client that trusts these certificates besides the system's, and masks these secrets. `plain`: without TLS, too.
    ///
    /// # Errors
    /// When the system has no certificates, or these are none.
    pub(super) fn new(
        certificates: Vec<Certificate>,
        plain: bool,
        secrets: Vec<Hidden>,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .tls_certs_merge(certificates)
            .https_only(!plain)
            // The length of an object is that of the body as it is sent.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .build()?;
        let guarded = Guarded { client: HttpClient::new(client), secrets: secrets.into() };
        Ok(Self { client: HttpClient::new(guarded) })
    }

    /// The client.
    pub(super) fn client(&self) -> HttpClient {
        self.client.clone()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client())
    }
}

#[derive(Debug)]
struct Guarded {
    client: HttpClient,
    secrets: Arc<[Hidden]>,
}

#[async_trait]
impl HttpService for Guarded {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let server = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let answer = self.client.execute(request).await.map_err(|error| named(&server, &error))?;
        let status = answer.status();
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            let redirect = Redirect::of(status, answer.headers());
            return Err(HttpError::new(HttpErrorKind::Unknown, redirect));
        }
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        // The status says the most; a body that breaks off takes nothing from it.
        let said = read(body, REFUSAL).await.map(|read| read.bytes).unwrap_or_default();
        let said = masked(&String::from_utf8_lossy(&said), &self.secrets);
        Ok(HttpResponse::from_parts(head, said.into()))
    }
}

/// A body, or its beginning.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    /// Whether that is all of it.
    pub(super) whole: bool,
}

/// Reads at most so many bytes. What the answer announces reserves no memory.
///
/// # Errors
/// When the body breaks off.
pub(super) async fn read(body: HttpResponseBody, most: usize) -> Result<Read, HttpError> {
    let mut parts = body.bytes_stream();
    let mut bytes = BytesMut::new();
    while let Some(part) = parts.next().await {
        let part = part?;
        let room = most - bytes.len();
        bytes.extend_from_slice(part.get(..room).unwrap_or(&part));
        if part.len() > room {
            return Ok(Read { bytes: bytes.freeze(), whole: false });
        }
    }
    Ok(Read { bytes: bytes.freeze(), whole: true })
}

/// An answer that sends us elsewhere.
#[derive(Debug, thiserror::Error)]
pub(super) struct Redirect {
    status: StatusCode,
    /// Scheme, host and port of the other server.
    to: Option<String>,
    /// The region that a bucket of AWS is in.
    region: Option<String>,
}

impl Redirect {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        // Path and query may repeat a signature.
        let to = header(LOCATION.as_str()).and_then(|to| Url::parse(to).ok());
        let to = to.map(|url| url.origin()).filter(|origin| origin.is_tuple());
        let is_region = |region: &&str| {
            region.len() <= 32 && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let region = header("x-amz-bucket-region").filter(is_region).map(str::to_owned);
        Self { status, to: to.map(|origin| origin.ascii_serialization()), region }
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.as_u16();
        if let Some(region) = &self.region {
            return write!(
                f,
                "the server redirects ({status}): the bucket is in the region {region}; set region={region} in the address"
            );
        }
        let to = self.to.as_deref().unwrap_or("another place");
        write!(
            f,
            "the server redirects to {to} ({status}), where no credentials are sent; set the right endpoint or region in the address"
        )
    }
}

/// The innermost cause, with the server that was asked: what the layers above it add is the same for all.
#[derive(Debug, thiserror::Error)]
#[error("{server}: {cause}")]
struct Unanswered {
    server: String,
    cause: String,
}

fn named(server: &str, error: &HttpError) -> HttpError {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let (server, cause) = (server.to_owned(), innermost.to_string());
    HttpError::new(error.kind(), Unanswered { server, cause })
}

/// The text without these secrets, and without what stands behind the marks of signatures and tokens.
fn masked(text: &str, secrets: &[Hidden]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().map(Hidden::expose).filter(|secret| secret.len() >= SHORTEST_SECRET) {
        if text.contains(secret) {
            text = text.replace(secret, MASK);
        }
    }
    for mark in MARKS {
        text = behind(&text, mark);
    }
    text
}

fn behind(text: &str, mark: &str) -> String {
    // Of the same length as the text: only ASCII changes.
    let lower = text.to_ascii_lowercase();
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    while let Some(at) = lower[from..].find(mark) {
        let value = from + at + mark.len();
        out.push_str(&text[from..value]);
        out.push_str(MASK);
        let ends = |c: char| c.is_whitespace() || matches!(c, '&' | ';' | '"' | '\'' | '<' | '>' | ')' | ',');
        from = text[value..].find(ends).map_or(text.len(), |end| value + end);
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::masked;
    use crate::store::secret::Hidden;

    #[test]
    fn refusals_are_shown_without_secrets() {
        let secrets = [Hidden::new("SKADMIN/x+y"), Hidden::new("x")];
        for (said, shown) in [
            ("url was /a/c?sv=1&sig=LEAK%2B&se=2", "url was /a/c?sv=1&sig=…&se=2"),
            ("url was /a/c?SIG=LEAK", "url was /a/c?SIG=…"),
            ("<a>sv=1&amp;sig=LEAK</a> sig=LEAK.", "<a>sv=1&amp;sig=…</a> sig=…"),
            (
                "X-Amz-Signature=LEAK&X-Amz-Security-Token=LEAK x",
                "X-Amz-Signature=…&X-Amz-Security-Token=… x",
            ),
            ("ü sig%3DLEAK ü", "ü sig%3D… ü"),
            ("the key SKADMIN/x+y is xx", "the key … is xx"),
        ] {
            assert_eq!(masked(said, &secrets), shown);
        }
    }
}
