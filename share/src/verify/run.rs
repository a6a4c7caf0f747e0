//! One verification from beginning to end.
//!
//! Each object is read once, however many rounds need it. Memory holds the names of all packs of the rounds checked and
//! as many packs as are read at once, never their plain content.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, stream};
use muster_protocol::age::Identity;
use muster_protocol::causes::causes;
use muster_protocol::document::Receipt;
use muster_protocol::ids::{ObjectId, ServiceName};
use muster_protocol::log::{RoundState, State};
use tokio::runtime::Handle;

use super::chain::{
    WrongKey, context_of, most_bytes, packs_by_number, read_index, read_manifest, read_pack_lists,
    read_receipt, slice_path,
};
use super::content::{ExtentReader, Opening, trouble};
use super::damage::{Damage, Fault, Trouble, fetch, sort};
use super::ledger::Ledger;
use super::report::{Damaged, Findings, Report, RoundReport, ServiceReport};
use super::select::{RoundSelector, SelectError};
use crate::chunk::ChunkKey;
use crate::entry::Extent;
use crate::keys::Keyring;
use crate::layout::{ObjectPath, SlicePart};
use crate::lists::{ChunkIndex, EntryReader, IndexRoot, ListedPack};
use crate::log::Sure;
use crate::pack::{PackContext, PackError, PackReader, Unlock};
use crate::sealed_config::MAX_SEALED_LEN;
use crate::store::{Store, StoreError};

/// Objects that are read at once: memory is this many packs.
const AT_ONCE: usize = 4;

/// How far a long work is; whoever shows it looks now and then.
#[derive(Debug, Default)]
pub struct Progress {
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
}

