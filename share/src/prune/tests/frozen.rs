//! What keeps a prune from doing anything: marking and sweeping, until it is over or accepted.

use muster_protocol::alert::Code;
use muster_protocol::document::SliceTotals;
use muster_protocol::prune::{Next, Wait};
use muster_protocol::time::UnixMillis;

use super::{PruneError, plan};
use crate::prune::Frozen;
use crate::scene::{HOUR, Scene, service};

const MIB: u64 = 1 << 20;
const PLAIN: SliceTotals =
    SliceTotals { source_bytes: 100 * MIB, stored_bytes: 40 * MIB, added_bytes: MIB, entries: 100, gaps: 0 };
const ENCRYPTED: SliceTotals = SliceTotals { stored_bytes: 100 * MIB, added_bytes: 99 * MIB, ..PLAIN };

/// Eight ordinary rounds, of which the newest six stay.
async fn ordinary() -> Scene {
    let mut scene = Scene::new(6).await;
    scene.totals = PLAIN;
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        scene.round(&[("dns", &[name])]).await;
    }
    scene
}

async fn odd(scene: &mut Scene, totals: SliceTotals) -> u64 {
    scene.totals = totals;
    let number = scene.round(&[("dns", &["odd"])]).await;
    scene.totals = PLAIN;
    number
}

/// The one reason for which nothing goes.
async fn frozen(scene: &mut Scene) -> Frozen {
    let (tree, head) = (scene.tree().await, scene.log.head());
    let error = scene.prune().await.expect_err("it is frozen");
    assert_eq!(error.code(), Code::Round06);
    let PruneError::Frozen(reasons) = error else { panic!("{error}") };
    let plan = plan(&scene.log, UnixMillis(scene.now)).await.expect("planned");
    assert_eq!(plan.frozen, reasons, "a dry run says the same");
    assert_eq!((scene.tree().await, scene.log.head()), (tree, head), "nothing was changed");
    let [reason] = reasons.as_slice() else { panic!("{reasons:?}") };
    reason.clone()
}

#[tokio::test]
async fn while_a_service_stands_out_nothing_is_marked() {
    let mut scene = ordinary().await;
    let number = odd(&mut scene, ENCRYPTED).await;
    let reason = frozen(&mut scene).await;
    assert!(
        reason.to_string().starts_with("ROUND-06 dns: round 9: 99 % of its data is new, usually 3 %"),
        "{reason}"
    );
    assert!(reason.ends().contains("muster alerts accept dns"), "{}", reason.ends());
    // Quiet rounds prove nothing, and another service's acceptance says nothing of this one.
    for _ in 0..3 {
        scene.round(&[("dns", &["quiet"])]).await;
    }
    scene.accept(number, "web").await;
    frozen(&mut scene).await;
    assert_eq!(scene.recoverable().len(), 12);
    scene.accept(12, "dns").await;
    let report = scene.prune_twice().await;
    assert_eq!(report.swept[0].rounds, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_mark_that_was_made_before_is_not_swept_either() {
    let mut scene = ordinary().await;
    assert!(scene.prune().await.expect("marks").marked.is_some());
    odd(&mut scene, SliceTotals { source_bytes: MIB, stored_bytes: MIB, ..PLAIN }).await;
    scene.now += 2 * HOUR;
    frozen(&mut scene).await;
    assert_eq!(scene.recoverable().len(), 9);
    // The data is back: the next ordinary round ends it without anybody's word.
    scene.round(&[("dns", &["back"])]).await;
    let report = scene.prune().await.expect("sweeps");
    assert_eq!(report.swept[0].rounds, [1, 2]);
}

#[tokio::test]
async fn what_is_odd_and_not_verified_or_of_no_service_of_the_roster_freezes_nothing() {
    let mut scene = ordinary().await;
    scene.totals = ENCRYPTED;
    let number = scene.open(&["dns"]).await;
    let slice = scene.slice(number, ("dns", &["odd"])).await;
    scene.commit(number, vec![slice], false).await;
    let plan = plan(&scene.log, UnixMillis(scene.now)).await.expect("planned");
    assert_eq!((plan.frozen, plan.next), (vec![], Next::Mark));
    scene.round(&[("dns", &["odd"])]).await;
    frozen(&mut scene).await;
    scene.revoke("dns").await;
    assert!(scene.log.state().agent(&service("dns")).is_none());
    let marked = scene.prune().await.expect("it is gone on purpose");
    assert!(marked.marked.is_some() && !matches!(marked.waits, Some((_, Wait::Round(_)))));
}
