//! The slice engine: turns sources into packs, index, chunk index, pack lists and a receipt on the share.
//!
//! ```text
//! sources ─▶ feeder ─jobs─▶ workers ───────▶ assembler ─▶ entry stream (packed like data)
//! walk       unchanged       read, cut,       completes entries in order
//!            or to be read   name, find, compress ─▶ open pack ─▶ seal, check ─▶ upload ─▶ state
//! ```
//!
//! Every worker does all of it, so no core waits for another's stage; a large file's parts are shared out while others have
//! nothing to read. A bounded number of jobs, parts and sealed packs is under way, so memory follows neither the data nor
//! a slow share. Order on the share: packs, then lists and index, then the receipt; each is durable before the next begins.
//!
//! It never overwrites, never deletes, and never names an object that it has not seen on the share or put there.

mod activity;
mod assemble;
mod config;
mod error;
mod feed;
mod fill;
mod known;
mod lists;
mod pack;
mod part;
mod pipeline;
mod priority;
mod progress;
mod queue;
mod resume;
mod rewrite;
mod seen;
mod shared;
mod slice;
mod telling;
#[cfg(test)]
mod tests;
mod upload;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::age::Recipient;
use muster_protocol::document::{ObjectRef, Receipt, SliceStatus, SliceTotals};
use muster_protocol::entropy::random;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::Head;
use muster_share::entropy::OsEntropy;
use muster_share::layout::{ObjectPath, Prefix, SlicePart};
use muster_share::lists::{ChunkIndex, IndexRoot, IndexedPack, ListedPack, PackList};
use muster_share::store::limited::Limited;
use muster_share::store::{Listed, Store, StoreError};

use crate::state::{Begun, ListPair, PackRow, Slice, State, StateError};
use assemble::Assembled;
use known::Known;
use pack::Sealing;
use pipeline::Run;
use seen::SeenWriter;
use shared::{Halt, StopOnDrop};
use telling::Telling;
use upload::{Uploader, blocking, unless_cancelled};

pub use config::EngineConfig;
pub use error::EngineError;
pub use priority::{IoPriority, Priority};
pub use progress::{CancelFlag, Progress, Stage};
pub use slice::{CaptureRequest, Captured, chunk_key};

/// Captures slices, one at a time.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    store: Arc<dyn Store>,
    state: Arc<State>,
    spool: PathBuf,
    busy: tokio::sync::Mutex<()>,
    #[cfg(test)]
    tamper: Option<fn(&mut muster_share::pack::Frame)>,
}

impl Engine {
    /// An engine that writes to `store`, which retries and limits time itself. Sources may use `spool`, a folder on this
    /// machine.
    #[must_use]
    pub fn new(config: EngineConfig, store: Arc<dyn Store>, state: Arc<State>, spool: PathBuf) -> Self {
        Self {
            config,
            store,
            state,
            spool,
            busy: tokio::sync::Mutex::default(),
            #[cfg(test)]
            tamper: None,
        }
    }

    /// Captures the sources; everything but the receipt is on the share afterwards. Packs that a failed capture has
    /// uploaded are found again by the next one.
    ///
    /// # Errors
    /// See [`EngineError`]; [`EngineError::Cancelled`] soon after `cancel` is set.
    pub async fn capture(
        &self,
        request: CaptureRequest,
        progress: Arc<Progress>,
        cancel: CancelFlag,
    ) -> Result<Captured, EngineError> {
        let _busy = self.busy.try_lock().map_err(|_| EngineError::Busy)?;
        let telling = Telling::begin(&request.service, &progress);
        let done = telling.beside(self.capture_once(&request, Arc::clone(&progress), cancel)).await;
        telling.end(&done);
        if let Err(
            EngineError::State(StateError::Database { .. } | StateError::Row { .. }) | EngineError::Crashed,
        ) = &done
        {
            // A damaged memory would fail the next attempt, too; it is a cache, and the share knows all of it.
            tracing::warn!("the agent's memory is begun anew");
            let state = Arc::clone(&self.state);
            blocking(move || Ok(state.rebuild()?)).await?;
        }
        done
    }