impl Progress {
    /// Bytes to go through in all, as far as known, and bytes that are done.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.total_bytes.load(Ordering::Relaxed), self.done_bytes.load(Ordering::Relaxed))
    }

    /// More is to be done than was known.
    pub fn expect(&self, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much more is done.
    pub fn advance(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The round that was asked for.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// None of the keys opens the round.
    #[error("no key of the kit opens round {}", .0.number)]
    Key(WrongKey),
    /// The share fails.
    #[error("the share cannot be read")]
    Store(#[source] StoreError),
}

/// A slice under check.
struct Slice {
    number: u64,
    receipt: Receipt,
    packs: BTreeMap<u64, ListedPack>,
    /// A pack list that could not be read: what it had is unknown.
    lost_list: Option<Damage>,
    index: Option<Arc<IndexRoot>>,
}

/// An object to be read once.
struct Work {
    path: ObjectPath,
    id: ObjectId,
    size: u64,
    context: PackContext,
}

/// Verifies the rounds that are committed and not swept, or the one that `only` names. With `keys`, contents are
/// opened and compared, too.
///
/// # Errors
/// See [`VerifyError`]; damage is none.
pub async fn verify(
    store: &Arc<dyn Store>,
    ledger: &Ledger,
    only: Option<&RoundSelector>,
    keys: Option<Arc<Vec<Identity>>>,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    let state = &ledger.state;
    // While FORMAT is lost for good, what else is missing can only be told as it is found.
    let is_known = state.root.is_some() && ledger.damaged.iter().all(|of| of.object != ObjectPath::Format);
    let sure: Arc<dyn Store> = Arc::new(Sure::new(Arc::clone(store), state.fleet));
    let store = if is_known { &sure } else { store };
    let mut findings = Findings::default();
    ledger.damaged.iter().for_each(|damage| findings.add(damage.clone(), None));
    let rounds = match only {
        Some(selector) => match selector.select(state) {
            Ok(round) => vec![round],
            // What was asked for may be behind the damage.
            Err(SelectError::Unknown { .. } | SelectError::None) if ledger.broken => Vec::new(),
            Err(error) => return Err(error.into()),
        },
        None => state.rounds_by_number().into_iter().rev().filter(|round| round.is_recoverable()).collect(),
    };
    let mut run =
        Run { store, state, keys, progress, findings, services: BTreeMap::new(), objects: 0, bytes: 0 };
    if only.is_none() {
        run.configuration().await?;
    }
    let slices = run.documents(&rounds).await?;
    let lens = run.objects(&slices).await?;
    if run.keys.is_some() {
        run.entries(&slices, &lens).await?;
    }
    Ok(run.report(&rounds, &slices))
}

struct Run<'a> {
    store: &'a Arc<dyn Store>,
    state: &'a State,
    keys: Option<Arc<Vec<Identity>>>,
    progress: &'a Progress,
    findings: Findings,
    /// Services, and the newest of the rounds that hold them.
    services: BTreeMap<ServiceName, u64>,
    objects: u64,
    bytes: u64,
}

impl Run<'_> {
    fn note<T>(&mut self, read: Result<T, Trouble>, round: u64) -> Result<Option<T>, VerifyError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Trouble::Damaged(damage)) => {
                self.findings.add(damage, Some(round));
                Ok(None)
            }
            Err(Trouble::Store(error)) => Err(VerifyError::Store(error)),
        }
    }

    fn count(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
        self.progress.expect(bytes);
        self.progress.advance(bytes);
    }

    /// The sealed part of the fleet's configuration. It is in no round: a rebuild needs it.
    async fn configuration(&mut self) -> Result<(), VerifyError> {
        let Some(id) = self.state.config.as_ref().and_then(|config| config.sealed) else { return Ok(()) };
        let path = ObjectPath::List(id);
        let damage = match self.store.get(&path, MAX_SEALED_LEN).await {
            Err(error) => match sort(&path, MAX_SEALED_LEN, error) {
                Trouble::Damaged(damage) => damage,
                Trouble::Store(error) => return Err(VerifyError::Store(error)),
            },
            Ok(bytes) => {
                self.count(bytes.len() as u64);
                if ObjectId::of(&bytes) == id {
                    return Ok(());
                }
                Damage::new(path, Fault::Hash)
            }
        };
        self.findings.add(damage, None);
        Ok(())
    }

    /// Manifests, receipts, pack lists and, with keys, indexes.
    async fn documents(&mut self, rounds: &[&RoundState]) -> Result<Vec<Slice>, VerifyError> {
        let store = self.store.as_ref();
        let mut slices = Vec::new();
        for round in rounds {
            let number = round.open.number;
            let manifest = read_manifest(store, self.state, round).await;
            let Some(manifest) = self.note(manifest, number)? else { continue };
            self.count(round.commit().map_or(0, |commit| commit.manifest_size));
            if let Some(keys) = &self.keys
                && let Some(wrong) = WrongKey::of(self.state, number, manifest.keyset, keys)
            {
                return Err(VerifyError::Key(wrong));
            }
            for slice in &manifest.slices {
                let newest = self.services.entry(slice.service.clone()).or_insert(number);
                *newest = number.max(*newest);
                let receipt = read_receipt(store, self.state, round, slice).await;
                let Some(receipt) = self.note(receipt, number)? else { continue };
                self.count(slice.receipt_size);
                let (mut lists, mut lost_list) = (Vec::new(), None);
                let read = read_pack_lists(store, &receipt).await.map_err(VerifyError::Store)?;
                for (list, named) in read.into_iter().zip(&receipt.packs) {
                    match list {
                        Ok(list) => {
                            self.count(named.size);
                            lists.push(list);
                        }
                        Err(damage) => {
                            self.findings.add(damage.clone(), Some(number));
                            lost_list.get_or_insert(damage);
                        }
                    }
                }
                let packs = packs_by_number(&lists);
                let index = self.open_index(&receipt, number).await?;
                slices.push(Slice { number, receipt, packs, lost_list, index });
            }
        }
        Ok(slices)
    }

    async fn open_index(
        &mut self,
        receipt: &Receipt,
        number: u64,
    ) -> Result<Option<Arc<IndexRoot>>, VerifyError> {
        let Some(keys) = self.keys.clone() else { return Ok(None) };
        let index = read_index(self.store.as_ref(), self.state, receipt, &Keyring::Recovery(keys)).await;
        let index = self.note(index, number)?;
        if index.is_some() {
            self.count(receipt.index.size);
        }
        Ok(index.map(Arc::new))
    }

    /// Everything else, each object once. Gives the plain length of every pack that was opened.
    async fn objects(&mut self, slices: &[Slice]) -> Result<HashMap<ObjectId, u64>, VerifyError> {
        let work = self.work(slices);
        self.progress.expect(work.iter().map(|work| work.size).sum());
        let mut chunk_keys: HashMap<&ServiceName, Vec<ChunkKey>> = HashMap::new();
        for (service, key) in
            slices.iter().filter_map(|s| Some((&s.receipt.service, &s.index.as_ref()?.chunk_key)))
        {
            let known = chunk_keys.entry(service).or_default();
            if !known.contains(key) {
                known.push(key.clone());
            }
        }
        let mut lens = HashMap::new();
        let checks = work.into_iter().map(|work| {
            let of_service = |path: &ObjectPath| match path {
                ObjectPath::Pack { service, .. } => chunk_keys.get(service).cloned(),
                ObjectPath::Slice { .. }
                | ObjectPath::Format
                | ObjectPath::LogRecord(_)
                | ObjectPath::LogSegment(_)
                | ObjectPath::List(_)
                | ObjectPath::Manifest(_)
                | ObjectPath::Grant(_)
                | ObjectPath::Probe(_)
                | ObjectPath::Copy(_) => None,
            };
            let names = of_service(&work.path).unwrap_or_default();
            check(Arc::clone(self.store), work, self.keys.clone(), names)
        });
        let checks: Vec<_> = checks.collect();
        let mut checks = stream::iter(checks).buffer_unordered(AT_ONCE);
        while let Some((work, checked)) = checks.next().await {
            self.progress.advance(work.size);
            match checked {
                Ok(len) => {
                    self.objects += 1;
                    self.bytes += work.size;
                    lens.extend(len.map(|len| (work.id, len)));
                }
                Err(Trouble::Damaged(damage)) => self.findings.add(damage, None),
                Err(Trouble::Store(error)) => return Err(VerifyError::Store(error)),
            }
        }
        Ok(lens)
    }

    fn work(&self, slices: &[Slice]) -> Vec<Work> {
        let mut seen = HashSet::new();
        let mut work = Vec::new();
        for slice in slices {
            let receipt = &slice.receipt;
            let service = &receipt.service;
            let context = context_of(self.state, receipt);
            let mut add = |path: ObjectPath, id, size| {
                if seen.insert(path.clone()) {
                    work.push(Work { path, id, size, context: context.clone() });
                }
            };
            for chunks in &receipt.chunks {
                add(slice_path(service, chunks, SlicePart::Chunks), chunks.id, chunks.size);
            }
            if self.keys.is_none() {
                add(
                    slice_path(service, &receipt.index, SlicePart::Index),
                    receipt.index.id,
                    receipt.index.size,
                );
            }
            for pack in slice.packs.values() {
                add(ObjectPath::Pack { service: service.clone(), id: pack.id }, pack.id, pack.size);
            }
        }
        work
    }

    /// Reads every slice's entries: each extent must lie within a whole pack, and damage is told in files.
    async fn entries(&mut self, slices: &[Slice], lens: &HashMap<ObjectId, u64>) -> Result<(), VerifyError> {
        let bad: Arc<HashSet<ObjectPath>> = Arc::new(self.findings.0.keys().cloned().collect());
        let lens = Arc::new(lens.clone());
        let mut checks = Vec::new();
        for slice in slices {
            let (Some(keys), Some(index)) = (self.keys.clone(), slice.index.clone()) else { continue };
            checks.push(EntryCheck {
                store: Arc::clone(self.store),
                keys: Keyring::Recovery(keys),
                index,
                context: context_of(self.state, &slice.receipt),
                service: slice.receipt.service.clone(),
                number: slice.number,
                index_path: slice_path(&slice.receipt.service, &slice.receipt.index, SlicePart::Index),
                packs: slice.packs.clone(),
                lost_list: slice.lost_list.clone(),
                lens: Arc::clone(&lens),
                bad: Arc::clone(&bad),
            });
        }
        let handle = Handle::current();
        let mut checks = stream::iter(checks)
            .map(|check| {
                let handle = handle.clone();
                async move { blocking(move || check.run(&handle)).await }
            })
            .buffered(AT_ONCE / 2);
        while let Some(checked) = checks.next().await {
            let hurt = match checked {
                Ok(hurt) => hurt,
                Err((number, Trouble::Damaged(damage))) => {
                    self.findings.add(damage, Some(number));
                    continue;
                }
                Err((_, Trouble::Store(error))) => return Err(VerifyError::Store(error)),
            };
            for (object, (damage, files, first)) in hurt.objects {
                self.findings.add(damage, Some(hurt.number));
                // Rounds come newest first: the newest one's files are told.
                if let Some(found) = self.findings.0.get_mut(&object).filter(|found| found.files.is_none()) {
                    (found.files, found.first_path) = (Some(files), Some(first));
                }
            }
        }
        Ok(())
    }

    fn report(mut self, rounds: &[&RoundState], slices: &[Slice]) -> Report {
        for slice in slices {
            let receipt = &slice.receipt;
            let service = &receipt.service;
            let lists = [(SlicePart::Chunks, &receipt.chunks), (SlicePart::Packs, &receipt.packs)];
            let named =
                lists.iter().flat_map(|(part, list)| list.iter().map(|o| slice_path(service, o, *part)));
            let packs = slice.packs.values().map(|p| ObjectPath::Pack { service: service.clone(), id: p.id });
            for path in named.chain([slice_path(service, &receipt.index, SlicePart::Index)]).chain(packs) {
                if let Some(found) = self.findings.0.get_mut(&path) {
                    found.rounds.insert(slice.number);
                }
            }
        }
        let hurt = |number| self.findings.0.values().any(|found| found.rounds.contains(&number));
        let rounds = rounds.iter().filter_map(|round| {
            let commit = round.commit()?;
            Some(RoundReport {
                round: round.open.round,
                number: round.open.number,
                outcome: commit.outcome,
                at: commit.at,
                whole: !hurt(round.open.number),
            })
        });
        let rounds = rounds.collect();
        let of = |service: &ServiceName| {
            self.findings.0.values().any(|found| found.damage.service() == Some(service))
        };
        let services = self.services.iter();
        let is_hurt = |service: &ServiceName, number| {
            let of = |found: &&Damaged| found.damage.service().is_none_or(|of| of == service);
            self.findings.0.values().filter(of).any(|found| found.rounds.contains(&number))
        };
        let services = services.map(|(service, newest)| ServiceReport {
            service: service.clone(),
            whole: !of(service),
            newest: *newest,
            newest_whole: !is_hurt(service, *newest),
        });
        Report {
            rounds,
            services: services.collect(),
            damaged: self.findings.0.into_values().collect(),
            objects: self.objects,
            bytes: self.bytes,
            opened: self.keys.is_some(),
        }
    }
}

