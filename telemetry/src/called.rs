//! By which name a server on loopback is called. A page of somebody else's could have a browser call loopback by a name of its own
//! (DNS rebinding), and read what comes back: only names that are the server's own are answered there.

use std::net::IpAddr;

/// Host without port, of what a request calls its server (RFC 9110, 7.2).
#[must_use]
pub fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => authority,
    }
}

/// Whether a server that listens on this address may answer to this name: to any where other machines reach it, on loopback to
/// loopback's own names and the address itself.
#[must_use]
pub fn may_be_called(name: &str, listens: IpAddr) -> bool {
    let own = ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own));
    let bare = name.trim_start_matches('[').trim_end_matches(']').parse() == Ok(listens);
    !listens.is_loopback() || own || bare
}

#[cfg(test)]
mod tests {
    use super::{may_be_called, name_of};

    #[test]
    fn loopback_has_its_own_names_and_no_others() {
        let loopback = "127.0.0.2".parse().expect("an address");
        for called in ["localhost:9464", "LOCALHOST", "127.0.0.1:1", "[::1]:9464", "[::1]", "127.0.0.2:9464"]
        {
            assert!(may_be_called(name_of(called), loopback), "{called}");
        }
        for called in
            ["", "rebound.example.org:9464", "127.0.0.1.example.org", "127.0.0.3", "localhost.example.org"]
        {
            assert!(!may_be_called(name_of(called), loopback), "{called}");
        }
        assert!(may_be_called("backup.example.org", "192.0.2.7".parse().expect("an address")));
    }
}
