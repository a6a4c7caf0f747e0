//! Identities (secret keys) and recipients (public keys) with their text forms.
//!
//! Texts are Bech32 (BIP 173) without its length limit; a key has exactly one text, any other is refused. Errors never
//! repeat the text of an identity.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::entropy::{Entropy, random};

const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-";
const RECIPIENT_PREFIX: &str = "age";
/// Longer than any X25519 key text, so that building one never reallocates and leaves a copy behind.
const TEXT_BYTES: usize = 96;

/// Why a text is not the key that was wanted. No variant repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is something else.
    #[error("not an X25519 {wanted} (it starts with {prefix}): {found}")]
    Kind {
        /// `age identity` or `age recipient`.
        wanted: &'static str,
        /// What it should start with.
        prefix: &'static str,
        /// What it looks like instead.
        found: &'static str,
    },
    /// The right beginning, but a character is wrong, missing or added.
    #[error("the {wanted} has a typing error: its checksum does not match; copy it again")]
    Checksum {
        /// `age identity` or `age recipient`.
        wanted: &'static str,
    },
    /// A valid checksum over something that is not a key of 32 bytes in its one canonical form.
    #[error("the {wanted} does not hold a canonical X25519 key")]
    NotCanonical {
        /// `age identity` or `age recipient`.
        wanted: &'static str,
    },
    /// An identity file without an identity.
    #[error("no identity in the file: a line starting with AGE-SECRET-KEY-1 is missing")]
    Empty,
    /// A line of an identity file.
    #[error("line {line} of the identity file is refused")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: Box<KeyError>,
    },
}

/// An X25519 secret key; wiped when dropped.
pub struct Identity {
    secret: StaticSecret,
    recipient: Recipient,
}

impl Identity {
    /// A fresh identity.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut bytes: [u8; 32] = random(entropy);
        let identity = Self::from_bytes(bytes);
        bytes.zeroize();
        identity
    }

    /// One identity: `AGE-SECRET-KEY-1…` (specification, "X25519 recipient type").
    ///
    /// # Errors
    /// When the text is anything else; the error does not repeat it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        const WANTED: &str = "age identity";
        if !text.starts_with("AGE-SECRET-KEY-1") {
            return Err(KeyError::Kind {
                wanted: WANTED,
                prefix: "AGE-SECRET-KEY-1",
                found: looks_like(text),
            });
        }
        let bytes = decode(WANTED, IDENTITY_PREFIX, text)?;
        let identity = Self::from_bytes(*bytes);
        if identity.text().as_str() != text {
            return Err(KeyError::NotCanonical { wanted: WANTED });
        }
        Ok(identity)
    }

    /// An identity file as `age-keygen` writes it: one identity a line, `#` comments and blank lines.
    ///
    /// # Errors
    /// When a line is neither, naming it, or when there is no identity.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, KeyError> {
        if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE") {
            return Err(KeyError::Line {
                line: 1,
                source: Box::new(Self::parse(text).err().unwrap_or(KeyError::Empty)),
            });
        }
        let mut identities = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = Self::parse(line)
                .map_err(|source| KeyError::Line { line: index + 1, source: Box::new(source) })?;
            identities.push(identity);
        }
        if identities.is_empty() { Err(KeyError::Empty) } else { Ok(identities) }
    }

    /// The public half.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        self.recipient.clone()
    }

    /// An identity file for this key alone, in the form of `age-keygen`. `created` is a time for people (RFC 3339);
    /// it is cut at its first control character, since it must stay a comment.
    #[must_use]
    pub fn to_file_text(&self, created: &str) -> Zeroizing<String> {
        let created = created.split(char::is_control).next().unwrap_or_default();
        let key = self.text();
        let recipient = self.recipient.to_string();
        let mut text =
            Zeroizing::new(String::with_capacity(64 + created.len() + recipient.len() + key.len()));
        for part in ["# created: ", created, "\n# public key: ", recipient.as_str(), "\n", key.as_str(), "\n"]
        {
            text.push_str(part);
        }
        text
    }

    pub(super) fn secret(&self) -> &StaticSecret {
        &self.secret
    }

    fn from_bytes(bytes: [u8; 32]) -> Self {
        let secret = StaticSecret::from(bytes);
        let recipient = Recipient(PublicKey::from(&secret).to_bytes());
        Self { secret, recipient }
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES));
        bech32::encode_upper_to_fmt::<Bech32, String>(
            &mut text,
            hrp(IDENTITY_PREFIX),
            self.secret.as_bytes(),
        )
        .expect("a String takes every character, and 32 bytes fit the code");
        text
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(redacted, {})", self.recipient)
    }
}

