//! Packs into files: every pack that a batch needs is fetched once, its hash compared, and every chunk that a file
//! needs is named again before it is written. All workers do the same, each with one pack at a time; as many more are
//! on their way. Frames that nobody needs are neither decrypted nor decompressed.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use muster_protocol::causes::causes;
use muster_share::layout::ObjectPath;
use muster_share::pack::{FrameMemory, PackError, PackReader, PlainFrame};
use muster_share::verify::{Damage, Fault, Progress, Trouble};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::batch::{Batch, FileState, FileTask, Piece, Slot};
use super::slice::Slice;
use super::spans::Spans;
use super::stop::{Halt, Stop};
use super::write::{OpenFolders, Published, WriteError, Writer, lock};

/// Bytes of sealed packs that are in memory at a time, unless a single one is larger.
pub(super) const SEALED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many files are open at a time.
const OPEN_FILES_MAX: usize = 128;
/// How many files without content a worker takes at once.
const LOOSE_AT_ONCE: usize = 64;
const NO_FILE: u32 = u32::MAX;

/// What a slice's batches are filled with.
#[derive(Debug)]
pub(super) struct Filler<'a> {
    pub(super) slice: &'a Arc<Slice>,
    pub(super) writer: &'a Writer,
    pub(super) progress: &'a Progress,
    pub(super) stop: &'a Stop,
    pub(super) workers: usize,
    /// KiB of sealed packs that may still come into memory.
    pub(super) budget: Arc<Semaphore>,
}

/// A pack on its way; the permit is given back when its bytes are no longer needed.
type Coming = JoinHandle<Result<(ObjectPath, Bytes, Option<OwnedSemaphorePermit>), Trouble>>;

/// One batch under way.
struct Filling<'a> {
    with: &'a Filler<'a>,
    batch: &'a Batch,
    next_loose: AtomicUsize,
    coming: Mutex<Queue>,
    /// Files that are open, oldest overwritten first.
    ring: [AtomicU32; OPEN_FILES_MAX],
    ring_at: AtomicUsize,
    damaged: Mutex<BTreeMap<ObjectPath, Damage>>,
    failed: Mutex<Option<Halt>>,
}

struct Queue {
    left: std::vec::IntoIter<u64>,
    coming: VecDeque<(u64, Coming)>,
}

/// What one thread keeps.
struct Hands {
    folders: OpenFolders,
    memory: FrameMemory,
}

/// Why a pack is not gone through to the end.
enum Fail {
    Pack(PackError),
    Write(WriteError),
    Stopped,
}

impl From<PackError> for Fail {
    fn from(error: PackError) -> Self {
        Self::Pack(error)
    }
}

impl Filler<'_> {
    /// Writes all files of a batch, and tells what is damaged. Every file has its state afterwards. Blocks.
    ///
    /// # Errors
    /// The share's or the target's first; what was begun and not finished is removed.
    pub(super) fn fill(&self, batch: &mut Batch) -> Result<BTreeMap<ObjectPath, Damage>, Halt> {
        for pieces in batch.packs.values_mut() {
            pieces.sort_unstable_by_key(|piece| piece.offset);
        }
        let batch = &*batch;
        let packs: Vec<u64> = batch.packs.keys().copied().collect();
        let threads = self.workers.min(packs.len() + batch.loose.len() / LOOSE_AT_ONCE);
        let filling = Filling {
            with: self,
            batch,
            next_loose: AtomicUsize::new(0),
            coming: Mutex::new(Queue { left: packs.into_iter(), coming: VecDeque::new() }),
            ring: [const { AtomicU32::new(NO_FILE) }; OPEN_FILES_MAX],
            ring_at: AtomicUsize::new(0),
            damaged: Mutex::default(),
            failed: Mutex::new(None),
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| filling.work());
            }
            filling.work();
        });
        let mut folders = OpenFolders::default();
        for task in &batch.files {
            let begun = !matches!(*lock(&task.slot), Slot::New);
            if begun && matches!(task.state(), FileState::Waiting | FileState::Lost) {
                self.writer.abandon(&mut folders, task.place());
            }
        }
        match lock(&filling.failed).take() {
            Some(halt) => Err(halt),
            None => Ok(std::mem::take(&mut *lock(&filling.damaged))),
        }
    }
}

