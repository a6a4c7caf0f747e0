//! Copies from folder to folder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::config::ShareConfig;
use muster_protocol::ids::{Nonce, ObjectId};
use muster_protocol::log::{Adopt, Epoch, Pin, seal_statement};
use muster_protocol::time::UnixMillis;

use super::{CopyError, Report, copy, is_copy};
use crate::layout::{ObjectPath, Prefix};
use crate::log::{AppendError, Log};
use crate::scene::{HOUR, Scene, set, signer};
use crate::store::faults::{Fault, Faulty, Op};
use crate::store::{self, Listed, Store, StoreError};
use crate::verify::{Fault as DamageFault, Ledger, Progress, verify};

/// A second folder.
struct Second {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Second {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("a share");
        Self { folder, store }
    }

    async fn log(&self) -> Log {
        Log::open(Arc::clone(&self.store), Pin::default()).await.expect("a log")
    }
}

async fn run(scene: &mut Scene, to: &Arc<dyn Store>) -> Result<Report, CopyError> {
    copy(&mut scene.log, to, false, &Progress::default()).await
}

/// All objects but marks, with their bytes.
async fn bytes(store: &Arc<dyn Store>) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    let mut listing = store.list(&Prefix::Everything);
    while let Some(listed) = listing.next().await {
        let Listed::Object { path, size } = listed.expect("listed") else { panic!("a foreign name") };
        if !matches!(path, ObjectPath::Copy(_)) {
            all.insert(path.to_string(), store.get(&path, size).await.expect("read"));
        }
    }
    all
}

/// The rounds of a share that can be recovered, all of which must be whole.
async fn whole_rounds(store: &Arc<dyn Store>) -> Vec<u64> {
    let log = Log::open(Arc::clone(store), Pin::default()).await.expect("a log");
    let ledger = Ledger { state: log.state().clone(), damaged: Vec::new(), broken: false, above: Vec::new() };
    let report = verify(store, &ledger, None, None, &Progress::default()).await.expect("verified");
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    let mut numbers: Vec<u64> = report.rounds.iter().map(|round| round.number).collect();
    numbers.sort_unstable();
    numbers
}

async fn three_rounds() -> Scene {
    let mut scene = Scene::new(9).await;
    scene.round(&[("dns", &["d1", "shared"]), ("web", &["w1"])]).await;
    scene.round(&[("dns", &["d2", "shared"]), ("web", &["w1"])]).await;
    scene.round(&[("dns", &["d3", "shared"])]).await;
    scene
}

#[tokio::test]
async fn a_copy_holds_every_byte_and_the_next_one_only_what_is_new() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    let first = run(&mut scene, &second.store).await.expect("copied");
    assert_eq!(bytes(&scene.store).await, bytes(&second.store).await);
    assert_eq!(first.head, scene.log.head());
    assert_eq!(first.records, scene.log.state().next);
    assert_eq!((first.copied.objects, first.present.objects), (scene.tree().await.len() as u64, 0));
    let again = run(&mut scene, &second.store).await.expect("nothing to do");
    assert_eq!((again.records, again.copied.objects, again.present), (0, 0, first.copied));
    scene.round(&[("dns", &["d4", "shared"])]).await;
    let later = run(&mut scene, &second.store).await.expect("copied");
    // Pack, receipt, index, chunk index, pack list, manifest; opened, committed, verified.
    assert_eq!((later.copied.objects, later.records), (6, 3));
    assert_eq!(whole_rounds(&second.store).await, [1, 2, 3, 4]);
    assert_eq!(bytes(&scene.store).await, bytes(&second.store).await);
}

