//! The signed envelope around every bus message, log record, receipt and manifest.
//!
//! ```text
//! envelope  := field(domain) field(type) field(version) field(fleet id) field(key id) field(payload) signature
//! field(x)  := length of x as u32, big endian · x
//! version   := u16, big endian        fleet id, key id := 32 bytes        signature := 64 bytes
//! ```
//!
//! The signature is Ed25519 (RFC 8032) over all bytes before it, so stock tools can check it: `head -c -64` is the
//! signed text and `tail -c 64` the signature. It is verified before the payload is parsed, strictly (no small-order
//! keys, no malleable signatures), and an envelope is stored and forwarded as it came, never encoded again.

use ed25519_dalek::{Signer as _, SigningKey};
use serde::{Serialize, de::DeserializeOwned};

use crate::crypto::verifies;
use crate::ids::{FleetId, KeyId};
use crate::wire;

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// A payload type: where it may stand, its name and its version. The three are signed, so a receipt can never be
/// taken for a notice, nor version 1 for version 2.
pub trait Payload: Serialize + DeserializeOwned {
    /// `muster.bus` or `muster.share`; the log has its own `muster.log` and `muster.statement`.
    const DOMAIN: &'static str;
    /// The type's name within its domain.
    const TYPE: &'static str;
    /// The version of the payload's fields.
    const VERSION: u16;
    /// Largest envelope of this type in bytes; longer ones are refused unread.
    const MAX_LEN: usize;
}

/// Why bytes are not an envelope that may be looked into.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Longer than its type may be.
    #[error("envelope of {len} bytes is longer than {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The framing does not add up.
    #[error("envelope framing is broken")]
    Framing,
    /// Domain, type or version is another.
    #[error("envelope holds {domain} {name} version {version}, wanted {wanted}")]
    OtherType {
        /// Found domain.
        domain: String,
        /// Found type.
        name: String,
        /// Found version.
        version: u16,
        /// Wanted domain, type and version.
        wanted: String,
    },
    /// It belongs to another fleet.
    #[error("envelope belongs to fleet {found}")]
    OtherFleet {
        /// That fleet.
        found: FleetId,
    },
    /// The key id is no Ed25519 public key, or the signature does not match.
    #[error("signature of key {key} does not verify")]
    Signature {
        /// The key that the envelope names.
        key: KeyId,
    },
    /// The payload does not parse, though it was signed.
    #[error("signed payload does not parse")]
    Payload(#[source] wire::WireError),
}

/// A secret Ed25519 key that signs envelopes. Zeroized on drop, never shown.
#[derive(Clone)]
pub struct Signer(SigningKey);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.key_id())
    }
}

impl Signer {
    /// The signer with this RFC 8032 seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for the key file.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// `payload` in a signed envelope.
    #[must_use]
    pub fn seal<P: Payload>(&self, fleet: &FleetId, payload: &P) -> Vec<u8> {
        self.seal_raw(P::DOMAIN, P::TYPE, P::VERSION, fleet, &wire::encode(payload))
    }

    /// An envelope around bytes that are encoded already, for types whose name is known only at run time.
    #[must_use]
    pub fn seal_raw(
        &self,
        domain: &str,
        name: &str,
        version: u16,
        fleet: &FleetId,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() + 192);
        field(&mut out, domain.as_bytes());
        field(&mut out, name.as_bytes());
        field(&mut out, &version.to_be_bytes());
        field(&mut out, fleet.as_bytes());
        field(&mut out, self.key_id().as_bytes());
        field(&mut out, payload);
        let signature = self.0.sign(&out);
        out.extend_from_slice(&signature.to_bytes());
        out
    }
}

pub(crate) fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("an envelope field is shorter than 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// An envelope whose signature has verified. Whether its key may say this is the roster's business.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    /// Domain.
    pub domain: &'a str,
    /// Type name.
    pub name: &'a str,
    /// Version of the payload.
    pub version: u16,
    /// Fleet it belongs to.
    pub fleet: FleetId,
    /// Who signed it.
    pub key: KeyId,
    /// The payload's bytes.
    pub payload: &'a [u8],
}

/// Verifies the envelope in `bytes` against the key that it names, without parsing the payload.
///
/// # Errors
/// When it is longer than `max_len`, broken, or its signature does not verify.
pub fn open(bytes: &[u8], max_len: usize) -> Result<Opened<'_>, EnvelopeError> {
    let (opened, signed, signature) = framed(bytes, max_len)?;
    if !verifies(opened.key.as_bytes(), signed, signature) {
        return Err(EnvelopeError::Signature { key: opened.key });
    }
    Ok(opened)
}

/// The envelope in `bytes`, whose signature this reader has verified before, over these very bytes.
///
/// # Errors
/// When it is longer than `max_len` or broken.
pub(crate) fn open_known(bytes: &[u8], max_len: usize) -> Result<Opened<'_>, EnvelopeError> {
    framed(bytes, max_len).map(|(opened, _, _)| opened)
}

