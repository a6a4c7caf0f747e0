//! One agent with a real folder as its share, and sources of every kind that tests need.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use muster_protocol::age::Identity;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, Nonce, ObjectId, RoundId, ServiceName, SourceName};
use muster_protocol::log::Head;
use muster_share::chunk::ChunkSize;
use muster_share::entropy::OsEntropy;
use muster_share::entry::{Entry, Extent, Kind};
use muster_share::layout::{ObjectPath, Prefix};
use muster_share::pack::Frame;
use muster_share::store::faults::{Fault, Faulty, Op};
use muster_share::store::{FileStore, Listed, Store};

use super::super::{
    CancelFlag, CaptureRequest, Captured, Engine, EngineConfig, EngineError, Progress, chunk_key,
};
use crate::source::config::FilesTable;
use crate::source::testing::{Memory, capture as capture_in_memory};
use crate::source::{
    CaptureContext, Cause, Sink, Source, SourceConfig, SourceError, SourceReport, SourceTable,
};
use crate::state::{State, StateError};

use super::reader;

/// Bytes without a pattern, from a seed (xorshift64*).
pub(super) fn noise(mut seed: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        out.extend_from_slice(&seed.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// One agent with its share, keys and sources.
pub(super) struct Fleet {
    pub(super) dir: tempfile::TempDir,
    pub(super) share: Arc<dyn Store>,
    pub(super) store: Arc<dyn Store>,
    pub(super) recovery: Vec<Identity>,
    pub(super) agent: Identity,
    pub(super) signer: Signer,
    pub(super) keyset: u64,
    pub(super) refused: HashSet<ObjectId>,
    pub(super) sources: Vec<Arc<dyn Source>>,
    pub(super) config: EngineConfig,
    pub(super) tamper: Option<fn(&mut Frame)>,
    pub(super) rounds: u8,
    /// Of the last capture.
    pub(super) progress: Arc<Progress>,
}

impl Fleet {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        for name in ["share", "state", "data"] {
            fs::create_dir(dir.path().join(name)).expect("folder");
        }
        let share: Arc<dyn Store> = Arc::new(FileStore::open(dir.path().join("share")).await.expect("opens"));
        Self {
            store: Arc::clone(&share),
            share,
            recovery: vec![Identity::generate(&mut OsEntropy)],
            agent: Identity::generate(&mut OsEntropy),
            signer: Signer::from_seed(&[5; 32]),
            keyset: 2,
            refused: HashSet::new(),
            sources: Vec::new(),
            config: EngineConfig {
                workers: 3,
                chunk: ChunkSize::new(16 * 1024).expect("valid"),
                pack_bytes: 256 * 1024,
                ..EngineConfig::default()
            },
            tamper: None,
            rounds: 0,
            progress: Arc::default(),
            dir,
        }
    }

    /// With a tree of everything that a tree can hold.
    pub(super) async fn with_tree() -> Self {
        let mut fleet = Self::new().await;
        let data = fleet.data();
        fs::create_dir_all(data.join("a/b")).expect("folder");
        fs::write(data.join("a/big"), noise(1, 1_500_000)).expect("file");
        fs::write(data.join("a/same"), noise(1, 1_500_000)).expect("file");
        fs::write(data.join("a/zeroes"), vec![0; 300_000]).expect("file");
        fs::write(data.join("empty"), b"").expect("file");
        let sparse = fs::File::create(data.join("sparse")).expect("file");
        sparse.set_len(500_000).expect("longer");
        sparse.write_all_at(&noise(2, 10_000), 200_000).expect("written");
        for n in 0..300 {
            fs::write(
                data.join(format!("a/b/{n}")),
                noise(1000 + n, 37 * usize::try_from(n).expect("small")),
            )
            .expect("file");
        }
        symlink("a/big", data.join("link")).expect("link");
        fs::hard_link(data.join("a/big"), data.join("hard")).expect("link");
        fleet.sources = vec![files("one", &data), files("two", &data.join("a/b"))];
        fleet
    }

    /// With a file of several packs.
    pub(super) async fn with_one_file() -> Self {
        let mut fleet = Self::new().await;
        fs::write(fleet.data().join("file"), noise(1, 1_200_000)).expect("file");
        fleet.sources = vec![files("one", &fleet.data())];
        fleet
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(super) fn service() -> ServiceName {
        "dns".parse().expect("name")
    }

    pub(super) fn request(&mut self) -> CaptureRequest {
        self.rounds += 1;
        CaptureRequest {
            fleet: FleetId::from_bytes([1; 32]),
            service: Self::service(),
            round: RoundId::from_bytes([self.rounds; 16]),
            keyset: self.keyset,
            recipients: self.recovery.iter().map(Identity::recipient).collect(),
            agent: self.agent.recipient(),
            chunk_key: chunk_key(&[9; 32], self.keyset),
            sources: self.sources.clone(),
            refused: self.refused.clone(),
            bandwidth_bytes_per_sec: None,
        }
    }

    pub(super) fn engine(&self) -> Engine {
        let folder = self.dir.path().join("state");
        // A capture that failed may still be remembering its last pack.
        let state = loop {
            match State::open(&folder) {
                Err(StateError::InUse { .. }) => std::thread::yield_now(),
                opened => break Arc::new(opened.expect("opens")),
            }
        };
        let mut engine = Engine::new(self.config.clone(), Arc::clone(&self.store), state, folder);
        engine.tamper = self.tamper;
        engine
    }

    /// One capture in a new process.
    pub(super) async fn capture(&mut self) -> Result<Captured, EngineError> {
        let request = self.request();
        self.progress = Arc::default();
        self.engine().capture(request, Arc::clone(&self.progress), CancelFlag::default()).await
    }

    /// One slice that counts, read back and compared with the sources.
    pub(super) async fn slice(&mut self) -> reader::Slice {
        let captured = self.capture().await.expect("captured");
        let engine = self.engine();
        let head = Head { number: 7, hash: ObjectId::of(b"record") };
        let nonce = Nonce::from_bytes([3; 16]);
        let written =
            engine.write_receipt(&captured, 1, nonce, head, None, &self.signer).await.expect("written");
        let again =
            engine.write_receipt(&captured, 1, nonce, head, None, &self.signer).await.expect("written again");
        assert_eq!(written, again);
        engine.keep(written.0).expect("kept");
        let slice = reader::read(
            &*self.share,
            &captured.fleet,
            &captured.service,
            captured.round,
            written.0,
            &self.recovery,
        )
        .await;
        self.compare(&slice);
        assert_eq!(slice.receipt.new_packs, captured.new_lists);
        slice
    }

    pub(super) fn compare(&self, slice: &reader::Slice) {
        let mut read = slice.entries.iter();
        let mut source_bytes = 0;
        for (source, indexed) in self.sources.iter().zip(&slice.root.sources) {
            let mut want = Memory::default();
            let report = capture_in_memory(&**source, &mut want, self.dir.path()).expect("captures");
            source_bytes += want.source_bytes();
            assert_eq!((source.name(), source.kind()), (&indexed.name, indexed.kind.as_str()));
            assert_eq!((indexed.entries, &indexed.recipe), (want.entries.len() as u64, &report.recipe));
            for mut entry in want.entries {
                let (have, bytes) = read.next().expect("an entry");
                let content = want.content.get(&entry.path).map(Vec::as_slice).unwrap_or_default();
                let content: Vec<u8> =
                    entry.extents.drain(..).flat_map(|extent| whole(extent, content)).collect();
                assert_eq!(*have, entry);
                assert!(content == *bytes, "{have:?}");
            }
        }
        assert!(read.next().is_none());
        assert_eq!(source_bytes, slice.receipt.totals.source_bytes);
    }

    pub(super) async fn packs(&self) -> Vec<ObjectPath> {
        let mut paths = Vec::new();
        let mut listing = self.share.list(&Prefix::Packs(Self::service()));
        while let Some(line) = listing.next().await {
            match line.expect("lists") {
                Listed::Object { path, .. } => paths.push(path),
                Listed::Foreign { name } => panic!("{name}"),
            }
        }
        paths
    }

    /// Fails each put for which `fails` says so; given its number and path.
    pub(super) fn break_puts(&mut self, fails: impl Fn(u64, &str) -> bool + Send + Sync + 'static) {
        let puts = AtomicU64::new(0);
        self.store = Arc::new(Faulty::new(Arc::clone(&self.share), move |call| {
            if call.op == Op::Put && fails(puts.fetch_add(1, Ordering::Relaxed), call.path) {
                Fault::Unreachable
            } else {
                Fault::None
            }
        }));
    }
}

/// The bytes of an extent of [`Memory`].
pub(super) fn whole(extent: Extent, content: &[u8]) -> Vec<u8> {
    let at = |n: u64| usize::try_from(n).expect("small");
    match extent {
        Extent::Hole { length } => vec![0; at(length)],
        Extent::Data { offset, length, .. } => content[at(offset)..at(offset + length)].to_vec(),
    }
}

pub(super) fn files(name: &str, path: &Path) -> Arc<dyn Source> {
    let mut table = FilesTable::new(path);
    table.name = Some(name.parse().expect("name"));
    let mut configs = SourceConfig::resolve(&[SourceTable::Files(table)], Path::new("/")).expect("resolves");
    Arc::from(configs.remove(0).build())
}

type Script = dyn Fn(&mut dyn Sink, &CaptureContext<'_>) -> Result<(), Cause> + Send + Sync;

/// A source that does what a test says.
struct Scripted(SourceName, Box<Script>);

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Source for Scripted {
    fn name(&self) -> &SourceName {
        &self.0
    }

    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn preflight(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn capture(
        &self,
        sink: &mut dyn Sink,
        context: &CaptureContext<'_>,
    ) -> Result<SourceReport, SourceError> {
        let failed = |cause| SourceError { name: self.0.clone(), kind: "scripted", cause: Box::new(cause) };
        self.1(sink, context).map_err(failed)?;
        Ok(SourceReport::default())
    }
}

pub(super) fn scripted(
    script: impl Fn(&mut dyn Sink, &CaptureContext<'_>) -> Result<(), Cause> + Send + Sync + 'static,
) -> Arc<dyn Source> {
    Arc::new(Scripted("scripted".parse().expect("name"), Box::new(script)))
}

pub(super) fn file(path: &str) -> Entry {
    Entry::new(path.as_bytes().to_vec(), Kind::File, 0o600)
}
