//! Packs: many chunks in one sealed object.
//!
//! The payload of the sealed object (see [`crate::sealed`]) is
//!
//! ```text
//! frame …      zstd frames, each of one chunk, or of several small ones joined; each says its content's length
//! padding      skippable frame 0x184D2A5E of zeroes, absent where the payload's length is a step without it
//! contents     skippable frame 0x184D2A5D: MessagePack {version, frames: [{compressed_len, chunks: [[id, len]]}]}
//! trailer      skippable frame 0x184D2A5F of 24 bytes: "musterp1", then big-endian the payload offset of the contents
//!              frame and the payload's length
//! ```
//!
//! Whoever can open single age chunks needs the payload's last 32 bytes to find the contents, and from there any
//! chunk. Whoever has nothing but `age` and `zstd` gets the plain chunks, joined. Offsets follow by summing: a plain
//! offset counts the chunks' bytes from the first one on.
//!
//! A reader believes no length before it has checked it: frames hold at most [`MAX_FRAME_PLAIN`] bytes and exactly
//! those that the contents name.

mod build;
mod contents;
mod frame;
mod read;
#[cfg(test)]
mod tests;

use muster_protocol::ids::ChunkId;
use muster_protocol::wire::WireError;

use crate::sealed::SealedError;

pub use crate::sealed::{PackContext, Unlock};
pub use build::{DEFAULT_TARGET, MAX_PACK_CHUNKS, MAX_PACK_PLAIN, PackBuilder, SealedPack};
pub use contents::{Contents, ContentsFrame};
pub use frame::{Compressor, Frame, MAX_FRAME_CHUNKS, MAX_FRAME_PLAIN, compress};
pub use read::{FrameMemory, PackReader, PlainFrame};

/// Why a pack was not made or does not read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The sealed object around it.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The table of contents is not to be found, or does not match the payload.
    #[error("the pack's table of contents is damaged: {what}")]
    Contents {
        /// What is wrong.
        what: &'static str,
    },
    /// The table of contents is no MessagePack value of its type.
    #[error("the pack's table of contents cannot be read")]
    ContentsWire(#[source] WireError),
    /// A later version wrote it.
    #[error("the pack's table of contents has version {version}; only 1 is known")]
    Version {
        /// Its version.
        version: u16,
    },
    /// A frame does not decompress to what the contents say.
    #[error("frame {frame} of the pack is damaged: {what}")]
    Frame {
        /// Its number, from 0.
        frame: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A chunk's bytes do not have its name.
    #[error("chunk {id} of the pack has other bytes than its name says")]
    Chunk {
        /// Its name.
        id: ChunkId,
    },
    /// The chunks given do not fit one frame, or one of them is empty.
    #[error("{chunks} chunks of {plain_bytes} bytes do not make a frame")]
    NotAFrame {
        /// How many.
        chunks: usize,
        /// Their length in bytes.
        plain_bytes: usize,
    },
}
