//! A small fleet on a share in a temporary folder: two services, two rounds, several packs each; written by the share's
//! own API, so that tests can also write what no honest agent would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::age::Identity;
use muster_protocol::alert::Code;
use muster_protocol::config::ShareConfig;
use muster_protocol::document::{
    Absentee, Manifest, ManifestSlice, ObjectRef, Receipt, SliceStatus, SliceTotals,
};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{ChunkId, Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{
    Change, Commit, Epoch, Genesis, Head, Keyset, KeysetKey, Member, Open, Outcome, Pin, Role, Roster, Scope,
    Verified, seal_statement,
};
use muster_protocol::time::UnixMillis;
use muster_share::chunk::{ChunkKey, ChunkSize, Chunker};
use muster_share::entropy::OsEntropy;
use muster_share::entry::{Entry, Extent, Kind, push_extent};
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{
    ChunkIndex, EntryWriter, IndexRoot, IndexedPack, IndexedSource, ListedPack, PackList,
};
use muster_share::log::{Log, found};
use muster_share::pack::{Compressor, PackBuilder, PackContext, compress};
use muster_share::store::{self, Store};

/// Content of one entry: the entry without extents, and its plain bytes.
pub(crate) type Item = (Entry, Vec<u8>);

/// Sources by name.
pub(crate) type Sources<'a> = Vec<(&'a str, Vec<Item>)>;

/// A sealed pack: its row, its bytes, its chunks.
type Sealed = (ListedPack, Vec<u8>, Vec<(ChunkId, u32)>);

pub(crate) struct Fixture {
    dir: tempfile::TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) log: Log,
    pub(crate) root: Signer,
    pub(crate) key: Identity,
    coordinator: Signer,
    keyset: u64,
    pub(crate) services: BTreeMap<ServiceName, Service>,
    /// Entries that come behind those of every slice's last source: how many, and what the n-th is.
    pub(crate) generated: Option<Generated>,
}

/// How many entries, and what the n-th is.
pub(crate) type Generated = (u64, fn(u64) -> Entry);

/// An agent's memory.
pub(crate) struct Service {
    signer: Signer,
    chunk_key: ChunkKey,
    known: BTreeMap<ChunkId, Extent>,
    next_pack: u64,
    packs: Vec<ObjectRef>,
    chunks: Vec<ObjectRef>,
    /// Which chunks get another name than theirs.
    pub(crate) misname: Misname,
}

/// Chunks that are named wrongly, as a faulty agent would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misname {
    None,
    /// Those of files.
    Files,
    /// Those of files and of the entry stream.
    All,
}

/// A pack number that no slice has.
pub(crate) const FORGED: u64 = u64::MAX;

/// Bytes without a pattern, from a seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

pub(crate) fn name(service: &str) -> ServiceName {
    service.parse().expect("a service name")
}

pub(crate) fn folder(path: &str) -> Item {
    (Entry::new(path.into(), Kind::Directory, 0o755), Vec::new())
}

pub(crate) fn file(path: &str, content: Vec<u8>) -> Item {
    (Entry { mtime_secs: 1_000_000_000, ..Entry::new(path.into(), Kind::File, 0o640) }, content)
}

pub(crate) fn hard_link(path: &str, target: &str) -> Item {
    let target = Some(serde_bytes::ByteBuf::from(target));
    (Entry { hard_link: target, ..Entry::new(path.into(), Kind::File, 0o640) }, Vec::new())
}

pub(crate) fn symlink(path: &str, target: &str) -> Item {
    let target = Some(serde_bytes::ByteBuf::from(target));
    (Entry { target, ..Entry::new(path.into(), Kind::Symlink, 0o777) }, Vec::new())
}