impl Filling<'_> {
    fn work(&self) {
        let done = FrameMemory::new().map_err(|error| {
            let doing = "decompressing for";
            let error = std::io::Error::other(causes(&error));
            Halt::Write(WriteError::System { path: std::path::PathBuf::new(), doing, error })
        });
        let done = done.and_then(|memory| {
            let mut hands = Hands { folders: OpenFolders::default(), memory };
            self.loose(&mut hands)?;
            while let Some((number, coming)) = self.next_pack() {
                self.with.stop.check()?;
                self.pack(&mut hands, number, coming)?;
            }
            Ok(())
        });
        if let Err(halt) = done {
            self.fail(halt);
        }
    }

    /// The first failure counts, and ends all threads.
    fn fail(&self, halt: Halt) {
        lock(&self.failed).get_or_insert(halt);
        self.with.stop.set();
    }

    /// Files without content: empty ones, and those that are one hole.
    fn loose(&self, hands: &mut Hands) -> Result<(), Halt> {
        loop {
            let from = self.next_loose.fetch_add(LOOSE_AT_ONCE, Ordering::Relaxed);
            let Some(some) = self.batch.loose.get(from..) else { return Ok(()) };
            if some.is_empty() {
                return Ok(());
            }
            self.with.stop.check()?;
            for number in some.iter().take(LOOSE_AT_ONCE) {
                let task = &self.batch.files[*number as usize];
                if task.state() == FileState::Waiting {
                    let file = self.with.writer.create_file(&mut hands.folders, task.place())?;
                    *lock(&task.slot) = Slot::Closed;
                    self.finish(hands, task, &file)?;
                }
            }
        }
    }

    /// The next pack; keeps as many more on their way as there are workers and the budget has room for. Whoever finds
    /// none on its way waits for room: all of it is held by packs that are being gone through.
    fn next_pack(&self) -> Option<(u64, Coming)> {
        let mut queue = lock(&self.coming);
        while queue.coming.len() <= self.with.workers
            && let Some(number) = queue.left.as_slice().first().copied()
        {
            let budget = Arc::clone(&self.with.budget);
            let kib = self.kib(number);
            let permit = if queue.coming.is_empty() {
                // The budget is never closed.
                self.with.slice.handle.block_on(budget.acquire_many_owned(kib)).ok()
            } else {
                match budget.try_acquire_many_owned(kib) {
                    Ok(permit) => Some(permit),
                    Err(_) => break,
                }
            };
            queue.left.next();
            let coming = self.order(number, permit);
            queue.coming.push_back((number, coming));
        }
        queue.coming.pop_front()
    }

    /// What a pack takes of the budget.
    fn kib(&self, number: u64) -> u32 {
        let size = self.with.slice.pack(number).map_or(0, |(_, pack)| pack.size);
        u32::try_from((size / 1024).min(SEALED_BYTES_MAX / 1024)).unwrap_or(0)
    }

    fn order(&self, number: u64, permit: Option<OwnedSemaphorePermit>) -> Coming {
        let slice = Arc::clone(self.with.slice);
        self.with.slice.handle.spawn(async move {
            let (path, bytes) = slice.fetch(number).await?;
            Ok((path, bytes, permit))
        })
    }

    fn pack(&self, hands: &mut Hands, number: u64, coming: Coming) -> Result<(), Halt> {
        let come = match self.with.slice.handle.block_on(coming) {
            Ok(come) => come,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(Halt::Stopped),
        };
        let pieces = &self.batch.packs[&number];
        let damage = match come {
            Ok((path, bytes, _permit)) => self.go_through(hands, pieces, &path, &bytes)?,
            Err(Trouble::Damaged(damage)) => {
                pieces.iter().for_each(|piece| self.lose(piece));
                Some(damage)
            }
            Err(Trouble::Store(error)) => return Err(Trouble::Store(error).into()),
        };
        if let Some(damage) = damage {
            lock(&self.damaged).insert(damage.object.clone(), damage);
        }
        Ok(())
    }

    /// Writes the runs that lie in one pack. Whatever cannot be had loses its file.
    fn go_through(
        &self,
        hands: &mut Hands,
        pieces: &[Piece],
        path: &ObjectPath,
        bytes: &Bytes,
    ) -> Result<Option<Damage>, Halt> {
        let opening = self.with.slice.opening();
        let mut runs = Runs {
            pieces,
            left: pieces.iter().map(|piece| piece.length).collect(),
            next: 0,
            active: Vec::new(),
        };
        let mut misnamed = None;
        let Hands { folders, memory } = hands;
        let read = PackReader::open(bytes, None, opening.keys.unlock(path)).map_err(Fail::from);
        let read = read.and_then(|pack| {
            if pack.context() != opening.context {
                return Err(PackError::Contents { what: "it is sealed for another service or keyset" }.into());
            }
            let mut spans = Spans::of(pieces.iter().map(|piece| (piece.offset, piece.length)));
            pack.for_each_frame(
                memory,
                |range| spans.touches(&range),
                |frame: PlainFrame<'_>| {
                    self.with.stop.check().map_err(|_| Fail::Stopped)?;
                    let mut written = 0;
                    for (start, id, chunk) in frame.chunks() {
                        let active = runs.reach(start + chunk.len() as u64);
                        if active.is_empty() {
                            continue;
                        }
                        if opening.chunk_key.id(chunk) != id {
                            misnamed.get_or_insert(PackError::Chunk { id });
                            active.iter().for_each(|at| self.lose(&pieces[*at]));
                            continue;
                        }
                        for at in active {
                            written +=
                                self.write(folders, &mut runs, at, start, chunk).map_err(Fail::Write)?;
                        }
                    }
                    self.with.progress.advance(written);
                    Ok(())
                },
            )
        });
        let fault = match (read, misnamed) {
            (Err(Fail::Write(error)), _) => return Err(error.into()),
            (Err(Fail::Stopped), _) => return Err(Halt::Stopped),
            (Err(Fail::Pack(error)), _) | (Ok(()), Some(error)) => Some(causes(&error)),
            (Ok(()), None) => None,
        };
        let mut short = false;
        for (piece, left) in pieces.iter().zip(&runs.left).filter(|(_, left)| **left > 0) {
            short = true;
            self.lose(piece);
            self.with.progress.advance(*left);
        }
        Ok(match fault {
            Some(why) => Some(Damage::new(path.clone(), Fault::Content { why })),
            None if short => Some(self.with.slice.damage(format!("a file needs more of {path} than it has"))),
            None => None,
        })
    }

    /// Writes what of a chunk at `start` belongs to a run, and finishes the file with its last one. Gives the bytes.
    fn write(
        &self,
        folders: &mut OpenFolders,
        runs: &mut Runs<'_>,
        at: usize,
        start: u64,
        chunk: &[u8],
    ) -> Result<u64, WriteError> {
        let piece = &runs.pieces[at];
        let end = start + chunk.len() as u64;
        let (from, to) = (piece.offset.max(start), (piece.offset + piece.length).min(end));
        let within = |place: u64| usize::try_from(place - start).expect("it lies within the chunk");
        let task = &self.batch.files[piece.file as usize];
        let last = runs.wrote(at, to - from);
        if task.state() != FileState::Waiting {
            return Ok(to - from);
        }
        let place = task.place();
        let file = self.open(folders, piece.file)?;
        file.write_all_at(&chunk[within(from)..within(to)], piece.at + (from - piece.offset))
            .map_err(place.io("writing"))?;
        if last && task.left.fetch_sub(1, Ordering::AcqRel) == 1 && task.state() == FileState::Waiting {
            *lock(&task.slot) = Slot::Closed;
            let published = self.with.writer.finish_file(folders, task.place(), &file, &task.entry)?;
            task.set(state_of(published));
        }
        Ok(to - from)
    }

    fn finish(&self, hands: &mut Hands, task: &FileTask, file: &File) -> Result<(), WriteError> {
        let published = self.with.writer.finish_file(&mut hands.folders, task.place(), file, &task.entry)?;
        task.set(state_of(published));
        Ok(())
    }

    /// The file, created or opened again. Files that stay open for long make room for others.
    fn open(&self, folders: &mut OpenFolders, number: u32) -> Result<Arc<File>, WriteError> {
        let task = &self.batch.files[number as usize];
        let file = {
            let mut slot = lock(&task.slot);
            let file = match &*slot {
                Slot::Open(file) => return Ok(Arc::clone(file)),
                Slot::New => self.with.writer.create_file(folders, task.place())?,
                Slot::Closed => self.with.writer.reopen_file(folders, task.place())?,
            };
            let file = Arc::new(file);
            *slot = Slot::Open(Arc::clone(&file));
            file
        };
        let at = self.ring_at.fetch_add(1, Ordering::Relaxed) % OPEN_FILES_MAX;
        let oldest = self.ring[at].swap(number, Ordering::AcqRel);
        if oldest != NO_FILE && oldest != number {
            let mut slot = lock(&self.batch.files[oldest as usize].slot);
            if matches!(*slot, Slot::Open(_)) {
                *slot = Slot::Closed;
            }
        }
        Ok(file)
    }

    fn lose(&self, piece: &Piece) {
        self.batch.files[piece.file as usize].set(FileState::Lost);
    }
}

fn state_of(published: Published) -> FileState {
    match published {
        Published::Done => FileState::Done,
        Published::Stays => FileState::Stays,
        Published::InTheWay => FileState::InTheWay,
    }
}

/// How far the runs of a pack are. They may overlap, where content came twice.
struct Runs<'a> {
    /// Sorted by offset.
    pieces: &'a [Piece],
    left: Vec<u64>,
    next: usize,
    /// Runs that have begun and are not whole.
    active: Vec<usize>,
}

impl Runs<'_> {
    /// The runs that a chunk with this end belongs to; chunks come in order.
    fn reach(&mut self, end: u64) -> Vec<usize> {
        self.active.retain(|at| self.left[*at] > 0);
        while self.next < self.pieces.len() && self.pieces[self.next].offset < end {
            self.active.push(self.next);
            self.next += 1;
        }
        self.active.clone()
    }

    /// Whether the run is whole now.
    fn wrote(&mut self, at: usize, bytes: u64) -> bool {
        self.left[at] -= bytes;
        self.left[at] == 0
    }
}
