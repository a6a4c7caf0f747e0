//! What an agent remembers between slices: which chunks lie in which of its packs, and which pack lists its last
//! receipt named. One redb database in the agent's state folder; its lock keeps a second agent out.
//!
//! A cache, never the truth: an object that is not on the share is forgotten, and a lost database only costs an upload.
//! Every row bears a check, as a flipped bit in the place of a chunk would name other bytes: a damaged database is put
//! aside and begun anew. Holds no key. Chunk names are keyed, so they tell nothing without the chunk key.

mod error;
mod figures;
mod row;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use muster_protocol::document::ObjectRef;
use muster_protocol::entropy::random;
use muster_protocol::ids::{ChunkId, ObjectId};
use muster_protocol::wire;
use muster_share::entropy::OsEntropy;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
};
use serde::{Deserialize, Serialize};

pub use error::StateError;
use row::{checked, parse, place_check, unchecked};

/// Name of the database in the state folder.
pub const FILE_NAME: &str = "state.redb";

/// Memory that redb may use for pages, in bytes.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a row of `PACK_CHUNKS`: a chunk's name and its length, big-endian.
const CHUNK_ROW: usize = ChunkId::LEN + 4;

/// Chunk name to pack number, plain offset, plain length, and a check over all four.
const CHUNKS: TableDefinition<'_, &[u8; 32], (u64, u32, u32, u32)> = TableDefinition::new("chunks-2");
/// Pack number to its [`PackRow`] in MessagePack, checked.
const PACKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("packs-2");
/// Pack number to its chunks in order, rows of [`CHUNK_ROW`] bytes, checked.
const PACK_CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pack-chunks-2");
/// Receipt to the [`Slice`] in MessagePack that it may become, checked.
const SLICES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("slices-2");
/// Everything of which there is one, checked.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta-2");

const KEPT: &str = "kept";
const NEXT_PACK: &str = "next-pack";
const SEALED_FOR: &str = "sealed-for";
const BINDING: &str = "binding";

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
    /// Plain bytes of its chunks.
    pub plain_bytes: u64,
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
    /// Numbers of the packs that its entries lie in, and how many plain bytes of each they name.
    pub live: Vec<(u64, u64)>,
    /// Source bytes of the slice; 0: not known.
    #[serde(default)]
    pub source_bytes: u64,
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
    /// Source bytes of the last slice that counted; 0: not known.
    pub source_bytes: u64,
    /// Random, of the last slice that was finished: what was seen of files belongs to this very memory of packs, and to
    /// no older one that was put back.
    pub binding: [u8; 32],
}