/// Cut at every single write, the copy is a whole share of an earlier head; the next run ends it.
#[tokio::test]
async fn a_copy_that_is_cut_anywhere_is_a_share_that_ends_earlier() {
    let mut scene = three_rounds().await;
    let mut heads = BTreeSet::new();
    for most in 0.. {
        let second = Second::new().await;
        let puts = Arc::new(AtomicUsize::new(0));
        let cut: Arc<dyn Store> = Arc::new(Faulty::new(Arc::clone(&second.store), {
            let puts = Arc::clone(&puts);
            move |call| {
                let is_over = call.op == Op::Put && puts.fetch_add(1, Ordering::Relaxed) >= most;
                // Every other one leaves a torn object.
                match (is_over, most % 2) {
                    (false, _) => Fault::None,
                    (true, 0) => Fault::Unreachable,
                    (true, _) => Fault::ShortWrite(3),
                }
            }
        }));
        let cut = run(&mut scene, &cut).await;
        let is_whole = cut.is_ok();
        let begun = Log::open(Arc::clone(&second.store), Pin::default()).await;
        if let Err(error) = &begun {
            assert!(heads.is_empty() && !is_whole, "no share any more: {error}");
        } else {
            heads.insert(second.log().await.head().number);
            let rounds = whole_rounds(&second.store).await;
            assert_eq!(rounds, (1..=rounds.len() as u64).collect::<Vec<_>>());
        }
        let report = run(&mut scene, &second.store).await.expect("goes on");
        assert!(report.damaged.is_empty());
        assert_eq!(bytes(&scene.store).await, bytes(&second.store).await, "cut behind {most} writes");
        if is_whole {
            break;
        }
    }
    assert_eq!(heads.len() as u64, scene.log.state().next, "cut behind every record");
}

#[tokio::test]
async fn nothing_is_appended_to_a_copy_until_the_root_adopts_it() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    run(&mut scene, &second.store).await.expect("copied");
    let epoch = Epoch { epoch: 2, instance: Nonce::from_bytes([2; 16]), at: UnixMillis(0) };
    let mut log = second.log().await;
    let refused = log.append(&signer(2), &epoch).await;
    assert!(matches!(refused, Err(AppendError::Copy { .. })), "{refused:?}");
    assert_eq!(log.head(), scene.log.head());
    let adopt = Adopt { previous: None, share: Nonce::from_bytes([8; 16]), head: log.head(), at: None };
    let statement = seal_statement(&signer(1), &log.state().fleet, &adopt);
    log.append_statement::<Adopt>(&signer(1), statement).await.expect("the root may");
    log.append(&signer(2), &epoch).await.expect("a share of its own now");
    // It went its own way: what the old share says since is none of it, and the other way round.
    scene.round(&[("dns", &["d4"])]).await;
    let parted = run(&mut scene, &second.store).await;
    assert!(matches!(parted, Err(CopyError::Parted { .. })), "{parted:?}");
    let back = copy(&mut log, &scene.store, false, &Progress::default()).await;
    assert!(matches!(back, Err(CopyError::Parted { .. })), "{back:?}");
    scene.log.append(&signer(2), &epoch).await.expect("the first share is none the worse");
}

/// The day after: the copy became the share, and the old share, which came back, becomes its copy.
#[tokio::test]
async fn an_old_share_becomes_a_copy_of_the_one_that_was_adopted() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    run(&mut scene, &second.store).await.expect("copied");
    let mut log = second.log().await;
    let adopt = Adopt { previous: None, share: Nonce::from_bytes([8; 16]), head: log.head(), at: None };
    let statement = seal_statement(&signer(1), &log.state().fleet, &adopt);
    log.append_statement::<Adopt>(&signer(1), statement).await.expect("adopted");
    let report = copy(&mut log, &scene.store, false, &Progress::default()).await.expect("copied back");
    assert_eq!(report.records, 1);
    assert!(is_copy(scene.store.as_ref(), &Nonce::from_bytes([8; 16])).await.expect("told"));
    let epoch = Epoch { epoch: 2, instance: Nonce::from_bytes([2; 16]), at: UnixMillis(0) };
    scene.log.refresh().await.expect("read");
    let refused = scene.log.append(&signer(2), &epoch).await;
    assert!(
        matches!(refused, Err(AppendError::Copy { .. })),
        "its old coordinators can do no harm: {refused:?}"
    );
    log.append(&signer(2), &epoch).await.expect("the adopted one takes records");
}

