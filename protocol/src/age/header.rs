//! The header: version line, stanzas, MAC (specification, "Header").
//!
//! A parsed header is not yet trusted: only a file key that verifies its MAC makes it so, and `unwrap` gives out no
//! other. Parsing is bounded in bytes and in stanzas, and accepts the canonical form alone.

use hmac::Mac;

use super::file_key::FileKey;
use super::keys::{Identity, Recipient};
use super::open::OpenError;
use super::stanza::{Stanza, base64, parse_arguments, parse_body_line, unbase64};
use super::x25519::{self, Wrapped};
use crate::crypto::LowOrder;
use crate::entropy::Entropy;

/// The longest header that is read or written.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The most stanzas that are read or written: each X25519 one costs its reader a key agreement per identity.
pub const MAX_STANZAS: usize = 256;

const VERSION_LINE: &[u8] = b"age-encryption.org/v1\n";
const MAC_COLUMNS: usize = 43;

/// What is wrong with a header, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct HeaderDamage {
    /// Counted from 1; the version line is the first.
    pub line: usize,
    /// What is wrong.
    pub fault: HeaderFault,
}

/// What is wrong with a line of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The file ends within the header or within the payload's nonce.
    #[error("the file ends here")]
    Truncated,
    /// More than `MAX_HEADER_BYTES`.
    #[error("the header does not end within {MAX_HEADER_BYTES} bytes")]
    TooLong,
    /// More than `MAX_STANZAS`.
    #[error("the header has more than {MAX_STANZAS} stanzas")]
    TooManyStanzas,
    /// Neither a stanza nor the end where one of them must be, or no stanza at all.
    #[error("a recipient stanza is expected")]
    NoStanza,
    /// Empty or invisible arguments.
    #[error("the arguments of the stanza are malformed")]
    Arguments,
    /// A body line too long or not canonical base64, or a missing last line.
    #[error("the body of the stanza is malformed")]
    Body,
    /// An X25519 stanza with a malformed share or body, or with a point of low order.
    #[error("the X25519 stanza is malformed")]
    X25519,
    /// A passphrase stanza beside others (specification, "scrypt recipient type").
    #[error("a passphrase stanza must be the only one")]
    Scrypt,
    /// A MAC line that is not `--- ` and 43 columns of canonical base64.
    #[error("the MAC line is malformed")]
    MacLine,
}

/// A parsed header. Its MAC is verified by `unwrap` and by `verify_mac`, not by parsing.
#[derive(Debug, Clone)]
pub struct Header {
    stanzas: Vec<Stanza>,
    wrapped: Vec<(usize, Wrapped)>,
    maced: Vec<u8>,
    mac: [u8; 32],
}

impl Header {
    /// All stanzas in order, those of recipients and others.
    #[must_use]
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// How many X25519 recipients the file has.
    #[must_use]
    pub fn recipient_count(&self) -> usize {
        self.wrapped.len()
    }

    /// The file key, when one of the identities is a recipient and the MAC of the header verifies under it.
    ///
    /// # Errors
    /// `NoMatch` when no identity is a recipient (a wrong key); `Mac` and `Header` when the header is damaged.
    pub fn unwrap(&self, identities: &[Identity]) -> Result<FileKey, OpenError> {
        for (line, wrapped) in &self.wrapped {
            for identity in identities {
                let opened =
                    wrapped.unwrap(identity).map_err(|LowOrder| damage(*line, HeaderFault::X25519))?;
                if let Some(key) = opened {
                    self.verify_mac(&key)?;
                    return Ok(key);
                }
            }
        }
        Err(OpenError::NoMatch { identities: identities.len(), recipients: self.wrapped.len() })
    }

    /// Checks that the header, with every stanza, is the one that was written with `key`.
    ///
    /// # Errors
    /// `Mac` when it is not.
    pub fn verify_mac(&self, key: &FileKey) -> Result<(), OpenError> {
        key.header_mac(&self.maced).verify_slice(&self.mac).map_err(|_| OpenError::Mac)
    }
}