impl Fixture {
    /// A fleet with services `a` and `b` and no round.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let share = dir.path().join("share");
        let store = store::create(&ShareConfig::at(share.to_str().expect("UTF-8"))).await.expect("share");
        let [root, coordinator, a, b] = [1, 2, 3, 4].map(|seed| Signer::from_seed(&[seed; 32]));
        let key = Identity::generate(&mut OsEntropy);
        let genesis = Genesis {
            name: "prod".parse().expect("name"),
            salt: [7; 32],
            share: Nonce::from_bytes([8; 16]),
            created: UnixMillis(0),
        };
        let mut log = found(Arc::clone(&store), &root, &genesis).await.expect("founded");
        let fleet = log.state().fleet;
        let keys = vec![KeysetKey { recipient: key.recipient(), label: "2026".to_owned() }];
        let keyset = seal_statement(&root, &fleet, &Keyset { previous: None, keys, at: None });
        let keyset = log.append_statement::<Keyset>(&root, keyset).await.expect("keyset").number;
        let agent = |service: &str, signer: &Signer| {
            let sealing = Identity::generate(&mut OsEntropy).recipient();
            let role = Role::Agent { service: name(service), sealing };
            Change::Admit(Member { key: signer.key_id(), name: service.parse().expect("name"), role })
        };
        let leader = Member {
            key: coordinator.key_id(),
            name: "coordinator".parse().expect("name"),
            role: Role::Coordinator,
        };
        let changes = vec![Change::Admit(leader), agent("a", &a), agent("b", &b)];
        let roster = seal_statement(&root, &fleet, &Roster { previous: None, changes, at: None });
        log.append_statement::<Roster>(&root, roster).await.expect("roster");
        let epoch = Epoch { epoch: 1, instance: Nonce::from_bytes([1; 16]), at: UnixMillis(1) };
        log.append(&coordinator, &epoch).await.expect("epoch");
        let services = [("a", a), ("b", b)].map(|(service, signer)| {
            let service_state = Service {
                signer,
                chunk_key: ChunkKey::generate(&mut OsEntropy),
                known: BTreeMap::new(),
                next_pack: 1,
                packs: Vec::new(),
                chunks: Vec::new(),
                misname: Misname::None,
            };
            (name(service), service_state)
        });
        Self { dir, store, log, root, key, coordinator, keyset, services: services.into(), generated: None }
    }

    /// Two rounds of both services; the second has one file more, and gives it the content it had before and some.
    pub(crate) async fn with_two_rounds() -> Self {
        let mut here = Self::new().await;
        for round in [1, 2] {
            let slices =
                ["a", "b"].map(|service| (name(service), vec![("files", Self::tree(service, round))]));
            here.round(slices.into(), &[]).await;
        }
        here
    }

    /// What service `service` holds in round `round`.
    pub(crate) fn tree(service: &str, round: u64) -> Vec<Item> {
        let seed = u64::from(service.as_bytes()[0]);
        let mut items = vec![
            folder(""),
            folder("etc"),
            file("etc/big", noise(seed, 150_000)),
            file("etc/empty", Vec::new()),
            hard_link("etc/link", "etc/big"),
            file("etc/small", noise(seed + 1, 10)),
            symlink("etc/symbolic", "../../nowhere"),
            file("etc/twin", noise(seed, 150_000)),
            folder("var"),
        ];
        if round > 1 {
            items.push(file("var/new", noise(seed + 3, 40_000)));
            items.push(hard_link("var/new-link", "var/new"));
        }
        items.push(file("var/other", noise(seed + 2, 60_000)));
        items
    }

    /// Where the share's files lie.
    pub(crate) fn share(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    /// A folder that is not there yet.
    pub(crate) fn target(&self, target: &str) -> PathBuf {
        self.dir.path().join(target)
    }

    pub(crate) fn pin(&self) -> Pin {
        Pin { root: Some(self.root.key_id()), ..Pin::default() }
    }

    /// Opens, writes, commits and verifies a round.
    pub(crate) async fn round(
        &mut self,
        slices: Vec<(ServiceName, Sources<'_>)>,
        absent: &[&str],
    ) -> RoundId {
        let number = self.log.state().last_round + 1;
        let round = RoundId::derive(&self.log.state().fleet, &number.to_string());
        let at = UnixMillis(i64::try_from(number).expect("small") * 1000);
        let open = Open {
            epoch: 1,
            round,
            number,
            scope: Scope::All,
            nonce: Nonce::from_bytes([9; 16]),
            trigger: "command".to_owned(),
            deadline_millis: 60_000,
            cut: None,
            at,
        };
        self.log.append(&self.coordinator, &open).await.expect("open");
        let mut named = Vec::new();
        for (service, sources) in slices {
            named.push(self.slice(&open, &service, sources).await);
        }
        let outcome = if absent.is_empty() { Outcome::Complete } else { Outcome::Partial };
        let absent = absent.iter().map(|service| Absentee {
            service: name(service),
            attempts: 1,
            code: Code::Agent01,
            reason: "no agent answered".to_owned(),
            excuse: None,
            tries: Vec::new(),
        });
        let manifest = Manifest {
            round,
            number,
            epoch: 1,
            keyset: self.keyset,
            opened: at,
            assembled: at,
            trigger: "command".to_owned(),
            outcome,
            slices: named,
            absent: absent.collect(),
            cut: None,
        };
        let bytes = self.coordinator.seal(&self.log.state().fleet, &manifest);
        let (id, size) = (ObjectId::of(&bytes), bytes.len() as u64);
        self.put(ObjectPath::Manifest(id), bytes).await;
        let commit = Commit { epoch: 1, round, manifest: id, manifest_size: size, outcome, at };
        self.log.append(&self.coordinator, &commit).await.expect("commit");
        let verified = Verified { epoch: 1, round, objects: 1, bytes: 1, at };
        self.log.append(&self.coordinator, &verified).await.expect("verified");
        round
    }

    async fn put(&self, path: ObjectPath, bytes: Vec<u8>) {
        self.store.put_new(&path, Bytes::from(bytes)).await.expect("written");
    }

    async fn part(
        &self,
        service: &ServiceName,
        round: RoundId,
        part: SlicePart,
        bytes: Vec<u8>,
    ) -> ObjectRef {
        let object = ObjectRef { round, id: ObjectId::of(&bytes), size: bytes.len() as u64 };
        self.put(ObjectPath::Slice { service: service.clone(), round, id: object.id, part }, bytes).await;
        object
    }

    async fn slice(&mut self, open: &Open, service: &ServiceName, sources: Sources<'_>) -> ManifestSlice {
        let fleet = self.log.state().fleet;
        let head = self.log.head();
        let context = PackContext { fleet, service: service.clone(), keyset: self.keyset };
        let recipients = [self.key.recipient()];
        let mut agent = self.services.remove(service).expect("a service of the fleet");
        let mut new = Packing {
            agent: &mut agent,
            context: &context,
            packs: Vec::new(),
            builder: None,
            waiting: Vec::new(),
        };
        let mut entries = EntryWriter::new(Vec::new());
        let (mut indexed, mut totals) = (Vec::new(), SliceTotals::default());
        let last = sources.len().saturating_sub(1);
        for (at, (name, items)) in sources.into_iter().enumerate() {
            let (more, nth) = self.generated.filter(|_| at == last).unwrap_or((0, |_| unreachable!()));
            let source = IndexedSource {
                name: name.parse().expect("source name"),
                kind: "files".to_owned(),
                entries: items.len() as u64 + more,
                recipe: String::new(),
                tool_versions: BTreeMap::new(),
                skipped: 0,
                mounts: 0,
            };
            indexed.push(source);
            for (mut entry, content) in items {
                if entry.extents.is_empty() {
                    entry.size = content.len() as u64;
                    entry.extents = new.add(&content, &self.key);
                } else {
                    entry.extents = new.add_runs(&entry.extents, &content, &self.key);
                }
                totals.source_bytes += entry.size;
                totals.entries += 1;
                totals.gaps += u64::from(entry.gap.is_some());
                entries.write(&entry).expect("written");
            }
            (0..more).for_each(|number| entries.write(&nth(number)).expect("written"));
        }
        new.seal();
        if new.agent.misname == Misname::Files {
            new.agent.misname = Misname::None;
        }
        let stream = entries.into_inner();
        let extents = new.add(&stream, &self.key);
        new.seal();
        let packs = new.packs;
        let listed = packs.iter().map(|(pack, ..)| *pack).collect();
        let index = IndexRoot {
            service: service.clone(),
            round: open.round,
            chunk_key: agent.chunk_key.clone(),
            sources: indexed,
            totals,
            entries: extents,
            entries_bytes: stream.len() as u64,
        };
        let index = index.seal(&recipients, &context, &mut OsEntropy).expect("sealed");
        let chunks =
            packs.iter().map(|(pack, _, chunks)| IndexedPack { number: pack.number, chunks: chunks.clone() });
        let chunks =
            ChunkIndex::new(chunks.collect()).seal(&recipients, &context, &mut OsEntropy).expect("sealed");
        for (pack, bytes, _) in packs {
            self.put(ObjectPath::Pack { service: service.clone(), id: pack.id }, bytes).await;
        }
        let list = PackList { packs: listed }.encode(&mut OsEntropy).expect("encodes");
        agent.packs.push(self.part(service, open.round, SlicePart::Packs, list).await);
        agent.chunks.push(self.part(service, open.round, SlicePart::Chunks, chunks.bytes.to_vec()).await);
        let receipt = Receipt {
            service: service.clone(),
            round: open.round,
            attempt: 1,
            nonce: open.nonce.for_attempt(service, 1),
            keyset: self.keyset,
            head: Head { number: head.number, hash: head.hash },
            index: self.part(service, open.round, SlicePart::Index, index.bytes.to_vec()).await,
            chunks: agent.chunks.clone(),
            packs: agent.packs.clone(),
            new_packs: 1,
            status: if totals.gaps == 0 { SliceStatus::Whole } else { SliceStatus::Gaps },
            totals,
            previous: None,
            cut: None,
        };
        let bytes = agent.signer.seal(&fleet, &receipt);
        let receipt = self.part(service, open.round, SlicePart::Receipt, bytes).await;
        let slice = ManifestSlice {
            service: service.clone(),
            agent: agent.signer.key_id(),
            attempts: 1,
            receipt: receipt.id,
            receipt_size: receipt.size,
            status: SliceStatus::Whole,
            totals,
            cut: None,
            timing: None,
            tries: Vec::new(),
        };
        self.services.insert(service.clone(), agent);
        slice
    }
}

/// Packs of one slice as they fill.
struct Packing<'a> {
    agent: &'a mut Service,
    context: &'a PackContext,
    packs: Vec<Sealed>,
    builder: Option<PackBuilder>,
    waiting: Vec<ChunkId>,
}

