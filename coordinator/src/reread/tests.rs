//! What is read again: all that no verified round has written, and no more.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::document::{ManifestSlice, ObjectRef, Receipt, SliceStatus, SliceTotals};
use muster_protocol::ids::{ObjectId, RoundId, ServiceName};
use muster_protocol::log::{Commit, Outcome, Verified};
use muster_protocol::round::CheckFailure;
use muster_protocol::time::UnixMillis;
use muster_share::entropy::OsEntropy;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{ListedPack, PackList};
use muster_share::log::Log;
use muster_share::store::Store;
use tempfile::TempDir;

use super::reread;
use crate::check::slice_path;
use crate::fixture::{AGENT, LEADER, led, open, round, signer};

/// What an attempt wrote, oldest first.
#[derive(Clone)]
struct Wrote {
    packs: Vec<ObjectRef>,
    chunks: Vec<ObjectRef>,
    /// Packs, pack list, chunk index and index.
    objects: Vec<ObjectPath>,
}

/// A round that is committed and not verified; a second one that takes all of it over and adds a pack.
struct Scene {
    folder: TempDir,
    store: Arc<dyn Store>,
    log: Log,
    /// Of the first round.
    first: Wrote,
    /// Of the second, the first round's objects not among them.
    second: Wrote,
    slice: ManifestSlice,
}

fn dns() -> ServiceName {
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

impl Scene {
    async fn new() -> Self {
        let (folder, store, mut log) = led().await;
        let (first, _) = wrote(store.as_ref(), &log, 1, None).await;
        let commit = Commit {
            epoch: 1,
            round: round(1),
            manifest: ObjectId::of(b"manifest"),
            manifest_size: 1,
            outcome: Outcome::Complete,
            at: UnixMillis(0),
        };
        log.append(&signer(LEADER), &commit).await.expect("committed");
        log.append(&signer(LEADER), &open(2)).await.expect("opened");
        let (second, slice) = wrote(store.as_ref(), &log, 2, Some(&first)).await;
        Self { folder, store, log, first, second, slice }
    }

    async fn verify_the_first(&mut self) {
        let verified = Verified { epoch: 1, round: round(1), objects: 1, bytes: 1, at: UnixMillis(0) };
        self.log.append(&signer(LEADER), &verified).await.expect("verified");
    }

    async fn reread(&self) -> Result<(u64, u64), CheckFailure> {
        let state = Arc::new(self.log.state().clone());
        reread(Arc::clone(&self.store), state, round(2), vec![self.slice.clone()]).await
    }

    /// Turns a bit of an object, its length unchanged.
    fn rot(&self, path: &ObjectPath) {
        let file = self.folder.path().join(path.to_string());
        let mut bytes = std::fs::read(&file).expect("an object");
        *bytes.last_mut().expect("bytes") ^= 1;
        std::fs::write(&file, bytes).expect("written");
    }
}

/// What a round of this number writes on top of `before`, and its slice.
async fn wrote(store: &dyn Store, log: &Log, number: u8, before: Option<&Wrote>) -> (Wrote, ManifestSlice) {
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
    let (receipt, _) = part(store, round, SlicePart::Receipt, &bytes).await;
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
    (Wrote { packs, chunks: all_chunks, objects }, slice)
}

#[tokio::test]
async fn what_a_round_took_over_from_one_that_was_never_verified_is_read_again() {
    let scene = Scene::new().await;
    // Its receipt and four objects, and of the first round all but the index, which no later round names.
    assert_eq!(scene.reread().await.expect("whole").0, 1 + 4 + 3);
    for at in 0..3 {
        let scene = Scene::new().await;
        let rotten = &scene.first.objects[at];
        scene.rot(rotten);
        let read = scene.reread().await;
        let Err(CheckFailure::Refused(failure)) = read else { panic!("{rotten} is rotten: {read:?}") };
        assert!(failure.reason.contains(&rotten.to_string()), "{}", failure.reason);
    }
}

#[tokio::test]
async fn what_a_verified_round_has_written_is_not_read_again() {
    let mut scene = Scene::new().await;
    scene.verify_the_first().await;
    assert_eq!(scene.reread().await.expect("whole").0, 1 + 4);
    // Read it was, when its own round was verified: what rots later is for `verify`.
    scene.rot(&scene.first.objects[0]);
    assert_eq!(scene.reread().await.expect("not read").0, 1 + 4);
    for at in 0..4 {
        let mut scene = Scene::new().await;
        scene.verify_the_first().await;
        scene.rot(&scene.second.objects[at]);
        let read = scene.reread().await;
        assert!(matches!(read, Err(CheckFailure::Refused(_))), "{}: {read:?}", scene.second.objects[at]);
    }
}
