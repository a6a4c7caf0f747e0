//! Sealed objects: an age v1 file with a context stanza, whose payload ends in padding.
//!
//! ```text
//! age header     recipients; "-> muster-context 1 FLEET SERVICE KEYSET" with an empty body, bound by the header's MAC
//! age payload    zstd frames (RFC 8878 section 3.1.1), then skippable frames (section 3.1.2) for what is not content
//! ```
//!
//! So `age -d -i KEY object | zstd -d` gives the content and nothing else. Padding rounds the payload's length up to one
//! of 64 steps for each power of two (at least to whole KiB), in the manner of Padmé (Nikitin et al., "Reducing
//! Metadata Leakage from Encrypted Files and Communication with PURBs", PoPETs 2019): lengths on the share tell little,
//! at a cost of less than 1.6 %.
//!
//! Every sealed object is made and opened here. Nothing is decrypted before its SHA-256 matched, where the caller knows
//! it, and nothing is decompressed beyond what the caller allows.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use bytes::Bytes;
use muster_protocol::age::{
    FileKey, Header, Identity, OpenError, PayloadReader, Recipient, SealError, Sealer, Stanza, parse_header,
};
use muster_protocol::entropy::Entropy;
use muster_protocol::ids::{FleetId, ObjectId, ServiceName};

/// Name of the context stanza.
pub const CONTEXT_STANZA: &str = "muster-context";

/// Version of what this module writes, the stanza's first argument.
pub const SEALED_VERSION: u16 = 1;

/// Magic number of the skippable frames that pad (RFC 8878 section 3.1.2 leaves 0x184D2A50 to 0x184D2A5F to us).
pub const PADDING_MAGIC: u32 = 0x184D_2A5E;

/// Length of a skippable frame's header: magic and length, 4 bytes little-endian each.
pub(crate) const SKIPPABLE_HEADER: usize = 8;

/// Magic number of a zstd frame (RFC 8878 section 3.1.1).
pub(crate) const ZSTD_MAGIC: u32 = 0xFD2F_B528;

/// Whose object it is, and under which keys it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackContext {
    /// The fleet.
    pub fleet: FleetId,
    /// The service.
    pub service: ServiceName,
    /// Log number of the keyset.
    pub keyset: u64,
}

/// What a sealed object is, said in a stanza that the header's MAC binds: no object passes for another kind of thing.
pub(crate) trait Context: Sized {
    /// The one spelling of it.
    fn stanza(&self) -> Stanza;

    /// What the header says.
    fn of(header: &Header) -> Result<Self, SealedError>;
}

impl Context for PackContext {
    fn stanza(&self) -> Stanza {
        let args = vec![
            SEALED_VERSION.to_string(),
            self.fleet.to_string(),
            self.service.to_string(),
            self.keyset.to_string(),
        ];
        Stanza { kind: CONTEXT_STANZA.to_owned(), args, body: Vec::new() }
    }

    fn of(header: &Header) -> Result<Self, SealedError> {
        let stanza = the_one(header, CONTEXT_STANZA)?;
        let [version, fleet, service, keyset] = stanza.args.as_slice() else {
            return Err(SealedError::Context);
        };
        if *version != SEALED_VERSION.to_string() {
            return Err(SealedError::Version { version: version.chars().take(16).collect() });
        }
        let context = Self { fleet: part(fleet)?, service: part(service)?, keyset: part(keyset)? };
        // One spelling: `+1` and `01` are numbers, too.
        if context.stanza() == *stanza { Ok(context) } else { Err(SealedError::Context) }
    }
}

/// The only stanza of this kind.
pub(crate) fn the_one<'a>(header: &'a Header, kind: &str) -> Result<&'a Stanza, SealedError> {
    let mut stanzas = header.stanzas().iter().filter(|stanza| stanza.kind == kind);
    match (stanzas.next(), stanzas.next()) {
        (Some(stanza), None) => Ok(stanza),
        (_, _) => Err(SealedError::Context),
    }
}

/// One argument of a context.
pub(crate) fn part<T: FromStr>(text: &str) -> Result<T, SealedError> {
    text.parse().map_err(|_| SealedError::Context)
}

