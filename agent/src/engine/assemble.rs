//! The writing end: puts packed parts back into the order of the sources, completes entries with their extents, and writes
//! the entry stream, which is chunked and packed like data, so that unchanged entries are found again.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::mpsc::Receiver;

use muster_protocol::ids::SourceName;
use muster_share::chunk::{ChunkSize, Chunker};
use muster_share::entry::{Entry, Extent, Gap, push_extent};
use muster_share::lists::EntryWriter;

use super::error::EngineError;
use super::pack::Packer;
use super::part::{Packed, Step, Turn};
use super::queue::Queue;
use super::seen::{Binding, Record, SeenWriter};
use super::shared::Halt;
use crate::source::{Stamp, Stopped};
use crate::state::Place;

/// Average chunk of the entry stream in bytes: a changed file changes its entry, and that only about this much.
const ENTRY_CHUNK: u32 = 16 * 1024;

/// Bytes of entries that are packed at once.
const BATCH_BYTES: usize = 256 * 1024;

/// What came from one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) entries: u64,
    pub(super) gaps: u64,
    /// Content of files in bytes, holes included.
    pub(super) source_bytes: u64,
}

/// What the entries amount to.
#[derive(Debug, Default)]
pub(super) struct Assembled {
    /// Where the entry stream lies.
    pub(super) entries: Vec<Extent>,
    pub(super) entries_bytes: u64,
    /// Packs that entries or the entry stream lie in, by number, and how many of their plain bytes are named. What is named
    /// twice counts twice.
    pub(super) referenced: HashMap<u64, u64>,
    /// One for each source.
    pub(super) tallies: Vec<Tally>,
    /// What was seen of each source; to be finished when all of it is on the share.
    pub(super) seen: Vec<SeenWriter>,
}

/// Where what is seen is kept, and of which sources in which order.
pub(super) struct Seeing<'a> {
    pub(super) folder: &'a Path,
    pub(super) binding: &'a Binding,
    pub(super) sources: Vec<SourceName>,
}

