//! The lists of a slice and of the fleet: which objects there are, which packs, which chunks, which entries.
//!
//! ```text
//! lists/<sha256>   object list   plain text, one path a line                          (objects.rs)
//! <sha256>.packs   pack list     MessagePack, plain: the coordinator checks it        (packs.rs)
//! <sha256>.chunks  chunk index   sealed to the agent and the recovery keys, no paths  (chunks.rs)
//! <sha256>.index   slice index   sealed to the recovery keys                          (index.rs)
//! entry stream     in packs      length-prefixed MessagePack entries, source by source (entries.rs)
//! ```
//!
//! Nothing here trusts a length or a count before it has bounded it.

mod chunks;
mod entries;
mod index;
mod objects;
mod packs;

use muster_protocol::wire::WireError;

use crate::layout::LayoutError;
use crate::sealed::SealedError;

pub use chunks::{ChunkIndex, IndexedPack, MAX_CHUNK_INDEX_LEN};
pub use entries::{EntryReader, EntryWriter, MAX_ENTRY_LEN};
pub use index::{IndexRoot, IndexedSource, MAX_INDEX_LEN};
pub use objects::{MAX_OBJECT_LIST_LEN, parse_object_list, write_object_list};
pub use packs::{ListedPack, MAX_PACK_LIST_LEN, PackList};

/// Why a list cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is longer than such a list may be.
    #[error("the list has {have} bytes, more than the {most} that it may have")]
    TooLong {
        /// Its length in bytes.
        have: usize,
        /// The longest length allowed, in bytes.
        most: usize,
    },
    /// It is no MessagePack value of its type.
    #[error("the list cannot be read")]
    Wire(#[from] WireError),
    /// A later version wrote it.
    #[error("the list has version {version}; only 1 is known")]
    Version {
        /// Its version.
        version: u16,
    },
    /// The seal around it.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// A line is no object path.
    #[error("line {line} of the object list is wrong")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// Why.
        source: LayoutError,
    },
    /// Lines are not sorted, or one is there twice, or the last one does not end.
    #[error("line {line} of the object list is out of order or unfinished")]
    Order {
        /// Its number, from 1.
        line: usize,
    },
    /// Two lists give one number to different packs, or one list gives it twice.
    #[error("pack number {number} is given twice")]
    DuplicatePack {
        /// The number.
        number: u64,
    },
    /// An entry is longer than one may be.
    #[error("an entry has {have} bytes, more than the {most} that it may have")]
    EntryTooLong {
        /// Its length in bytes.
        have: usize,
        /// The longest length allowed, in bytes.
        most: usize,
    },
    /// The entry stream ends within an entry or before the last one, or goes on after it.
    #[error("the entry stream ends at another place than the index says")]
    EntriesEnd,
    /// The entry stream cannot be read or written.
    #[error("the entry stream fails")]
    Io(#[source] std::io::Error),
}

/// Refuses what is too long to be looked at.
fn bounded(bytes: &[u8], most: usize) -> Result<(), ListError> {
    if bytes.len() > most { Err(ListError::TooLong { have: bytes.len(), most }) } else { Ok(()) }
}

/// Refuses versions of the future.
fn known(version: u16) -> Result<(), ListError> {
    if version == VERSION { Ok(()) } else { Err(ListError::Version { version }) }
}

const VERSION: u16 = 1;
