//! The four primitives that everything rests on, each called in one place only: agreement, derivation, sealing, signature.
//!
//! Thin: the crates compute, this says how they are used here. An agreement whose secret anybody could know is refused,
//! and signatures verify strictly. It never draws randomness and keeps no state.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, Tag};
use ed25519_dalek::{Signature, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

/// What sealing adds to a text, in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// The shared secret would be all zeroes: the other side's point is of low order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LowOrder;

/// What was sealed has been changed, or is of another key or nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

/// X25519 (RFC 7748, section 6.1, with the check for all zeroes that it leaves to the caller).
pub(crate) fn agree(own: &StaticSecret, other: &[u8; 32]) -> Result<SharedSecret, LowOrder> {
    let shared = own.diffie_hellman(&PublicKey::from(*other));
    if shared.was_contributory() { Ok(shared) } else { Err(LowOrder) }
}

/// HKDF-SHA-256 (RFC 5869); no salt is a salt of 32 zero bytes.
///
/// # Panics
/// For more than 8,160 bytes, which nothing here asks for.
pub(crate) fn derive<const N: usize>(salt: Option<&[u8]>, secret: &[u8], info: &[u8]) -> Zeroizing<[u8; N]> {
    let mut key = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(salt, secret)
        .expand(info, key.as_mut_slice())
        .expect("so few bytes are within the limit of HKDF-SHA-256");
    key
}

/// Whether `signature` is this key's over `signed`: Ed25519 (RFC 8032), neither with keys or points of small order nor with
/// a malleable scalar.
pub(crate) fn verifies(key: &[u8; 32], signed: &[u8], signature: &[u8]) -> bool {
    let verified = VerifyingKey::from_bytes(key).and_then(|key| {
        Signature::from_slice(signature).and_then(|signature| key.verify_strict(signed, &signature))
    });
    verified.is_ok()
}

/// ChaCha20-Poly1305 (RFC 8439), in place.
#[derive(Clone)]
pub(crate) struct Cipher(ChaCha20Poly1305);

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let key: &Key = key.into();
        Self(ChaCha20Poly1305::new(key))
    }

    /// Seals `plain`, and gives the tag of it and `beside`. Never with one nonce twice.
    pub(crate) fn seal(&self, nonce: &[u8; 12], beside: &[u8], plain: &mut [u8]) -> [u8; TAG_BYTES] {
        let nonce: &Nonce = nonce.into();
        self.0
            .encrypt_inout_detached(nonce, beside, plain.into())
            .expect("a text in memory is within the limit of ChaCha20-Poly1305")
            .into()
    }

    /// Opens `sealed`, whose tag with `beside` this is; on an error nothing of either may be used.
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        beside: &[u8],
        sealed: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), NotAuthentic> {
        let nonce: &Nonce = nonce.into();
        self.0
            .decrypt_inout_detached(nonce, beside, sealed.into(), &Tag::from(*tag))
            .map_err(|_| NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    //! Google's Wycheproof vectors: edge cases that implementations have got wrong.

    use super::{Cipher, agree, derive, verifies};
    use chacha20poly1305::ChaCha20Poly1305;
    use ed25519_dalek::SigningKey;
    use wycheproof::TestResult;
    use x25519_dalek::{SharedSecret, StaticSecret};
    use zeroize::ZeroizeOnDrop;

    /// Compiles only while the crates' features that wipe keys are on.
    #[test]
    fn keys_of_the_crates_are_wiped_when_dropped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<StaticSecret>();
        wiped::<SharedSecret>();
        wiped::<SigningKey>();
        wiped::<ChaCha20Poly1305>();
    }

    #[test]
    fn agreement() {
        let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).expect("vectors");
        let mut refused = 0;
        let tests: Vec<_> = set.test_groups.into_iter().flat_map(|group| group.tests).collect();
        for test in &tests {
            let own: [u8; 32] = test.private_key[..].try_into().expect("32 bytes");
            let Ok(other) = <[u8; 32]>::try_from(&test.public_key[..]) else {
                // A key of another length is none of ours: the types have no room for it.
                assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
                continue;
            };
            match agree(&StaticSecret::from(own), &other) {
                Ok(shared) => assert_eq!(shared.as_bytes(), &test.shared_secret[..], "{}", test.tc_id),
                Err(_) => {
                    assert!(test.shared_secret.iter().all(|byte| *byte == 0), "{}", test.tc_id);
                    refused += 1;
                }
            }
        }
        assert!(tests.len() > 500 && refused > 10, "{} vectors, {refused} refused", tests.len());
    }

    #[test]
    fn derivation() {
        let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).expect("vectors");
        let mut compared = 0;
        for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
            let salt = Some(&test.salt[..]).filter(|salt| !salt.is_empty());
            // Longer output than is ever asked for here begins in the same way: HKDF's blocks are chained.
            let have = match test.size {
                _ if test.result == TestResult::Invalid => continue,
                ..32 => continue,
                32..64 => derive::<32>(salt, &test.ikm, &test.info).to_vec(),
                64.. => derive::<64>(salt, &test.ikm, &test.info).to_vec(),
            };
            assert_eq!(have[..], test.okm[..have.len()], "{}", test.tc_id);
            compared += 1;
        }
        assert!(compared > 30, "{compared}");
    }

    #[test]
    fn sealing() {
        let set =
            wycheproof::aead::TestSet::load(wycheproof::aead::TestName::ChaCha20Poly1305).expect("vectors");
        let (mut opened, mut refused) = (0, 0);
        for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
            // Nonces and tags of other lengths have no room in the types.
            let Ok(nonce) = <[u8; 12]>::try_from(&test.nonce[..]) else { continue };
            let Ok(tag) = <[u8; 16]>::try_from(&test.tag[..]) else { continue };
            let cipher = Cipher::new(test.key[..].try_into().expect("32 bytes"));
            let (mut text, beside) = (test.ct.to_vec(), &test.aad[..]);
            if cipher.open(&nonce, beside, &mut text, &tag).is_err() {
                assert!(test.result.must_fail(), "{}", test.tc_id);
                refused += 1;
                continue;
            }
            assert!(!test.result.must_fail(), "{}", test.tc_id);
            assert_eq!(text[..], test.pt[..], "{}", test.tc_id);
            let other = [beside, b"x"].concat();
            let sealed = (cipher.seal(&nonce, beside, &mut text), &text[..]);
            assert_eq!(sealed, (tag, &test.ct[..]), "{}", test.tc_id);
            assert!(cipher.open(&nonce, &other, &mut text.clone(), &tag).is_err(), "{}", test.tc_id);
            for bit in 0..128 {
                let mut tag = tag;
                tag[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    cipher.open(&nonce, beside, &mut text.clone(), &tag).is_err(),
                    "{}, bit {bit}",
                    test.tc_id
                );
            }
            opened += 1;
        }
        assert!(opened > 200 && refused > 50, "{opened} opened, {refused} refused");
    }

    #[test]
    fn signature() {
        let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).expect("vectors");
        let (mut held, mut refused) = (0, 0);
        for group in set.test_groups {
            let key = group.key.pk[..].try_into().expect("32 bytes");
            for test in group.tests {
                let verified = verifies(&key, &test.msg, &test.sig);
                assert_eq!(verified, !test.result.must_fail(), "{}", test.tc_id);
                if verified { held += 1 } else { refused += 1 }
            }
        }
        assert!(held > 50 && refused > 50, "{held} held, {refused} refused");
    }
}
