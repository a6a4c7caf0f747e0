//! Sealing: a header, then plain text as it comes, encrypted in place in one buffer.
//!
//! Plain text is laid out where its cipher text will stand, and is encrypted when the file is finished or taken out: who
//! writes while others wait only copies. Never seals to nobody, and never writes a header that a strict reader would refuse.

use std::io::{self, Write};

use super::file_key::FileKey;
use super::header::{MAX_HEADER_BYTES, MAX_STANZAS, header_bytes, write_header};
use super::keys::Recipient;
use super::stanza::{Stanza, StanzaFault};
use super::stream::{CHUNK_BYTES, NONCE_BYTES, PayloadKey, SEALED_CHUNK_BYTES, TAG_BYTES, sealed_bytes};
use crate::entropy::{Entropy, random};

/// Why nothing was sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A file that nobody could open.
    #[error("no recipient to seal to")]
    NoRecipients,
    /// More than readers accept.
    #[error(
        "a header of {stanzas} stanzas and {bytes} bytes is over the limit ({MAX_STANZAS}, {MAX_HEADER_BYTES})"
    )]
    TooLarge {
        /// Stanzas, those of recipients and others.
        stanzas: usize,
        /// Length of the header.
        bytes: usize,
    },
    /// A further stanza that must not be written.
    #[error("the stanza {kind:?} cannot be written")]
    Stanza {
        /// Its kind.
        kind: String,
        /// Why.
        #[source]
        source: StanzaFault,
    },
    /// A recipient that is a point of low order: anybody could open the file.
    #[error("recipient {recipient} is not a usable key; anybody could open what is sealed to it")]
    WeakRecipient {
        /// The recipient.
        recipient: Recipient,
    },
}

/// A file being sealed: `write` plain text, then `finish`. One that is dropped unfinished is a truncated file.
pub struct Sealer {
    sealed: Vec<u8>,
    /// Where the first chunk that is still in plain text starts in `sealed`.
    plain_start: usize,
    /// Where the open chunk starts. The chunks before it have room for their tags.
    chunk_start: usize,
    /// Number of the chunk at `plain_start`.
    chunk: u64,
    file_key: FileKey,
    key: PayloadKey,
    header_bytes: usize,
    plain_bytes: usize,
}

impl Sealer {
    /// Starts a file. `extra` stanzas come after the recipients' and are bound by the header's MAC. The buffer is made
    /// for `plain_bytes` of plain text, and grows if there is more.
    ///
    /// # Errors
    /// See `SealError`.
    pub fn new(
        recipients: &[Recipient],
        extra: &[Stanza],
        plain_bytes: usize,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, SealError> {
        Self::within(Vec::new(), recipients, extra, plain_bytes, entropy)
    }

    /// As [`Sealer::new`], in the memory of `buffer`, whose content is dropped.
    ///
    /// # Errors
    /// See `SealError`.
    pub fn within(
        buffer: Vec<u8>,
        recipients: &[Recipient],
        extra: &[Stanza],
        plain_bytes: usize,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, SealError> {
        if recipients.is_empty() {
            return Err(SealError::NoRecipients);
        }
        for stanza in extra {
            stanza.check().map_err(|source| SealError::Stanza { kind: stanza.kind.clone(), source })?;
        }
        let header_bytes = header_bytes(recipients.len(), extra);
        let stanzas = recipients.len() + extra.len();
        if header_bytes > MAX_HEADER_BYTES || stanzas > MAX_STANZAS {
            return Err(SealError::TooLarge { stanzas, bytes: header_bytes });
        }
        let file_key = FileKey::generate(entropy);
        let mut sealed = buffer;
        sealed.clear();
        sealed.reserve_exact(sealed_bytes(header_bytes, plain_bytes));
        write_header(&mut sealed, &file_key, recipients, extra, entropy)
            .map_err(|recipient| SealError::WeakRecipient { recipient: recipient.clone() })?;
        let nonce: [u8; NONCE_BYTES] = random(entropy);
        sealed.extend_from_slice(&nonce);
        let key = PayloadKey::derive(&file_key, &nonce);
        let start = sealed.len();
        Ok(Self {
            plain_start: start,
            chunk_start: start,
            sealed,
            chunk: 0,
            file_key,
            key,
            header_bytes,
            plain_bytes: 0,
        })
    }

    /// Appends plain text.
    pub fn write(&mut self, mut plain: &[u8]) {
        self.plain_bytes += plain.len();
        while !plain.is_empty() {
            // A full chunk is closed only when more comes, since the last one is marked.
            if self.sealed.len() - self.chunk_start == CHUNK_BYTES {
                self.close_chunk();
            }
            let room = CHUNK_BYTES - (self.sealed.len() - self.chunk_start);
            let (now, later) = plain.split_at(room.min(plain.len()));
            self.sealed.extend_from_slice(now);
            plain = later;
        }
    }

    /// Plain text so far.
    #[must_use]
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// Length of the sealed file, were it finished now.
    #[must_use]
    pub fn sealed_bytes(&self) -> usize {
        sealed_bytes(self.header_bytes, self.plain_bytes)
    }

    /// Length of its header.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// The file's own key.
    #[must_use]
    pub fn file_key(&self) -> &FileKey {
        &self.file_key
    }

    /// Takes out what is sealed so far, the header included, for a file that is sent while it grows. What `finish` gives
    /// is then the rest.
    pub fn take_sealed(&mut self) -> Vec<u8> {
        self.encrypt(false);
        let open = self.sealed.split_off(self.chunk_start);
        (self.plain_start, self.chunk_start) = (0, 0);
        std::mem::replace(&mut self.sealed, open)
    }

    /// Closes the file: its bytes (after those that were taken out) and its key.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, FileKey) {
        self.close_chunk();
        self.encrypt(true);
        (self.sealed, self.file_key)
    }

    fn close_chunk(&mut self) {
        self.sealed.extend_from_slice(&[0; TAG_BYTES]);
        self.chunk_start = self.sealed.len();
    }

    /// Encrypts all closed chunks; `last` says that the file ends with them.
    fn encrypt(&mut self, last: bool) {
        let closed = &mut self.sealed[self.plain_start..self.chunk_start];
        let mut chunks = closed.chunks_mut(SEALED_CHUNK_BYTES).peekable();
        while let Some(chunk) = chunks.next() {
            let (plain, tag) = chunk.split_at_mut(chunk.len() - TAG_BYTES);
            tag.copy_from_slice(&self.key.seal_chunk(self.chunk, last && chunks.peek().is_none(), plain));
            self.chunk += 1;
        }
        self.plain_start = self.chunk_start;
    }
}

impl Write for Sealer {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        Self::write(self, plain);
        Ok(plain.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Seals `plain` as one file, and gives its key too.
///
/// # Errors
/// See `SealError`.
pub fn seal(
    plain: &[u8],
    recipients: &[Recipient],
    extra: &[Stanza],
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, FileKey), SealError> {
    let mut sealer = Sealer::new(recipients, extra, plain.len(), entropy)?;
    sealer.write(plain);
    Ok(sealer.finish())
}
