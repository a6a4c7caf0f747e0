//! What an agent remembers between slices: which chunks lie in which of its packs, and which pack lists its last
//! receipt named. One redb database in the agent's state folder; its lock keeps a second agent out.
//!
//! A cache, never the truth: an object that is not on the share is forgotten, and a lost database only costs an upload.
//! Holds no key. Chunk names are keyed, so they tell nothing without the chunk key.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use muster_protocol::document::ObjectRef;
use muster_protocol::ids::{ChunkId, ObjectId};
use muster_protocol::wire;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
};
use serde::{Deserialize, Serialize};

/// Name of the database in the state folder.
pub const FILE_NAME: &str = "state.redb";

/// Memory that redb may use for pages, in bytes.
const CACHE_BYTES: usize = 12 * 1024 * 1024;

/// Bytes of a row of `PACK_CHUNKS`: a chunk's name and its length, big-endian.
const CHUNK_ROW: usize = ChunkId::LEN + 4;

/// Chunk name to pack number, plain offset and plain length.
const CHUNKS: TableDefinition<'_, &[u8; 32], (u64, u32, u32)> = TableDefinition::new("chunks");
/// Pack number to its [`PackRow`] in MessagePack.
const PACKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("packs");
/// Pack number to its chunks in order, rows of [`CHUNK_ROW`] bytes.
const PACK_CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pack-chunks");
/// Receipt to the [`Slice`] in MessagePack that it may become.
const SLICES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("slices");
/// Everything of which there is one.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const KEPT: &str = "kept";
const NEXT_PACK: &str = "next-pack";
const SEALED_FOR: &str = "sealed-for";

/// Why the agent's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it open.
    #[error("{} is in use: another agent runs on this state folder", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The file cannot be made or opened.
    #[error("{} cannot be opened", path.display())]
    File {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database fails.
    #[error("{} fails; when it is damaged, move it away: the next slice uploads everything again", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A row is none.
    #[error("{} holds a damaged row; move it away: the next slice uploads everything again", path.display())]
    Row {
        /// The database.
        path: PathBuf,
    },
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The pack's number.
    pub pack: u64,
    /// Offset in the pack's decompressed payload, in bytes.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
}

/// A pack that is on the share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRow {
    /// SHA-256 of the object.
    pub id: ObjectId,
    /// Its length in bytes.
    pub size: u64,
}

/// A pack: its number, the object, and its chunks in order with their plain lengths.
pub type NumberedPack = (u64, PackRow, Vec<(ChunkId, u32)>);

/// A pack list and the chunk index of the same packs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPair {
    /// The pack list.
    pub packs: ObjectRef,
    /// The chunk index.
    pub chunks: ObjectRef,
    /// Numbers of the packs.
    pub numbers: Vec<u64>,
}

/// What a receipt named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The receipt.
    pub receipt: ObjectId,
    /// Its lists, oldest first.
    pub lists: Vec<ListPair>,
}

/// What is remembered when a slice begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The first pack number that was never given.
    pub next_pack: u64,
    /// Packs by number that are sealed to the wanted keyset.
    pub packs: Vec<(u64, PackRow)>,
    /// The last slice that counted, if its packs are among them.
    pub kept: Option<Slice>,
    /// The last receipt that counted, whatever its keyset.
    pub previous: Option<ObjectId>,
}

/// The agent's memory. Calls block on the local disk.
#[derive(Debug)]
pub struct State {
    db: Database,
    path: PathBuf,
    /// The first pack number that was never given. Ahead of what is on disk, so that a pack of a capture that was given
    /// up, remembered late, has no other's number.
    next_pack: AtomicU64,
}