#[tokio::test]
async fn a_share_that_is_in_use_never_becomes_a_copy() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    let own = Arc::clone(&scene.store);
    let onto_itself = run(&mut scene, &own).await;
    assert!(matches!(onto_itself, Err(CopyError::NotACopy { .. })), "{onto_itself:?}");
    run(&mut scene, &second.store).await.expect("copied");
    // The wrong way round.
    let mut log = second.log().await;
    let swapped = copy(&mut log, &own, false, &Progress::default()).await;
    assert!(matches!(swapped, Err(CopyError::NotACopy { .. })), "{swapped:?}");
    scene.round(&[("dns", &["d4"])]).await;
    let behind = copy(&mut log, &own, false, &Progress::default()).await;
    assert!(matches!(behind, Err(CopyError::Parted { .. })), "{behind:?}");
    assert!(!is_copy(own.as_ref(), &scene.log.state().share.expect("a name")).await.expect("told"));
    let (mut other, third) = (Scene::new(9).await, Second::new().await);
    other.round(&[("dns", &["x"])]).await;
    let salted: Arc<dyn Store> = Arc::clone(&third.store);
    let text = format!("muster 0 {}\n", "7".repeat(64));
    salted.put_new(&ObjectPath::Format, Bytes::from(text)).await.expect("another fleet");
    let foreign = run(&mut other, &third.store).await;
    assert!(matches!(foreign, Err(CopyError::OtherFleet { .. })), "{foreign:?}");
}

#[tokio::test]
async fn a_copy_of_a_copy_is_one_too() {
    let (mut scene, second, third) = (three_rounds().await, Second::new().await, Second::new().await);
    run(&mut scene, &second.store).await.expect("copied");
    let mut log = second.log().await;
    copy(&mut log, &third.store, false, &Progress::default()).await.expect("copied");
    assert_eq!(bytes(&scene.store).await, bytes(&third.store).await);
    assert!(is_copy(third.store.as_ref(), &log.state().share.expect("a name")).await.expect("told"));
}

#[tokio::test]
async fn what_the_share_lacks_is_named_and_the_rest_is_copied() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    let pack = |name: &str| {
        let service = "dns".parse().expect("a name");
        ObjectPath::Pack { service, id: ObjectId::of(name.as_bytes()) }
    };
    scene.store.delete(&pack("d2")).await.expect("lost");
    std::fs::write(scene.folder.path().join(pack("d3").to_string()), "dX").expect("flipped");
    // What nobody names may be torn: it is being written.
    let torn = scene.folder.path().join(pack("torn").to_string());
    std::fs::create_dir_all(torn.parent().expect("its folder")).expect("made");
    std::fs::write(torn, "to").expect("written");
    let report = run(&mut scene, &second.store).await.expect("copied");
    let damaged: Vec<_> = report.damaged.iter().map(|damage| (&damage.object, &damage.fault)).collect();
    let mut want = [(&pack("d2"), &DamageFault::Missing), (&pack("d3"), &DamageFault::Hash)];
    want.sort_by_key(|(path, _)| (*path).clone());
    assert_eq!(damaged, want);
    assert_eq!(report.head, scene.log.head());
    assert!(second.store.head(&pack("d3")).await.is_err(), "damage does not spread");
    // What lies there: all that was copied, and nothing of what was not.
    assert_eq!(report.present.objects, 0);
    // As long as it is lacking it is told of, whether anything is new or not.
    for anew in [false, true] {
        if anew {
            scene.round(&[("web", &["w4"])]).await;
        }
        let again = run(&mut scene, &second.store).await.expect("copied");
        assert_eq!(again.damaged, report.damaged, "{anew}");
        assert_eq!(again.copied.objects > 0, anew);
    }
    // Mended on the share, it comes along with the next copy, though its record is there.
    scene.upload("dns", "d2").await;
    scene.store.delete(&pack("d3")).await.expect("moved out");
    scene.upload("dns", "d3").await;
    let report = run(&mut scene, &second.store).await.expect("copied");
    assert_eq!((report.copied.objects, report.damaged.len()), (2, 0));
    assert_eq!(whole_rounds(&second.store).await, [1, 2, 3, 4]);
    // What the share loses afterwards the copy has, and lacks nothing.
    let manifests: Vec<_> =
        scene.tree().await.into_keys().filter(|path| path.to_string().contains("manifest")).collect();
    assert_eq!(manifests.len(), 4);
    for manifest in manifests {
        scene.store.delete(&manifest).await.expect("lost");
    }
    assert_eq!(run(&mut scene, &second.store).await.expect("copied").damaged, []);
}