/// Reads one object, and opens it where there are keys. Gives a pack's plain length.
async fn check(
    store: Arc<dyn Store>,
    work: Work,
    keys: Option<Arc<Vec<Identity>>>,
    names: Vec<ChunkKey>,
) -> (Work, Result<Option<u64>, Trouble>) {
    let bytes = match fetch(store.as_ref(), &work.path, work.size, most_bytes(&work.path)).await {
        Ok(bytes) => bytes,
        Err(trouble) => return (work, Err(trouble)),
    };
    blocking(move || {
        let checked = open(&work, &bytes, keys.as_deref().map(Vec::as_slice), &names);
        (work, checked.map_err(Trouble::from))
    })
    .await
}

fn open(
    work: &Work,
    bytes: &Bytes,
    keys: Option<&[Identity]>,
    names: &[ChunkKey],
) -> Result<Option<u64>, Damage> {
    if ObjectId::of(bytes) != work.id {
        return Err(Damage::new(work.path.clone(), Fault::Hash));
    }
    let Some(keys) = keys else { return Ok(None) };
    let content = |why: String| Damage::content(work.path.clone(), why);
    let unlock = Unlock::Identities(keys);
    let foreign = || Damage::forged(work.path.clone(), "it is sealed for another service or keyset");
    if matches!(work.path, ObjectPath::Slice { .. }) {
        let (context, _) = ChunkIndex::open(bytes, None, unlock).map_err(|e| content(causes(&e)))?;
        return if context == work.context { Ok(None) } else { Err(foreign()) };
    }
    let pack = PackReader::open(bytes, None, unlock).map_err(|e| content(causes(&e)))?;
    if *pack.context() != work.context {
        return Err(foreign());
    }
    let mut len = 0;
    pack.for_each_chunk(|_, id, chunk| {
        len += chunk.len() as u64;
        // Without any index of the service, its chunks' names cannot be checked; the index is damage enough.
        if names.is_empty() || names.iter().any(|key| key.id(chunk) == id) {
            Ok(())
        } else {
            Err(PackError::Chunk { id })
        }
    })
    .map_err(|e| content(causes(&e)))?;
    Ok(Some(len))
}

