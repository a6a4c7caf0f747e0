//! Reading the payload of a sealed file in memory: in order, or any chunk.
//!
//! Holds one chunk of plain text, never more. It gives out nothing that did not authenticate, and it tells the end of
//! the file from a cut one: `read` and `next_chunk` say "end" only after the chunk that was sealed as the last.

use std::io::{self, Read};

use super::file_key::FileKey;
use super::header::{HeaderFault, damage};
use super::open::OpenError;
use super::stream::{NONCE_BYTES, PayloadDamage, PayloadFault, PayloadKey, SEALED_CHUNK_BYTES};

/// The payload of a sealed file. `io::Read` errors carry an `OpenError` and are of kind `InvalidData`.
pub struct PayloadReader<'a> {
    sealed_chunks: &'a [u8],
    key: PayloadKey,
    next: u64,
    state: State,
    plain: Vec<u8>,
    read_bytes: usize,
}

#[derive(Clone, Copy)]
enum State {
    Reading,
    Ended,
    Failed(PayloadDamage),
}

impl<'a> PayloadReader<'a> {
    /// A reader of the payload after a header of `header_bytes`, whose MAC has verified under `key`.
    ///
    /// # Errors
    /// `Header` when the file ends before its payload does start.
    pub fn new(sealed: &'a [u8], header_bytes: usize, key: &FileKey) -> Result<Self, OpenError> {
        let (nonce, sealed_chunks) = sealed
            .get(header_bytes..)
            .and_then(<[u8]>::split_first_chunk::<NONCE_BYTES>)
            .ok_or_else(|| {
                let lines = sealed.iter().take(header_bytes).filter(|byte| **byte == b'\n').count();
                damage(lines + 1, HeaderFault::Truncated)
            })?;
        Ok(Self {
            sealed_chunks,
            key: PayloadKey::derive(key, nonce),
            next: 0,
            state: State::Reading,
            plain: Vec::new(),
            read_bytes: 0,
        })
    }

    /// How many chunks the file's length makes. At least one; not authenticated until the last was opened.
    #[must_use]
    pub fn chunk_count(&self) -> u64 {
        let chunks = self.sealed_chunks.len().div_ceil(SEALED_CHUNK_BYTES).max(1);
        u64::try_from(chunks).expect("a length in memory fits 64 bits")
    }

    /// Puts the plain text of one chunk in place of `plain`'s content, without moving the reader. Proves this chunk
    /// alone; opening the last one also proves where the file ends.
    ///
    /// # Errors
    /// `Payload`; `plain` is then empty.
    pub fn chunk(&self, chunk: u64, plain: &mut Vec<u8>) -> Result<(), OpenError> {
        plain.clear();
        self.append_chunk(chunk, plain)
    }

    /// As `chunk`, but keeps what `plain` holds already, also on an error.
    ///
    /// # Errors
    /// `Payload`.
    pub fn append_chunk(&self, chunk: u64, plain: &mut Vec<u8>) -> Result<(), OpenError> {
        let start = plain.len();
        let absent = PayloadDamage { chunk, fault: PayloadFault::Absent };
        let (sealed, last) = self.sealed_chunk(chunk).ok_or(absent)?;
        self.key.open_chunk(chunk, last, sealed, plain).map_err(|damage| {
            let reason = self.fault_of_place(damage, last, sealed, plain);
            plain.truncate(start);
            OpenError::Payload(reason)
        })
    }

    /// The next chunk of plain text, `None` after the last. A chunk that was sealed as it stands comes out even if the
    /// file is cut or goes on wrongly behind it; the call after that gives the error.
    ///
    /// # Errors
    /// `Payload`, again on every later call.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>, OpenError> {
        self.advance()?;
        Ok((!self.plain.is_empty()).then_some(self.plain.as_slice()))
    }

    fn sealed_chunk(&self, chunk: u64) -> Option<(&'a [u8], bool)> {
        if chunk >= self.chunk_count() {
            return None;
        }
        let start = usize::try_from(chunk).ok()?.checked_mul(SEALED_CHUNK_BYTES)?;
        let end = self.sealed_chunks.len().min(start + SEALED_CHUNK_BYTES);
        Some((self.sealed_chunks.get(start..end)?, chunk + 1 == self.chunk_count()))
    }

    /// The same chunk under the other mark tells a cut or lengthened file from a changed one. If it opens so, its plain
    /// text is appended.
    fn fault_of_place(
        &self,
        damage: PayloadDamage,
        last: bool,
        sealed: &[u8],
        plain: &mut Vec<u8>,
    ) -> PayloadDamage {
        let full = sealed.len() == SEALED_CHUNK_BYTES;
        if damage.fault != PayloadFault::Damaged
            || !full
            || self.key.open_chunk(damage.chunk, !last, sealed, plain).is_err()
        {
            return damage;
        }
        let fault = if last { PayloadFault::Truncated } else { PayloadFault::TrailingData };
        PayloadDamage { chunk: damage.chunk + 1, fault }
    }

    fn advance(&mut self) -> Result<(), OpenError> {
        self.plain.clear();
        self.read_bytes = 0;
        match self.state {
            State::Ended => return Ok(()),
            State::Failed(damage) => return Err(OpenError::Payload(damage)),
            State::Reading => {}
        }
        let chunk = self.next;
        let (sealed, last) =
            self.sealed_chunk(chunk).ok_or(PayloadDamage { chunk, fault: PayloadFault::Truncated })?;
        let mut plain = std::mem::take(&mut self.plain);
        let outcome = self.key.open_chunk(chunk, last, sealed, &mut plain);
        let outcome = outcome.map_err(|damage| self.fault_of_place(damage, last, sealed, &mut plain));
        self.plain = plain;
        self.next += 1;
        match outcome {
            Ok(()) if last => self.state = State::Ended,
            Ok(()) => {}
            Err(damage) => {
                self.state = State::Failed(damage);
                if self.plain.is_empty() {
                    return Err(OpenError::Payload(damage));
                }
            }
        }
        Ok(())
    }
}

impl Read for PayloadReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.read_bytes == self.plain.len() {
            self.advance().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        let available = &self.plain[self.read_bytes..];
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.read_bytes += count;
        Ok(count)
    }
}