pub(super) struct Assembler<'a> {
    packer: Packer<'a>,
    halt: &'a Halt,
    seeing: Seeing<'a>,
    /// Of the source at hand.
    writer: Option<SeenWriter>,
    chunker: Chunker,
    batch: Batch,
    encoded: Vec<u8>,
    /// Extents of the open file.
    extents: Vec<Extent>,
    /// Files with several names that are gaps, by the path that links lead to.
    lost: HashMap<Vec<u8>, Gap>,
    tally: Tally,
    out: Assembled,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    places: Vec<Place>,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(packer: Packer<'a>, halt: &'a Halt, seeing: Seeing<'a>) -> Self {
        let size = ChunkSize::new(ENTRY_CHUNK).expect("a power of two between the limits");
        let mut here = Self {
            packer,
            halt,
            seeing,
            writer: None,
            chunker: Chunker::new(size),
            batch: Batch::default(),
            encoded: Vec::new(),
            extents: Vec::new(),
            lost: HashMap::new(),
            tally: Tally::default(),
            out: Assembled::default(),
        };
        here.begin_source();
        here
    }

    /// Takes packed parts until no more come.
    pub(super) fn run(mut self, parts: &Receiver<Packed>, queue: &Queue) -> Result<Assembled, Stopped> {
        // Bounded by the items that may be on their way.
        let mut early = BTreeMap::new();
        let (mut job, mut part) = (0, 0);
        while let Ok(packed) = parts.recv() {
            self.halt.check()?;
            early.insert((packed.turn.job, packed.turn.part), packed);
            while let Some(packed) = early.remove(&(job, part)) {
                let Turn { last, .. } = packed.turn;
                (job, part) = if last { (job + 1, 0) } else { (job, part + 1) };
                queue.arrived(self.apply(packed)?);
            }
        }
        self.halt.check()?;
        self.finish()
    }

    /// How many items it held.
    fn apply(&mut self, packed: Packed) -> Result<usize, Stopped> {
        let mut places = packed.places.iter();
        let mut items = 0;
        for step in packed.steps {
            match step {
                Step::Chunk => {
                    let place = places.next().expect("one place for each chunk");
                    push_extent(&mut self.extents, extent(place));
                    continue;
                }
                Step::Hole(length) => {
                    push_extent(&mut self.extents, Extent::Hole { length });
                    continue;
                }
                Step::Discard => {
                    self.extents.clear();
                    continue;
                }
                Step::Entry(mut entry) => {
                    self.follow(&mut entry);
                    self.entry(&entry, None)?;
                }
                Step::Lost(entry) => {
                    self.entry(&entry, None)?;
                    self.lost.extend(entry.gap.map(|gap| (entry.path, gap)));
                }
                Step::File { mut entry, gap, stamp } => {
                    entry.extents.append(&mut self.extents);
                    entry.gap = gap;
                    self.entry(&entry, stamp)?;
                }
                Step::Seen(record) => self.seen(&record)?,
                Step::SourceEnd => self.end_source(),
            }
            items += 1;
        }
        Ok(items)
    }

    /// A link to what could not be captured is the same gap: the walk had made it before the file was read.
    fn follow(&self, entry: &mut Entry) {
        let gap = entry.hard_link.as_ref().and_then(|target| self.lost.get(target.as_slice()));
        if let Some(gap) = gap {
            (entry.hard_link, entry.gap) = (None, Some(*gap));
        }
    }

    fn entry(&mut self, entry: &Entry, stamp: Option<Stamp>) -> Result<(), Stopped> {
        let mut packs: Vec<(u64, u64)> = Vec::new();
        for extent in &entry.extents {
            if let Extent::Data { pack, length, .. } = *extent {
                match packs.iter_mut().find(|(number, _)| *number == pack) {
                    Some((_, bytes)) => *bytes += length,
                    None => packs.push((pack, length)),
                }
            }
        }
        self.encoded.clear();
        self.halt.keep(EntryWriter::new(&mut self.encoded).write(entry).map_err(EngineError::List))?;
        if let (Some(stamp), Some(writer)) = (stamp, &mut self.writer) {
            writer.write(&Record::new(entry, &self.encoded[4..], stamp, packs.clone()));
        }
        self.count(&packs, entry.size, entry.gap.is_some());
        self.stream()
    }

    fn seen(&mut self, record: &Record) -> Result<(), Stopped> {
        if let Some(writer) = &mut self.writer {
            writer.write(record);
        }
        self.encoded.clear();
        let written = EntryWriter::new(&mut self.encoded).write_encoded(&record.entry);
        self.halt.keep(written.map_err(EngineError::List))?;
        self.count(&record.packs, record.stamp.size, false);
        self.stream()
    }

    fn count(&mut self, packs: &[(u64, u64)], size: u64, gap: bool) {
        for (number, bytes) in packs {
            *self.out.referenced.entry(*number).or_default() += bytes;
        }
        self.tally.entries += 1;
        self.tally.gaps += u64::from(gap);
        self.tally.source_bytes = self.tally.source_bytes.saturating_add(size);
    }

    /// Appends the encoded entry to the stream.
    fn stream(&mut self) -> Result<(), Stopped> {
        let Self { chunker, encoded, batch, packer, out, .. } = self;
        out.entries_bytes += encoded.len() as u64;
        chunker.push(encoded, |chunk| batch.add(chunk, packer, out))
    }

    fn begin_source(&mut self) {
        let Seeing { folder, binding, sources } = &self.seeing;
        let source = sources.get(self.out.tallies.len());
        self.writer = source.map(|source| SeenWriter::create(folder, source, binding));
    }

    fn end_source(&mut self) {
        self.lost.clear();
        self.out.tallies.push(std::mem::take(&mut self.tally));
        self.out.seen.extend(self.writer.take());
        self.begin_source();
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
        if self.bytes.len() >= BATCH_BYTES { self.flush(packer, out) } else { Ok(()) }
    }

    fn flush(&mut self, packer: &mut Packer<'_>, out: &mut Assembled) -> Result<(), Stopped> {
        self.places.clear();
        packer.pack(&self.bytes, &self.lengths, &mut self.places)?;
        for place in &self.places {
            *out.referenced.entry(place.pack).or_default() += u64::from(place.length);
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
