//! Jobs and parts: what travels through the pipeline.
//!
//! The feeder numbers jobs in the order of the sources: a large file, or many small ones, that a worker reads. Whoever
//! reads a job cuts it into chunks and makes parts of them, numbered within the job, that any worker packs. The assembler
//! puts them into order again.
//!
//! ```text
//! feeder ──jobs──▶ worker reads ──parts──▶ worker packs ──packed──▶ assembler
//! ```

use muster_share::entry::{Entry, Gap};

use super::seen::Record;
use crate::source::{Stamp, Unread};
use crate::state::Place;

/// Plain bytes of chunks that make a part whole.
pub(super) const PART_BYTES: usize = 256 * 1024;

/// Most bytes that are read at once.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// Most items of a job, and steps of a part: entries without content need memory, too.
pub(super) const JOB_ITEMS: usize = 512;

/// One thing to read or to pass on.
pub(super) enum Item {
    /// An entry without content.
    Entry(Box<Entry>),
    /// A file that is as it was.
    Seen(Box<Record>),
    /// A file to read.
    File(Box<dyn Unread>),
    /// The source has ended.
    SourceEnd,
}

/// Items that one worker reads.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) items: Vec<Item>,
}

/// What the assembler does, in order.
#[derive(Debug)]
pub(super) enum Step {
    /// The next chunk of the open file; the part's next place is its place.
    Chunk,
    /// A hole of so many bytes in the open file.
    Hole(u64),
    /// An entry without content.
    Entry(Box<Entry>),
    /// A gap that hard links may lead to.
    Lost(Box<Entry>),
    /// The open file is complete.
    File {
        entry: Box<Entry>,
        gap: Option<Gap>,
        /// If the next capture may go by it.
        stamp: Option<Stamp>,
    },
    /// A file with its content, as it was.
    Seen(Box<Record>),
    /// What came of the open file so far does not count.
    Discard,
    /// The source has ended.
    SourceEnd,
}

/// Where a part belongs: its job, its number in there, and whether it is the job's last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) job: u64,
    pub(super) part: u32,
    pub(super) last: bool,
}

/// Chunks and steps.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) turn: Turn,
    /// Memory of a fixed length; the chunks, joined, are at its start.
    pub(super) bytes: Vec<u8>,
    /// Their lengths.
    pub(super) lengths: Vec<usize>,
    pub(super) steps: Vec<Step>,
}

/// A part whose chunks have their places.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) turn: Turn,
    /// Where its chunks lie, in order.
    pub(super) places: Vec<Place>,
    pub(super) steps: Vec<Step>,
}