    async fn capture_once(
        &self,
        request: &CaptureRequest,
        progress: Arc<Progress>,
        cancel: CancelFlag,
    ) -> Result<Captured, EngineError> {
        let rates = [self.config.bandwidth_bytes_per_sec, request.bandwidth_bytes_per_sec];
        let store: Arc<dyn Store> = match rates.into_iter().flatten().min() {
            Some(rate) => Arc::new(Limited::writes(Arc::clone(&self.store), rate)),
            None => Arc::clone(&self.store),
        };
        let uploader = Uploader::new(store, request.service.clone(), Arc::clone(&progress));
        progress.enter(Stage::Listing);
        let base = unless_cancelled(&cancel, self.base(request)).await?;
        progress.expect(base.expected_bytes);
        progress.enter(Stage::Capturing);
        let captured = self.run(request, &base, &uploader, &cancel).await?;
        progress.enter(Stage::Finishing);
        let done = unless_cancelled(&cancel, self.finish(request, base, captured, &uploader)).await?;
        progress.enter(Stage::Captured);
        Ok(done)
    }

    /// Writes the receipt of a captured slice: its id, its length in bytes, and the totals it states. The same attempt
    /// always has the same receipt. `cut` is the nonce of the cut that it was captured in.
    ///
    /// # Errors
    /// When the share or the agent's memory fails.
    pub async fn write_receipt(
        &self,
        captured: &Captured,
        attempt: u32,
        nonce: Nonce,
        head: Head,
        cut: Option<Nonce>,
        signer: &Signer,
    ) -> Result<(ObjectId, u64, SliceTotals), EngineError> {
        let receipt = Receipt {
            service: captured.service.clone(),
            round: captured.round,
            attempt,
            nonce,
            keyset: captured.keyset,
            head,
            index: captured.index,
            chunks: captured.lists.iter().map(|pair| pair.chunks).collect(),
            packs: captured.lists.iter().map(|pair| pair.packs).collect(),
            new_packs: captured.new_lists,
            status: captured.status,
            totals: captured.totals,
            previous: captured.previous,
            cut,
        };
        let bytes = Bytes::from(signer.seal(&captured.fleet, &receipt));
        let uploader = Uploader::new(Arc::clone(&self.store), captured.service.clone(), Arc::default());
        let object = uploader.slice_object(captured.round, SlicePart::Receipt, bytes).await?;
        let state = Arc::clone(&self.state);
        let slice = Slice {
            receipt: object.id,
            lists: captured.lists.clone(),
            live: captured.live.clone(),
            source_bytes: captured.totals.source_bytes,
        };
        blocking(move || Ok(state.add_slice(&slice)?)).await?;
        Ok((object.id, object.size, captured.totals))
    }

    /// Tells how large the memory of chunks of this service is, and what may be counted of it. Blocks on the local disk.
    pub fn tell_memory(&self, service: &ServiceName) {
        telling::begin_metrics(service);
        telling::tell_memory(service, &self.state);
    }

    /// The slice of this receipt counts: the next one builds upon its lists. Blocks on the local disk.
    ///
    /// # Errors
    /// When the agent's memory fails.
    pub fn keep(&self, receipt: ObjectId) -> Result<(), EngineError> {
        Ok(self.state.keep(receipt)?)
    }

    /// What of the former slices can be built upon: asks the share, never the memory alone.
    async fn base(&self, request: &CaptureRequest) -> Result<Base, EngineError> {
        let failed = |source| EngineError::Store { doing: "listing the agent's packs", source };
        let state = Arc::clone(&self.state);
        let (keyset, check) = (request.keyset, request.chunk_key.id(b""));
        let Begun { next_pack, packs, kept, previous, source_bytes, binding } =
            blocking(move || Ok(state.begin(keyset, check)?)).await?;
        let mut present = HashMap::new();
        let mut listing = self.store.list(&Prefix::Packs(request.service.clone()));
        while let Some(line) = listing.next().await {
            if let Listed::Object { path: ObjectPath::Pack { id, .. }, size } = line.map_err(failed)? {
                present.insert(id, size);
            }
        }
        drop(listing);
        let (here, gone): (Vec<_>, Vec<_>) =
            packs.into_iter().partition(|(_, row)| present.get(&row.id) == Some(&row.size));
        let state = Arc::clone(&self.state);
        let gone: Vec<u64> = gone.into_iter().map(|(number, _)| number).collect();
        blocking(move || Ok(state.forget(&gone)?)).await?;
        let mut packs: HashMap<u64, PackRow> =
            here.into_iter().filter(|(_, row)| !request.refused.contains(&row.id)).collect();
        let (kept_lists, live) = kept.map(|kept| (kept.lists, kept.live)).unwrap_or_default();
        for number in rewrite::mostly_dead(&packs, &live, self.config.rewrite_bytes) {
            packs.remove(&number);
        }
        let mut lists = Vec::new();
        for pair in kept_lists {
            let whole = pair.numbers.iter().all(|number| packs.contains_key(number));
            if whole && self.usable_pair(&pair, request).await? {
                lists.push(pair);
            }
        }
        let next_binding = random(&mut OsEntropy);
        Ok(Base { next_pack, packs, lists, previous, binding, next_binding, expected_bytes: source_bytes })
    }

