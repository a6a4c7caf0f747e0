//! Opening a sealed file as a whole.
//!
//! All or nothing: a file with one wrong bit gives no plain text here. To read what is intact of it, use
//! `PayloadReader`.

use super::file_key::FileKey;
use super::header::{Header, HeaderDamage, parse_header};
use super::keys::Identity;
use super::reader::PayloadReader;
use super::stream::{PayloadDamage, plain_bytes};

/// Why a sealed file does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Something else, or an empty file.
    #[error("not an age file")]
    NotAge,
    /// An age file of a version that is not read here.
    #[error("an age file of version {version:?}; only v1 is supported")]
    UnsupportedVersion {
        /// What follows `age-encryption.org/`, cut to 32 bytes.
        version: String,
    },
    /// The header cannot be read.
    #[error("the header of the age file is damaged")]
    Header(#[source] HeaderDamage),
    /// A wrong key: the file is sealed to others.
    #[error(
        "none of the {identities} identities given is among the {recipients} X25519 recipients of the file"
    )]
    NoMatch {
        /// How many identities were tried.
        identities: usize,
        /// How many stanzas they were tried on.
        recipients: usize,
    },
    /// The header was changed, or the file key is of another file.
    #[error("the MAC of the age header does not verify")]
    Mac,
    /// The payload was changed, cut or lengthened.
    #[error("the payload of the age file is damaged")]
    Payload(#[source] PayloadDamage),
}

impl From<PayloadDamage> for OpenError {
    fn from(damage: PayloadDamage) -> Self {
        Self::Payload(damage)
    }
}

/// The header and the plain text of a sealed file.
///
/// # Errors
/// See `OpenError`.
pub fn open(sealed: &[u8], identities: &[Identity]) -> Result<(Header, Vec<u8>), OpenError> {
    let (header, header_bytes) = parse_header(sealed)?;
    let key = header.unwrap(identities)?;
    let plain = open_payload(sealed, header_bytes, &key)?;
    Ok((header, plain))
}

/// As `open`, with the file's own key.
///
/// # Errors
/// See `OpenError`; never `NoMatch`.
pub fn open_with_file_key(sealed: &[u8], key: &FileKey) -> Result<(Header, Vec<u8>), OpenError> {
    let (header, header_bytes) = parse_header(sealed)?;
    header.verify_mac(key)?;
    let plain = open_payload(sealed, header_bytes, key)?;
    Ok((header, plain))
}

fn open_payload(sealed: &[u8], header_bytes: usize, key: &FileKey) -> Result<Vec<u8>, OpenError> {
    let reader = PayloadReader::new(sealed, header_bytes, key)?;
    let mut plain = Vec::with_capacity(plain_bytes(header_bytes, sealed.len()).unwrap_or_default());
    for chunk in 0..reader.chunk_count() {
        reader.append_chunk(chunk, &mut plain)?;
    }
    Ok(plain)
}
