//! The lease: one small value on the bus that its holder writes again and again.
//!
//! Unsigned on purpose: it proves nothing. Whoever can write it can at most delay a takeover.

use serde::{Deserialize, Serialize};

use crate::ids::{KeyId, Nonce};

/// The version of the value.
const VERSION: u8 = 1;

/// What the holder writes, as JSON, so that people can read it with a stock client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Version of this value.
    v: u8,
    /// The coordinator's key.
    pub holder: KeyId,
    /// Its process.
    pub instance: Nonce,
    /// False once the holder has ended in good order: nobody needs to wait for it.
    #[serde(default = "held")]
    pub held: bool,
}

fn held() -> bool {
    true
}

impl Lease {
    /// The lease of this process.
    #[must_use]
    pub fn of(holder: KeyId, instance: Nonce) -> Self {
        Self { v: VERSION, holder, instance, held: true }
    }

    /// The same, given back.
    #[must_use]
    pub fn given_back(self) -> Self {
        Self { held: false, ..self }
    }

    /// The value as bytes.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a lease always encodes")
    }

    /// The lease in these bytes; none if they are none of a version that this program knows.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|lease: &Self| lease.v == VERSION)
    }
}

/// The lease as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSeen {
    /// Its revision; each write has another one.
    pub revision: u64,
    /// What it says; none if it cannot be understood. Such a one expires like any other.
    pub lease: Option<Lease>,
}

#[cfg(test)]
mod tests {
    use super::Lease;
    use crate::ids::{KeyId, Nonce};

    #[test]
    fn what_is_printed_is_read_back_and_later_versions_are_not_understood() {
        let lease = Lease::of(KeyId::from_bytes([7; 32]), Nonce::from_bytes([8; 16]));
        let text = String::from_utf8(lease.print()).expect("text");
        assert_eq!(Lease::parse(text.as_bytes()), Some(lease));
        assert_eq!(Lease::parse(&lease.given_back().print()), Some(lease.given_back()));
        // Later versions may say more; `held` may be absent.
        let more = text.replace("\"held\":true", "\"more\":1");
        assert_eq!(Lease::parse(more.as_bytes()), Some(lease));
        assert_eq!(Lease::parse(text.replace("\"v\":1", "\"v\":2").as_bytes()), None);
        assert_eq!(Lease::parse(b"rubbish"), None);
    }
}