    async fn usable_pair(&self, pair: &ListPair, request: &CaptureRequest) -> Result<bool, EngineError> {
        for (object, part) in [(pair.packs, SlicePart::Packs), (pair.chunks, SlicePart::Chunks)] {
            let ObjectRef { round, id, size } = object;
            let path = ObjectPath::Slice { service: request.service.clone(), round, id, part };
            let there = match self.store.head(&path).await {
                Ok(meta) => meta.size == size,
                Err(StoreError::NotFound { .. }) => false,
                Err(source) => {
                    return Err(EngineError::Store { doing: "looking for an earlier pack list", source });
                }
            };
            if !there || request.refused.contains(&id) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The threads and the uploads.
    async fn run(
        &self,
        request: &CaptureRequest,
        base: &Base,
        uploader: &Uploader,
        cancel: &CancelFlag,
    ) -> Result<pipeline::Captured, EngineError> {
        let config = &self.config;
        let workers = config.workers.max(1);
        let uploads = config.uploads.max(1);
        let halt = Arc::new(Halt::new(uploads + OPEN_PACKS));
        let _stop = StopOnDrop(Arc::clone(&halt));
        let run = Arc::new(Run {
            sources: request.sources.clone(),
            spool: self.spool.clone(),
            seen: self.state.folder().join(SEEN),
            binding: base.binding,
            next_binding: base.next_binding,
            workers,
            zstd_level: config.zstd_level,
            chunk: config.chunk,
            settle: config.settle,
            priority: config.priority,
            sealing: Sealing {
                target_bytes: config.pack_bytes,
                recipients: request.recipients.clone(),
                context: request.context(),
                key: request.chunk_key.clone(),
                self_check: config.self_check,
                #[cfg(test)]
                tamper: self.tamper,
            },
            known: Known::new(Arc::clone(&self.state), base.packs.keys().copied().collect(), base.next_pack),
            halt: Arc::clone(&halt),
            progress: Arc::clone(&uploader.progress),
        });
        let (sender, receiver) = tokio::sync::mpsc::channel(uploads);
        let threads = {
            let (run, runtime) = (Arc::clone(&run), tokio::runtime::Handle::current());
            tokio::task::spawn_blocking(move || pipeline::run(&run, sender, runtime))
        };
        if let Err(error) = unless_cancelled(cancel, uploader.packs(&run, receiver, uploads)).await {
            halt.fail(error);
        }
        let done = threads.await.map_err(|_| EngineError::Crashed)?;
        match halt.failure() {
            Some(error) => Err(error),
            None => done.ok_or(EngineError::Cancelled),
        }
    }

    /// Lists and index.
    async fn finish(
        &self,
        request: &CaptureRequest,
        base: Base,
        captured: pipeline::Captured,
        uploader: &Uploader,
    ) -> Result<Captured, EngineError> {
        let Assembled { entries, entries_bytes, referenced, seen, .. } = captured.assembled;
        let state = Arc::clone(&self.state);
        let (rows, pairs, mut lists, live) = blocking(move || {
            let rows: HashMap<u64, PackRow> = state.packs()?.into_iter().collect();
            let size = |number| rows.get(&number).map_or(0, |row| row.size);
            let lists::Plan { keep, write } = lists::plan(base.lists, &referenced, size);
            let mut counts = BTreeMap::new();
            for number in &write {
                counts.insert(*number, state.pack_chunk_count(*number)?.unwrap_or(0));
            }
            let live: Vec<(u64, u64)> = referenced.into_iter().collect();
            Ok((rows, lists::pairs(&write, &counts), keep, live))
        })
        .await?;
        let new_lists = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
        for numbers in pairs {
            lists.push(self.pair(request, &rows, numbers, uploader).await?);
        }
        let row = |number: &u64| rows.get(number).copied().ok_or(EngineError::Crashed);
        let mut totals = SliceTotals {
            source_bytes: captured.source_bytes.min(SliceTotals::MOST),
            stored_bytes: 0,
            added_bytes: uploader.progress.added_bytes(),
            entries: captured.entries,
            gaps: captured.gaps,
        };
        for number in lists.iter().flat_map(|pair| &pair.numbers) {
            totals.stored_bytes += row(number)?.size;
        }
        let root = IndexRoot {
            service: request.service.clone(),
            round: request.round,
            chunk_key: request.chunk_key.clone(),
            sources: captured.sources,
            totals,
            entries,
            entries_bytes,
        };
        let sealed = root.seal(&request.recipients, &request.context(), &mut OsEntropy)?;
        let index = uploader.slice_object(request.round, SlicePart::Index, sealed.bytes).await?;
        totals.added_bytes = uploader.progress.added_bytes();
        let state = Arc::clone(&self.state);
        blocking(move || {
            // In this order: what is seen counts only with the memory that has its packs.
            state.bind(&base.next_binding)?;
            seen.into_iter().for_each(SeenWriter::finish);
            Ok(())
        })
        .await?;
        Ok(Captured {
            fleet: request.fleet,
            service: request.service.clone(),
            round: request.round,
            keyset: request.keyset,
            index,
            lists,
            new_lists,
            live,
            status: if captured.gaps == 0 { SliceStatus::Whole } else { SliceStatus::Gaps },
            totals,
            previous: base.previous,
        })
    }

    /// Writes the pack list and the chunk index of these packs. One pair at a time is in memory.
    async fn pair(
        &self,
        request: &CaptureRequest,
        rows: &HashMap<u64, PackRow>,
        numbers: Vec<u64>,
        uploader: &Uploader,
    ) -> Result<ListPair, EngineError> {
        let mut packs = Vec::with_capacity(numbers.len());
        for number in &numbers {
            let PackRow { id, size, .. } = rows.get(number).copied().ok_or(EngineError::Crashed)?;
            packs.push(ListedPack { number: *number, id, size });
        }
        let packs = Self::pack_list(request.round, packs, uploader).await?;
        let state = Arc::clone(&self.state);
        let recipients: Vec<Recipient> = request.recipients.iter().chain([&request.agent]).cloned().collect();
        let context = request.context();
        let (sealed, numbers) = blocking(move || {
            let mut indexed = Vec::with_capacity(numbers.len());
            for number in &numbers {
                let chunks = state.pack_chunks(*number)?.unwrap_or_default();
                indexed.push(IndexedPack { number: *number, chunks });
            }
            Ok((ChunkIndex::new(indexed).seal(&recipients, &context, &mut OsEntropy)?, numbers))
        })
        .await?;
        let chunks = uploader.slice_object(request.round, SlicePart::Chunks, sealed.bytes).await?;
        Ok(ListPair { packs, chunks, numbers })
    }

    /// Writes a pack list.
    async fn pack_list(
        round: RoundId,
        packs: Vec<ListedPack>,
        uploader: &Uploader,
    ) -> Result<ObjectRef, EngineError> {
        let bytes = PackList { packs }.encode(&mut OsEntropy)?;
        uploader.slice_object(round, SlicePart::Packs, Bytes::from(bytes)).await
    }
}

/// Packs that are filled at once: one of data, one of entries.
const OPEN_PACKS: usize = 2;

/// What a capture builds upon.
struct Base {
    next_pack: u64,
    /// Packs that may be named.
    packs: HashMap<u64, PackRow>,
    /// Pairs of which everything is on the share and may be named.
    lists: Vec<ListPair>,
    previous: Option<ObjectId>,
    /// Source bytes of the slice before; 0: not known.
    expected_bytes: u64,
    /// Binds what was seen of files to these packs, and what is seen now to those of the next slice.
    binding: [u8; 32],
    next_binding: [u8; 32],
}

/// Folder within the agent's state folder for what was seen of the sources.
const SEEN: &str = "seen";
