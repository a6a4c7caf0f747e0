//! Jobs: the unit that travels through the pipeline. A fixed number of them circulates, which bounds its memory.
//!
//! ```text
//! feeder ──jobs──▶ workers ──packed jobs──▶ assembler
//!    ▲                                          │
//!    └───────────────── empty jobs ─────────────┘
//! ```

use muster_share::entry::Entry;

use crate::state::Place;

/// Plain bytes that a job takes unless a single chunk is longer. Small files share a job and so a zstd frame.
pub(super) const JOB_BYTES: usize = 256 * 1024;

/// Most steps of a job: entries without content need memory, too.
pub(super) const JOB_STEPS: usize = 2048;

/// What the assembler does, in the order in which the sources were read.
#[derive(Debug)]
pub(super) enum Step {
    /// The next chunk of the open file; the job's next place is its place.
    Chunk,
    /// A hole of so many bytes in the open file.
    Hole(u64),
    /// The open file is complete, or this entry has no content.
    Entry(Box<Entry>),
    /// What came of the open file so far does not count.
    Discard,
}

/// Chunks and steps.
#[derive(Debug, Default)]
pub(super) struct Job {
    /// Its number in the order of reading, from 0.
    pub(super) number: u64,
    /// The chunks, joined.
    pub(super) bytes: Vec<u8>,
    /// Their lengths.
    pub(super) lengths: Vec<usize>,
    /// Where they lie; the workers fill it in.
    pub(super) places: Vec<Place>,
    /// What to do with them.
    pub(super) steps: Vec<Step>,
}

impl Job {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether this chunk should rather go into the next job.
    pub(super) fn is_full_for(&self, chunk_len: usize) -> bool {
        self.steps.len() >= JOB_STEPS || (!self.bytes.is_empty() && self.bytes.len() + chunk_len > JOB_BYTES)
    }

    pub(super) fn add_chunk(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        self.lengths.push(chunk.len());
        self.steps.push(Step::Chunk);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
        self.places.clear();
        self.steps.clear();
    }
}