/// Two timers, or one and a person: objects appear on a folder while they are written.
#[tokio::test]
async fn what_another_run_is_writing_is_waited_for() {
    let second = Second::new().await;
    let bytes = Bytes::from(vec![7; 1000]);
    let path = ObjectPath::Pack { service: "dns".parse().expect("a name"), id: ObjectId::of(&bytes) };
    let file = second.folder.path().join(path.to_string());
    std::fs::create_dir_all(file.parent().expect("its folder")).expect("made");
    std::fs::write(&file, &bytes[..100]).expect("begun");
    let other = tokio::spawn({
        let (bytes, file) = (bytes.clone(), file.clone());
        async move {
            for end in (200..=1000).step_by(100) {
                tokio::time::sleep(Duration::from_millis(8)).await;
                std::fs::write(&file, &bytes[..end]).expect("written on");
            }
        }
    });
    let mended = super::object::place(second.store.as_ref(), &path, bytes.clone()).await.expect("placed");
    other.await.expect("the other run");
    assert!(!mended, "it was not torn");
    // One that nobody goes on with is.
    std::fs::write(&file, &bytes[..100]).expect("torn");
    assert!(super::object::place(second.store.as_ref(), &path, bytes.clone()).await.expect("placed"));
    assert_eq!(std::fs::read(&file).expect("there"), bytes);
}

#[tokio::test]
async fn a_place_that_holds_other_things_becomes_no_copy() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    std::fs::create_dir_all(second.folder.path().join("probe/empty")).expect("made");
    std::fs::write(second.folder.path().join("precious"), "mine").expect("written");
    let refused = run(&mut scene, &second.store).await;
    assert!(matches!(refused, Err(CopyError::NotEmpty { .. })), "{refused:?}");
    let there: Vec<_> = std::fs::read_dir(second.folder.path()).expect("a folder").flatten().collect();
    assert_eq!(there.len(), 2, "nothing was written: {there:?}");
    std::fs::remove_file(second.folder.path().join("precious")).expect("removed");
    run(&mut scene, &second.store).await.expect("empty now");
}

#[tokio::test]
async fn what_is_lost_or_torn_on_the_copy_is_written_anew() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    run(&mut scene, &second.store).await.expect("copied");
    let pack = |name: &str| ObjectPath::Pack {
        service: "dns".parse().expect("a name"),
        id: ObjectId::of(name.as_bytes()),
    };
    second.store.delete(&pack("d1")).await.expect("lost");
    std::fs::write(second.folder.path().join(pack("d2").to_string()), "d").expect("torn");
    let report = run(&mut scene, &second.store).await.expect("copied");
    assert_eq!((report.copied.objects, report.mended), (2, 1));
    assert_eq!(whole_rounds(&second.store).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_copy_that_lies_is_noticed() {
    let mut scene = three_rounds().await;
    for forgets in [true, false] {
        let second = Second::new().await;
        let lies: Arc<dyn Store> = Arc::new(Faulty::new(Arc::clone(&second.store), move |call| {
            match (call.op == Op::Put && call.path.contains("/packs/"), forgets) {
                (true, true) => Fault::Forget,
                (true, false) => Fault::Flip(5),
                (false, _) => Fault::None,
            }
        }));
        let noticed = run(&mut scene, &lies).await;
        assert!(
            matches!(&noticed, Err(CopyError::Altered { object: ObjectPath::Pack { .. } })),
            "{noticed:?}"
        );
    }
}

#[tokio::test]
async fn what_was_pruned_stays_on_the_copy_until_it_is_asked_to_go() {
    let (mut scene, second) = (Scene::new(1).await, Second::new().await);
    for names in [["a", "shared"], ["b", "shared"], ["c", "shared"]] {
        scene.round(&[("dns", &names)]).await;
    }
    run(&mut scene, &second.store).await.expect("copied");
    let before = bytes(&second.store).await;
    scene.prune_twice().await;
    let report = run(&mut scene, &second.store).await.expect("copied");
    assert_eq!((report.deleted.objects, report.damaged.len()), (0, 0));
    let after = bytes(&second.store).await;
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "write-only");
    let report = copy(&mut scene.log, &second.store, true, &Progress::default()).await.expect("copied");
    assert_eq!(report.deleted.objects, 2 * 6);
    assert_eq!(bytes(&scene.store).await, bytes(&second.store).await);
    assert_eq!(whole_rounds(&second.store).await, [3]);
    assert_eq!(scene.packs("dns").await, set(&["c", "shared"]));
    // A first copy of a pruned share lacks nothing either.
    let third = Second::new().await;
    assert!(run(&mut scene, &third.store).await.expect("copied").damaged.is_empty());
    assert_eq!(bytes(&scene.store).await, bytes(&third.store).await);
}

