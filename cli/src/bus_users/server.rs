//! Where a fleet's NATS server listens, and by which name others know it.

use std::net::IpAddr;
use std::str::FromStr;

/// A server's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// The name or address by which the other machines of the fleet reach it; none: it is for this machine alone.
    host: Option<String>,
    port: u16,
}

impl Server {
    /// One for this machine alone.
    pub(crate) fn here(port: u16) -> Self {
        Self { host: None, port }
    }

    /// What clients connect to.
    pub(crate) fn url(&self) -> String {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        match host.parse() {
            Ok(IpAddr::V6(address)) => format!("tls://[{address}]:{}", self.port),
            Ok(IpAddr::V4(_)) | Err(_) => format!("tls://{host}:{}", self.port),
        }
    }

    /// What the server listens on: an address as it was given, every one of this machine's for a name, because what a name stands
    /// for elsewhere need not be an address here.
    pub(super) fn listen(&self) -> String {
        match self.host.as_deref().map(str::parse) {
            None => format!("127.0.0.1:{}", self.port),
            Some(Ok(IpAddr::V6(address))) => format!("[{address}]:{}", self.port),
            Some(Ok(IpAddr::V4(address))) => format!("{address}:{}", self.port),
            Some(Err(_)) => format!("0.0.0.0:{}", self.port),
        }
    }

    /// The name that its certificate has beside those of this machine.
    pub(super) fn name(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{why}: write HOST:PORT, as the other machines reach this one, such as backup.example.org:4222"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("there is no port"))?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("that is no port"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        match host.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => {
                return Err(wrong("that stands for every address, and nobody can connect to it"));
            }
            Ok(IpAddr::V6(_)) if bracketed.is_none() => {
                return Err(wrong("an IPv6 address stands in brackets"));
            }
            Ok(_) => {}
            Err(_) if bracketed.is_none() && is_host_name(host) => {}
            Err(_) => return Err(wrong("that is neither a host name nor an address")),
        }
        Ok(Self { host: Some(host.to_owned()), port })
    }
}

/// Labels of letters, digits and inner hyphens (RFC 1123, section 2.1). What looks like an address and is none is no name.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !numeric
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn a_place_is_listened_on_and_connected_to() {
        for (text, url, listen) in [
            ("backup.example.org:4222", "tls://backup.example.org:4222", "0.0.0.0:4222"),
            ("192.0.2.7:4300", "tls://192.0.2.7:4300", "192.0.2.7:4300"),
            ("[2001:db8::7]:4222", "tls://[2001:db8::7]:4222", "[2001:db8::7]:4222"),
        ] {
            let server: Server = text.parse().expect(text);
            assert_eq!((server.url().as_str(), server.listen().as_str()), (url, listen));
        }
        assert_eq!(Server::here(4222).url(), "tls://127.0.0.1:4222");
        assert_eq!(Server::here(4222).listen(), "127.0.0.1:4222");
    }

    #[test]
    fn what_nobody_could_connect_to_is_refused_with_what_could() {
        for (text, why) in [
            ("backup.example.org", "there is no port"),
            ("backup.example.org:0", "that is no port"),
            ("backup.example.org:66000", "that is no port"),
            (":4222", "neither a host name"),
            ("0.0.0.0:4222", "stands for every address"),
            ("[::]:4222", "stands for every address"),
            ("2001:db8::7:4222", "in brackets"),
            ("300.1.2.3:4222", "neither a host name"),
            ("tls://backup.example.org:4222", "neither a host name"),
            ("-x.example.org:4222", "neither a host name"),
        ] {
            let error = text.parse::<Server>().expect_err(text);
            assert!(
                error.contains(why) && error.contains("such as backup.example.org:4222"),
                "{text}: {error}"
            );
        }
    }
}
