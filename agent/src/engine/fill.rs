//! Filling parts: bytes are read right behind those of the chunks before them, and cut where they are.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_share::chunk::{ChunkSize, Cutter};
use muster_share::entry::{Entry, Gap};

use super::activity::Activity;
use super::part::{JOB_ITEMS, PART_BYTES, Part, READ_BYTES, Step, Turn};
use super::progress::Progress;
use super::shared::Halt;
use crate::source::{Content, Stamp, Stopped};

/// Length of a part's memory: chunks, the chunk that begins behind them, and what is read at once.
pub(super) fn buffer_len(size: ChunkSize) -> usize {
    PART_BYTES + size.max() + READ_BYTES
}

/// What happens to full parts.
pub(super) trait Ship {
    /// Memory for the next part, if this one is to be given away; otherwise it is packed on the spot.
    fn spare(&mut self) -> Result<Option<Vec<u8>>, Stopped>;

    /// Takes the part, for somebody else to pack.
    fn give(&mut self, part: Part) -> Result<(), Stopped>;

    /// Packs the part and leaves its memory.
    fn pack(&mut self, part: &mut Part) -> Result<(), Stopped>;
}

/// Takes entries and content, makes chunks and parts of them, and ships the parts.
pub(super) struct Filler<'a, S> {
    part: Part,
    cutter: Cutter,
    /// End of the last chunk in the part's memory.
    cut: usize,
    /// End of what was read.
    filled: usize,
    /// When the source was given room to read into.
    reading: Option<Instant>,
    open: Option<(Box<Entry>, u64)>,
    halt: &'a Halt,
    progress: &'a Progress,
    /// How long a file must have been unchanged for its stamp to be believed.
    settle: Duration,
    pub(super) ship: S,
}

impl<'a, S: Ship> Filler<'a, S> {
    pub(super) fn new(
        buffer: Vec<u8>,
        size: ChunkSize,
        settle: Duration,
        halt: &'a Halt,
        progress: &'a Progress,
        ship: S,
    ) -> Self {
        let part = Part { bytes: buffer, ..Part::default() };
        Self {
            part,
            cutter: Cutter::new(size),
            cut: 0,
            filled: 0,
            reading: None,
            open: None,
            halt,
            progress,
            settle,
            ship,
        }
    }

    /// Begins the parts of a job.
    pub(super) fn start(&mut self, job: u64) {
        self.part.turn = Turn { job, part: 0, last: false };
    }

    /// Ships what is left of the job.
    pub(super) fn finish(&mut self) -> Result<(), Stopped> {
        self.part.turn.last = true;
        self.send()
    }

    /// The memory of the part at hand.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.part.bytes
    }

    pub(super) fn step(&mut self, step: Step) -> Result<(), Stopped> {
        self.part.steps.push(step);
        if self.part.steps.len() >= JOB_ITEMS { self.send() } else { Ok(()) }
    }

    fn chunk(&mut self, end: usize) {
        self.part.lengths.push(end - self.cut);
        self.part.steps.push(Step::Chunk);
        self.cut = end;
    }

    /// Ends the stream of chunks.
    fn end_chunk(&mut self) {
        if self.filled > self.cut {
            self.chunk(self.filled);
        }
        self.cutter.restart();
    }

    /// Ships the part. The chunk that has begun moves to the start of the next one.
    fn send(&mut self) -> Result<(), Stopped> {
        self.halt.check()?;
        let rest = self.cut..self.filled;
        let next = Turn { part: self.part.turn.part + 1, ..self.part.turn };
        match self.ship.spare()? {
            Some(mut buffer) => {
                buffer[..rest.len()].copy_from_slice(&self.part.bytes[rest.clone()]);
                let empty = Part { bytes: buffer, ..Part::default() };
                self.ship.give(std::mem::replace(&mut self.part, empty))?;
            }
            None => {
                self.ship.pack(&mut self.part)?;
                self.part.bytes.copy_within(rest.clone(), 0);
                self.part.lengths.clear();
            }
        }
        self.part.turn = next;
        (self.cut, self.filled) = (0, rest.len());
        Ok(())
    }
}

impl<S: Ship> Content for Filler<'_, S> {
    fn entry(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.progress.entry();
        self.step(Step::Entry(Box::new(entry)))
    }

    fn lost(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.progress.entry();
        self.step(Step::Lost(Box::new(entry)))
    }

    fn begin(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.open = Some((Box::new(entry), 0));
        self.halt.check()
    }

    fn space(&mut self) -> Result<&mut [u8], Stopped> {
        if self.cut >= PART_BYTES {
            self.send()?;
        }
        let end = self.part.bytes.len().min(self.filled + READ_BYTES);
        self.reading = Some(Instant::now());
        Ok(&mut self.part.bytes[self.filled..end])
    }

    fn filled(&mut self, count: usize) -> Result<(), Stopped> {
        if let Some(since) = self.reading.take() {
            self.progress.activities.did(Activity::Read, count as u64, since);
        }
        let since = Instant::now();
        let end = self.filled + count;
        while let Some(length) = self.cutter.scan(&self.part.bytes[self.filled..end]) {
            self.filled += length;
            self.chunk(self.filled);
        }
        self.filled = end;
        self.progress.activities.did(Activity::Chunk, count as u64, since);
        if let Some((_, size)) = &mut self.open {
            *size += count as u64;
        }
        self.progress.read(count as u64);
        self.halt.check()
    }

    fn hole(&mut self, length: u64) -> Result<(), Stopped> {
        if let Some((_, size)) = &mut self.open {
            *size += length;
        }
        self.progress.read(length);
        self.end_chunk();
        self.step(Step::Hole(length))
    }

    fn end(&mut self, gap: Option<Gap>, stamp: Option<Stamp>) -> Result<(), Stopped> {
        self.end_chunk();
        let Some((mut entry, size)) = self.open.take() else { return self.halt.check() };
        entry.size = size;
        entry.gap = gap;
        self.progress.entry();
        let stamp = stamp.filter(|stamp| has_settled(stamp, self.settle));
        self.step(Step::File { entry, gap, stamp })?;
        if self.cut >= PART_BYTES { self.send() } else { Ok(()) }
    }

    fn discard(&mut self) {
        self.open = None;
        self.filled = self.cut;
        self.cutter.restart();
        // The part is shipped with the next step; a stopped engine assembles nothing any more.
        self.part.steps.push(Step::Discard);
    }
}

/// Whether a change from now on would have another time than the last one. The clock of file systems advances in steps
/// of milliseconds to seconds, and that of a file server may be a little off.
fn has_settled(stamp: &Stamp, settle: Duration) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = Duration::new(u64::try_from(stamp.changed.0).unwrap_or(0), stamp.changed.1);
    changed + settle <= now
}
