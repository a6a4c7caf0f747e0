//! The reading end: a sink that cuts what the sources push into chunks and fills jobs with them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};

use muster_share::chunk::{ChunkSize, Chunker};
use muster_share::entry::{Entry, Gap};

use super::job::{Job, Step};
use super::progress::Progress;
use super::shared::{Halt, WATCH};
use crate::source::{Sink, Stopped};

/// What came from one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fed {
    pub(super) entries: u64,
    pub(super) gaps: u64,
}

/// The sink that the sources write to.
pub(super) struct Feeder<'a> {
    chunker: Chunker,
    out: Out<'a>,
    open: Option<(Box<Entry>, u64)>,
    fed: Fed,
}

struct Out<'a> {
    job: Job,
    next: u64,
    jobs: SyncSender<Job>,
    pool: Receiver<Job>,
    halt: &'a Halt,
    progress: &'a Progress,
}

impl<'a> Feeder<'a> {
    pub(super) fn new(
        size: ChunkSize,
        jobs: SyncSender<Job>,
        pool: Receiver<Job>,
        halt: &'a Halt,
        progress: &'a Progress,
    ) -> Self {
        let out = Out { job: Job::default(), next: 0, jobs, pool, halt, progress };
        Self { chunker: Chunker::new(size), out, open: None, fed: Fed::default() }
    }

    /// Ends a source: what came from it.
    pub(super) fn end_source(&mut self) -> Fed {
        std::mem::take(&mut self.fed)
    }

    /// Sends what is left.
    pub(super) fn finish(mut self) -> Result<(), Stopped> {
        self.out.send(false)
    }

    fn count(&mut self, gap: bool) {
        self.fed.entries += 1;
        self.fed.gaps += u64::from(gap);
        self.out.progress.entry();
    }
}

impl Out<'_> {
    fn chunk(&mut self, chunk: &[u8]) -> Result<(), Stopped> {
        if self.job.is_full_for(chunk.len()) {
            self.send(true)?;
        }
        self.job.add_chunk(chunk);
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), Stopped> {
        if self.job.is_full_for(0) {
            self.send(true)?;
        }
        self.job.steps.push(step);
        Ok(())
    }

    /// Sends the job and takes an empty one, if `more` will come.
    fn send(&mut self, more: bool) -> Result<(), Stopped> {
        self.halt.check()?;
        if self.job.is_empty() {
            return Ok(());
        }
        let mut job = std::mem::take(&mut self.job);
        job.number = self.next;
        self.next += 1;
        self.jobs.send(job).map_err(|_| Stopped)?;
        if more {
            self.job = self.empty()?;
        }
        Ok(())
    }

    fn empty(&self) -> Result<Job, Stopped> {
        loop {
            match self.pool.recv_timeout(WATCH) {
                Ok(job) => return Ok(job),
                Err(RecvTimeoutError::Timeout) => self.halt.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(Stopped),
            }
        }
    }
}

impl Sink for Feeder<'_> {
    fn entry(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.count(entry.gap.is_some());
        self.out.step(Step::Entry(Box::new(entry)))
    }

    fn begin(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.open = Some((Box::new(entry), 0));
        self.out.halt.check()
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.out.halt.check()?;
        let length = bytes.len() as u64;
        if let Some((_, size)) = &mut self.open {
            *size += length;
        }
        self.out.progress.read(length);
        self.chunker.push(bytes, |chunk| self.out.chunk(chunk))
    }

    fn hole(&mut self, length: u64) -> Result<(), Stopped> {
        if let Some((_, size)) = &mut self.open {
            *size += length;
        }
        self.out.progress.read(length);
        self.chunker.finish(|chunk| self.out.chunk(chunk))?;
        self.out.step(Step::Hole(length))
    }

    fn end(&mut self, gap: Option<Gap>) -> Result<(), Stopped> {
        self.chunker.finish(|chunk| self.out.chunk(chunk))?;
        let Some((mut entry, size)) = self.open.take() else { return self.out.halt.check() };
        entry.size = size;
        entry.gap = gap;
        self.count(gap.is_some());
        self.out.step(Step::Entry(entry))
    }

    fn discard(&mut self) {
        self.open = None;
        let _: Result<(), Stopped> = self.chunker.finish(|_| Ok(()));
        // When the engine has stopped, nothing is assembled any more.
        let _: Result<(), Stopped> = self.out.step(Step::Discard);
    }
}
