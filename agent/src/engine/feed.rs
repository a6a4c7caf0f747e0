//! The feeding end: a sink that makes jobs of what the sources list, and reads itself only what comes as a stream.

use muster_share::entry::{Entry, Gap};

use super::fill::{Filler, Ship};
use super::known::Known;
use super::part::{Item, JOB_ITEMS, Job, PART_BYTES, Packed, Part, Step, Turn};
use super::pipeline::{Results, Run};
use super::queue::Queue;
use super::seen::SeenReader;
use super::shared::Halt;
use crate::source::{Content, Sink, Stamp, Stopped, Unread};

/// The sink that the sources write to.
pub(super) struct Feeder<'a> {
    run: &'a Run,
    queue: &'a Queue,
    results: Results,
    items: Vec<Item>,
    /// Bytes that the items are about to bring.
    bytes: u64,
    /// Whether one of the items has to be read.
    reads: bool,
    next: u64,
    /// Files of the last capture, for the source at hand.
    seen: Option<SeenReader>,
    /// What fills parts while a stream comes.
    stream: Option<Filler<'a, Give<'a>>>,
}

impl<'a> Feeder<'a> {
    pub(super) fn new(run: &'a Run, queue: &'a Queue, results: Results) -> Self {
        Self {
            run,
            queue,
            results,
            items: Vec::new(),
            bytes: 0,
            reads: false,
            next: 0,
            seen: None,
            stream: None,
        }
    }

    /// Begins a source, of which this was seen before.
    pub(super) fn start_source(&mut self, seen: Option<SeenReader>) {
        self.seen = seen;
    }

    /// Ends a source.
    pub(super) fn end_source(&mut self) -> Result<(), Stopped> {
        self.seen = None;
        self.item(Item::SourceEnd, 0)
    }

    /// Sends what is left.
    pub(super) fn finish(mut self) -> Result<(), Stopped> {
        self.send()
    }

    fn halt(&self) -> &'a Halt {
        &self.run.halt
    }

    fn item(&mut self, item: Item, bytes: u64) -> Result<(), Stopped> {
        self.items.push(item);
        self.bytes += bytes;
        let full = self.items.len() >= JOB_ITEMS || self.bytes >= PART_BYTES as u64;
        if full { self.send() } else { Ok(()) }
    }

    fn end_stream(&mut self, mut stream: Filler<'a, Give<'a>>) -> Result<(), Stopped> {
        stream.finish()?;
        self.queue.give_back(stream.into_buffer());
        Ok(())
    }

    /// Sends the items as one job; straight to the assembler if there is nothing to read.
    fn send(&mut self) -> Result<(), Stopped> {
        self.halt().check()?;
        if self.items.is_empty() {
            return Ok(());
        }
        let (items, reads) = (std::mem::take(&mut self.items), std::mem::take(&mut self.reads));
        self.bytes = 0;
        let number = self.next;
        self.next += 1;
        if reads {
            return self.queue.push_job(Job { number, items }, self.halt());
        }
        self.queue.announce(items.len(), self.halt())?;
        let steps = items.into_iter().filter_map(passed_on).collect();
        let turn = Turn { job: number, part: 0, last: true };
        self.results.send(Packed { turn, places: Vec::new(), steps }).map_err(|_| Stopped)
    }
}

/// The step of an item that is not read.
pub(super) fn passed_on(item: Item) -> Option<Step> {
    match item {
        Item::Entry(entry) => Some(Step::Entry(entry)),
        Item::Seen(record) => Some(Step::Seen(record)),
        Item::SourceEnd => Some(Step::SourceEnd),
        Item::File(_) => None,
    }
}

impl Content for Feeder<'_> {
    fn entry(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.run.progress.entry();
        self.item(Item::Entry(Box::new(entry)), 0)
    }

    fn lost(&mut self, entry: Entry) -> Result<(), Stopped> {
        // Only workers read what other names may lead to.
        self.entry(entry)
    }

    fn begin(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.send()?;
        let (run, queue) = (self.run, self.queue);
        queue.announce(1, &run.halt)?;
        let buffer = queue.buffer(&run.halt)?;
        let ship = Give { queue, halt: &run.halt };
        let mut filler = Filler::new(buffer, run.chunk, run.settle, &run.halt, &run.progress, ship);
        filler.start(self.next);
        self.next += 1;
        filler.begin(entry)?;
        self.stream = Some(filler);
        Ok(())
    }

    fn space(&mut self) -> Result<&mut [u8], Stopped> {
        self.stream.as_mut().ok_or(Stopped)?.space()
    }

    fn filled(&mut self, count: usize) -> Result<(), Stopped> {
        self.stream.as_mut().ok_or(Stopped)?.filled(count)
    }

    fn hole(&mut self, length: u64) -> Result<(), Stopped> {
        self.stream.as_mut().ok_or(Stopped)?.hole(length)
    }

    fn end(&mut self, gap: Option<Gap>, stamp: Option<Stamp>) -> Result<(), Stopped> {
        let mut stream = self.stream.take().ok_or(Stopped)?;
        stream.end(gap, stamp)?;
        self.end_stream(stream)
    }

    fn discard(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.discard();
            // A stopped engine assembles nothing any more.
            let _: Result<(), Stopped> = self.end_stream(stream);
        }
    }
}

impl Sink for Feeder<'_> {
    fn known(&mut self, entry: &Entry, stamp: &Stamp) -> Result<bool, Stopped> {
        let Some(seen) = &mut self.seen else { return Ok(false) };
        let Some(record) = seen.find(entry, stamp) else { return Ok(false) };
        let known: &Known = &self.run.known;
        if !record.packs.iter().all(|(pack, _)| known.is_older(*pack)) {
            return Ok(false);
        }
        self.run.progress.entry();
        self.run.progress.unchanged_file();
        self.run.progress.read(stamp.size);
        self.item(Item::Seen(Box::new(record)), 0)?;
        Ok(true)
    }

    fn file(&mut self, file: Box<dyn Unread>) -> Result<(), Stopped> {
        let size = file.size();
        // A large file is a job of its own: others are read meanwhile.
        if size >= PART_BYTES as u64 {
            self.send()?;
        }
        self.reads = true;
        self.item(Item::File(file), size)
    }
}

/// The feeder packs nothing itself.
struct Give<'a> {
    queue: &'a Queue,
    halt: &'a Halt,
}

impl Ship for Give<'_> {
    fn spare(&mut self) -> Result<Option<Vec<u8>>, Stopped> {
        self.queue.buffer(self.halt).map(Some)
    }

    fn give(&mut self, part: Part) -> Result<(), Stopped> {
        self.queue.push_part(part);
        Ok(())
    }

    fn pack(&mut self, _: &mut Part) -> Result<(), Stopped> {
        Err(Stopped)
    }
}
