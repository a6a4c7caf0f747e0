//! What waits to be done: jobs to read and parts to pack. Bounded, so that memory does not follow the sources.
//!
//! Parts come first, as they hold memory. A worker that reads gives parts away only while nobody has a job to read:
//! otherwise whoever has the bytes in its cache packs them itself. So a single large file keeps every core busy, and small
//! files cost no exchange between cores.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::part::{Job, Part};
use super::shared::{Halt, WATCH};
use crate::source::Stopped;

/// Items that may be on their way at most: between feeder and assembler each is an entry of some hundred bytes.
const MAX_ITEMS: usize = 32 * 1024;

/// Something to do.
pub(super) enum Task {
    Read(Job),
    Pack(Part),
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Something to do has come, or nothing will.
    work: Condvar,
    /// Room has come: for jobs, items, or a buffer.
    room: Condvar,
    max_jobs: usize,
    buffer_len: usize,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    parts: VecDeque<Part>,
    /// Memory for parts that are given away.
    buffers: Vec<Vec<u8>>,
    /// Items on their way.
    items: usize,
    /// Workers that are reading a job.
    reading: usize,
    /// No more jobs or parts come from the feeder.
    fed: bool,
}

impl Inner {
    /// Whether nothing is left to be read, as opposed to packed.
    fn is_read(&self) -> bool {
        self.fed && self.reading == 0 && self.jobs.is_empty()
    }
}

impl Queue {
    /// For so many workers, whose parts have this many bytes of memory each.
    pub(super) fn new(workers: usize, buffer_len: usize) -> Self {
        // One part for each worker, at hand or waiting, besides those that are being filled.
        let buffers = vec![Vec::new(); workers];
        let inner = Mutex::new(Inner { buffers, ..Inner::default() });
        Self { inner, work: Condvar::new(), room: Condvar::new(), max_jobs: workers * 2, buffer_len }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` gives something.
    fn wait<'a, T>(
        &'a self,
        condvar: &Condvar,
        halt: &Halt,
        mut ready: impl FnMut(&mut Inner) -> Option<T>,
    ) -> Result<(T, MutexGuard<'a, Inner>), Stopped> {
        let mut inner = self.lock();
        loop {
            halt.check()?;
            if let Some(value) = ready(&mut inner) {
                return Ok((value, inner));
            }
            (inner, _) = condvar.wait_timeout(inner, WATCH).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds a job once there is room.
    pub(super) fn push_job(&self, job: Job, halt: &Halt) -> Result<(), Stopped> {
        self.announce(job.items.len(), halt)?;
        let ((), mut inner) =
            self.wait(&self.room, halt, |inner| (inner.jobs.len() < self.max_jobs).then_some(()))?;
        inner.jobs.push_back(job);
        drop(inner);
        self.work.notify_one();
        Ok(())
    }

    /// Counts items that are on their way, once there is room for more.
    pub(super) fn announce(&self, items: usize, halt: &Halt) -> Result<(), Stopped> {
        let ((), mut inner) = self.wait(&self.room, halt, |inner| (inner.items < MAX_ITEMS).then_some(()))?;
        inner.items += items;
        Ok(())
    }

    /// Items have arrived.
    pub(super) fn arrived(&self, items: usize) {
        let mut inner = self.lock();
        let full = inner.items >= MAX_ITEMS;
        inner.items = inner.items.saturating_sub(items);
        let room = full && inner.items < MAX_ITEMS;
        drop(inner);
        if room {
            self.room.notify_all();
        }
    }

    /// Memory for a part that somebody else shall pack, if somebody else could: not while there are jobs to read.
    pub(super) fn spare(&self) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        if !inner.jobs.is_empty() {
            return None;
        }
        let buffer = inner.buffers.pop()?;
        drop(inner);
        Some(self.sized(buffer))
    }

    /// Memory for a part, once there is some.
    pub(super) fn buffer(&self, halt: &Halt) -> Result<Vec<u8>, Stopped> {
        let (buffer, inner) = self.wait(&self.room, halt, |inner| inner.buffers.pop())?;
        drop(inner);
        Ok(self.sized(buffer))
    }

    /// Memory for a part of a worker's own.
    pub(super) fn own_buffer(&self) -> Vec<u8> {
        self.sized(Vec::new())
    }

    fn sized(&self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.resize(self.buffer_len, 0);
        buffer
    }

    /// Gives memory back.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        self.lock().buffers.push(buffer);
        self.room.notify_one();
    }

    /// Adds a part for whoever is free.
    pub(super) fn push_part(&self, part: Part) {
        self.lock().parts.push_back(part);
        self.work.notify_one();
    }

    /// The feeder has ended; true if everything is read by now.
    pub(super) fn end(&self) -> bool {
        let mut inner = self.lock();
        inner.fed = true;
        let read = inner.is_read();
        drop(inner);
        self.work.notify_all();
        read
    }

    /// The next task; `None` when nothing will come any more. Whoever took a job says `done_reading` after it.
    pub(super) fn next(&self, halt: &Halt) -> Result<Option<Task>, Stopped> {
        let (task, inner) = self.wait(&self.work, halt, |inner| {
            if let Some(part) = inner.parts.pop_front() {
                return Some(Some(Task::Pack(part)));
            }
            if let Some(job) = inner.jobs.pop_front() {
                inner.reading += 1;
                return Some(Some(Task::Read(job)));
            }
            // As long as somebody reads, parts may come.
            (inner.fed && inner.reading == 0).then_some(None)
        })?;
        drop(inner);
        if matches!(task, Some(Task::Read(_))) {
            self.room.notify_one();
        }
        Ok(task)
    }

    /// A job is read; true if everything is read by now.
    pub(super) fn done_reading(&self) -> bool {
        let mut inner = self.lock();
        inner.reading -= 1;
        let (done, read) = (inner.fed && inner.reading == 0, inner.is_read());
        drop(inner);
        if done {
            self.work.notify_all();
        }
        read
    }
}