/// A prune beside a copy: what goes while it is copied is no damage.
#[tokio::test]
async fn a_prune_may_run_beside_a_copy() {
    let (mut scene, second) = (Scene::new(1).await, Second::new().await);
    for name in ["a", "b", "c"] {
        scene.round(&[("dns", &[name])]).await;
    }
    scene.prune().await.expect("marks");
    scene.now += 2 * HOUR;
    // The log as a copy that began before the sweep has it.
    let mut log = Log::open(Arc::clone(&scene.store), Pin::default()).await.expect("a log");
    scene.prune().await.expect("sweeps");
    let report = copy(&mut log, &second.store, false, &Progress::default()).await.expect("copied");
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    assert_eq!(report.head, scene.log.head());
    assert_eq!(whole_rounds(&second.store).await, [3]);
}

#[tokio::test]
async fn a_log_that_grows_meanwhile_is_followed() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    let mut log = Log::open(Arc::clone(&scene.store), Pin::default()).await.expect("a log");
    scene.round(&[("web", &["w4"])]).await;
    let report = copy(&mut log, &second.store, false, &Progress::default()).await.expect("copied");
    assert_eq!(report.head, scene.log.head());
    assert_eq!(whole_rounds(&second.store).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_copy_that_deletes_nothing_for_want_of_the_right_says_which_object_is_torn() {
    let (mut scene, second) = (three_rounds().await, Second::new().await);
    run(&mut scene, &second.store).await.expect("copied");
    let pack = ObjectPath::Pack { service: "dns".parse().expect("a name"), id: ObjectId::of(b"d1") };
    std::fs::write(second.folder.path().join(pack.to_string()), "").expect("torn");
    let limited: Arc<dyn Store> = Arc::new(Faulty::new(Arc::clone(&second.store), |call| {
        if call.op == Op::Delete { Fault::Refused } else { Fault::None }
    }));
    let refused = run(&mut scene, &limited).await;
    let Err(CopyError::Torn { object, source }) = &refused else { panic!("{refused:?}") };
    assert_eq!(*object, pack);
    assert!(matches!(source, StoreError::WriteRefused { .. }), "{source}");
}

/// A second share that is far away, whose every answer takes a tenth of a second: rounds of few objects do not wait for each
/// other. The clock is one that only waiting moves.
#[tokio::test(start_paused = true)]
async fn rounds_of_few_objects_are_brought_together() {
    let mut scene = Scene::new(9).await;
    for round in 0..32 {
        scene.round(&[("dns", &[format!("d{round}").as_str()])]).await;
    }
    let second = Second::new().await;
    let answer = Duration::from_millis(100);
    let far: Arc<dyn Store> = Arc::new(Faulty::new(Arc::clone(&second.store), move |call| match call.path {
        // Records come one after another, whatever else there is.
        path if path.starts_with("log/") => Fault::None,
        _ => Fault::Delay(answer),
    }));
    let began = tokio::time::Instant::now();
    let report = run(&mut scene, &far).await.expect("copied");
    let took = began.elapsed();
    assert_eq!(bytes(&scene.store).await, bytes(&second.store).await);
    // Each object is written and read back, eight at once.
    let least = answer * 2 * u32::try_from(report.copied.objects).expect("few") / 8;
    assert!(report.copied.objects >= 32 * 6 && took < least + 12 * answer, "{took:?} of {least:?}");
}