/// Why a sealed object was not made or does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The bytes are not those that the name promises.
    #[error("the object's hash is {have}, not {want}")]
    HashMismatch {
        /// What was asked for.
        want: ObjectId,
        /// What the bytes hash to.
        have: ObjectId,
    },
    /// None of the identities is a recipient.
    #[error("the object is sealed to other keys")]
    NoKey(#[source] OpenError),
    /// The age file is damaged.
    #[error("the sealed object does not open")]
    Open(#[source] OpenError),
    /// Sealing failed; nothing was made.
    #[error("the object cannot be sealed")]
    Seal(#[source] SealError),
    /// There is not exactly one well-formed context stanza.
    #[error("the object's context is missing or malformed")]
    Context,
    /// A later version wrote it.
    #[error("the object has version {version:?}; only {SEALED_VERSION} is known")]
    Version {
        /// Its version, cut to 16 characters.
        version: String,
    },
    /// The content does not decompress to what it should be.
    #[error("the object's content is damaged: {what}")]
    Content {
        /// What is wrong.
        what: &'static str,
    },
    /// The content is longer than the caller takes.
    #[error("the object's content is longer than {most} bytes")]
    TooLong {
        /// The longest length allowed, in bytes.
        most: usize,
    },
}

impl From<OpenError> for SealedError {
    fn from(error: OpenError) -> Self {
        if matches!(error, OpenError::NoMatch { .. }) { Self::NoKey(error) } else { Self::Open(error) }
    }
}

/// What opens a sealed object.
#[derive(Debug, Clone, Copy)]
pub enum Unlock<'a> {
    /// Private keys, one of them a recipient's.
    Identities(&'a [Identity]),
    /// The file's own key, as out of a grant.
    FileKey(&'a FileKey),
}

/// A sealed object, ready to be stored.
pub struct SealedObject {
    /// SHA-256 of the bytes.
    pub id: ObjectId,
    /// What to store.
    pub bytes: Bytes,
    /// The file's own key.
    pub file_key: FileKey,
}

impl fmt::Debug for SealedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedObject")
            .field("id", &self.id)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Seals `content` as one zstd frame with padding.
///
/// # Errors
/// [`SealedError::Seal`] when the recipients are unusable.
pub fn seal_object(
    content: &[u8],
    recipients: &[Recipient],
    context: &PackContext,
    entropy: &mut dyn Entropy,
) -> Result<SealedObject, SealedError> {
    seal_content(content, recipients, context, entropy)
}

/// Seals `content` in any context.
pub(crate) fn seal_content(
    content: &[u8],
    recipients: &[Recipient],
    context: &impl Context,
    entropy: &mut dyn Entropy,
) -> Result<SealedObject, SealedError> {
    let frame = zstd::bulk::compress(content, zstd::DEFAULT_COMPRESSION_LEVEL)
        .map_err(|_| SealedError::Content { what: "it cannot be compressed" })?;
    // Indexes and grants hold keys.
    let frame = zeroize::Zeroizing::new(frame);
    let padding = padding(frame.len(), 0);
    seal_parts(&[&frame, &padding], recipients, context, entropy)
}

/// The context and content of a sealed object whose content is not longer than `max_len`.
///
/// # Errors
/// See [`SealedError`].
pub fn open_object(
    bytes: &[u8],
    expected: Option<&ObjectId>,
    unlock: Unlock<'_>,
    max_len: usize,
) -> Result<(PackContext, Vec<u8>), SealedError> {
    open_content(bytes, expected, unlock, max_len)
}

/// Opens an object of any context.
pub(crate) fn open_content<C: Context>(
    bytes: &[u8],
    expected: Option<&ObjectId>,
    unlock: Unlock<'_>,
    max_len: usize,
) -> Result<(C, Vec<u8>), SealedError> {
    let opened = Opened::new(bytes, expected, unlock)?;
    let mut content = Vec::new();
    // The decoder passes over the padding, and its window is bounded (ZSTD_WINDOWLOG_LIMIT_DEFAULT, 128 MiB).
    let damaged = |_| SealedError::Content { what: "it does not decompress" };
    let decoder = zstd::stream::read::Decoder::new(opened.payload()?).map_err(damaged)?;
    let most = u64::try_from(max_len).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(most).read_to_end(&mut content).map_err(damaged)?;
    if content.len() > max_len {
        return Err(SealedError::TooLong { most: max_len });
    }
    Ok((opened.context, content))
}

/// Whose object this header is of, and its file key, once the header's MAC has held under it. `bytes` begin as the object
/// does; nothing is decrypted but the key.
///
/// # Errors
/// [`SealedError::NoKey`] when none of the keys is a recipient; when the header is damaged or ends beyond `bytes`.
pub fn key_of_header(bytes: &[u8], keys: &[Identity]) -> Result<(PackContext, FileKey), SealedError> {
    let (header, _) = parse_header(bytes)?;
    let key = header.unwrap(keys)?;
    Ok((PackContext::of(&header)?, key))
}

/// Seals the joined parts.
pub(crate) fn seal_parts(
    parts: &[&[u8]],
    recipients: &[Recipient],
    context: &impl Context,
    entropy: &mut dyn Entropy,
) -> Result<SealedObject, SealedError> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut sealer = sealer(Vec::new(), len, recipients, context, entropy)?;
    for part in parts {
        sealer.write(part);
    }
    Ok(finish(sealer))
}

/// Begins an object of about `plain_len` bytes of payload, in the memory of `buffer`.
pub(crate) fn sealer(
    buffer: Vec<u8>,
    plain_len: usize,
    recipients: &[Recipient],
    context: &impl Context,
    entropy: &mut dyn Entropy,
) -> Result<Sealer, SealedError> {
    Sealer::within(buffer, recipients, &[context.stanza()], plain_len, entropy).map_err(SealedError::Seal)
}

/// Encrypts and names it.
pub(crate) fn finish(sealer: Sealer) -> SealedObject {
    let (bytes, file_key) = sealer.finish();
    SealedObject { id: ObjectId::of(&bytes), bytes: Bytes::from(bytes), file_key }
}

/// An age file whose header has verified.
pub(crate) struct Opened<'a, C = PackContext> {
    bytes: &'a [u8],
    header_len: usize,
    file_key: FileKey,
    pub(crate) context: C,
}

impl<'a, C: Context> Opened<'a, C> {
    pub(crate) fn new(
        bytes: &'a [u8],
        expected: Option<&ObjectId>,
        unlock: Unlock<'_>,
    ) -> Result<Self, SealedError> {
        if let Some(want) = expected {
            let have = ObjectId::of(bytes);
            if have != *want {
                return Err(SealedError::HashMismatch { want: *want, have });
            }
        }
        let (header, header_len) = parse_header(bytes)?;
        let file_key = match unlock {
            Unlock::Identities(identities) => header.unwrap(identities)?,
            Unlock::FileKey(key) => {
                header.verify_mac(key)?;
                key.clone()
            }
        };
        Ok(Self { bytes, header_len, file_key, context: C::of(&header)? })
    }

    pub(crate) fn payload(&self) -> Result<PayloadReader<'a>, SealedError> {
        Ok(PayloadReader::new(self.bytes, self.header_len, &self.file_key)?)
    }

    /// Length of the payload, as the file's length has it.
    pub(crate) fn payload_len(&self) -> Result<usize, SealedError> {
        muster_protocol::age::plain_bytes(self.header_len, self.bytes.len())
            .ok_or(SealedError::Content { what: "no payload has this length" })
    }
}