/// Reads the header at the start of a sealed file; also gives its length, at which the payload's nonce starts.
///
/// # Errors
/// `NotAge`, `UnsupportedVersion`, or `Header` with the line at fault.
pub fn parse_header(bytes: &[u8]) -> Result<(Header, usize), OpenError> {
    if !bytes.starts_with(VERSION_LINE) {
        return Err(other_version(bytes));
    }
    let mut lines = Lines { bytes, at: VERSION_LINE.len(), line: 1 };
    let mut stanzas = Vec::new();
    let mut wrapped = Vec::new();
    loop {
        let start = lines.at;
        let line = lines.next()?;
        if let Some(arguments) = line.strip_prefix(b"-> ") {
            let first_line = lines.line;
            if stanzas.len() == MAX_STANZAS {
                return Err(damage(first_line, HeaderFault::TooManyStanzas));
            }
            let stanza = parse_stanza(arguments, &mut lines)?;
            if stanza.kind == x25519::KIND {
                let parsed = Wrapped::parse(&stanza).ok_or(damage(first_line, HeaderFault::X25519))?;
                wrapped.push((first_line, parsed));
            }
            stanzas.push(stanza);
        } else if let Some(rest) = line.strip_prefix(b"---") {
            if stanzas.is_empty() {
                return Err(damage(lines.line, HeaderFault::NoStanza));
            }
            if stanzas.len() > 1 && stanzas.iter().any(|stanza| stanza.kind == "scrypt") {
                return Err(damage(lines.line, HeaderFault::Scrypt));
            }
            let mac = parse_mac(rest).ok_or(damage(lines.line, HeaderFault::MacLine))?;
            let maced = bytes[..start + 3].to_vec();
            return Ok((Header { stanzas, wrapped, maced, mac }, lines.at));
        } else {
            return Err(damage(lines.line, HeaderFault::NoStanza));
        }
    }
}

/// Length of the header that sealing to so many recipients with these further stanzas writes.
#[must_use]
pub fn header_bytes(recipients: usize, extra: &[Stanza]) -> usize {
    let further: usize = extra.iter().map(Stanza::encoded_bytes).sum();
    VERSION_LINE.len() + recipients * x25519::STANZA_BYTES + further + "--- ".len() + MAC_COLUMNS + 1
}

/// Writes a header; the caller has checked the stanzas and the caps. The error is the recipient of low order.
pub(super) fn write_header<'a>(
    out: &mut Vec<u8>,
    key: &FileKey,
    recipients: &'a [Recipient],
    extra: &[Stanza],
    entropy: &mut dyn Entropy,
) -> Result<(), &'a Recipient> {
    let start = out.len();
    out.extend_from_slice(VERSION_LINE);
    for recipient in recipients {
        x25519::wrap(key, recipient, entropy).map_err(|LowOrder| recipient)?.encode(out);
    }
    for stanza in extra {
        stanza.encode(out);
    }
    out.extend_from_slice(b"---");
    let mac = key.header_mac(&out[start..]).finalize().into_bytes();
    out.push(b' ');
    out.extend_from_slice(base64(&mac).as_bytes());
    out.push(b'\n');
    Ok(())
}

pub(super) fn damage(line: usize, fault: HeaderFault) -> OpenError {
    OpenError::Header(HeaderDamage { line, fault })
}

/// The lines of a header, bounded by `MAX_HEADER_BYTES`.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], OpenError> {
        self.line += 1;
        let window = &self.bytes[self.at..self.bytes.len().min(MAX_HEADER_BYTES)];
        let Some(length) = window.iter().position(|byte| *byte == b'\n') else {
            let long = self.bytes.len() >= MAX_HEADER_BYTES;
            let fault = if long { HeaderFault::TooLong } else { HeaderFault::Truncated };
            return Err(damage(self.line, fault));
        };
        self.at += length + 1;
        Ok(&window[..length])
    }
}

fn parse_stanza(arguments: &[u8], lines: &mut Lines<'_>) -> Result<Stanza, OpenError> {
    let (kind, args) = parse_arguments(arguments).ok_or(damage(lines.line, HeaderFault::Arguments))?;
    let mut body = Vec::new();
    loop {
        let line = lines.next()?;
        if parse_body_line(line, &mut body).ok_or(damage(lines.line, HeaderFault::Body))? {
            return Ok(Stanza { kind, args, body });
        }
    }
}

