//! What is read again: all that no verified round has written, and no more.

use std::sync::Arc;

use muster_protocol::document::ManifestSlice;
use muster_protocol::ids::ObjectId;
use muster_protocol::log::{Commit, Outcome, Verified};
use muster_protocol::time::UnixMillis;
use muster_share::layout::ObjectPath;
use muster_share::log::{Log, Sure};
use muster_share::store::Store;
use muster_share::store::faults::{Fault as StoreFault, Faulty};
use muster_share::verify::{Damage, Fault};
use tempfile::TempDir;

use super::{Reread, reread};
use crate::fixture::{LEADER, Wrote, dns, led, open, round, signer, wrote};

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

    async fn reread(&self) -> Reread {
        let state = Arc::new(self.log.state().clone());
        let sure = Arc::new(Sure::new(Arc::clone(&self.store), state.fleet));
        reread(sure, state, round(2), vec![self.slice.clone()]).await.expect("read")
    }

    /// Turns a bit of an object, its length unchanged.
    fn rot(&self, path: &ObjectPath) {
        let file = self.folder.path().join(path.to_string());
        let mut bytes = std::fs::read(&file).expect("an object");
        *bytes.last_mut().expect("bytes") ^= 1;
        std::fs::write(&file, bytes).expect("written");
    }
}

#[tokio::test]
async fn what_a_round_took_over_from_one_that_was_never_verified_is_read_again() {
    let scene = Scene::new().await;
    // Its receipt and four objects, and of the first round all but the index, which no later round names.
    let read = scene.reread().await;
    assert_eq!((read.objects, read.damaged), (1 + 4 + 3, Vec::new()));
    for at in 0..3 {
        let scene = Scene::new().await;
        let rotten = &scene.first.objects[at];
        scene.rot(rotten);
        assert_eq!(scene.reread().await.damaged, [(dns(), Damage::new(rotten.clone(), Fault::Hash))]);
    }
    let scene = Scene::new().await;
    scene.first.objects[..3].iter().chain(&scene.second.objects).for_each(|object| scene.rot(object));
    let read = scene.reread().await;
    // The packs of lists that cannot be read are not known; all else is told at once.
    assert_eq!((read.objects, read.damaged.len()), (1, 5), "{read:?}");
}

#[tokio::test]
async fn what_a_verified_round_has_written_is_not_read_again() {
    let mut scene = Scene::new().await;
    scene.verify_the_first().await;
    assert_eq!(scene.reread().await.objects, 1 + 4);
    // Read it was, when its own round was verified: what rots later is for the scrub.
    scene.rot(&scene.first.objects[0]);
    assert_eq!(scene.reread().await.objects, 1 + 4);
    for at in 0..4 {
        let mut scene = Scene::new().await;
        scene.verify_the_first().await;
        scene.rot(&scene.second.objects[at]);
        let rotten = scene.second.objects[at].clone();
        assert_eq!(scene.reread().await.damaged, [(dns(), Damage::new(rotten, Fault::Hash))]);
    }
}

/// The receipt, the lists, then all else: each is missed once, by a share that is back before the next call.
#[tokio::test]
async fn what_is_missed_while_the_share_is_away_is_not_damaged() {
    let mut scene = Scene::new().await;
    scene.store = Arc::new(Faulty::new(scene.store, |call| {
        let is_missed = call.path.starts_with("agents/") && call.nth == 0;
        if is_missed { StoreFault::Absent } else { StoreFault::None }
    }));
    let read = scene.reread().await;
    assert_eq!(read.damaged, []);
}
