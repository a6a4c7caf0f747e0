//! Ed25519 keys as PEM text, so that stock tools read them: `openssl pkey -in FILE`, `openssl pkeyutl -verify`.
//!
//! ```text
//! private := "-----BEGIN PRIVATE KEY-----" base64(PKCS#8 version 1, 48 bytes) "-----END PRIVATE KEY-----"
//! public  := "-----BEGIN PUBLIC KEY-----"  base64(SubjectPublicKeyInfo, 44 bytes) "-----END PUBLIC KEY-----"
//! ```
//!
//! RFC 8410 section 7 and RFC 7468; for Ed25519 everything before the 32 bytes of the key is constant, and anything
//! else is refused. No error repeats what the text holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use zeroize::Zeroizing;

use crate::envelope::Signer;
use crate::ids::KeyId;

/// PKCS#8 `PrivateKeyInfo`: SEQUENCE, version 0, AlgorithmIdentifier 1.3.101.112, OCTET STRING in OCTET STRING.
const PRIVATE: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// SubjectPublicKeyInfo: SEQUENCE, AlgorithmIdentifier 1.3.101.112, BIT STRING without unused bits.
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// Why a text is no Ed25519 key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Not the PEM block that was wanted.
    #[error("no PEM block that begins with -----BEGIN {label}-----")]
    Block {
        /// Its label.
        label: &'static str,
    },
    /// The block is no Ed25519 key, or is damaged.
    #[error("the PEM block {label} holds no Ed25519 key in the form of RFC 8410")]
    Content {
        /// Its label.
        label: &'static str,
    },
}

/// The private key as PKCS#8 PEM.
#[must_use]
pub fn signing_key_to_pem(signer: &Signer) -> Zeroizing<String> {
    print(PRIVATE_LABEL, &PRIVATE, &signer.seed())
}

/// The private key in a PKCS#8 PEM text.
///
/// # Errors
/// When the text is anything else.
pub fn signing_key_from_pem(text: &str) -> Result<Signer, PemError> {
    parse(PRIVATE_LABEL, &PRIVATE, text).map(|seed| Signer::from_seed(&seed))
}

/// The public key as SubjectPublicKeyInfo PEM.
#[must_use]
pub fn public_key_to_pem(key: &KeyId) -> String {
    print(PUBLIC_LABEL, &PUBLIC, key.as_bytes()).to_string()
}

/// The public key in a SubjectPublicKeyInfo PEM text.
///
/// # Errors
/// When the text is anything else, or the key is one that no signer has.
pub fn public_key_from_pem(text: &str) -> Result<KeyId, PemError> {
    let bytes = parse(PUBLIC_LABEL, &PUBLIC, text)?;
    match VerifyingKey::from_bytes(&bytes) {
        Ok(key) if !key.is_weak() => Ok(KeyId::from_bytes(*bytes)),
        Ok(_) | Err(_) => Err(PemError::Content { label: PUBLIC_LABEL }),
    }
}

fn print(label: &str, prefix: &[u8], key: &[u8; 32]) -> Zeroizing<String> {
    let mut der = Zeroizing::new(Vec::with_capacity(prefix.len() + key.len()));
    der.extend_from_slice(prefix);
    der.extend_from_slice(key);
    // Long enough from the start: growing would leave a copy of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(256));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    STANDARD.encode_string(der.as_slice(), &mut text);
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

fn parse(label: &'static str, prefix: &[u8], text: &str) -> Result<Zeroizing<[u8; 32]>, PemError> {
    let block = || PemError::Block { label };
    let content = || PemError::Content { label };
    let mut lines = text.lines();
    if lines.next() != Some(format!("-----BEGIN {label}-----").as_str()) {
        return Err(block());
    }
    // Either key fits one line of 64 characters (RFC 7468 section 2).
    let body = lines.next().ok_or_else(block)?;
    if lines.next() != Some(format!("-----END {label}-----").as_str()) {
        return Err(if body.starts_with("-----END") { content() } else { block() });
    }
    if lines.any(|line| !line.trim().is_empty()) {
        return Err(content());
    }
    let der = Zeroizing::new(STANDARD.decode(body).map_err(|_| content())?);
    let key = der.strip_prefix(prefix).ok_or_else(content)?;
    Ok(Zeroizing::new(key.try_into().map_err(|_| content())?))
}

#[cfg(test)]
mod tests {
    use super::{PemError, public_key_from_pem, public_key_to_pem, signing_key_from_pem, signing_key_to_pem};
    use crate::envelope::Signer;

    // RFC 8410 section 10.3 and 10.1.
    const RFC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const RFC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn the_keys_of_the_rfc_are_read_and_written_the_same() {
        let signer = signing_key_from_pem(RFC_PRIVATE).expect("the RFC's key");
        assert_eq!(signing_key_to_pem(&signer).as_str(), RFC_PRIVATE);
        let key = public_key_from_pem(RFC_PUBLIC).expect("the RFC's key");
        assert_eq!(key, signer.key_id());
        assert_eq!(public_key_to_pem(&key), RFC_PUBLIC);
        assert!(signing_key_from_pem(&RFC_PRIVATE.replace('\n', "\r\n")).is_ok());
    }

    #[test]
    fn anything_else_is_refused_without_repeating_it() {
        let body = RFC_PRIVATE.lines().nth(1).expect("three lines");
        for bad in [
            String::new(),
            "secret".to_owned(),
            RFC_PUBLIC.to_owned(),
            format!("\n{RFC_PRIVATE}"),
            format!("{RFC_PRIVATE}secret\n"),
            RFC_PRIVATE.replace(body, &body[..60]),
            RFC_PRIVATE.replace(body, &format!("{body}AAAA")),
            RFC_PRIVATE.replace("MC4", "MC5"),
            RFC_PRIVATE.replace("-----END", "----END"),
        ] {
            let error = signing_key_from_pem(&bad).expect_err(&bad);
            assert!(!error.to_string().contains("secret") && !error.to_string().contains(body), "{error}");
        }
        let weak = Signer::from_seed(&[1; 32]);
        let zero = public_key_to_pem(&crate::ids::KeyId::from_bytes([0; 32]));
        assert!(matches!(public_key_from_pem(&zero), Err(PemError::Content { .. })));
        assert!(public_key_from_pem(&public_key_to_pem(&weak.key_id())).is_ok());
    }
}