fn parse_mac(rest: &[u8]) -> Option<[u8; 32]> {
    unbase64(rest.strip_prefix(b" ")?)?.try_into().ok()
}

fn other_version(bytes: &[u8]) -> OpenError {
    let Some(rest) = bytes.strip_prefix(b"age-encryption.org/") else { return OpenError::NotAge };
    let version = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let shown = &version[..version.len().min(32)];
    OpenError::UnsupportedVersion { version: String::from_utf8_lossy(shown).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::{
        HeaderFault, MAX_HEADER_BYTES, MAX_STANZAS, damage, header_bytes, parse_header, write_header,
    };
    use crate::age::seeded::Seeded;
    use crate::age::{FileKey, Identity, OpenError, Stanza};

    fn written(recipients: usize, extra: &[Stanza]) -> Vec<u8> {
        let mut entropy = Seeded::new(6);
        let recipients: Vec<_> =
            (0..recipients).map(|_| Identity::generate(&mut entropy).recipient()).collect();
        let key = FileKey::generate(&mut entropy);
        let mut out = Vec::new();
        write_header(&mut out, &key, &recipients, extra, &mut entropy).expect("real recipients");
        out
    }

    fn context(body_bytes: usize) -> Stanza {
        let args = vec!["prod".to_owned(), "secrets".to_owned()];
        Stanza { kind: "muster-context".to_owned(), args, body: vec![1; body_bytes] }
    }

    #[test]
    fn what_is_written_is_read_and_has_the_told_length() {
        for recipients in [1, 2, 5] {
            for body_bytes in [0, 1, 47, 48, 96, 100] {
                let extra = [context(body_bytes), context(0)];
                let out = written(recipients, &extra);
                assert_eq!(out.len(), header_bytes(recipients, &extra));
                let (header, length) = parse_header(&out).expect("our own header");
                assert_eq!(length, out.len());
                assert_eq!(header.recipient_count(), recipients);
                assert_eq!(&header.stanzas()[recipients..], extra.as_slice());
            }
        }
    }

    #[test]
    fn other_files_are_told_from_damaged_ones() {
        assert_eq!(parse_header(b"").map(|_| ()), Err(OpenError::NotAge));
        assert_eq!(parse_header(b"PK\x03\x04").map(|_| ()), Err(OpenError::NotAge));
        let newer = parse_header(b"age-encryption.org/v2\n-> X\n\n--- \n").map(|_| ());
        assert_eq!(newer, Err(OpenError::UnsupportedVersion { version: "v2".to_owned() }));
    }

    #[test]
    fn a_header_is_bounded() {
        let mut long = b"age-encryption.org/v1\n-> grease\n".to_vec();
        for _ in 0..MAX_HEADER_BYTES / 65 {
            long.extend_from_slice(&[b'A'; 64]);
            long.push(b'\n');
        }
        let line = 3 + (MAX_HEADER_BYTES - 32) / 65;
        assert_eq!(parse_header(&long).map(|_| ()), Err(damage(line, HeaderFault::TooLong)));

        let mut many = b"age-encryption.org/v1\n".to_vec();
        for _ in 0..=MAX_STANZAS {
            many.extend_from_slice(b"-> g\n\n");
        }
        let line = 2 + 2 * MAX_STANZAS;
        assert_eq!(parse_header(&many).map(|_| ()), Err(damage(line, HeaderFault::TooManyStanzas)));
    }

    #[test]
    fn a_stanza_that_was_changed_breaks_the_mac() {
        let mut entropy = Seeded::new(7);
        let identity = Identity::generate(&mut entropy);
        let key = FileKey::generate(&mut entropy);
        let mut out = Vec::new();
        write_header(&mut out, &key, &[identity.recipient()], &[context(0)], &mut entropy).expect("real");
        let text = String::from_utf8(out).expect("ASCII");
        let forged = text.replace("prod secrets", "prod dns");
        let (header, _) = parse_header(forged.as_bytes()).expect("well formed");
        assert_eq!(header.unwrap(&[identity]), Err(OpenError::Mac));
        assert_eq!(header.verify_mac(&key), Err(OpenError::Mac));
        parse_header(text.as_bytes()).expect("ours").0.verify_mac(&key).expect("unchanged");
    }
}