/// The skippable frame, or nothing, that brings a payload of `before` bytes, and `after` more behind it, to a step.
pub(crate) fn padding(before: usize, after: usize) -> Vec<u8> {
    let len = before + after;
    if step(len) == len {
        return Vec::new();
    }
    let len_padded = step(len + SKIPPABLE_HEADER);
    skippable(PADDING_MAGIC, &vec![0; len_padded - len - SKIPPABLE_HEADER])
}

/// A skippable frame with this content.
///
/// # Panics
/// When the content is 4 GiB or longer, which nothing here is.
pub(crate) fn skippable(magic: u32, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("skippable frames are short");
    let mut frame = Vec::with_capacity(SKIPPABLE_HEADER + content.len());
    frame.extend_from_slice(&magic.to_le_bytes());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

/// The length `len` rounded up to a multiple of the 64th part of its power of two, at least of 1 KiB.
fn step(len: usize) -> usize {
    let unit = 1usize << len.max(1).ilog2().saturating_sub(6).max(10);
    len.next_multiple_of(unit)
}

#[cfg(test)]
mod tests {
    use super::{
        Context, PackContext, SKIPPABLE_HEADER, SealedError, Unlock, open_object, padding, seal_object,
        seal_parts, step,
    };
    use crate::entropy::OsEntropy;
    use muster_protocol::age::{Identity, OpenError, Stanza};
    use muster_protocol::ids::{FleetId, ObjectId};

    pub(crate) fn context() -> PackContext {
        PackContext {
            fleet: FleetId::from_bytes([7; 32]),
            service: "dns-2".parse().expect("name"),
            keyset: 12,
        }
    }

    #[test]
    fn objects_open_for_each_recipient_and_nobody_else() {
        let (a, b, c) = (
            Identity::generate(&mut OsEntropy),
            Identity::generate(&mut OsEntropy),
            Identity::generate(&mut OsEntropy),
        );
        let content = vec![3; 100_000];
        let sealed = seal_object(&content, &[a.recipient(), b.recipient()], &context(), &mut OsEntropy)
            .expect("sealed");
        assert_eq!(sealed.id, ObjectId::of(&sealed.bytes));
        let keys = [Unlock::FileKey(&sealed.file_key)];
        let identities = [[a], [b]];
        for unlock in identities.iter().map(|one| Unlock::Identities(one)).chain(keys) {
            let (have, plain) = open_object(&sealed.bytes, Some(&sealed.id), unlock, 100_000).expect("opens");
            assert_eq!((have, plain), (context(), content.clone()));
        }
        let error =
            open_object(&sealed.bytes, None, Unlock::Identities(&[c]), 100_000).expect_err("other key");
        assert!(matches!(error, SealedError::NoKey(OpenError::NoMatch { .. })), "{error}");
        assert!(matches!(seal_object(b"x", &[], &context(), &mut OsEntropy), Err(SealedError::Seal(_))));
    }

    #[test]
    fn content_beyond_the_limit_is_refused() {
        let key = Identity::generate(&mut OsEntropy);
        let bomb = seal_object(&vec![0; 50_000_000], &[key.recipient()], &context(), &mut OsEntropy)
            .expect("sealed");
        assert!(bomb.bytes.len() < 10_000);
        let error =
            open_object(&bomb.bytes, None, Unlock::FileKey(&bomb.file_key), 1_000_000).expect_err("too long");
        assert!(matches!(error, SealedError::TooLong { most: 1_000_000 }), "{error}");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let key = Identity::generate(&mut OsEntropy);
        let sealed = seal_object(b"content", &[key.recipient()], &context(), &mut OsEntropy).expect("sealed");
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.to_vec();
            bytes[at] ^= 1;
            let unlock = Unlock::FileKey(&sealed.file_key);
            assert!(open_object(&bytes, None, unlock, 100).is_err(), "byte {at}");
            assert!(matches!(
                open_object(&bytes, Some(&sealed.id), unlock, 100),
                Err(SealedError::HashMismatch { .. })
            ));
        }
    }

    #[test]
    fn a_context_has_one_spelling() {
        let key = Identity::generate(&mut OsEntropy);
        let stanza = |args: &[&str]| Stanza {
            kind: "muster-context".to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            body: Vec::new(),
        };
        let fleet = "07".repeat(32);
        let good = stanza(&["1", &fleet, "dns-2", "12"]);
        assert_eq!(context().stanza(), good);
        let with_body = Stanza { body: vec![1], ..good.clone() };
        let open = |stanzas: &[Stanza]| {
            let (bytes, file_key) =
                muster_protocol::age::seal(b"", &[key.recipient()], stanzas, &mut OsEntropy).expect("sealed");
            open_object(&bytes, None, Unlock::FileKey(&file_key), 1)
        };
        for bad in [
            vec![],
            vec![good.clone(), good.clone()],
            vec![with_body],
            vec![stanza(&["1", &fleet, "dns-2"])],
            vec![stanza(&["1", &fleet, "dns-2", "012"])],
            vec![stanza(&["1", &fleet, "DNS", "12"])],
        ] {
            assert!(matches!(open(&bad), Err(SealedError::Context)), "{bad:?}");
        }
        assert!(matches!(open(&[stanza(&["2", &fleet, "dns-2", "12"])]), Err(SealedError::Version { .. })));
    }

    #[test]
    fn lengths_come_in_steps_and_cost_little() {
        let mut seen = std::collections::BTreeSet::new();
        for len in (0..40_000_000usize).step_by(7919) {
            let padded = len + padding(len, 0).len();
            assert_eq!(step(padded), padded, "{len}");
            assert!(
                padded >= len && padded - len <= (len / 64).max(1024) + SKIPPABLE_HEADER + len / 64,
                "{len}"
            );
            seen.insert(padded);
        }
        assert!(seen.len() < 800, "{}", seen.len());
        for len in [1023usize, 1017, 1016, 1015, 1024, 0] {
            let padded = len + padding(len - len.min(32), len.min(32)).len();
            assert_eq!(padded % 1024, 0, "{len}");
        }
    }

    #[test]
    fn the_context_survives_any_payload() {
        let key = Identity::generate(&mut OsEntropy);
        let sealed =
            seal_parts(&[b"no ", b"zstd"], &[key.recipient()], &context(), &mut OsEntropy).expect("sealed");
        let error =
            open_object(&sealed.bytes, None, Unlock::FileKey(&sealed.file_key), 100).expect_err("no zstd");
        assert!(matches!(error, SealedError::Content { .. }), "{error}");
    }
}