impl State {
    /// Opens the memory in `folder`, or makes an empty one there.
    ///
    /// # Errors
    /// [`StateError::InUse`] while another process has it; when the file cannot be opened or is no such database.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join(FILE_NAME);
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|source| StateError::File { path: path.clone(), source })?;
        let opened = FileBackend::new(file)
            .and_then(|file| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(file));
        let db = match opened {
            Ok(db) => db,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StateError::InUse { path }),
            Err(error) => return Err(StateError::Database { path, source: Box::new(error.into()) }),
        };
        let mut state = Self { db, path, next_pack: AtomicU64::new(1) };
        state.write(|txn| {
            txn.open_table(CHUNKS)?;
            txn.open_table(PACKS)?;
            txn.open_table(PACK_CHUNKS)?;
            txn.open_table(SLICES)?;
            txn.open_table(META)?;
            Ok(())
        })?;
        let meta = state.meta()?;
        state.next_pack = AtomicU64::new(state.one(&meta, NEXT_PACK)?.unwrap_or(1));
        Ok(state)
    }

    /// A pack number that was never given before.
    pub fn take_pack_number(&self) -> u64 {
        self.next_pack.fetch_add(1, Ordering::Relaxed)
    }

    /// Begins a slice whose packs are sealed to the keyset of this log number and whose chunks are named by the key that
    /// calls no bytes at all `key_check`. Packs of another keyset or key are forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub fn begin(&self, keyset: u64, key_check: ChunkId) -> Result<Begun, StateError> {
        let wanted = wire::encode(&(keyset, key_check));
        self.write(|txn| {
            let mut meta = txn.open_table(META)?;
            let same = meta.get(SEALED_FOR)?.is_some_and(|have| have.value() == wanted.as_slice());
            if !same {
                txn.delete_table(CHUNKS)?;
                txn.delete_table(PACKS)?;
                txn.delete_table(PACK_CHUNKS)?;
                txn.delete_table(SLICES)?;
                txn.open_table(CHUNKS)?;
                txn.open_table(PACKS)?;
                txn.open_table(PACK_CHUNKS)?;
                txn.open_table(SLICES)?;
                let kept = meta.get(KEPT)?.and_then(|kept| parse::<Slice>(kept.value()));
                if let Some(mut kept) = kept {
                    kept.lists.clear();
                    meta.insert(KEPT, wire::encode(&kept).as_slice())?;
                }
                meta.insert(SEALED_FOR, wanted.as_slice())?;
            }
            Ok(())
        })?;
        let kept: Option<Slice> = self.one(&self.meta()?, KEPT)?;
        let packs = self.packs()?;
        let previous = kept.as_ref().map(|kept| kept.receipt);
        Ok(Begun {
            next_pack: self.next_pack.load(Ordering::Relaxed),
            packs,
            kept: kept.filter(|kept| !kept.lists.is_empty()),
            previous,
        })
    }

    /// Remembers a pack that is on the share now. Its chunks are found there from here on.
    ///
    /// # Errors
    /// When the database fails; nothing is remembered then.
    pub fn add_pack(&self, number: u64, row: PackRow, chunks: &[(ChunkId, u32)]) -> Result<(), StateError> {
        self.add_packs(&[(number, row, chunks.to_vec())])
    }

    /// Remembers several packs at once.
    ///
    /// # Errors
    /// When the database fails; nothing is remembered then.
    pub fn add_packs(&self, added: &[NumberedPack]) -> Result<(), StateError> {
        for (number, ..) in added {
            self.next_pack.fetch_max(number.saturating_add(1), Ordering::Relaxed);
        }
        self.write(|txn| {
            let mut places = txn.open_table(CHUNKS)?;
            let mut packs = txn.open_table(PACKS)?;
            let mut pack_chunks = txn.open_table(PACK_CHUNKS)?;
            let mut meta = txn.open_table(META)?;
            for (number, row, chunks) in added {
                let mut rows = Vec::with_capacity(chunks.len() * CHUNK_ROW);
                let mut offset = 0u32;
                for (id, length) in chunks {
                    places.insert(id.as_bytes(), (*number, offset, *length))?;
                    rows.extend_from_slice(id.as_bytes());
                    rows.extend_from_slice(&length.to_be_bytes());
                    offset = offset.saturating_add(*length);
                }
                packs.insert(number, wire::encode(row).as_slice())?;
                pack_chunks.insert(number, rows.as_slice())?;
                let next = meta.get(NEXT_PACK)?.and_then(|next| parse::<u64>(next.value())).unwrap_or(1);
                if *number >= next {
                    meta.insert(NEXT_PACK, wire::encode(&(*number + 1)).as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// Forgets packs that are not on the share any more, and their chunks.
    ///
    /// # Errors
    /// When the database fails; nothing is forgotten then.
    pub fn forget(&self, numbers: &[u64]) -> Result<(), StateError> {
        if numbers.is_empty() {
            return Ok(());
        }
        self.write(|txn| {
            let mut places = txn.open_table(CHUNKS)?;
            let mut packs = txn.open_table(PACKS)?;
            let mut pack_chunks = txn.open_table(PACK_CHUNKS)?;
            for number in numbers {
                packs.remove(number)?;
                let Some(rows) = pack_chunks.remove(number)? else { continue };
                for row in rows.value().chunks_exact(CHUNK_ROW) {
                    let Some(id) = row.first_chunk::<32>() else { continue };
                    // The chunk may have been uploaded again since.
                    let here = places.get(id)?.is_some_and(|place| place.value().0 == *number);
                    if here {
                        places.remove(id)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Every pack by number.
    ///
    /// # Errors
    /// When the database fails.
    pub fn packs(&self) -> Result<Vec<(u64, PackRow)>, StateError> {
        let txn = self.read()?;
        let failed = |error: redb::Error| self.database(error);
        let table = txn.open_table(PACKS).map_err(|error| failed(error.into()))?;
        let mut packs = Vec::new();
        for row in table.iter().map_err(|error| failed(error.into()))? {
            let (number, row) = row.map_err(|error| failed(error.into()))?;
            packs.push((number.value(), parse(row.value()).ok_or_else(|| self.damaged())?));
        }
        Ok(packs)
    }

    /// The chunks of a pack in order, names and plain lengths; `None` when the pack is unknown.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pack_chunks(&self, number: u64) -> Result<Option<Vec<(ChunkId, u32)>>, StateError> {
        let txn = self.read()?;
        let table = txn.open_table(PACK_CHUNKS).map_err(|error| self.database(error.into()))?;
        let Some(rows) = table.get(number).map_err(|error| self.database(error.into()))? else {
            return Ok(None);
        };
        let mut chunks = Vec::with_capacity(rows.value().len() / CHUNK_ROW);
        for row in rows.value().chunks_exact(CHUNK_ROW) {
            let (id, length) = row.split_first_chunk::<32>().ok_or_else(|| self.damaged())?;
            let length = length.try_into().map_err(|_| self.damaged())?;
            chunks.push((ChunkId::from_bytes(*id), u32::from_be_bytes(length)));
        }
        Ok(Some(chunks))
    }

    /// Chunks as they are known now.
    ///
    /// # Errors
    /// When the database fails.
    pub fn view(&self) -> Result<View, StateError> {
        let chunks = self.read()?.open_table(CHUNKS).map_err(|error| self.database(error.into()))?;
        Ok(View { chunks })
    }

    /// Where the chunk lies, if it is known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn find(&self, view: &View, id: &ChunkId) -> Result<Option<Place>, StateError> {
        let found = view.chunks.get(id.as_bytes()).map_err(|error| self.database(error.into()))?;
        Ok(found.map(|row| {
            let (pack, offset, length) = row.value();
            Place { pack, offset, length }
        }))
    }

    /// Remembers what a receipt names, in case it will count.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_slice(&self, slice: &Slice) -> Result<(), StateError> {
        self.write(|txn| {
            txn.open_table(SLICES)?.insert(slice.receipt.as_bytes(), wire::encode(slice).as_slice())?;
            Ok(())
        })
    }

    /// The slice of this receipt counts: its lists are built upon from now on. An unknown receipt is only remembered as
    /// the last one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep(&self, receipt: ObjectId) -> Result<(), StateError> {
        self.write(|txn| {
            let mut slices = txn.open_table(SLICES)?;
            let known = slices.get(receipt.as_bytes())?.map(|slice| slice.value().to_vec());
            let mut meta = txn.open_table(META)?;
            let again = meta.get(KEPT)?.and_then(|kept| parse::<Slice>(kept.value()));
            if known.is_none() && again.is_some_and(|kept| kept.receipt == receipt) {
                return Ok(());
            }
            let kept = known.unwrap_or_else(|| wire::encode(&Slice { receipt, lists: Vec::new() }));
            meta.insert(KEPT, kept.as_slice())?;
            // The others were of attempts that nobody waits for any more.
            slices.retain(|_, _| false)?;
            Ok(())
        })
    }

    /// The last receipt that counted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn kept(&self) -> Result<Option<Slice>, StateError> {
        self.one(&self.meta()?, KEPT)
    }

    fn meta(&self) -> Result<ReadOnlyTable<&'static str, &'static [u8]>, StateError> {
        self.read()?.open_table(META).map_err(|error| self.database(error.into()))
    }

    fn one<T: serde::de::DeserializeOwned>(
        &self,
        meta: &ReadOnlyTable<&'static str, &'static [u8]>,
        key: &str,
    ) -> Result<Option<T>, StateError> {
        match meta.get(key).map_err(|error| self.database(error.into()))? {
            Some(value) => parse(value.value()).map(Some).ok_or_else(|| self.damaged()),
            None => Ok(None),
        }
    }

    fn read(&self) -> Result<redb::ReadTransaction, StateError> {
        self.db.begin_read().map_err(|error| self.database(error.into()))
    }

    /// One durable transaction.
    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StateError> {
        let done = || {
            let txn = self.db.begin_write()?;
            change(&txn)?;
            txn.commit()?;
            Ok(())
        };
        done().map_err(|error: redb::Error| self.database(error))
    }

    fn database(&self, error: redb::Error) -> StateError {
        StateError::Database { path: self.path.clone(), source: Box::new(error) }
    }

    fn damaged(&self) -> StateError {
        StateError::Row { path: self.path.clone() }
    }
}

/// Chunks as they were known at one moment.
pub struct View {
    chunks: ReadOnlyTable<&'static [u8; 32], (u64, u32, u32)>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    wire::decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{FILE_NAME, ListPair, PackRow, Place, Slice, State, StateError};
    use muster_protocol::document::ObjectRef;
    use muster_protocol::ids::{ChunkId, ObjectId, RoundId};
    use std::os::unix::fs::PermissionsExt;

    fn id(n: u8) -> ChunkId {
        ChunkId::from_bytes([n; 32])
    }

    fn row(n: u8) -> PackRow {
        PackRow { id: ObjectId::of(&[n]), size: u64::from(n) }
    }

    fn find(state: &State, n: u8) -> Option<Place> {
        state.find(&state.view().expect("view"), &id(n)).expect("reads")
    }

    #[test]
    fn packs_are_remembered_across_restarts_and_forgotten_with_their_chunks() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let state = State::open(dir.path()).expect("opens");
        assert_eq!(state.begin(3, id(0)).expect("begins").next_pack, 1);
        state.add_pack(1, row(1), &[(id(1), 10), (id(2), 20)]).expect("added");
        state.add_pack(2, row(2), &[(id(2), 20), (id(3), 30)]).expect("added");
        drop(state);
        let state = State::open(dir.path()).expect("opens again");
        let begun = state.begin(3, id(0)).expect("begins");
        assert_eq!((begun.next_pack, begun.packs), (3, vec![(1, row(1)), (2, row(2))]));
        assert_eq!(find(&state, 3), Some(Place { pack: 2, offset: 20, length: 30 }));
        assert_eq!(state.pack_chunks(1).expect("reads"), Some(vec![(id(1), 10), (id(2), 20)]));
        state.forget(&[1]).expect("forgotten");
        assert_eq!(find(&state, 1), None);
        assert_eq!(find(&state, 2), Some(Place { pack: 2, offset: 0, length: 20 }), "it lies in pack 2, too");
        assert_eq!(state.pack_chunks(1).expect("reads"), None);
        assert_eq!(state.begin(3, id(0)).expect("begins").next_pack, 3, "numbers are never given again");
    }

    #[test]
    fn another_keyset_or_key_forgets_packs_but_no_number() {
        for (keyset, key) in [(4, id(0)), (3, id(9))] {
            let dir = tempfile::tempdir().expect("temporary folder");
            let state = State::open(dir.path()).expect("opens");
            state.begin(3, id(0)).expect("begins");
            state.add_pack(1, row(1), &[(id(1), 10)]).expect("added");
            state.keep(ObjectId::of(b"receipt")).expect("kept");
            let begun = state.begin(keyset, key).expect("begins");
            assert_eq!((begun.next_pack, begun.packs.len()), (2, 0));
            assert_eq!(find(&state, 1), None);
            assert_eq!((begun.kept, begun.previous), (None, Some(ObjectId::of(b"receipt"))));
        }
    }

    #[test]
    fn only_slices_that_count_are_built_upon() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let state = State::open(dir.path()).expect("opens");
        state.begin(3, id(0)).expect("begins");
        let object = ObjectRef { round: RoundId::from_bytes([1; 16]), id: ObjectId::of(b"list"), size: 4 };
        let slice = |n: u8| Slice {
            receipt: ObjectId::of(&[n]),
            lists: vec![ListPair { packs: object, chunks: object, numbers: vec![u64::from(n)] }],
        };
        state.add_slice(&slice(1)).expect("added");
        state.add_slice(&slice(2)).expect("added");
        assert_eq!(state.begin(3, id(0)).expect("begins").kept, None);
        for _ in 0..2 {
            state.keep(slice(2).receipt).expect("kept");
            assert_eq!(state.begin(3, id(0)).expect("begins").kept, Some(slice(2)));
        }
        state.keep(slice(1).receipt).expect("kept");
        assert_eq!(state.begin(3, id(0)).expect("begins").kept, None, "its lists were forgotten");
        assert_eq!(state.kept().expect("reads").map(|kept| kept.receipt), Some(slice(1).receipt));
    }

    #[test]
    fn a_second_agent_is_kept_out_and_damage_says_what_to_do() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let state = State::open(dir.path()).expect("opens");
        assert!(matches!(State::open(dir.path()), Err(StateError::InUse { .. })));
        drop(state);
        let path = dir.path().join(FILE_NAME);
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, b"this is no database, but it is long enough to be looked at")
            .expect("written");
        let error = State::open(dir.path()).expect_err("damaged");
        assert!(error.to_string().contains("move it away"), "{error}");
        assert!(matches!(State::open(&path.join("below")), Err(StateError::File { .. })));
    }
}
