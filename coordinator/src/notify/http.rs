//! One HTTP request to one address: no redirects, bounded in time and in what is read of the answer.
//!
//! Must never say more of the address than its host: the path of many receivers is their secret.

use std::time::Duration;

use muster_protocol::causes::causes;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, redirect};
use zeroize::Zeroizing;

use super::address::Address;
use super::config::NotifyConfig;
use super::error::{NotifyError, Then, Undelivered};

const CONNECT: Duration = Duration::from_secs(10);
/// What is read of an answer that is no success.
const READ: usize = 512;
/// What is said of it.
const SAID: usize = 200;
/// The shortest part of an address that may be a secret.
const LEAST_SECRET: usize = 5;
/// Longest wait that the other side may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(15 * 60);

/// The way to one address.
pub(super) struct Http {
    client: Client,
    address: Zeroizing<String>,
    shown: String,
    /// What no answer may carry into an error.
    secrets: Vec<Zeroizing<String>>,
}

impl Http {
    /// The way that a channel's configuration describes.
    pub(super) fn open(config: &NotifyConfig) -> Result<Self, NotifyError> {
        let channel = || config.name.clone();
        let address = match (&config.url, &config.url_file) {
            (Some(url), _) => url.clone(),
            (None, Some(file)) => {
                let text = super::channel::secret(&config.name, file)?;
                let address = Address::new(text.as_str());
                let why = address.check(config.insecure).err();
                match why {
                    Some(why) => {
                        return Err(NotifyError::Address { channel: channel(), file: file.clone(), why });
                    }
                    None => address,
                }
            }
            (None, None) => Address::new(""),
        };
        let url = address.check(config.insecure);
        // Whole, and each part by itself: a receiver may repeat any of it.
        let whole = url.iter().flat_map(|url| [url.path(), url.query().unwrap_or_default()]);
        let parts = whole.clone().flat_map(|text| text.split(['/', '&', '=', '?', ';', '.', '-', '%']));
        // What is short is no secret, and would tear holes into every text.
        let secrets = whole.chain(parts).filter(|part| part.len() >= LEAST_SECRET);
        let secrets = secrets.map(|part| Zeroizing::new(part.to_lowercase())).collect();
        let client = |source: Box<dyn std::error::Error + Send + Sync>| NotifyError::Client {
            channel: channel(),
            source,
        };
        muster_telemetry::install_ring().map_err(|error| client(error.into()))?;
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &config.ca_file {
            builder = builder.tls_certs_merge(certificates(config, file)?);
        }
        let built = builder.build().map_err(|error| client(error.into()))?;
        Ok(Self {
            client: built,
            shown: address.to_string(),
            address: Zeroizing::new(address.reveal().to_owned()),
            secrets,
        })
    }

    /// The address, up to its host.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn get(&self) -> RequestBuilder {
        self.client.get(self.address.as_str())
    }

    pub(super) fn post(&self) -> RequestBuilder {
        self.client.post(self.address.as_str())
    }

    /// Sends it. A status of 2xx is success; one of 4xx, but for 408 and 429, and a redirect are final.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<String, Undelivered> {
        let sent = request.send().await;
        let mut response =
            sent.map_err(|error| Undelivered::again(self.scrubbed(&causes(&error.without_url()))))?;
        let status = response.status();
        if status.is_success() {
            return Ok(format!("answered {status}"));
        }
        let asked = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|secs| secs.trim().parse().ok()).map(Duration::from_secs);
        let mut read = Vec::new();
        while let Ok(Some(piece)) = response.chunk().await {
            read.extend_from_slice(&piece);
            if read.len() >= READ {
                break;
            }
        }
        let body = self.scrubbed(&String::from_utf8_lossy(&read));
        let body = if body.is_empty() { String::new() } else { format!(": {body}") };
        let why = format!("{} answered {status}{body}", self.shown);
        Err(Undelivered { why, then: then(status, asked) })
    }

    /// `text` on one line that is not too long, without what the address holds.
    fn scrubbed(&self, text: &str) -> String {
        // In whatever case it comes back. What holds any of it is shown as if it were not there.
        let words = text.split_whitespace().map(|word| {
            let lower = word.to_lowercase();
            if self.secrets.iter().any(|secret| lower.contains(secret.as_str())) { "…" } else { word }
        });
        let text = words.collect::<Vec<_>>().join(" ");
        text.chars().filter(|c| !c.is_control()).take(SAID).collect::<String>().trim().to_owned()
    }
}

fn then(status: StatusCode, asked: Option<Duration>) -> Then {
    let passes = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if (status.is_client_error() && !passes) || status.is_redirection() {
        return Then::Never;
    }
    asked.map_or(Then::Again, |asked| Then::After(asked.min(LONGEST_ASKED)))
}

fn certificates(config: &NotifyConfig, file: &std::path::Path) -> Result<Vec<Certificate>, NotifyError> {
    let wrong = |source: Box<dyn std::error::Error + Send + Sync>| NotifyError::Certificates {
        channel: config.name.clone(),
        file: file.to_owned(),
        source,
    };
    let pem = std::fs::read(file).map_err(|error| wrong(error.into()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.into()))?;
    if certificates.is_empty() { Err(wrong("it has no PEM block of one".into())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::StatusCode;

    use super::then;
    use crate::notify::error::Then;

    #[test]
    fn what_the_other_side_does_not_want_is_not_sent_again() {
        let status = |code| StatusCode::from_u16(code).expect("a status");
        for code in [301, 307, 400, 401, 403, 404, 410, 422] {
            assert_eq!(then(status(code), Some(Duration::from_secs(1))), Then::Never, "{code}");
        }
        for code in [408, 429, 500, 502, 503, 504] {
            assert_eq!(then(status(code), None), Then::Again, "{code}");
        }
        let asked = |secs| then(status(429), Some(Duration::from_secs(secs)));
        assert_eq!(asked(7), Then::After(Duration::from_secs(7)));
        assert_eq!(asked(1_000_000), Then::After(Duration::from_secs(900)), "within bounds");
    }
}
