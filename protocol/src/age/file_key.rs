//! The key of one sealed file, and what is derived from it.
//!
//! It never leaves this module unwiped, and is compared in constant time only.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::derive;
use crate::entropy::{Entropy, random};

/// Length of a file key (age specification, "File key").
pub(super) const FILE_KEY_BYTES: usize = 16;

/// The 16-byte key of one sealed file. Whoever holds it reads that file and no other.
#[derive(Clone)]
pub struct FileKey([u8; FILE_KEY_BYTES]);

impl FileKey {
    /// A fresh key.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self(random(entropy))
    }

    /// The key with these bytes, as a recovery grant carries it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; FILE_KEY_BYTES]) -> Self {
        Self(*bytes)
    }

    /// The secret itself: for re-sealing it to somebody else, never for a log or an error.
    #[must_use]
    pub fn expose(&self) -> &[u8; FILE_KEY_BYTES] {
        &self.0
    }

    /// HMAC-SHA-256 over the header up to and including `---` (specification, "Header MAC").
    pub(super) fn header_mac(&self, maced: &[u8]) -> Hmac<Sha256> {
        let key = derive::<32>(Some(&[]), &self.0, b"header");
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
        mac.update(maced);
        mac
    }

    /// The key of the payload's chunks (specification, "Payload").
    pub(super) fn payload_key(&self, nonce: &[u8]) -> Zeroizing<[u8; 32]> {
        derive(Some(nonce), &self.0, b"payload")
    }
}

impl Drop for FileKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for FileKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for FileKey {}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::FileKey;

    #[test]
    fn debug_shows_no_byte_of_the_key() {
        assert_eq!(format!("{:?}", FileKey::from_bytes(&[0x41; 16])), "FileKey(redacted)");
    }

    #[test]
    fn keys_are_equal_by_all_their_bytes() {
        let key = FileKey::from_bytes(&[7; 16]);
        let mut other = [7; 16];
        assert_eq!(key, FileKey::from_bytes(&other));
        other[15] = 8;
        assert_ne!(key, FileKey::from_bytes(&other));
    }
}
