//! For tests: a small fleet on a share in a folder, with its log.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::age::Identity;
use muster_protocol::config::ShareConfig;
use muster_protocol::document::{ManifestSlice, ObjectRef, Receipt, SliceStatus, SliceTotals};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{
    Body, Change, Epoch, Genesis, Keyset, KeysetKey, Member, Open, Role, Roster, Scope, seal_statement,
};
use muster_protocol::time::UnixMillis;
use muster_share::entropy::OsEntropy;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{ListedPack, PackList};
use muster_share::log::{Log, found};
use muster_share::store::{self, Store};
use tempfile::TempDir;

use crate::check::slice_path;

pub(crate) const ROOT: u8 = 1;
pub(crate) const LEADER: u8 = 2;
pub(crate) const AGENT: u8 = 3;
pub(crate) const PRUNER: u8 = 4;

pub(crate) fn signer(number: u8) -> Signer {
    Signer::from_seed(&[number; 32])
}

pub(crate) async fn change(log: &mut Log, changes: Vec<Change>) {
    let state = log.state();
    let roster = Roster { previous: state.statements.get(Roster::KIND).copied(), changes, at: None };
    let statement = seal_statement(&signer(ROOT), &state.fleet, &roster);
    log.append_statement::<Roster>(&signer(ROOT), statement).await.expect("the roster changes");
}

/// A fleet with one agent, led in epoch 1, with one open round.
pub(crate) async fn led() -> (TempDir, Arc<dyn Store>, Log) {
    let folder = TempDir::new().expect("a folder");
    let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("a share");
    let genesis = Genesis {
        name: "test".parse().expect("a name"),
        salt: [2; 32],
        share: Nonce::from_bytes([3; 16]),
        created: UnixMillis(0),
    };
    let mut log = found(Arc::clone(&store), &signer(ROOT), &genesis).await.expect("founded");
    let recipient = Identity::generate(&mut OsEntropy).recipient();
    let keyset =
        Keyset { previous: None, keys: vec![KeysetKey { recipient, label: "2026".to_owned() }], at: None };
    let statement = seal_statement(&signer(ROOT), &log.state().fleet, &keyset);
    log.append_statement::<Keyset>(&signer(ROOT), statement).await.expect("a keyset");
    let member = |number: u8, name: &str, role| {
        let (key, name) = (signer(number).key_id(), name.parse().expect("a name"));
        Change::Admit(Member { key, name, role })
    };
    let sealing = Identity::generate(&mut OsEntropy).recipient();
    let agent = Role::Agent { service: "dns".parse().expect("a name"), sealing };
    let members =
        [(LEADER, "one", Role::Coordinator), (AGENT, "dns", agent), (PRUNER, "pruner", Role::Pruner)];
    change(&mut log, members.map(|(number, name, role)| member(number, name, role)).into()).await;
    let epoch = Epoch { epoch: 1, instance: Nonce::from_bytes([4; 16]), at: UnixMillis(0) };
    log.append(&signer(LEADER), &epoch).await.expect("leads");
    log.append(&signer(LEADER), &open(1)).await.expect("opened");
    (folder, store, log)
}

pub(crate) fn round(number: u8) -> RoundId {
    RoundId::from_bytes([4 + number; 16])
}

pub(crate) fn open(number: u8) -> Open {
    Open {
        epoch: 1,
        round: round(number),
        number: number.into(),
        scope: Scope::All,
        nonce: Nonce::from_bytes([6; 16]),
        trigger: "test".to_owned(),
        deadline_millis: 1000,
        at: UnixMillis(0),
        cut: None,
    }
}

/// What an attempt wrote, oldest first.
#[derive(Clone)]
pub(crate) struct Wrote {
    pub(crate) packs: Vec<ObjectRef>,
    pub(crate) chunks: Vec<ObjectRef>,
    /// Packs, pack list, chunk index and index.
    pub(crate) objects: Vec<ObjectPath>,
    pub(crate) receipt: ObjectPath,
}

pub(crate) fn dns() -> ServiceName {
    "dns".parse().expect("a name")
}

async fn put(store: &dyn Store, path: &ObjectPath, bytes: &[u8]) {
    store.put_new(path, Bytes::copy_from_slice(bytes)).await.expect("stored");
}

async fn part(store: &dyn Store, round: RoundId, part: SlicePart, bytes: &[u8]) -> (ObjectRef, ObjectPath) {
    let object = ObjectRef { round, id: ObjectId::of(bytes), size: bytes.len() as u64 };
    let path = slice_path(&dns(), &object, part);
    put(store, &path, bytes).await;
    (object, path)
}

/// What a round of this number writes on top of `before`, and its slice.
pub(crate) async fn wrote(
    store: &dyn Store,
    log: &Log,
    number: u8,
    before: Option<&Wrote>,
) -> (Wrote, ManifestSlice) {
    let round = round(number);
    let pack = format!("pack {number}");
    let id = ObjectId::of(pack.as_bytes());
    let pack_path = ObjectPath::Pack { service: dns(), id };
    put(store, &pack_path, pack.as_bytes()).await;
    let listed = ListedPack { number: number.into(), id, size: pack.len() as u64 };
    let list = PackList { packs: vec![listed] }.encode(&mut OsEntropy).expect("short");
    let (list, list_path) = part(store, round, SlicePart::Packs, &list).await;
    let (chunks, chunks_path) =
        part(store, round, SlicePart::Chunks, format!("chunks {number}").as_bytes()).await;
    let (index, index_path) =
        part(store, round, SlicePart::Index, format!("index {number}").as_bytes()).await;
    let mut packs = before.map_or_else(Vec::new, |before| before.packs.clone());
    packs.push(list);
    let mut all_chunks = before.map_or_else(Vec::new, |before| before.chunks.clone());
    all_chunks.push(chunks);
    let totals = SliceTotals::default();
    let state = log.state();
    let receipt = Receipt {
        service: dns(),
        round,
        attempt: 1,
        nonce: state.rounds[&round].open.nonce.for_attempt(&dns(), 1),
        keyset: 1,
        head: state.head,
        index,
        chunks: all_chunks.clone(),
        packs: packs.clone(),
        new_packs: 1,
        status: SliceStatus::Whole,
        totals,
        previous: None,
        cut: None,
    };
    let bytes = signer(AGENT).seal(&state.fleet, &receipt);
    let (receipt, receipt_path) = part(store, round, SlicePart::Receipt, &bytes).await;
    let slice = ManifestSlice {
        service: dns(),
        agent: signer(AGENT).key_id(),
        attempts: 1,
        receipt: receipt.id,
        receipt_size: receipt.size,
        status: SliceStatus::Whole,
        totals,
        cut: None,
        timing: None,
        tries: Vec::new(),
    };
    let objects = vec![pack_path, list_path, chunks_path, index_path];
    (Wrote { packs, chunks: all_chunks, objects, receipt: receipt_path }, slice)
}
