//! Reading a pack that lies in memory.

use std::ops::Range;

use muster_protocol::age::{CHUNK_BYTES, PayloadReader};
use muster_protocol::ids::{ChunkId, ObjectId};

use super::contents::{Contents, ContentsFrame, TRAILER_LEN, Trailer};
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
        let mut memory = FrameMemory::new()?;
        self.for_each_frame(
            &mut memory,
            |_| true,
            |frame| frame.chunks().try_for_each(|(at, id, chunk)| each(at, id, chunk)),
        )?;
        self.check_rest(&mut memory)
    }

    /// Hands out the frames whose plain bytes, as a range of plain offsets, are `wanted`, in order. Only what they need
    /// is decrypted and decompressed, in `memory`, so nothing is proved of the rest of the pack: for packs whose name
    /// was compared.
    ///
    /// # Errors
    /// The first of the pack's frames or of `each`.
    pub fn for_each_frame<E: From<PackError>>(
        &self,
        memory: &mut FrameMemory,
        mut wanted: impl FnMut(Range<u64>) -> bool,
        mut each: impl FnMut(PlainFrame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let FrameMemory { decompressor, window } = memory;
        let payload = self.opened.payload().map_err(PackError::from)?;
        window.reset();
        let (mut plain_at, mut compressed_at) = (0_u64, 0_usize);
        for (number, frame) in self.contents.frames.iter().enumerate() {
            let plain_end = plain_at + frame.plain_len() as u64;
            let compressed_end = compressed_at + frame.compressed_len as usize;
            if wanted(plain_at..plain_end) {
                let compressed = window.bytes(&payload, compressed_at..compressed_end)?;
                let plain = decompressor.decompress(number, compressed, frame.plain_len())?;
                each(PlainFrame { start: plain_at, plain, contents: frame })?;
            }
            (plain_at, compressed_at) = (plain_end, compressed_end);
        }
        Ok(())
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

    /// Between frames and contents lies one padding frame or nothing, so that `zstd -d` passes over it; and the rest
    /// authenticates.
    fn check_rest(&self, memory: &mut FrameMemory) -> Result<(), PackError> {
        let damaged = PackError::Contents { what: "the padding is none" };
        let beyond = |_| PackError::Contents { what: "the payload is cut short" };
        let payload = self.opened.payload()?;
        let window = &mut memory.window;
        let mut at = usize::try_from(self.contents.frames_len()).map_err(beyond)?;
        let padding_len = self.trailer.contents_at - self.contents.frames_len();
        if padding_len > 0 {
            let Some(len) = padding_len.checked_sub(SKIPPABLE_HEADER as u64) else { return Err(damaged) };
            let mut want = PADDING_MAGIC.to_le_bytes().to_vec();
            want.extend_from_slice(&u32::try_from(len).unwrap_or(0).to_le_bytes());
            if window.bytes(&payload, at..at + SKIPPABLE_HEADER)? != want {
                return Err(damaged);
            }
        }
        let end = self.opened.payload_len()?;
        while at < end {
            let to = ((at / CHUNK_BYTES + 1) * CHUNK_BYTES).min(end);
            window.bytes(&payload, at..to)?;
            at = to;
        }
        Ok(())
    }
}

/// One decompressed frame.
#[derive(Debug, Clone, Copy)]
pub struct PlainFrame<'a> {
    /// Plain offset of its first byte in the pack.
    pub start: u64,
    plain: &'a [u8],
    contents: &'a ContentsFrame,
}

impl<'a> PlainFrame<'a> {
    /// Its chunks in order: plain offset in the pack, name, bytes.
    pub fn chunks(self) -> impl Iterator<Item = (u64, ChunkId, &'a [u8])> {
        let mut rest = self.plain;
        let mut at = self.start;
        self.contents.chunks.iter().map(move |(id, len)| {
            let (chunk, after) = rest.split_at(*len as usize);
            let start = at;
            rest = after;
            at += u64::from(*len);
            (start, *id, chunk)
        })
    }
}

/// Working memory for reading frames: one decompressed frame, and what of the payload lies around its sealed bytes.
/// Kept between packs; one for each thread.
pub struct FrameMemory {
    decompressor: Decompressor,
    window: Window,
}

impl FrameMemory {
    /// Memory that grows as it is needed.
    ///
    /// # Errors
    /// [`PackError::Frame`] when zstd gets none.
    pub fn new() -> Result<Self, PackError> {
        Ok(Self { decompressor: Decompressor::new()?, window: Window::default() })
    }
}

impl std::fmt::Debug for FrameMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameMemory")
    }
}

/// Decrypted payload bytes that move forward.
#[derive(Default)]
struct Window {
    /// Payload offset of the first byte of `plain`.
    start: usize,
    plain: Vec<u8>,
}

impl Window {
    fn reset(&mut self) {
        self.start = 0;
        self.plain.clear();
    }

    /// The payload bytes of this range, opening the age chunks they lie in that are not open yet.
    fn bytes(&mut self, payload: &PayloadReader<'_>, range: Range<usize>) -> Result<&[u8], PackError> {
        let have = self.start..self.start + self.plain.len();
        // What is held always ends where an age chunk ends.
        let mut next = if have.contains(&range.start) {
            self.plain.drain(..range.start - self.start);
            self.start = range.start;
            have.end.div_ceil(CHUNK_BYTES)
        } else {
            self.plain.clear();
            self.start = range.start / CHUNK_BYTES * CHUNK_BYTES;
            range.start / CHUNK_BYTES
        };
        while self.start + self.plain.len() < range.end {
            let before = self.plain.len();
            payload.append_chunk(next as u64, &mut self.plain).map_err(SealedError::from)?;
            if self.plain.len() == before {
                return Err(PackError::Contents { what: "the payload is cut short" });
            }
            next += 1;
        }
        let part = self.plain.get(range.start - self.start..range.end - self.start);
        part.ok_or(PackError::Contents { what: "the payload is cut short" })
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
