//! Filling and sealing a pack.

use std::fmt;

use bytes::Bytes;
use muster_protocol::age::{FileKey, Recipient, Sealer};
use muster_protocol::entropy::Entropy;
use muster_protocol::ids::{ChunkId, ObjectId};

use super::contents::{Contents, TRAILER_LEN, Trailer};
use super::frame::Frame;
use super::read::PackReader;
use super::{PackContext, PackError, Unlock};
use crate::chunk::ChunkKey;
use crate::sealed::{SKIPPABLE_HEADER, finish, padding, sealer};

/// Stored length of a full pack unless configured otherwise, in bytes.
pub const DEFAULT_TARGET: usize = 12 * 1024 * 1024;

/// A pack of this many plain bytes is full, however small it is stored.
pub const MAX_PACK_PLAIN: u64 = 256 * 1024 * 1024;

/// A pack of this many chunks is full: its contents stay short.
pub const MAX_PACK_CHUNKS: usize = 128 * 1024;

/// About what a chunk and a frame add to the contents, in bytes.
const CONTENTS_CHUNK: usize = 40;
const CONTENTS_FRAME: usize = 36;

/// Gathers frames for one pack. They are laid out where their cipher text will stand, so that a pack is in memory once.
pub struct PackBuilder {
    target: usize,
    sealer: Sealer,
    contents: Contents,
    plain_len: u64,
    chunks: usize,
}

impl PackBuilder {
    /// An empty pack, sealed to the recipients under this context, that is full at about `target_stored` bytes. It is
    /// built in the memory of `buffer`, such as an earlier pack's, whose content is dropped.
    ///
    /// # Errors
    /// [`PackError::Sealed`] when the recipients are unusable.
    pub fn new(
        target_stored: usize,
        buffer: Vec<u8>,
        recipients: &[Recipient],
        context: &PackContext,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, PackError> {
        let room = target_stored + target_stored / 16;
        let sealer = sealer(buffer, room, recipients, context, entropy)?;
        Ok(Self { target: target_stored, sealer, contents: Contents::new(), plain_len: 0, chunks: 0 })
    }

    /// Adds a frame, and gives the plain offset of its first byte. The pack grows beyond full if it must.
    ///
    /// # Errors
    /// [`PackError::NotAFrame`] for a frame that [`super::compress`] did not make.
    pub fn push(&mut self, frame: &Frame) -> Result<u64, PackError> {
        let offset = self.plain_len;
        let (plain_len, chunks) = (frame.plain_len(), frame.chunks.len());
        self.contents.push(frame)?;
        self.sealer.write(&frame.compressed);
        self.plain_len += plain_len;
        self.chunks += chunks;
        Ok(offset)
    }

    /// Whether it should be sealed. A little short of the target counts, so that most packs round up to it and not to
    /// the step above.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.stored_len() >= self.target - self.target / 128
            || self.plain_len >= MAX_PACK_PLAIN
            || self.chunks >= MAX_PACK_CHUNKS
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    /// Plain bytes so far.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// About how many bytes the pack would have, were it sealed now.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        self.sealer.plain_bytes() + self.chunks * CONTENTS_CHUNK + self.contents.frames.len() * CONTENTS_FRAME
    }

    /// Encrypts and names it.
    ///
    /// # Errors
    /// [`PackError::NotAFrame`] when it is empty.
    pub fn seal(mut self) -> Result<SealedPack, PackError> {
        if self.is_empty() {
            return Err(PackError::NotAFrame { chunks: 0, plain_bytes: 0 });
        }
        let contents = self.contents.to_frame();
        let padding = padding(self.sealer.plain_bytes(), contents.len() + TRAILER_LEN);
        let contents_at = (self.sealer.plain_bytes() + padding.len()) as u64;
        let payload_len = contents_at + (contents.len() + TRAILER_LEN) as u64;
        debug_assert!(padding.is_empty() || padding.len() >= SKIPPABLE_HEADER);
        let trailer = Trailer { contents_at, payload_len }.to_frame();
        for part in [&padding, &contents, &trailer] {
            self.sealer.write(part);
        }
        let sealed = finish(self.sealer);
        Ok(SealedPack {
            id: sealed.id,
            bytes: sealed.bytes,
            plain_len: self.plain_len,
            chunks: self.contents.frames.into_iter().flat_map(|frame| frame.chunks).collect(),
            file_key: sealed.file_key,
        })
    }
}

impl fmt::Debug for PackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackBuilder")
            .field("target", &self.target)
            .field("plain_len", &self.plain_len)
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}

/// A pack, ready to be checked and stored.
pub struct SealedPack {
    /// SHA-256 of the bytes.
    pub id: ObjectId,
    /// What to store.
    pub bytes: Bytes,
    /// Plain bytes of all chunks.
    pub plain_len: u64,
    /// Its chunks in order: names and plain lengths in bytes.
    pub chunks: Vec<(ChunkId, u32)>,
    /// The file's own key.
    pub file_key: FileKey,
}

impl SealedPack {
    /// Opens the pack as a restore would, decompresses it and names every chunk again. The pack's own name is not computed
    /// again: it was made of these very bytes a moment ago.
    ///
    /// # Errors
    /// The first difference. The pack must not be uploaded then.
    pub fn self_check(&self, key: &ChunkKey) -> Result<(), PackError> {
        let reader = PackReader::open(&self.bytes, None, Unlock::FileKey(&self.file_key))?;
        let mut expected = self.chunks.iter();
        let mut plain_len = 0;
        reader.for_each_chunk(|offset, id, bytes| {
            let same = expected.next().is_some_and(|(name, len)| *name == id && *len as usize == bytes.len());
            if !same || offset != plain_len || key.id(bytes) != id {
                return Err(PackError::Chunk { id });
            }
            plain_len += bytes.len() as u64;
            Ok(())
        })?;
        match expected.next() {
            None if plain_len == self.plain_len => Ok(()),
            Some(_) | None => Err(PackError::Contents { what: "chunks are missing" }),
        }
    }
}

impl fmt::Debug for SealedPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedPack")
            .field("id", &self.id)
            .field("stored_bytes", &self.bytes.len())
            .field("plain_len", &self.plain_len)
            .field("chunks", &self.chunks.len())
            .finish_non_exhaustive()
    }
}
