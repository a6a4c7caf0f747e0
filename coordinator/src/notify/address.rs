//! Addresses of receivers: which may be asked, and how much of one is shown.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// An address that may hold a secret in its path, as those of many receivers do: shown only up to its host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// All of it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it may be asked: `https`, or `http` to this machine.
    pub(super) fn check(&self, insecure: bool) -> Result<Url, &'static str> {
        let url =
            Url::parse(&self.0).map_err(|_| "must be an address such as https://hooks.example.org/muster")?;
        let host = url.host_str().ok_or("must name a host")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not have a user or a password in it");
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if insecure || is_loopback(host) => Ok(url),
            "http" => Err(
                "must begin with https://; over http anybody on the way reads along (insecure = true allows it)",
            ),
            _ => Err("must begin with https://"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(url) = Url::parse(&self.0) else { return f.write_str("…") };
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or("…"))?;
        url.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
        f.write_str("/…")
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn clear_text_goes_to_this_machine_only() {
        for (url, insecure, right) in [
            ("https://hooks.example.org/a", false, true),
            ("http://127.0.0.1:9093/api", false, true),
            ("http://[::1]/", false, true),
            ("http://localhost:1/", false, true),
            ("http://hooks.example.org/", false, false),
            ("http://127.0.0.1.example.org/", false, false),
            ("http://hooks.example.org/", true, true),
            ("https://anna:hunter2@hooks.example.org/", false, false),
            ("ftp://hooks.example.org/", true, false),
            ("hooks.example.org", false, false),
        ] {
            assert_eq!(Address::new(url).check(insecure).is_ok(), right, "{url}");
        }
    }

    #[test]
    fn nothing_behind_the_host_is_shown() {
        let address = Address::new("https://hooks.example.org:8443/services/hunter2?key=hunter2#hunter2");
        assert_eq!(address.to_string(), "https://hooks.example.org:8443/…");
        assert_eq!(format!("{address:?}"), address.to_string());
        assert_eq!(Address::new("hunter2").to_string(), "…");
    }
}
