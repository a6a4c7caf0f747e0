//! What is damaged freezes a prune until it is healed, counts for nothing, and then is in nobody's way.

use crate::prune::{Frozen, PruneError};
use crate::scene::{HOUR, Scene, service, set};

fn frozen(error: PruneError) -> Vec<Frozen> {
    let PruneError::Frozen(why) = error else { panic!("{error}") };
    why
}

fn dns(objects: usize) -> Frozen {
    Frozen::Quarantine { service: service("dns"), objects }
}

#[tokio::test]
async fn nothing_goes_until_a_round_is_verified_that_was_made_without_what_is_damaged() {
    let mut scene = Scene::new(1).await;
    for packs in [["a", "x"], ["b", "x"], ["c", "x"]] {
        scene.round(&[("dns", &packs), ("web", &["w"])]).await;
    }
    scene.quarantine("dns", &["x"]).await;
    let before = scene.tree().await;
    assert_eq!(frozen(scene.prune().await.expect_err("frozen")), [dns(1)]);
    // Another service's round heals nothing, and neither does one that is not verified.
    scene.round(&[("web", &["w"])]).await;
    let unverified = scene.open(&["dns"]).await;
    let slice = scene.slice(unverified, ("dns", &["c", "y"])).await;
    scene.commit(unverified, vec![slice], false).await;
    assert_eq!(frozen(scene.prune().await.expect_err("frozen")), [dns(1)]);
    assert!(before.keys().all(|path| scene.folder.path().join(path.to_string()).exists()));
    scene.round(&[("dns", &["c", "y"])]).await;
    let swept = scene.prune_twice().await;
    assert_eq!(swept.swept[0].rounds, [1, 2, 3, 5], "of dns the last is enough, and of web the fourth");
    assert_eq!(scene.packs("dns").await, set(&["c", "y"]));
}

#[tokio::test]
async fn a_mark_from_before_is_not_swept_while_something_is_damaged() {
    let mut scene = Scene::new(1).await;
    for pack in ["a", "b"] {
        scene.round(&[("dns", &[pack])]).await;
    }
    scene.prune().await.expect("marks").marked.expect("a mark");
    scene.quarantine("dns", &["b"]).await;
    scene.now += 2 * HOUR;
    assert_eq!(frozen(scene.prune().await.expect_err("frozen")), [dns(1)]);
    assert_eq!(scene.packs("dns").await, set(&["a", "b"]));
}

#[tokio::test]
async fn rounds_that_name_what_is_damaged_count_for_nothing() {
    let mut scene = Scene::new(0).await;
    scene.retain(&[("min_verified", "2")], None).await;
    scene.round(&[("dns", &["a"])]).await;
    scene.round(&[("dns", &["b", "x"])]).await;
    scene.round(&[("dns", &["c", "x"])]).await;
    scene.quarantine("dns", &["x"]).await;
    scene.round(&[("dns", &["d"])]).await;
    // The fourth is one, and the first the other: what lies between rests on what is damaged.
    assert!(scene.prune().await.expect("nothing is due").marked.is_none());
    assert_eq!(scene.recoverable(), [1, 2, 3, 4]);
    scene.round(&[("dns", &["e"])]).await;
    assert_eq!(scene.prune_twice().await.swept[0].rounds, [1, 2, 3]);
}

#[tokio::test]
async fn what_is_known_to_be_lost_is_in_nobodys_way_once_it_is_healed() {
    let mut scene = Scene::new(2).await;
    scene.round(&[("dns", &["a"])]).await;
    scene.round(&[("dns", &["b", "x"])]).await;
    let lost = scene.upload("dns", "x").await;
    std::fs::remove_file(scene.folder.path().join(lost.to_string())).expect("lost");
    assert!(matches!(scene.prune().await, Err(PruneError::Damaged(_))), "nobody has said that it is lost");
    scene.quarantine("dns", &["x"]).await;
    for pack in ["c", "d"] {
        scene.round(&[("dns", &[pack])]).await;
    }
    scene.hold(2, true).await;
    assert_eq!(scene.prune_twice().await.swept[0].rounds, [1]);
    assert_eq!(scene.packs("dns").await, set(&["b", "c", "d"]), "what is left of the held round stays");
}