/// Runs what computes for long beside the tasks that wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// One slice's entries, read and compared with its packs.
struct EntryCheck {
    store: Arc<dyn Store>,
    keys: Keyring,
    index: Arc<IndexRoot>,
    context: PackContext,
    service: ServiceName,
    number: u64,
    index_path: ObjectPath,
    packs: BTreeMap<u64, ListedPack>,
    lost_list: Option<Damage>,
    lens: Arc<HashMap<ObjectId, u64>>,
    bad: Arc<HashSet<ObjectPath>>,
}

/// Damaged objects with how many files each hurts, and the first one's path.
struct Hurt {
    number: u64,
    objects: BTreeMap<ObjectPath, (Damage, u64, Vec<u8>)>,
}

impl EntryCheck {
    fn run(self, handle: &Handle) -> Result<Hurt, (u64, Trouble)> {
        let number = self.number;
        self.read(handle).map_err(|trouble| (number, trouble))
    }

    fn pack(&self, number: u64) -> Result<(ObjectPath, ListedPack), Damage> {
        let pack = self.packs.get(&number).ok_or_else(|| {
            let why = format!("it needs pack number {number}, which no pack list has");
            self.lost_list.clone().unwrap_or_else(|| Damage::content(self.index_path.clone(), why))
        })?;
        Ok((ObjectPath::Pack { service: self.service.clone(), id: pack.id }, *pack))
    }