/// An X25519 public key: what a file is sealed to. As text and in serde formats `age1…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient([u8; 32]);

impl Recipient {
    /// The Montgomery u-coordinate, little-endian (RFC 7748 §5).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        const WANTED: &str = "age recipient";
        if !text.starts_with("age1") {
            return Err(KeyError::Kind { wanted: WANTED, prefix: "age1", found: looks_like(text) });
        }
        if text.starts_with("age1pq1") {
            return Err(KeyError::Kind { wanted: WANTED, prefix: "age1", found: looks_like(text) });
        }
        let recipient = Self(*decode(WANTED, RECIPIENT_PREFIX, text)?);
        // An identity never has a u-coordinate of 2^255 - 19 or more, so nobody could open what is sealed to one.
        let reduced = recipient.0[31] < 0x7f
            || (recipient.0[31] == 0x7f
                && (recipient.0[1..31].iter().any(|byte| *byte != 0xff) || recipient.0[0] < 0xed));
        if !reduced || recipient.to_string() != text {
            return Err(KeyError::NotCanonical { wanted: WANTED });
        }
        Ok(recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode_lower::<Bech32>(hrp(RECIPIENT_PREFIX), &self.0)
            .expect("a String takes every character, and 32 bytes fit the code");
        f.pad(&text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl Serialize for Recipient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn hrp(prefix: &str) -> Hrp {
    Hrp::parse(prefix).expect("both prefixes of age are valid Bech32")
}

fn decode(wanted: &'static str, prefix: &str, text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    // The reason is dropped on purpose: it would name characters of a secret.
    let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| KeyError::Checksum { wanted })?;
    let mut data = checked.byte_iter();
    if checked.hrp() != hrp(prefix) || data.len() != 32 {
        return Err(KeyError::NotCanonical { wanted });
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, value) in bytes.iter_mut().zip(&mut data) {
        *byte = value;
    }
    Ok(bytes)
}

fn looks_like(text: &str) -> &'static str {
    let known = [
        ("AGE-SECRET-KEY-PQ-", "a post-quantum identity, which is not supported"),
        ("AGE-SECRET-KEY-1", "an identity, which is secret"),
        ("AGE-PLUGIN-", "an identity of a plugin, which is not supported"),
        ("age-encryption.org/", "an encrypted file; decrypt it first with `age -d`"),
        ("-----BEGIN AGE", "an encrypted file; decrypt it first with `age -d`"),
        ("age1pq1", "a post-quantum recipient, which is not supported"),
        ("age1", "a recipient, which is public"),
        ("ssh-", "an SSH key, which is not supported"),
        ("-----BEGIN", "a PEM file, which is not supported"),
    ];
    if text.is_empty() {
        return "an empty text";
    }
    known.iter().find(|(start, _)| text.starts_with(start)).map_or("an unknown text", |(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::{Identity, KeyError, Recipient};
    use crate::age::seeded::Seeded;

    #[test]
    fn texts_round_trip() {
        let identity = Identity::generate(&mut Seeded::new(1));
        let text = identity.to_file_text("2024-01-02T03:04:05Z");
        let again = Identity::parse_file(&text).expect("our own file");
        assert_eq!(again[0].recipient(), identity.recipient());
        let shown = identity.recipient().to_string();
        assert!(text.contains(&format!("# public key: {shown}\n")));
        assert_eq!(shown.parse::<Recipient>().expect("our own text"), identity.recipient());
        let json = serde_json::to_string(&identity.recipient()).expect("a string");
        assert_eq!(serde_json::from_str::<Recipient>(&json).expect("the same string"), identity.recipient());
    }

    #[test]
    fn a_created_time_cannot_add_lines() {
        let identity = Identity::generate(&mut Seeded::new(1));
        assert_eq!(identity.to_file_text("now\nAGE-SECRET-KEY-1").lines().count(), 3);
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::generate(&mut Seeded::new(1));
        let shown = format!("{identity:?}");
        assert!(shown.starts_with("Identity(redacted, age1") && !shown.contains("SECRET"), "{shown}");
    }

    #[test]
    fn every_single_typing_error_is_found() {
        let identity = Identity::generate(&mut Seeded::new(2));
        for text in [identity.text().as_str(), &identity.recipient().to_string()] {
            for at in 0..text.len() {
                let mut typo = text.to_owned().into_bytes();
                typo[at] = if typo[at] == b'2' { b'3' } else { b'2' };
                let typo = String::from_utf8(typo).expect("ASCII");
                assert!(Identity::parse(&typo).is_err() && typo.parse::<Recipient>().is_err(), "{typo}");
            }
        }
    }

    #[test]
    fn one_key_has_one_text() {
        let identity = Identity::generate(&mut Seeded::new(2));
        let recipient = identity.recipient().to_string();
        assert!(Identity::parse(&identity.text().to_lowercase()).is_err());
        assert!(recipient.to_uppercase().parse::<Recipient>().is_err());
        assert!(format!("{recipient} ").parse::<Recipient>().is_err());
        for top in [0x7f, 0xff] {
            let mut above = [0xff; 32];
            above[31] = top;
            let text = Recipient(above).to_string();
            assert_eq!(
                text.parse::<Recipient>(),
                Err(KeyError::NotCanonical { wanted: "age recipient" }),
                "{text}"
            );
        }
    }

    #[test]
    fn stray_bits_behind_the_key_are_refused() {
        use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
        use bech32::{Bech32, Fe32};

        let identity = Identity::generate(&mut Seeded::new(2));
        for (prefix, bytes) in
            [("age-secret-key-", identity.secret.to_bytes()), ("age", *identity.recipient().as_bytes())]
        {
            let mut fields: Vec<Fe32> = bytes.into_iter().bytes_to_fes().collect();
            let last = fields.last_mut().expect("52 characters");
            *last = Fe32::try_from(last.to_u8() | 1).expect("five bits");
            let text: String =
                fields.into_iter().with_checksum::<Bech32>(&super::hrp(prefix)).chars().collect();
            let error = match prefix {
                "age" => text.parse::<Recipient>().map(|_| ()),
                _ => Identity::parse(&text.to_uppercase()).map(|_| ()),
            };
            assert!(matches!(error, Err(KeyError::NotCanonical { .. })), "{prefix}: {error:?}");
        }
    }

    #[test]
    fn a_file_error_names_the_line_and_hides_the_text() {
        let key = Identity::generate(&mut Seeded::new(3));
        let good = key.text();
        let file = format!("# comment\n\n{}\r\n{}X\n", *good, *good);
        let error = Identity::parse_file(&file).expect_err("line 4 has a letter too many");
        assert!(matches!(error, KeyError::Line { line: 4, .. }), "{error:?}");
        assert!(!format!("{error:?}").contains(&good[20..]));
        assert_eq!(Identity::parse_file("# nothing\n\n").map(|_| ()), Err(KeyError::Empty));
        let public = Identity::parse_file(&key.recipient().to_string()).expect_err("a public key");
        assert!(format!("{public:?}").contains("which is public"), "{public:?}");
    }
}