/// What an envelope holds, nothing of it verified; the bytes that are signed, and the signature.
fn framed(bytes: &[u8], max_len: usize) -> Result<(Opened<'_>, &[u8], &[u8]), EnvelopeError> {
    if bytes.len() > max_len {
        return Err(EnvelopeError::TooLong { len: bytes.len(), max: max_len });
    }
    let split = bytes.len().checked_sub(SIGNATURE_LEN).ok_or(EnvelopeError::Framing)?;
    let (signed, signature) = bytes.split_at(split);
    let mut rest = signed;
    let domain = text(take(&mut rest)?)?;
    let name = text(take(&mut rest)?)?;
    let version = take(&mut rest)?.try_into().map(u16::from_be_bytes).map_err(|_| EnvelopeError::Framing)?;
    let fleet = FleetId::try_from(take(&mut rest)?).map_err(|_| EnvelopeError::Framing)?;
    let key = KeyId::try_from(take(&mut rest)?).map_err(|_| EnvelopeError::Framing)?;
    let payload = take(&mut rest)?;
    if !rest.is_empty() {
        return Err(EnvelopeError::Framing);
    }
    Ok((Opened { domain, name, version, fleet, key, payload }, signed, signature))
}

/// Verifies the envelope in `bytes` and parses its payload as `P`; returns it with the key that signed it.
///
/// # Errors
/// When it is too long, broken, forged, of another type, version or fleet, or does not parse.
pub fn open_as<P: Payload>(bytes: &[u8], fleet: &FleetId) -> Result<(KeyId, P), EnvelopeError> {
    let opened = open(bytes, P::MAX_LEN)?;
    opened.parse(fleet).map(|payload| (opened.key, payload))
}

impl Opened<'_> {
    /// The payload as `P`.
    ///
    /// # Errors
    /// When the envelope is of another type, version or fleet, or the payload does not parse.
    pub fn parse<P: Payload>(&self, fleet: &FleetId) -> Result<P, EnvelopeError> {
        if (self.domain, self.name, self.version) != (P::DOMAIN, P::TYPE, P::VERSION) {
            return Err(EnvelopeError::OtherType {
                domain: self.domain.to_owned(),
                name: self.name.to_owned(),
                version: self.version,
                wanted: format!("{} {} version {}", P::DOMAIN, P::TYPE, P::VERSION),
            });
        }
        if self.fleet != *fleet {
            return Err(EnvelopeError::OtherFleet { found: self.fleet });
        }
        wire::decode(self.payload).map_err(EnvelopeError::Payload)
    }
}

pub(crate) fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], EnvelopeError> {
    let (len, tail) = rest.split_first_chunk::<4>().ok_or(EnvelopeError::Framing)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| EnvelopeError::Framing)?;
    let (field, tail) = tail.split_at_checked(len).ok_or(EnvelopeError::Framing)?;
    *rest = tail;
    Ok(field)
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, EnvelopeError> {
    std::str::from_utf8(bytes).map_err(|_| EnvelopeError::Framing)
}

#[cfg(test)]
mod tests {
    use super::{EnvelopeError, Payload, Signer, open, open_as};
    use crate::ids::FleetId;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Hi {
        text: String,
    }
    impl Payload for Hi {
        const DOMAIN: &'static str = "muster.test";
        const TYPE: &'static str = "hi";
        const VERSION: u16 = 1;
        const MAX_LEN: usize = 1024;
    }

    fn sample() -> (FleetId, Vec<u8>) {
        let fleet = FleetId::from_bytes([3; 32]);
        (fleet, Signer::from_seed(&[5; 32]).seal(&fleet, &Hi { text: "x".into() }))
    }

    #[test]
    fn what_was_sealed_opens() {
        let (fleet, bytes) = sample();
        let (key, hi) = open_as::<Hi>(&bytes, &fleet).expect("opens");
        assert_eq!((key, hi), (Signer::from_seed(&[5; 32]).key_id(), Hi { text: "x".into() }));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_opens() {
        let (_, bytes) = sample();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(open(&bad, 1024).is_err(), "byte {at}");
            assert!(open(&bytes[..at], 1024).is_err(), "cut at {at}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(open(&longer, 1024).is_err());
    }

    #[test]
    fn another_fleet_type_or_size_is_named() {
        let (fleet, bytes) = sample();
        assert!(matches!(
            open_as::<Hi>(&bytes, &FleetId::from_bytes([4; 32])),
            Err(EnvelopeError::OtherFleet { found }) if found == fleet
        ));
        assert!(matches!(open(&bytes, 10), Err(EnvelopeError::TooLong { .. })));
        let other = Signer::from_seed(&[5; 32]).seal_raw("muster.test", "hi", 2, &fleet, b"");
        assert!(matches!(open_as::<Hi>(&other, &fleet), Err(EnvelopeError::OtherType { version: 2, .. })));
    }
}
