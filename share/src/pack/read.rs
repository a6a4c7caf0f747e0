//! Reading a pack that lies in memory.

use std::io::Read;

use muster_protocol::age::{CHUNK_BYTES, OpenError};
use muster_protocol::ids::{ChunkId, ObjectId};

use super::contents::{Contents, TRAILER_LEN, Trailer};
use super::frame::Decompressor;
use super::{PackContext, PackError, Unlock};
use crate::sealed::{Opened, PADDING_MAGIC, SKIPPABLE_HEADER, SealedError};

/// A pack whose hash, header and contents have been checked. Frames are checked as they are read.
///
/// Holds one frame at a time besides the sealed bytes themselves.
pub struct PackReader<'a> {
    opened: Opened<'a>,
    contents: Contents,
    trailer: Trailer,
}

impl std::fmt::Debug for PackReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackReader").field("context", &self.opened.context).finish_non_exhaustive()
    }
}

impl<'a> PackReader<'a> {
    /// Opens the pack. `expected` is its name; leave it out only where the name was checked already.
    ///
    /// # Errors
    /// [`SealedError::HashMismatch`] before anything else is looked at; then those of the seal and of the contents.
    pub fn open(bytes: &'a [u8], expected: Option<&ObjectId>, unlock: Unlock<'_>) -> Result<Self, PackError> {
        let opened = Opened::new(bytes, expected, unlock)?;
        let payload_len = opened.payload_len()?;
        let short = PackError::Contents { what: "the pack has no trailer" };
        let trailer_at = payload_len.checked_sub(TRAILER_LEN).ok_or(short)?;
        let trailer = Trailer::from_frame(&span(&opened, trailer_at, payload_len)?, payload_len)?;
        let contents_at = usize::try_from(trailer.contents_at)
            .map_err(|_| PackError::Contents { what: "the trailer leads nowhere" })?;
        let contents = Contents::from_frame(&span(&opened, contents_at, trailer_at)?, &trailer)?;
        Ok(Self { opened, contents, trailer })
    }

    /// Whose pack it is. Compare it before believing anything of it.
    #[must_use]
    pub fn context(&self) -> &PackContext {
        &self.opened.context
    }

    /// Its table of contents.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Hands out every chunk in order: plain offset, name, bytes. Chunks are as the seal proved them; whether they have
    /// their names only the chunk key tells. Ends with an error unless the whole payload is as it was sealed.
    ///
    /// # Errors
    /// The first of the pack or of `each`.
    pub fn for_each_chunk(
        &self,
        mut each: impl FnMut(u64, ChunkId, &[u8]) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        let mut payload = self.opened.payload()?;
        let mut decompressor = Decompressor::new()?;
        let mut compressed = Vec::new();
        let mut offset = 0;
        for (number, frame) in self.contents.frames.iter().enumerate() {
            compressed.resize(frame.compressed_len as usize, 0);
            payload.read_exact(&mut compressed).map_err(sealed)?;
            let mut plain = decompressor.decompress(number, &compressed, frame.plain_len())?;
            for (id, len) in &frame.chunks {
                let (chunk, rest) = plain.split_at(*len as usize);
                each(offset, *id, chunk)?;
                offset += u64::from(*len);
                plain = rest;
            }
        }
        self.check_rest(payload)
    }

    /// The bytes of the chunk range `[start, end)` of plain offsets, reading only the frames and age chunks it needs.
    ///
    /// # Errors
    /// Those of the frames it touches; [`PackError::Contents`] when the range reaches beyond the pack's end.
    pub fn read_range(&self, start: u64, end: u64) -> Result<Vec<u8>, PackError> {
        let beyond = PackError::Contents { what: "the pack has no such bytes" };
        let mut decompressor = Decompressor::new()?;
        let mut out = Vec::new();
        let (mut plain_at, mut compressed_at) = (0u64, 0usize);
        for (number, frame) in self.contents.frames.iter().enumerate() {
            let plain_end = plain_at + frame.plain_len() as u64;
            let compressed_end = compressed_at + frame.compressed_len as usize;
            if plain_end > start && plain_at < end {
                let compressed = span(&self.opened, compressed_at, compressed_end)?;
                let plain = decompressor.decompress(number, &compressed, frame.plain_len())?;
                let within = |at: u64| usize::try_from(at.clamp(plain_at, plain_end) - plain_at);
                let (Ok(from), Ok(to)) = (within(start), within(end)) else { return Err(beyond) };
                out.extend_from_slice(&plain[from..to]);
            }
            (plain_at, compressed_at) = (plain_end, compressed_end);
        }
        if start > end || end > plain_at { Err(beyond) } else { Ok(out) }
    }

    /// Between frames and contents lies one padding frame or nothing, so that `zstd -d` passes over it; and the rest authenticates.
    fn check_rest(&self, mut payload: impl Read) -> Result<(), PackError> {
        let damaged = PackError::Contents { what: "the padding is none" };
        let padding_len = self.trailer.contents_at - self.contents.frames_len();
        if padding_len > 0 {
            let Some(len) = padding_len.checked_sub(SKIPPABLE_HEADER as u64) else { return Err(damaged) };
            let mut header = [0; SKIPPABLE_HEADER];
            payload.read_exact(&mut header).map_err(sealed)?;
            let mut want = PADDING_MAGIC.to_le_bytes().to_vec();
            want.extend_from_slice(&u32::try_from(len).unwrap_or(0).to_le_bytes());
            if header[..] != want[..] {
                return Err(damaged);
            }
        }
        std::io::copy(&mut payload, &mut std::io::sink()).map_err(sealed)?;
        Ok(())
    }
}

/// Payload bytes `[start, end)`, opening only the age chunks that they lie in.
fn span(opened: &Opened<'_>, start: usize, end: usize) -> Result<Vec<u8>, PackError> {
    let payload = opened.payload()?;
    let mut out = Vec::with_capacity(end.saturating_sub(start));
    let mut plain = Vec::new();
    let mut at = start;
    while at < end {
        let first = at / CHUNK_BYTES * CHUNK_BYTES;
        payload.chunk((at / CHUNK_BYTES) as u64, &mut plain).map_err(SealedError::from)?;
        let to = (end - first).min(plain.len());
        let part = plain.get(at - first..to).filter(|part| !part.is_empty());
        let part = part.ok_or(PackError::Contents { what: "the payload is cut short" })?;
        out.extend_from_slice(part);
        at += part.len();
    }
    Ok(out)
}

/// The age error inside an `io::Error` of the payload reader.
fn sealed(error: std::io::Error) -> PackError {
    match error.downcast::<OpenError>() {
        Ok(open) => SealedError::from(open).into(),
        Err(_) => PackError::Contents { what: "the payload is cut short" },
    }
}
