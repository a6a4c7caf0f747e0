//! A pruner that dies, or whose share fails, at every single call: whatever is left is whole, and the next run goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prune::PruneError;
use crate::scene::{HOUR, Scene, set};
use crate::store::StoreError;
use crate::store::faults::{Call, Fault, Faulty, Op};

/// A rule under which the call of this number, of those that `counts`, meets `fault`, and all later ones fail if it is
/// a crash.
fn at(
    number: usize,
    fault: Fault,
    crash: bool,
    counts: fn(&Call<'_>) -> bool,
) -> (impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let rule = move |call: &Call<'_>| {
        if !counts(call) {
            return if crash && count.load(Ordering::SeqCst) > number {
                Fault::Unreachable
            } else {
                Fault::None
            };
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            now if now == number => fault.clone(),
            now if now > number && crash => Fault::Unreachable,
            _ => Fault::None,
        }
    };
    (rule, made)
}

fn changes(call: &Call<'_>) -> bool {
    matches!(call.op, Op::Put | Op::Delete)
}

fn reads(call: &Call<'_>) -> bool {
    matches!(call.op, Op::Get | Op::List | Op::Head)
}

async fn three_rounds() -> Scene {
    let mut scene = Scene::new(1).await;
    scene.round(&[("dns", &["a", "shared"])]).await;
    scene.round(&[("dns", &["b", "shared"])]).await;
    scene.round(&[("dns", &["c", "shared"])]).await;
    scene
}

/// Runs until nothing is left to do, and looks what is left.
async fn heals(scene: &mut Scene, what: &str) {
    for _ in 0..3 {
        scene.log.refresh().await.expect("a log");
        scene.prune().await.expect(what);
        scene.now += 2 * HOUR;
    }
    assert_eq!(scene.recoverable(), [3], "{what}");
    assert_eq!(scene.packs("dns").await, set(&["c", "shared"]), "{what}");
    assert_eq!(scene.damage().await, [""; 0], "{what}");
    assert!(scene.log.state().sweeps.values().all(|(_, done)| *done), "{what}");
}

#[tokio::test]
async fn it_may_die_at_every_change() {
    for fault in [Fault::Unreachable, Fault::LostReply, Fault::ShortWrite(3)] {
        for pass in [1, 2] {
            for number in 0.. {
                let mut scene = three_rounds().await;
                if pass == 2 {
                    scene.prune().await.expect("marks");
                    scene.now += 2 * HOUR;
                }
                let (rule, made) = at(number, fault.clone(), true, changes);
                let result = scene.prune_through(Arc::new(Faulty::new(scene.store.clone(), rule))).await;
                let what = format!("{fault:?} at change {number} of pass {pass}");
                assert_eq!(scene.damage().await, [""; 0], "{what}");
                heals(&mut scene, &what).await;
                if made.load(Ordering::SeqCst) <= number {
                    result.expect("nothing failed");
                    assert!(number >= if pass == 1 { 2 } else { 12 }, "{number} changes in pass {pass}");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn any_read_or_list_error_deletes_nothing() {
    for fault in [Fault::Unreachable, Fault::Refused, Fault::LostReply] {
        for number in 0.. {
            let mut scene = three_rounds().await;
            scene.prune().await.expect("marks");
            scene.now += 2 * HOUR;
            let tree = scene.tree().await;
            let (rule, made) = at(number, fault.clone(), false, reads);
            let result = scene.prune_through(Arc::new(Faulty::new(scene.store.clone(), rule))).await;
            if made.load(Ordering::SeqCst) <= number {
                result.expect("nothing failed");
                assert!(number > 15, "{number} reads");
                break;
            }
            let left = scene.tree().await;
            let gone: Vec<_> = tree.keys().filter(|path| !left.contains_key(*path)).collect();
            // A read behind the sweep record, or of what only tells what goes, may fail: then it is no reason to stop. So may the one
            // before the record that ends it: the next prune writes that.
            let unended = matches!(result, Err(PruneError::Append(_)));
            assert!(result.is_ok() || unended || gone.is_empty(), "{fault:?} at read {number}: {gone:?}");
            heals(&mut scene, &format!("{fault:?} at read {number}")).await;
        }
    }
}

#[tokio::test]
async fn a_share_that_only_claims_to_delete_is_found_out() {
    let mut scene = three_rounds().await;
    scene.prune().await.expect("marks");
    scene.now += 2 * HOUR;
    let liar =
        Faulty::new(
            scene.store.clone(),
            |call| {
                if call.op == Op::Delete { Fault::Forget } else { Fault::None }
            },
        );
    let report = scene.prune_through(Arc::new(liar)).await.expect("it says so");
    let left = report.marked.expect("all of it is still there").survey;
    assert!(left.orphans.objects > 8, "{left:?}");
    scene.now += 2 * HOUR;
    heals(&mut scene, "after the lie").await;
}

/// The log must not name a list that the share only says that it has: no pruner, and no round's check, could go on.
#[tokio::test]
async fn a_list_that_the_share_did_not_keep_is_no_mark() {
    for fault in [Fault::Forget, Fault::Flip(100)] {
        let mut scene = three_rounds().await;
        let lies = fault.clone();
        let rule = move |call: &Call<'_>| {
            if call.op == Op::Put && call.path.starts_with("lists/") { lies.clone() } else { Fault::None }
        };
        let error = scene.prune_through(Arc::new(Faulty::new(scene.store.clone(), rule))).await;
        assert!(matches!(error, Err(PruneError::Store(StoreError::NotKept { .. }))), "{error:?}");
        assert!(scene.log.state().prunes.is_empty(), "{fault:?}");
        let once = fault.clone();
        let rule = move |call: &Call<'_>| {
            let first = call.op == Op::Put && call.path.starts_with("lists/") && call.nth == 0;
            if first { once.clone() } else { Fault::None }
        };
        scene.prune_through(Arc::new(Faulty::new(scene.store.clone(), rule))).await.expect("written again");
        heals(&mut scene, &format!("{fault:?}")).await;
    }
}
