//! Where spans, figures and log records go: the base URL of a collector, parsed once.
//!
//! Must never hold credentials, and what is refused is not repeated: it may hold some. Headers with secrets come from elsewhere.

use reqwest::Url;
use thiserror::Error;

/// What leaves a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// Its path below the base URL (OTLP specification, "OTLP/HTTP Request").
    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }
}

/// Why an address of a collector is not accepted.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// No URL at all.
    #[error("it is no URL: give one such as http://127.0.0.1:4318")]
    Syntax,
    /// A URL of another kind.
    #[error("it is no http or https URL: give one such as http://127.0.0.1:4318")]
    Scheme,
    /// A URL with a user, a password, a query or a fragment.
    #[error("the URL at host {host} carries more than host, port and path: remove the rest")]
    Surplus {
        /// Host of the address; the whole of it may hold a password.
        host: String,
    },
}

/// The base URL, without a `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    pub(crate) fn parse(endpoint: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(endpoint).map_err(|_| EndpointError::Syntax)?;
        if !matches!(url.scheme(), "http" | "https") {
            // `localhost:4318` parses as a URL of the scheme `localhost`; the message shows how it is meant.
            return Err(EndpointError::Scheme);
        }
        let host = url.host_str().ok_or(EndpointError::Syntax)?;
        let surplus = !url.username().is_empty() || url.password().is_some();
        if surplus || url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::Surplus { host: host.to_owned() });
        }
        let base = url.as_str().trim_end_matches('/');
        // The URL of one signal is what other programs are given: the others are beside it.
        let base = Signal::ALL.iter().find_map(|signal| base.strip_suffix(signal.path())).unwrap_or(base);
        Ok(Self(base.to_owned()))
    }

    /// The full URL to which a signal is posted.
    pub(crate) fn url(&self, signal: Signal) -> String {
        format!("{}{}", self.0, signal.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_path_is_added_once() {
        for (given, posted) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example.org/team/", "https://otel.example.org/team/v1/traces"),
            ("https://otel.example.org/v1/traces", "https://otel.example.org/v1/traces"),
        ] {
            assert_eq!(Endpoint::parse(given).expect("a good address").url(Signal::Traces), posted);
        }
        let others = Endpoint::parse("https://otel.example.org/v1/traces").expect("a good address");
        assert_eq!(others.url(Signal::Logs), "https://otel.example.org/v1/logs");
        assert_eq!(others.url(Signal::Metrics), "https://otel.example.org/v1/metrics");
    }

    #[test]
    fn other_addresses_are_refused() {
        assert!(matches!(Endpoint::parse(""), Err(EndpointError::Syntax)));
        assert!(matches!(Endpoint::parse("127.0.0.1:4318"), Err(EndpointError::Syntax)));
        assert!(matches!(Endpoint::parse("localhost:4318"), Err(EndpointError::Scheme)));
        assert!(matches!(Endpoint::parse("grpc://otel.example.org"), Err(EndpointError::Scheme)));
        assert!(matches!(
            Endpoint::parse("http://otel.example.org/?a=b"),
            Err(EndpointError::Surplus { .. })
        ));
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let error = Endpoint::parse("http://user:hunter2@otel.example.org").expect_err("a password");
        assert!(matches!(error, EndpointError::Surplus { .. }));
        assert!(!error.to_string().contains("hunter2"));
    }
}