/// The agent's memory. Calls block on the local disk.
#[derive(Debug)]
pub struct State {
    /// None only while a damaged one is being replaced.
    db: RwLock<Option<Database>>,
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
        let db = match database(&path) {
            Err(StateError::Database { .. } | StateError::Row { .. }) => {
                tracing::warn!(path = %path.display(), "the agent's memory is damaged; begun anew");
                put_aside(&path)?;
                database(&path)?
            }
            opened => opened?,
        };
        let state = Self { db: RwLock::new(Some(db)), path, next_pack: AtomicU64::new(1) };
        match state.prepare() {
            Ok(()) => Ok(state),
            Err(StateError::Database { .. } | StateError::Row { .. }) => {
                tracing::warn!(path = %state.path.display(), "the agent's memory is damaged; begun anew");
                state.rebuild()?;
                Ok(state)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes what every memory has, and reads what is kept ahead of it.
    fn prepare(&self) -> Result<(), StateError> {
        let fresh = wire::encode(&random::<32>(&mut OsEntropy).to_vec());
        self.write(|txn| {
            txn.open_table(CHUNKS)?;
            txn.open_table(PACKS)?;
            txn.open_table(PACK_CHUNKS)?;
            txn.open_table(SLICES)?;
            let mut meta = txn.open_table(META)?;
            let bound = meta.get(BINDING)?.is_some();
            if !bound {
                meta.insert(BINDING, checked(BINDING.as_bytes(), &fresh).as_slice())?;
            }
            Ok(())
        })?;
        let next = self.one(&self.meta()?, NEXT_PACK)?.unwrap_or(1);
        self.next_pack.fetch_max(next, Ordering::Relaxed);
        Ok(())
    }

    /// Puts a damaged database aside and begins anew. What the share holds of it can be learnt again.
    ///
    /// # Errors
    /// When the state folder fails.
    pub fn rebuild(&self) -> Result<(), StateError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        put_aside(&self.path)?;
        close(&self.path, db.take());
        *db = Some(database(&self.path)?);
        drop(db);
        self.prepare()
    }

    /// The folder that it lies in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
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
        let wanted = checked(SEALED_FOR.as_bytes(), &wire::encode(&(keyset, key_check)));
        let fresh = checked(BINDING.as_bytes(), &wire::encode(&random::<32>(&mut OsEntropy).to_vec()));
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
                let kept = meta.get(KEPT)?.and_then(|kept| parse::<Slice>(KEPT.as_bytes(), kept.value()));
                if let Some(mut kept) = kept {
                    kept.lists.clear();
                    kept.live.clear();
                    meta.insert(KEPT, checked(KEPT.as_bytes(), &wire::encode(&kept)).as_slice())?;
                }
                meta.insert(SEALED_FOR, wanted.as_slice())?;
                meta.insert(BINDING, fresh.as_slice())?;
            }
            Ok(())
        })?;
        let meta = self.meta()?;
        let kept: Option<Slice> = self.one(&meta, KEPT)?;
        let binding: Vec<u8> = self.one(&meta, BINDING)?.ok_or_else(|| self.damaged())?;
        let binding = binding.try_into().map_err(|_| self.damaged())?;
        let packs = self.packs()?;
        let previous = kept.as_ref().map(|kept| kept.receipt);
        let source_bytes = kept.as_ref().map_or(0, |kept| kept.source_bytes);
        Ok(Begun {
            next_pack: self.next_pack.load(Ordering::Relaxed),
            packs,
            kept: kept.filter(|kept| !kept.lists.is_empty()),
            previous,
            source_bytes,
            binding,
        })
    }

    /// What is seen from here on is bound to this.
    ///
    /// # Errors
    /// When the database fails.
    pub fn bind(&self, binding: &[u8; 32]) -> Result<(), StateError> {
        let value = checked(BINDING.as_bytes(), &wire::encode(&binding.to_vec()));
        self.write(|txn| {
            txn.open_table(META)?.insert(BINDING, value.as_slice())?;
            Ok(())
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
                    let check = place_check(id, *number, offset, *length);
                    places.insert(id.as_bytes(), (*number, offset, *length, check))?;
                    rows.extend_from_slice(id.as_bytes());
                    rows.extend_from_slice(&length.to_be_bytes());
                    offset = offset.saturating_add(*length);
                }
                let key = number.to_be_bytes();
                packs.insert(number, checked(&key, &wire::encode(row)).as_slice())?;
                pack_chunks.insert(number, checked(&key, &rows).as_slice())?;
                let next = NEXT_PACK.as_bytes();
                let known = meta.get(NEXT_PACK)?.and_then(|known| parse::<u64>(next, known.value()));
                if *number >= known.unwrap_or(1) {
                    meta.insert(NEXT_PACK, checked(next, &wire::encode(&(*number + 1))).as_slice())?;
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
                let rows = unchecked(&number.to_be_bytes(), rows.value()).unwrap_or_default().to_vec();
                for row in rows.chunks_exact(CHUNK_ROW) {
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
        guarded(&self.path, || {
            let txn = self.read()?;
            let failed = |error: redb::Error| self.database(error);
            let table = txn.open_table(PACKS).map_err(|error| failed(error.into()))?;
            let mut packs = Vec::new();
            for row in table.iter().map_err(|error| failed(error.into()))? {
                let (number, row) = row.map_err(|error| failed(error.into()))?;
                let number = number.value();
                packs
                    .push((number, parse(&number.to_be_bytes(), row.value()).ok_or_else(|| self.damaged())?));
            }
            Ok(packs)
        })
    }

    /// The chunks of a pack in order, names and plain lengths; `None` when the pack is unknown.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pack_chunks(&self, number: u64) -> Result<Option<Vec<(ChunkId, u32)>>, StateError> {
        guarded(&self.path, || {
            let txn = self.read()?;
            let table = txn.open_table(PACK_CHUNKS).map_err(|error| self.database(error.into()))?;
            let Some(rows) = table.get(number).map_err(|error| self.database(error.into()))? else {
                return Ok(None);
            };
            let rows = unchecked(&number.to_be_bytes(), rows.value()).ok_or_else(|| self.damaged())?;
            let mut chunks = Vec::with_capacity(rows.len() / CHUNK_ROW);
            for row in rows.chunks_exact(CHUNK_ROW) {
                let (id, length) = row.split_first_chunk::<32>().ok_or_else(|| self.damaged())?;
                let length = length.try_into().map_err(|_| self.damaged())?;
                chunks.push((ChunkId::from_bytes(*id), u32::from_be_bytes(length)));
            }
            Ok(Some(chunks))
        })
    }

    /// How many chunks the pack has; `None` when it is unknown.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pack_chunk_count(&self, number: u64) -> Result<Option<usize>, StateError> {
        guarded(&self.path, || {
            let txn = self.read()?;
            let table = txn.open_table(PACK_CHUNKS).map_err(|error| self.database(error.into()))?;
            let rows = table.get(number).map_err(|error| self.database(error.into()))?;
            Ok(rows.map(|rows| rows.value().len() / CHUNK_ROW))
        })
    }

    /// Chunks as they are known now.
    ///
    /// # Errors
    /// When the database fails.
    pub fn view(&self) -> Result<View, StateError> {
        guarded(&self.path, || {
            let chunks = self.read()?.open_table(CHUNKS).map_err(|error| self.database(error.into()))?;
            Ok(View { chunks })
        })
    }

    /// Where the chunk lies, if it is known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn find(&self, view: &View, id: &ChunkId) -> Result<Option<Place>, StateError> {
        guarded(&self.path, || {
            let found = view.chunks.get(id.as_bytes()).map_err(|error| self.database(error.into()))?;
            let Some(row) = found else { return Ok(None) };
            let (pack, offset, length, check) = row.value();
            if check == place_check(id, pack, offset, length) {
                Ok(Some(Place { pack, offset, length }))
            } else {
                Err(self.damaged())
            }
        })
    }

    /// Remembers what a receipt names, in case it will count.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_slice(&self, slice: &Slice) -> Result<(), StateError> {
        self.write(|txn| {
            let key = slice.receipt.as_bytes();
            txn.open_table(SLICES)?.insert(key, checked(key, &wire::encode(slice)).as_slice())?;
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
            let key = receipt.as_bytes();
            let known = slices.get(key)?.and_then(|slice| Some(unchecked(key, slice.value())?.to_vec()));
            let mut meta = txn.open_table(META)?;
            let again = meta.get(KEPT)?.and_then(|kept| parse::<Slice>(KEPT.as_bytes(), kept.value()));
            if known.is_none() && again.is_some_and(|kept| kept.receipt == receipt) {
                return Ok(());
            }
            let alone =
                || wire::encode(&Slice { receipt, lists: Vec::new(), live: Vec::new(), source_bytes: 0 });
            let kept = checked(KEPT.as_bytes(), &known.unwrap_or_else(alone));
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
        guarded(&self.path, || self.read()?.open_table(META).map_err(|error| self.database(error.into())))
    }

    fn one<T: serde::de::DeserializeOwned>(
        &self,
        meta: &ReadOnlyTable<&'static str, &'static [u8]>,
        key: &str,
    ) -> Result<Option<T>, StateError> {
        guarded(&self.path, || match meta.get(key).map_err(|error| self.database(error.into()))? {
            Some(value) => parse(key.as_bytes(), value.value()).map(Some).ok_or_else(|| self.damaged()),
            None => Ok(None),
        })
    }

    fn read(&self) -> Result<redb::ReadTransaction, StateError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(|| self.damaged())?;
        guarded(&self.path, || db.begin_read().map_err(|error| self.database(error.into())))
    }

    /// One durable transaction.
    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StateError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(|| self.damaged())?;
        let done = || {
            let txn = db.begin_write()?;
            change(&txn)?;
            txn.commit()?;
            Ok(())
        };
        guarded(&self.path, || done().map_err(|error: redb::Error| self.database(error)))
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
    chunks: ReadOnlyTable<&'static [u8; 32], (u64, u32, u32, u32)>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

