//! Prunes of a share that locks: what is locked is told and goes later, what stays is locked anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use muster_protocol::config::{Lock, LockMode};
use muster_protocol::ids::ObjectId;
use muster_protocol::log::Pin;
use muster_protocol::time::UnixMillis;

use crate::layout::ObjectPath;
use crate::log::Log;
use crate::prune::{PruneError, Renewed, renew};
use crate::scene::{HOUR, Scene, service, set};
use crate::store::faults::{Fault, Faulty, Op};
use crate::store::fixture::Locking;
use crate::store::{Store, StoreError};

const DAY: Duration = Duration::from_secs(86_400);

fn locking(scene: &Scene, refuses: Option<ObjectPath>) -> Arc<Locking> {
    let lock = Lock { retain: 30 * DAY, mode: LockMode::Compliance };
    Arc::new(Locking { inner: scene.store.clone(), lock, ends: Mutex::new(BTreeMap::new()), refuses })
}

fn pack(name: &str, bytes: &str) -> ObjectPath {
    ObjectPath::Pack { service: service(name), id: ObjectId::of(bytes.as_bytes()) }
}

async fn renewed(scene: &Scene, store: Arc<Locking>) -> Renewed {
    let log = Log::open(store, Pin::default()).await.expect("a log");
    renew(&log, UnixMillis(scene.now)).await.expect("looked").expect("a share with locks")
}

#[tokio::test]
async fn what_is_locked_is_told_and_goes_with_a_later_prune() {
    let mut scene = Scene::new(1).await;
    scene.round(&[("dns", &["old", "long"])]).await;
    scene.round(&[("dns", &["new"])]).await;
    let store = locking(&scene, None);
    let later = SystemTime::now() + 7 * DAY;
    store.lock_until(&pack("dns", "long"), later).await.expect("locked");
    let report = scene.prune_through(store.clone()).await.expect("marks");
    let marked = report.marked.expect("the rest is due");
    assert!(!marked.survey.objects.iter().any(|(path, _)| *path == pack("dns", "long")));
    assert_eq!((marked.survey.locked.kept.objects, marked.survey.locked.until), (1, Some(later)));
    // Between mark and sweep somebody locks another one.
    store.lock_until(&pack("dns", "old"), later + DAY).await.expect("locked");
    scene.now += 2 * HOUR;
    let report = scene.prune_through(store.clone()).await.expect("sweeps");
    let swept = &report.swept[0];
    assert_eq!((swept.locked.kept.objects, swept.locked.until), (1, Some(later + DAY)));
    assert_eq!(
        swept.deleted.objects,
        marked.survey.total().objects - 1,
        "what is there is not counted as gone"
    );
    assert_eq!(scene.packs("dns").await, set(&["long", "new", "old"]));
    assert_eq!(
        (report.marked, report.locked.kept.objects),
        (None, 2),
        "nothing is marked while it is locked"
    );
    // Their time is over.
    store.ends.lock().expect("no panic").clear();
    let marked = scene.prune_through(store.clone()).await.expect("marks").marked.expect("due");
    assert_eq!(marked.survey.orphans.objects, 2);
    scene.now += 2 * HOUR;
    let report = scene.prune_through(store).await.expect("sweeps");
    assert_eq!(report.swept[0].locked, Default::default());
    assert_eq!(scene.packs("dns").await, set(&["new"]));
}

/// The lock came behind the look at it: the server has the last word.
#[tokio::test]
async fn a_lock_that_only_the_delete_meets_is_no_failure() {
    let mut scene = Scene::new(1).await;
    scene.round(&[("dns", &["old"])]).await;
    scene.round(&[("dns", &["new"])]).await;
    let store = locking(&scene, None);
    scene.prune_through(store.clone()).await.expect("marks");
    scene.now += 2 * HOUR;
    store.lock_until(&pack("dns", "old"), SystemTime::now() + DAY).await.expect("locked");
    // Nobody tells of it beforehand.
    let blind = Faulty::new(store, |call| if call.op == Op::Lock { Fault::Forget } else { Fault::None });
    let report = scene.prune_through(Arc::new(blind)).await.expect("sweeps");
    assert_eq!(report.swept[0].locked.kept.objects, 1);
    assert!(scene.packs("dns").await.contains("old"));
}

#[tokio::test]
async fn what_stays_is_locked_anew_in_time_and_what_goes_is_not() {
    let mut scene = Scene::new(1).await;
    scene.round(&[("dns", &["old"])]).await;
    scene.round(&[("dns", &["new", "fresh"]), ("web", &["w"])]).await;
    let store = locking(&scene, None);
    let now = SystemTime::now();
    for (path, left) in [
        (pack("dns", "old"), 10),
        (pack("dns", "new"), 10),
        (pack("dns", "fresh"), 16),
        (pack("web", "w"), 14),
    ] {
        store.lock_until(&path, now + left * DAY).await.expect("locked");
    }
    let first = renewed(&scene, store.clone()).await;
    assert_eq!((first.lasting, first.missing, first.failed), (1, 0, 0), "{first:?}");
    let left = |path: &ObjectPath| store.end(path).map(|end| end.duration_since(now).unwrap_or_default());
    assert!(left(&pack("dns", "new")) >= Some(30 * DAY) && left(&pack("web", "w")) >= Some(30 * DAY));
    assert_eq!(left(&pack("dns", "old")), Some(10 * DAY), "nobody needs it any more");
    assert_eq!(left(&pack("dns", "fresh")), Some(16 * DAY), "it has more than half of its time left");
    for path in [ObjectPath::Format, ObjectPath::LogRecord(1)] {
        assert!(left(&path) >= Some(30 * DAY), "{path}");
    }
    // Everything that a recovery reads is locked now, but for what is about to go.
    for path in scene.tree().await.into_keys() {
        let goes = matches!(&path, ObjectPath::Slice { round, .. } if *round == scene.id(1))
            || path == scene_manifest(&scene, 1);
        assert_eq!(store.end(&path).is_none(), goes, "{path}");
    }
    let again = renewed(&scene, store).await;
    assert_eq!((again.renewed, again.lasting), (0, first.renewed + 1));
}

fn scene_manifest(scene: &Scene, number: u64) -> ObjectPath {
    let round = &scene.log.state().rounds[&scene.id(number)];
    ObjectPath::Manifest(round.commit().expect("committed").manifest)
}

#[tokio::test]
async fn damage_and_refusals_let_no_other_lock_run_out() {
    let mut scene = Scene::new(2).await;
    scene.round(&[("dns", &["a"])]).await;
    scene.round(&[("dns", &["b"]), ("web", &["w", "refused"])]).await;
    scene.store.delete(&pack("dns", "a")).await.expect("lost");
    scene.store.delete(&scene_manifest(&scene, 1)).await.expect("lost");
    let store = locking(&scene, Some(pack("web", "refused")));
    let report = renewed(&scene, store.clone()).await;
    assert_eq!((report.missing, report.failed), (1, 1), "{report:?}");
    let (path, error) = report.failure.expect("told");
    assert_eq!(path, pack("web", "refused"));
    assert!(matches!(error, StoreError::WriteRefused { .. }));
    assert!(store.end(&pack("dns", "b")).is_some() && store.end(&pack("web", "w")).is_some());
    // The prune itself stands still at such damage, as ever.
    assert!(matches!(scene.prune_through(store).await, Err(PruneError::Damaged(_))));
}

#[tokio::test]
async fn a_share_without_locks_is_left_alone() {
    let scene = Scene::new(1).await;
    assert!(renew(&scene.log, UnixMillis(scene.now)).await.expect("looked").is_none());
}
