//! The X25519 recipient stanza: a file key wrapped for one recipient (specification, "X25519 recipient type").
//!
//! It never uses a shared secret of all zeroes, which a point of low order would force.

use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use super::file_key::{FILE_KEY_BYTES, FileKey};
use super::keys::{Identity, Recipient};
use super::stanza::{Stanza, base64, unbase64};
use crate::crypto::{Cipher, LowOrder, TAG_BYTES, agree, derive};
use crate::entropy::{Entropy, random};

/// The kind of the stanza.
pub(super) const KIND: &str = "X25519";
/// Length of the written form, which is the same for each recipient: 32 bytes of base64 are 43 columns.
pub(super) const STANZA_BYTES: usize = "-> X25519 ".len() + 43 + 1 + 43 + 1;

const INFO: &[u8] = b"age-encryption.org/v1/X25519";

/// The nonce of the one text that a key wraps.
const NONCE: [u8; 12] = [0; 12];

/// A well-formed stanza of this kind.
#[derive(Debug, Clone)]
pub(super) struct Wrapped {
    share: [u8; 32],
    sealed_key: [u8; FILE_KEY_BYTES],
    tag: [u8; TAG_BYTES],
}

/// Wraps `key` for `recipient` under a fresh ephemeral key.
pub(super) fn wrap(
    key: &FileKey,
    recipient: &Recipient,
    entropy: &mut dyn Entropy,
) -> Result<Stanza, LowOrder> {
    let ephemeral = StaticSecret::from(*Zeroizing::new(random::<32>(entropy)));
    let share = PublicKey::from(&ephemeral).to_bytes();
    let cipher = wrap_cipher(&agree(&ephemeral, recipient.as_bytes())?, &share, recipient);
    let mut sealed_key = *key.expose();
    let tag = cipher.seal(&NONCE, &[], &mut sealed_key);
    let body = [sealed_key.as_slice(), tag.as_slice()].concat();
    Ok(Stanza { kind: KIND.to_owned(), args: vec![base64(&share)], body })
}

impl Wrapped {
    /// A stanza of this kind, checked: one canonical share of 32 bytes, a body of 32 bytes.
    pub(super) fn parse(stanza: &Stanza) -> Option<Self> {
        let [share] = stanza.args.as_slice() else { return None };
        let share = unbase64(share.as_bytes())?.try_into().ok()?;
        let (sealed_key, tag) = stanza.body.split_first_chunk::<FILE_KEY_BYTES>()?;
        Some(Self { share, sealed_key: *sealed_key, tag: tag.try_into().ok()? })
    }

    /// The file key, when the stanza is for this identity.
    pub(super) fn unwrap(&self, identity: &Identity) -> Result<Option<FileKey>, LowOrder> {
        let shared = agree(identity.secret(), &self.share)?;
        let cipher = wrap_cipher(&shared, &self.share, &identity.recipient());
        let mut key = Zeroizing::new(self.sealed_key);
        let opened = cipher.open(&NONCE, &[], key.as_mut_slice(), &self.tag);
        Ok(opened.is_ok().then(|| FileKey::from_bytes(&key)))
    }
}

fn wrap_cipher(shared: &SharedSecret, share: &[u8; 32], recipient: &Recipient) -> Cipher {
    let salt = [share.as_slice(), recipient.as_bytes()].concat();
    Cipher::new(&derive(Some(&salt), shared.as_bytes(), INFO))
}

#[cfg(test)]
mod tests {
    use super::{STANZA_BYTES, Wrapped, wrap};
    use crate::age::seeded::Seeded;
    use crate::age::{FileKey, Identity, Recipient};
    use crate::crypto::LowOrder;

    #[test]
    fn only_the_right_identity_unwraps() {
        let mut entropy = Seeded::new(4);
        let (mine, other) = (Identity::generate(&mut entropy), Identity::generate(&mut entropy));
        let key = FileKey::generate(&mut entropy);
        let stanza = wrap(&key, &mine.recipient(), &mut entropy).expect("a real recipient");
        assert_eq!(stanza.encoded_bytes(), STANZA_BYTES);
        let wrapped = Wrapped::parse(&stanza).expect("our own stanza");
        assert_eq!(wrapped.unwrap(&mine), Ok(Some(key)));
        assert_eq!(wrapped.unwrap(&other), Ok(None));
    }

    #[test]
    fn a_point_of_low_order_is_refused() {
        // 0 and 1 are u-coordinates of order 2 and 4; valid texts, since their bytes are canonical.
        for first in [0_u64, 1] {
            let mut bytes = [0; 32];
            bytes[0] = u8::try_from(first).expect("small");
            let text = bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("age").expect("valid"), &bytes);
            let recipient: Recipient = text.expect("encodes").parse().expect("canonical");
            let mut entropy = Seeded::new(5);
            let key = FileKey::generate(&mut entropy);
            assert_eq!(wrap(&key, &recipient, &mut entropy), Err(LowOrder));
        }
    }
}