    fn read(&self, handle: &Handle) -> Result<Hurt, Trouble> {
        let opening = Opening { keys: &self.keys, chunk_key: &self.index.chunk_key, context: &self.context };
        let stream = ExtentReader::new(opening, self.index.entries.clone(), |number| {
            let (path, pack) = self.pack(number)?;
            let bytes = handle.block_on(super::damage::read(
                self.store.as_ref(),
                &path,
                &pack.id,
                pack.size,
                most_bytes(&path),
            ))?;
            Ok((path, bytes))
        });
        let mut entries = EntryReader::new(BufReader::with_capacity(256 * 1024, stream));
        let mut hurt = Hurt { number: self.number, objects: BTreeMap::new() };
        for source in &self.index.sources {
            for _ in 0..source.entries {
                let entry = entries.next_entry().map_err(|e| trouble(&self.index_path, e))?;
                let Some(entry) = entry else {
                    let why = "the entry stream ends before its last entry";
                    return Err(Damage::content(self.index_path.clone(), why).into());
                };
                let mut hit = BTreeMap::new();
                for extent in &entry.extents {
                    if let Some(damage) = self.damaged(extent) {
                        hit.insert(damage.object.clone(), damage);
                    }
                }
                for (object, damage) in hit {
                    let path = || [source.name.as_str().as_bytes(), b"/", &entry.path].concat();
                    let (_, files, _) = hurt.objects.entry(object).or_insert_with(|| (damage, 0, path()));
                    *files += 1;
                }
            }
        }
        entries.finish().map_err(|e| trouble(&self.index_path, e))?;
        Ok(hurt)
    }

    /// The damage that keeps an extent from being read, if any.
    fn damaged(&self, extent: &Extent) -> Option<Damage> {
        let Extent::Data { pack, offset, length } = extent else { return None };
        let (path, pack) = match self.pack(*pack) {
            Ok(found) => found,
            Err(damage) => return Some(damage),
        };
        match self.lens.get(&pack.id) {
            Some(len) if offset.checked_add(*length).is_some_and(|end| end <= *len) => None,
            Some(len) => {
                let why = format!("an entry needs more of {path} than its {len} plain bytes");
                Some(Damage::content(self.index_path.clone(), why))
            }
            // Its damage is in the findings already, and stays as it was found.
            None => self.bad.contains(&path).then(|| Damage::new(path, Fault::Missing)),
        }
    }
}
