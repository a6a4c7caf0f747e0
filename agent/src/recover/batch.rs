//! What is recovered together: as many files as fit the memory that one batch may take, and the packs they need.
//!
//! A usual slice is one batch. A larger one is several, each with all its files; a pack that two batches need is read
//! twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use muster_share::entry::Entry;

use super::path::SafePath;
use super::write::{Folder, Place};

/// About how many bytes of memory a batch takes before it is recovered.
pub(super) const BATCH_BYTES: usize = 40 * 1024 * 1024;

/// Memory of an entry's fixed part, with what the allocator and the lists around it add.
const ENTRY_BYTES: usize = 512;

/// A run of a file's bytes within a pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// Plain offset in the pack.
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Which file of the batch.
    pub(super) file: u32,
    /// Where in the file.
    pub(super) at: u64,
}

/// A file that is being recovered.
#[derive(Debug)]
pub(super) struct FileTask {
    pub(super) folder: Arc<Folder>,
    pub(super) name: Vec<u8>,
    /// Without its path and extents.
    pub(super) entry: Entry,
    /// Runs that are not written yet.
    pub(super) left: AtomicU32,
    /// Bytes that are no holes.
    pub(super) data_bytes: u64,
    state: AtomicU8,
    pub(super) slot: Mutex<Slot>,
}

/// The file under its temporary name.
#[derive(Debug)]
pub(super) enum Slot {
    /// Not created yet.
    New,
    Open(Arc<File>),
    /// Created, and closed for others.
    Closed,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FileState {
    Waiting,
    Done,
    /// What it needs is damaged.
    Lost,
    /// Something with its name was there and stays.
    Stays,
    /// A folder is in its place.
    InTheWay,
}

impl FileTask {
    pub(super) fn new(folder: Arc<Folder>, name: Vec<u8>, entry: Entry) -> Self {
        let (left, state) = (AtomicU32::new(0), AtomicU8::new(FileState::Waiting as u8));
        Self { folder, name, entry, left, data_bytes: 0, state, slot: Mutex::new(Slot::New) }
    }

    pub(super) fn place(&self) -> Place<'_> {
        self.folder.place(&self.name)
    }

    pub(super) fn state(&self) -> FileState {
        let states = [FileState::Waiting, FileState::Done, FileState::Lost, FileState::Stays];
        let state = usize::from(self.state.load(Ordering::Acquire));
        states.get(state).copied().unwrap_or(FileState::InTheWay)
    }

    pub(super) fn set(&self, state: FileState) {
        self.state.store(state as u8, Ordering::Release);
    }
}

/// A hard link, made when the batch's files are.
#[derive(Debug)]
pub(super) struct LinkTask {
    pub(super) folder: Arc<Folder>,
    pub(super) name: Vec<u8>,
    pub(super) target: SafePath,
}

/// What is recovered together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) files: Vec<FileTask>,
    /// Files without a byte in any pack.
    pub(super) loose: Vec<u32>,
    /// Pieces by pack number.
    pub(super) packs: BTreeMap<u64, Vec<Piece>>,
    pub(super) links: Vec<LinkTask>,
    /// Folders in which nothing more will be made, deepest first, to be dressed last.
    pub(super) folders: Vec<(Arc<Folder>, Entry)>,
    bytes: usize,
}

impl Batch {
    /// Adds a file; `pieces` tell pack, offset there, length, and place in the file.
    pub(super) fn file(&mut self, mut task: FileTask, pieces: &[(u64, Piece)]) {
        let number = u32::try_from(self.files.len()).expect("a batch is small");
        self.bytes += weight(&task.entry) + task.name.len();
        if pieces.is_empty() {
            self.loose.push(number);
        }
        for (pack, piece) in pieces {
            self.packs.entry(*pack).or_default().push(Piece { file: number, ..*piece });
            task.data_bytes += piece.length;
        }
        // Lists that grow by doubling take up to twice their content.
        self.bytes += pieces.len() * 2 * size_of::<Piece>();
        *task.left.get_mut() = u32::try_from(pieces.len()).expect("an entry is at most 16 MiB");
        self.files.push(task);
    }

    pub(super) fn link(&mut self, link: LinkTask) {
        self.bytes += ENTRY_BYTES + link.name.len() + link.target.as_bytes().len();
        self.links.push(link);
    }

    pub(super) fn folder(&mut self, folder: Arc<Folder>, entry: Entry) {
        self.bytes += weight(&entry) + folder.path.len();
        self.folders.push((folder, entry));
    }

    /// Whether it should be recovered before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES
    }
}

fn weight(entry: &Entry) -> usize {
    let attributes = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum::<usize>();
    ENTRY_BYTES + attributes
}
