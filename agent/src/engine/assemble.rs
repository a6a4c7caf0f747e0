//! The writing end: puts packed jobs back into the order of reading, completes entries with their extents, and writes
//! the entry stream, which is chunked and packed like data, so that unchanged entries are found again.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::{Receiver, SyncSender};

use muster_share::chunk::{ChunkSize, Chunker};
use muster_share::entry::{Entry, Extent, push_extent};
use muster_share::lists::EntryWriter;

use super::error::EngineError;
use super::job::{JOB_BYTES, Job, Step};
use super::pack::Packer;
use super::shared::Halt;
use crate::source::Stopped;
use crate::state::Place;

/// Average chunk of the entry stream in bytes: a changed file changes its entry, and that only about this much.
const ENTRY_CHUNK: u32 = 16 * 1024;

/// What the entries amount to.
#[derive(Debug, Default)]
pub(super) struct Assembled {
    /// Where the entry stream lies.
    pub(super) entries: Vec<Extent>,
    pub(super) entries_bytes: u64,
    /// Numbers of all packs that entries or the entry stream lie in.
    pub(super) referenced: HashSet<u64>,
}

pub(super) struct Assembler<'a> {
    packer: Packer<'a>,
    halt: &'a Halt,
    chunker: Chunker,
    batch: Batch,
    encoded: Vec<u8>,
    /// Extents of the open file.
    extents: Vec<Extent>,
    out: Assembled,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    places: Vec<Place>,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(packer: Packer<'a>, halt: &'a Halt) -> Self {
        let size = ChunkSize::new(ENTRY_CHUNK).expect("a power of two between the limits");
        Self {
            packer,
            halt,
            chunker: Chunker::new(size),
            batch: Batch::default(),
            encoded: Vec::new(),
            extents: Vec::new(),
            out: Assembled::default(),
        }
    }

    /// Takes packed jobs until no more come; empty ones go back to `pool`.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, pool: &SyncSender<Job>) -> Result<Assembled, Stopped> {
        // Holds fewer jobs than circulate.
        let mut early = BTreeMap::new();
        let mut next = 0;
        while let Ok(job) = jobs.recv() {
            self.halt.check()?;
            early.insert(job.number, job);
            while let Some(mut job) = early.remove(&next) {
                next += 1;
                self.apply(&mut job)?;
                job.clear();
                // The feeder may have ended.
                let _: Result<(), _> = pool.send(job);
            }
        }
        self.halt.check()?;
        self.finish()
    }

    fn apply(&mut self, job: &mut Job) -> Result<(), Stopped> {
        let mut places = job.places.iter();
        for step in job.steps.drain(..) {
            match step {
                Step::Chunk => {
                    let place = places.next().expect("one place for each chunk");
                    push_extent(&mut self.extents, extent(place));
                }
                Step::Hole(length) => push_extent(&mut self.extents, Extent::Hole { length }),
                Step::Entry(mut entry) => {
                    entry.extents.append(&mut self.extents);
                    self.entry(&entry)?;
                }
                Step::Discard => self.extents.clear(),
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Stopped> {
        for extent in &entry.extents {
            if let Extent::Data { pack, .. } = extent {
                self.out.referenced.insert(*pack);
            }
        }
        self.encoded.clear();
        let mut writer = EntryWriter::new(&mut self.encoded);
        self.halt.keep(writer.write(entry).map_err(EngineError::List))?;
        self.out.entries_bytes += writer.bytes();
        let Self { chunker, encoded, batch, packer, out, .. } = self;
        chunker.push(encoded, |chunk| batch.add(chunk, packer, out))
    }

    fn finish(mut self) -> Result<Assembled, Stopped> {
        let Self { chunker, batch, packer, out, .. } = &mut self;
        chunker.finish(|chunk| batch.add(chunk, packer, out))?;
        batch.flush(packer, out)?;
        Ok(self.out)
    }
}

impl Batch {
    fn add(&mut self, chunk: &[u8], packer: &mut Packer<'_>, out: &mut Assembled) -> Result<(), Stopped> {
        self.bytes.extend_from_slice(chunk);
        self.lengths.push(chunk.len());
        if self.bytes.len() >= JOB_BYTES { self.flush(packer, out) } else { Ok(()) }
    }

    fn flush(&mut self, packer: &mut Packer<'_>, out: &mut Assembled) -> Result<(), Stopped> {
        self.places.clear();
        packer.pack(&self.bytes, &self.lengths, &mut self.places)?;
        for place in &self.places {
            out.referenced.insert(place.pack);
            push_extent(&mut out.entries, extent(place));
        }
        self.bytes.clear();
        self.lengths.clear();
        Ok(())
    }
}

fn extent(place: &Place) -> Extent {
    Extent::Data { pack: place.pack, offset: u64::from(place.offset), length: u64::from(place.length) }
}
