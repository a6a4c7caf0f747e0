//! The table of contents at a pack's end, and the trailer that leads to it.

use muster_protocol::ids::ChunkId;
use muster_protocol::wire;
use serde::{Deserialize, Serialize};

use super::PackError;
use super::frame::{Frame, MAX_FRAME_CHUNKS, MAX_FRAME_PLAIN};
use crate::sealed::{SKIPPABLE_HEADER, skippable};

const CONTENTS_MAGIC: u32 = 0x184D_2A5D;
const TRAILER_MAGIC: u32 = 0x184D_2A5F;
const TRAILER_TAG: &[u8; 8] = b"musterp1";
const VERSION: u16 = 1;

/// Length of the trailer frame with its header, in bytes.
pub(super) const TRAILER_LEN: usize = SKIPPABLE_HEADER + 24;

/// Longest table that a reader takes, in bytes.
const MAX_CONTENTS: usize = 16 * 1024 * 1024;

/// What a pack holds, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    version: u16,
    /// The frames.
    pub frames: Vec<ContentsFrame>,
}

/// What one frame holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentsFrame {
    /// Length of the zstd frame in bytes.
    pub compressed_len: u32,
    /// Its chunks in order: names and plain lengths in bytes.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl ContentsFrame {
    pub(super) fn plain_len(&self) -> usize {
        self.chunks.iter().map(|(_, len)| *len as usize).fold(0, usize::saturating_add)
    }
}

impl Contents {
    pub(super) fn new() -> Self {
        Self { version: VERSION, frames: Vec::new() }
    }

    /// Adds a frame that [`super::compress`] made.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<(), PackError> {
        let too_long =
            PackError::NotAFrame { chunks: frame.chunks.len(), plain_bytes: frame.compressed.len() };
        let compressed_len = u32::try_from(frame.compressed.len()).map_err(|_| too_long)?;
        self.frames.push(ContentsFrame { compressed_len, chunks: frame.chunks.clone() });
        Ok(())
    }

    /// All chunks with their plain offsets.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, ChunkId, u32)> + '_ {
        let all = self.frames.iter().flat_map(|frame| &frame.chunks);
        all.scan(0u64, |offset, (id, len)| {
            let at = *offset;
            *offset += u64::from(*len);
            Some((at, *id, *len))
        })
    }

    /// Bytes of all zstd frames: the payload offset at which padding and contents start.
    pub(super) fn frames_len(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.compressed_len)).sum()
    }

    /// The contents frame.
    pub(super) fn to_frame(&self) -> Vec<u8> {
        skippable(CONTENTS_MAGIC, &wire::encode(self))
    }

    /// Reads the contents frame, which ends where the trailer starts.
    pub(super) fn from_frame(frame: &[u8], place: &Trailer) -> Result<Self, PackError> {
        let damaged = |what| PackError::Contents { what };
        let bytes = content(CONTENTS_MAGIC, frame).ok_or(damaged("it has no frame"))?;
        let contents: Self = wire::decode(bytes).map_err(PackError::ContentsWire)?;
        if contents.version != VERSION {
            return Err(PackError::Version { version: contents.version });
        }
        for frame in &contents.frames {
            let some = (1..=MAX_FRAME_CHUNKS).contains(&frame.chunks.len());
            if !some || frame.chunks.iter().any(|(_, len)| *len == 0) {
                return Err(damaged("a frame has no chunk, too many, or an empty one"));
            }
            let bound = zstd::compress_bound(MAX_FRAME_PLAIN);
            if frame.plain_len() > MAX_FRAME_PLAIN || frame.compressed_len as usize > bound {
                return Err(damaged("a frame is too long"));
            }
        }
        if contents.frames_len() > place.contents_at {
            return Err(damaged("the frames reach into it"));
        }
        Ok(contents)
    }
}

/// Where the contents lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Payload offset of the contents frame.
    pub(super) contents_at: u64,
    /// Length of the payload.
    pub(super) payload_len: u64,
}

impl Trailer {
    pub(super) fn to_frame(self) -> Vec<u8> {
        let mut bytes = TRAILER_TAG.to_vec();
        bytes.extend_from_slice(&self.contents_at.to_be_bytes());
        bytes.extend_from_slice(&self.payload_len.to_be_bytes());
        skippable(TRAILER_MAGIC, &bytes)
    }

    /// Reads the last [`TRAILER_LEN`] bytes of a payload of this length.
    pub(super) fn from_frame(frame: &[u8], payload_len: usize) -> Result<Self, PackError> {
        let damaged = |what| PackError::Contents { what };
        let bytes = content(TRAILER_MAGIC, frame).ok_or(damaged("the pack has no trailer"))?;
        let (tag, rest) = bytes.split_first_chunk::<8>().ok_or(damaged("the trailer is cut short"))?;
        let (contents_at, rest) = rest.split_first_chunk::<8>().ok_or(damaged("the trailer is cut short"))?;
        let len = rest.first_chunk::<8>().ok_or(damaged("the trailer is cut short"))?;
        let trailer =
            Self { contents_at: u64::from_be_bytes(*contents_at), payload_len: u64::from_be_bytes(*len) };
        let end = (payload_len - TRAILER_LEN) as u64;
        let contents_len = end.checked_sub(trailer.contents_at);
        if tag != TRAILER_TAG || trailer.payload_len != payload_len as u64 {
            return Err(damaged("the trailer is another pack's"));
        }
        match contents_len {
            Some(len) if len <= MAX_CONTENTS as u64 => Ok(trailer),
            Some(_) | None => Err(damaged("the trailer leads nowhere")),
        }
    }
}

/// The content of a skippable frame that fills `frame`.
fn content(magic: u32, frame: &[u8]) -> Option<&[u8]> {
    let (have, rest) = frame.split_first_chunk::<4>()?;
    let (len, content) = rest.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*have) == magic && u32::from_le_bytes(*len) as usize == content.len())
        .then_some(content)
}