impl Packing<'_> {
    /// Content with holes: `extents` tell where in `content` its runs lie. Runs of pack [`FORGED`] are left as they are.
    fn add_runs(&mut self, extents: &[Extent], content: &[u8], key: &Identity) -> Vec<Extent> {
        let mut stored = Vec::new();
        for extent in extents {
            match *extent {
                Extent::Data { pack, offset, length } if pack != FORGED => {
                    let from = usize::try_from(offset).expect("small");
                    let run = &content[from..from + usize::try_from(length).expect("small")];
                    self.add(run, key).into_iter().for_each(|next| push_extent(&mut stored, next));
                }
                // As it is: a forged one may not even be looked at.
                Extent::Data { .. } | Extent::Hole { .. } => stored.push(*extent),
            }
        }
        stored
    }

    fn add(&mut self, content: &[u8], key: &Identity) -> Vec<Extent> {
        let mut cut = Vec::new();
        let mut chunker = Chunker::new(ChunkSize::new(4096).expect("valid"));
        let mut keep = |chunk: &[u8]| {
            cut.push(chunk.to_vec());
            Ok::<(), std::convert::Infallible>(())
        };
        chunker.push(content, &mut keep).and_then(|()| chunker.finish(&mut keep)).expect("infallible");
        let mut extents = Vec::new();
        for chunk in cut {
            let id = self.agent.chunk_key.id(&chunk);
            if !self.agent.known.contains_key(&id) {
                let mut compressor = Compressor::new(1).expect("zstd");
                let written =
                    if self.agent.misname != Misname::None { ChunkId::from_bytes([1; 32]) } else { id };
                let frame = compress(&mut compressor, &[(&chunk, written)]).expect("a frame");
                let builder = self.builder.get_or_insert_with(|| {
                    PackBuilder::new(64 * 1024, Vec::new(), &[key.recipient()], self.context, &mut OsEntropy)
                        .expect("usable")
                });
                let offset = builder.push(&frame).expect("pushed");
                let (pack, length) = (self.agent.next_pack, chunk.len() as u64);
                self.agent.known.insert(id, Extent::Data { pack, offset, length });
                self.waiting.push(id);
            }
            push_extent(&mut extents, self.agent.known[&id]);
            if self.builder.as_ref().is_some_and(PackBuilder::is_full) {
                self.seal();
            }
        }
        extents
    }

    fn seal(&mut self) {
        let Some(builder) = self.builder.take() else { return };
        let pack = builder.seal().expect("sealed");
        let listed = ListedPack { number: self.agent.next_pack, id: pack.id, size: pack.bytes.len() as u64 };
        self.agent.next_pack += 1;
        self.packs.push((listed, pack.bytes.to_vec(), pack.chunks));
    }
}

/// Every file below a folder with its content; folders and links by what they are. What goes away while it is listed, as
/// the temporary names of a recovery that still runs do, is not there.
pub(crate) fn found_below(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            let Some(meta) = unless_gone(path.symlink_metadata()) else { continue };
            let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
            if meta.is_dir() {
                folders.push(path);
            } else if meta.is_file() {
                all.extend(unless_gone(std::fs::read(&path)).map(|bytes| (name, bytes)));
            } else {
                all.insert(name, b"link".to_vec());
            }
        }
    }
    all
}

fn unless_gone<T>(found: std::io::Result<T>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("cannot be looked at: {error}"),
    }
}
