//! `[http]` of `coordinator.toml`: where the HTTP API listens, and what keeps strangers out.

use std::net::SocketAddr;
use std::path::PathBuf;

use muster_protocol::config::{Invalid, Places};
use serde::{Deserialize, Serialize};

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port; empty: nowhere.
    pub listen: String,
    /// File with the certificate chain (PEM); empty: no TLS.
    pub certificate: PathBuf,
    /// File with its private key (PEM).
    pub key: PathBuf,
    /// Whether other machines may reach it without TLS, because something else encrypts.
    pub insecure: bool,
    /// Names that it is called by besides its address, such as that of a proxy before it.
    pub hosts: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: format!("127.0.0.1:{}", Self::PORT),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            insecure: false,
            hosts: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// The port of the first coordinator of a machine.
    pub const PORT: u16 = 8470;

    /// That of the coordinator in this place, from 0: several on one machine do not get in each other's way.
    #[must_use]
    pub fn of_place(place: usize) -> Self {
        let port = Self::PORT.saturating_add(u16::try_from(place).unwrap_or(0));
        Self { listen: format!("127.0.0.1:{port}"), ..Self::default() }
    }

    /// One that listens nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { listen: String::new(), ..Self::default() }
    }

    /// Where it listens; none: nowhere.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }

    /// Makes its paths absolute.
    ///
    /// # Errors
    /// When one names a credential that there is none of.
    pub(crate) fn resolve(&mut self, places: &Places) -> Result<(), Invalid> {
        places.key_file("http", "certificate", &mut self.certificate)?;
        places.key_file("http", "key", &mut self.key)
    }

    /// Whether it can be what it says.
    ///
    /// # Errors
    /// The key that cannot, and what it must be.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let address = self.address();
        let numeric = self.listen.is_empty() || address.is_some_and(|address| address.port() != 0);
        Invalid::unless(
            numeric,
            "http",
            "listen",
            "must be an address and a port such as 127.0.0.1:8470 or [::1]:8470, or empty to listen nowhere",
        )?;
        let whole = self.is_encrypted() != self.key.as_os_str().is_empty();
        Invalid::unless(whole, "http", "key", "must be set together with certificate, or neither")?;
        let open = address.is_some_and(|address| !address.ip().is_loopback());
        Invalid::unless(
            !open || self.is_encrypted() || self.insecure,
            "http",
            "listen",
            "can be reached by other machines, and tokens would travel in clear: set certificate and key, listen on \
             127.0.0.1, or set insecure = true where something else encrypts",
        )?;
        let plain = |host: &String| !host.is_empty() && !host.contains(['/', ':', ' ', '@']);
        Invalid::unless(
            self.hosts.iter().all(plain),
            "http",
            "hosts",
            "must be names such as backup.example.org, without scheme, port or path",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::HttpConfig;

    fn check(change: impl FnOnce(&mut HttpConfig)) -> Result<(), String> {
        let mut config = HttpConfig::default();
        change(&mut config);
        config.check().map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn what_other_machines_reach_is_encrypted_or_said_to_be_none() {
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|config| config.listen.clear()), Ok(()));
        assert_eq!(check(|config| config.listen = "[::1]:8470".into()), Ok(()));
        for (listen, part) in [
            ("0.0.0.0:8470", "tokens would travel in clear"),
            ("[::]:8470", "tokens would travel in clear"),
            ("192.0.2.7:443", "tokens would travel in clear"),
            ("localhost:8470", "must be an address and a port"),
            ("8470", "must be an address and a port"),
            ("127.0.0.1:0", "must be an address and a port"),
        ] {
            let error = check(|config| config.listen = listen.into()).expect_err(listen);
            assert!(error.contains("[http] listen") && error.contains(part), "{error}");
        }
        let open = |config: &mut HttpConfig| config.listen = "0.0.0.0:8470".into();
        assert_eq!(
            check(|config| {
                open(config);
                config.insecure = true;
            }),
            Ok(())
        );
        assert_eq!(
            check(|config| {
                open(config);
                (config.certificate, config.key) = ("a.crt".into(), "a.key".into());
            }),
            Ok(())
        );
        let error = check(|config| config.key = "a.key".into()).expect_err("no certificate");
        assert!(error.contains("[http] key"), "{error}");
        let error = check(|config| config.hosts = vec!["https://x".into()]).expect_err("no name");
        assert!(error.contains("[http] hosts"), "{error}");
    }
}
