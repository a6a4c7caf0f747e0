//! Every identifier of the fleet as a type of its own, in one registry.
//!
//! Binary ids are written as raw bytes in MessagePack and as lowercase hexadecimal everywhere a person reads them.
//! A name or id that exists is valid: parsing is the only way in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::time::UnixMillis;

/// Why a text or byte string is not the id that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Hexadecimal text of the wrong length or with other characters.
    #[error("{what} must be {chars} lowercase hexadecimal characters")]
    Hex {
        /// Which id.
        what: &'static str,
        /// How many characters it has.
        chars: usize,
    },
    /// A byte string of the wrong length.
    #[error("{what} must be {want} bytes, not {have}")]
    Length {
        /// Which id.
        what: &'static str,
        /// Its length in bytes.
        want: usize,
        /// The length that was found.
        have: usize,
    },
    /// A name outside `[a-z][a-z0-9-]{0,31}`.
    #[error("{what} {name:?} must match [a-z][a-z0-9-]{{0,31}}")]
    Name {
        /// Which name.
        what: &'static str,
        /// What was given, cut to 64 characters.
        name: String,
    },
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Bytes as lowercase hexadecimal text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Lowercase hexadecimal text as `N` bytes; `None` when it is anything else.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(out)
}

macro_rules! binary_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The id made of these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight hexadecimal characters, for screens.
            #[must_use]
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                unhex(text).map(Self).ok_or(IdError::Hex { what: $what, chars: $len * 2 })
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| IdError::Length { what: $what, want: $len, have: bytes.len() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                if out.is_human_readable() {
                    out.collect_str(self)
                } else {
                    out.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> de::Visitor<'de> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        $name::try_from(bytes).map_err(E::custom)
                    }
                }
                if from.is_human_readable() {
                    from.deserialize_str(Visitor)
                } else {
                    from.deserialize_bytes(Visitor)
                }
            }
        }
    };
}

binary_id!(
    /// A fleet: SHA-256 over the root public key and 32 random bytes.
    FleetId, 32, "fleet id");
binary_id!(
    /// A round: the first 16 bytes of SHA-256 over fleet and request.
    RoundId, 16, "round id");
binary_id!(
    /// An object on the share: SHA-256 over its bytes.
    ObjectId, 32, "object id");
binary_id!(
    /// A chunk of plain data: BLAKE3 over its bytes, keyed with the agent's chunk key.
    ChunkId, 32, "chunk id");
binary_id!(
    /// A signer: its Ed25519 public key (RFC 8032).
    KeyId, 32, "key id");
binary_id!(
    /// 16 bytes that tie an answer to a question.
    Nonce, 16, "nonce");
binary_id!(
    /// A restore into a running service: 16 random bytes of the agent that offers it.
    RestoreId, 16, "restore id");

impl FleetId {
    /// The id of the fleet with this root key; `salt` is random and kept in the genesis record.
    #[must_use]
    pub fn derive(root: &KeyId, salt: &[u8; 32]) -> Self {
        Self(Sha256::new().chain_update(root.as_bytes()).chain_update(salt).finalize().into())
    }
}

impl RoundId {
    /// The id of the round that `request` asks for: the same request is always the same round.
    #[must_use]
    pub fn derive(fleet: &FleetId, request: &str) -> Self {
        Self::hashed(b"muster round\0", fleet, request.as_bytes())
    }

    /// The id of the round of a slot of the schedule: whoever finds the slot due means this round. No request of anybody has it,
    /// so that nobody takes a slot's place.
    #[must_use]
    pub fn of_slot(fleet: &FleetId, slot: UnixMillis) -> Self {
        Self::hashed(b"muster slot\0", fleet, &slot.0.to_be_bytes())
    }

    fn hashed(domain: &[u8], fleet: &FleetId, what: &[u8]) -> Self {
        let hash =
            Sha256::new().chain_update(domain).chain_update(fleet.as_bytes()).chain_update(what).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }
}

impl ObjectId {
    /// The id of the object with this content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// Names content that comes in pieces.
    #[must_use]
    pub fn pieces() -> ObjectHasher {
        ObjectHasher(Sha256::new())
    }
}

impl Nonce {
    /// The nonce of one service's attempt, derived from the round's own so that a coordinator that lost its memory
    /// finds it again in the log.
    #[must_use]
    pub fn for_attempt(&self, service: &ServiceName, attempt: u32) -> Self {
        let hash = Sha256::new()
            .chain_update(b"muster attempt\0")
            .chain_update(self.0)
            .chain_update(attempt.to_be_bytes())
            .chain_update(service.as_str().as_bytes())
            .finalize();
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&hash[..16]);
        Self(nonce)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_name(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError::Name { what: $what, name: text.chars().take(64).collect() })
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.first(), Some(b'a'..=b'z'))
        && bytes.len() <= 32
        && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

name!(
    /// A fleet's name, for people and subjects only: identity is the [`FleetId`].
    FleetName, "fleet name");
name!(
    /// A service's name.
    ServiceName, "service name");
name!(
    /// A source's name, unique within its service.
    SourceName, "source name");
name!(
    /// The name of a coordinator, operator or enroller, for people only: identity is the [`KeyId`].
    MemberName, "member name");
name!(
    /// The name of a way by which people are told of alerts, as `coordinator.toml` gives it.
    ChannelName, "channel name");

/// Names an object whose content comes in pieces; see [`ObjectId::pieces`].
#[derive(Debug, Clone)]
pub struct ObjectHasher(Sha256);

impl ObjectHasher {
    /// The next piece.
    #[must_use]
    pub fn and(self, piece: &[u8]) -> Self {
        Self(self.0.chain_update(piece))
    }

    /// The name of all pieces.
    #[must_use]
    pub fn finish(self) -> ObjectId {
        ObjectId(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::{IdError, Nonce, ObjectId, RoundId, ServiceName};

    #[test]
    fn hexadecimal_text_round_trips_and_nothing_else_parses() {
        let id = ObjectId::of(b"abc");
        assert_eq!(id.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "ba", &id.to_string().to_uppercase(), &format!("{id}0")] {
            assert!(matches!(bad.parse::<ObjectId>(), Err(IdError::Hex { .. })), "{bad}");
        }
    }

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "dns-2", "resource-manager"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", "2a", "-a", "A", "a_b", "a.b", "a b", "é", &"a".repeat(33)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_bytes_on_the_wire_and_hex_in_json() {
        let id = RoundId::from_bytes([7; 16]);
        let wire = rmp_serde::to_vec_named(&id).expect("encodes");
        assert_eq!(wire.len(), 18);
        assert_eq!(rmp_serde::from_slice::<RoundId>(&wire).expect("decodes"), id);
        let json = serde_json::to_string(&id).expect("encodes");
        assert_eq!(serde_json::from_str::<RoundId>(&json).expect("decodes"), id);
    }

    #[test]
    fn attempts_have_nonces_of_their_own() {
        let round = Nonce::from_bytes([1; 16]);
        let a: ServiceName = "a".parse().expect("name");
        let b: ServiceName = "b".parse().expect("name");
        assert_ne!(round.for_attempt(&a, 1), round.for_attempt(&a, 2));
        assert_ne!(round.for_attempt(&a, 1), round.for_attempt(&b, 1));
        assert_eq!(round.for_attempt(&a, 1), round.for_attempt(&a, 1));
    }
}
