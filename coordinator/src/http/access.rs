//! Who may: tokens in `Authorization: Bearer`, and nowhere else. What is refused is counted and told once a minute; it raises no
//! alert, for whoever scans a network would raise it every night. What a known token may not raises SEC-01.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use muster_protocol::ids::MemberName;
use muster_protocol::log::State;
use muster_protocol::token::{self, Token};

use super::problem::{Kind, Problem};
use crate::scribe::unix_now;

/// Refusals of one address in each window for which the share is read; further ones are judged by what is known, and told when to
/// come again.
const MOST_FAILURES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered. Beyond, the oldest are forgotten: a flood of addresses must not fill memory.
const MOST_PEERS: usize = 4_096;

/// Whoever has shown a token that counts.
#[derive(Debug, Clone)]
pub(super) struct Bearer {
    pub(super) name: MemberName,
    pub(super) token: Token,
}

/// The secret that came with a request; none: there is none, or nothing that could be one.
pub(super) fn secret(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim()).filter(|secret| !secret.is_empty())
}

/// Whose token this is, by the newest log.
///
/// # Errors
/// Why it counts for nothing. Never says what was sent.
pub(super) fn bearer(state: &State, secret: Option<&str>) -> Result<Bearer, Problem> {
    let next = "make one: muster token new NAME --role viewer --into FILE";
    let refused = |detail: &str| Problem::new(Kind::Token, detail).at("header Authorization").next(next);
    let Some(secret) = secret else {
        return Err(refused("no token came with the request")
            .accepted("Authorization: Bearer TOKEN, once, with the secret of a token"));
    };
    let clear = state.config.as_ref().map(|config| &config.clear);
    let tokens = clear.map(token::tokens).unwrap_or_default();
    match token::find(&tokens, secret) {
        Some((name, token)) if token.is_over(unix_now()) => {
            Err(refused(&format!("the token {name} has ended")))
        }
        Some((name, token)) => Ok(Bearer { name: name.clone(), token: *token }),
        None => Err(refused("the token is none of this fleet's, or was revoked")),
    }
}

#[derive(Debug)]
struct Peer {
    failures: u32,
    since: Instant,
}

#[derive(Debug, Default)]
struct Counts {
    peers: HashMap<IpAddr, Peer>,
    untold: u64,
    told: Option<Instant>,
}

/// Refusals, by address.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Counts>);

impl Failures {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refusal; how long to wait, where there were too many.
    pub(super) fn one(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let peer = network(peer);
        let mut counts = self.counts();
        counts.untold = counts.untold.saturating_add(1);
        if counts.told.is_none_or(|told| now.saturating_duration_since(told) >= WINDOW) {
            let refused = std::mem::take(&mut counts.untold);
            tracing::warn!(refused, "HTTP requests without a valid token were refused");
            counts.told = Some(now);
        }
        if counts.peers.len() >= MOST_PEERS && !counts.peers.contains_key(&peer) {
            counts.peers.retain(|_, peer| now.saturating_duration_since(peer.since) < WINDOW);
            if counts.peers.len() >= MOST_PEERS {
                let oldest = counts.peers.iter().min_by_key(|(_, peer)| peer.since).map(|(peer, _)| *peer);
                oldest.and_then(|oldest| counts.peers.remove(&oldest));
            }
        }
        let known = counts.peers.entry(peer).or_insert(Peer { failures: 0, since: now });
        if now.saturating_duration_since(known.since) >= WINDOW {
            *known = Peer { failures: 0, since: now };
        }
        known.failures = known.failures.saturating_add(1);
        (known.failures > MOST_FAILURES)
            .then(|| WINDOW.saturating_sub(now.saturating_duration_since(known.since)))
    }

    /// Whether so many were refused that the share is not read for this address for a while.
    pub(super) fn tires(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let counts = self.counts();
        let known = counts.peers.get(&network(peer)).filter(|known| known.failures >= MOST_FAILURES)?;
        let left = WINDOW.saturating_sub(now.saturating_duration_since(known.since));
        (!left.is_zero()).then_some(left)
    }
}

/// Whoever has one address of IPv6 has the 2^64 beside it as well.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(peer) => IpAddr::V4(peer),
        IpAddr::V6(peer) => IpAddr::V6((u128::from(peer) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    use axum::http::{HeaderMap, HeaderValue, header};

    use super::{Failures, MOST_FAILURES, MOST_PEERS, WINDOW, secret};

    #[test]
    fn a_secret_is_read_from_one_bearer_header_alone() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
            }
            headers
        };
        assert_eq!(secret(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(secret(&headers(&["bearer  abc "])), Some("abc"));
        for bad in [&[][..], &["abc"], &["Bearer"], &["Bearer "], &["Basic YTpi"], &["Bearer a", "Bearer b"]]
        {
            assert_eq!(secret(&headers(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_told_to_wait_and_others_are_not() {
        let (failures, now) = (Failures::default(), Instant::now());
        let peer = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        for _ in 0..MOST_FAILURES {
            assert_eq!(failures.one(peer(1), now), None);
        }
        assert!(failures.one(peer(1), now).is_some_and(|wait| wait <= WINDOW));
        assert!(failures.tires(peer(1), now).is_some());
        assert_eq!(failures.one(peer(2), now), None);
        assert_eq!(failures.tires(peer(2), now), None);
        let six = |last: u128| IpAddr::V6((0x2001_0db8_u128 << 96 | last).into());
        for last in 0..=MOST_FAILURES {
            failures.one(six(last.into()), now);
        }
        assert!(failures.tires(six(1 << 60), now).is_some(), "one network");
        assert_eq!(failures.tires(six(1 << 64), now), None, "another one");
        let later = now + WINDOW;
        assert_eq!(failures.tires(peer(1), later), None);
        assert_eq!(failures.one(peer(1), later), None);
    }

    #[test]
    fn a_flood_of_addresses_fills_no_memory() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..u32::try_from(MOST_PEERS).expect("small") + 100 {
            failures.one(IpAddr::V4(Ipv4Addr::from(number)), now + Duration::from_millis(number.into()));
        }
        assert!(failures.counts().peers.len() <= MOST_PEERS);
    }
}