fn database(path: &Path) -> Result<Database, StateError> {
    let path = path.to_owned();
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|source| StateError::File { path: path.clone(), source })?;
    guarded(&path, || {
        let opened = FileBackend::new(file)
            .and_then(|file| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(file));
        opened.map_err(|error| {
            if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
                StateError::InUse { path: path.clone() }
            } else {
                StateError::Database { path: path.clone(), source: Box::new(error.into()) }
            }
        })
    })
}

impl Drop for State {
    fn drop(&mut self) {
        let db = self.db.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        close(&self.path, db);
    }
}

/// Closes a database; whether that succeeds is nobody's concern, since it is durable after each transaction.
fn close(path: &Path, db: Option<Database>) {
    drop(guarded(path, move || {
        drop(db);
        Ok(())
    }));
}

/// Calls into the database, which may panic on pages that make no sense: that is damage like any other.
fn guarded<T>(path: &Path, call: impl FnOnce() -> Result<T, StateError>) -> Result<T, StateError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(StateError::Row { path: path.to_owned() }))
}

/// Keeps the last damaged database beside the new one, for whoever wants to know why.
fn put_aside(path: &Path) -> Result<(), StateError> {
    let aside = path.with_extension("redb.damaged");
    std::fs::rename(path, aside).map_err(|source| StateError::File { path: path.to_owned(), source })
}
