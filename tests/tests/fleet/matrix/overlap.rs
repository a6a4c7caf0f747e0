//! Rounds that overlap: two requests at once are queued or skipped, and it is said which. FAULTS invariants
//! 7, 16.

use muster_tests::fleet::text;
use muster_tests::process::wait_for;
use serde_json::Value;

use super::scene::Scene;

/// Asks for a round while another one is captured; the answer.
fn asked_twice(scene: &mut Scene, code: i32) -> Value {
    scene.fleet.up();
    let _ = scene.fleet.run(&["start", "--request", "first"]).with_code(0);
    scene.gate.wait_for_capture();
    scene.fleet.run(&["start", "--request", "second", "--json"]).with_code(code).json()
}

#[test]
fn a_second_request_waits_for_the_first_round() {
    let mut scene = Scene::gated();
    let said = asked_twice(&mut scene, 0);
    assert_eq!(said["state"], "queued", "{said}");
    assert_eq!(scene.fleet.rounds().len(), 1, "it waits");
    scene.gate.open();
    for number in [1, 2] {
        assert_eq!(scene.fleet.wait_for_round(number, &["verified"])["outcome"], "complete");
    }
    muster_tests::audit::one_log(&scene.fleet);
}

#[test]
fn a_second_request_is_skipped_with_the_reason_where_that_is_the_policy() {
    let mut scene = Scene::gated();
    scene.fleet.set("MUSTER_ROUND_OVERLAP", "skip");
    let said = asked_twice(&mut scene, 7);
    assert_eq!(said["state"], "skipped", "{said}");
    assert!(said["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{said}");
    scene.gate.open();
    assert_eq!(scene.fleet.wait_for_round(1, &["verified"])["outcome"], "complete");
}

#[test]
fn a_leader_that_dies_with_a_request_in_its_queue_takes_it_with_it_and_the_request_may_come_again() {
    let mut scene = Scene::gated();
    let said = asked_twice(&mut scene, 0);
    assert_eq!(said["state"], "queued", "{said}");
    scene.fleet.kill_coordinator();
    scene.fleet.start_coordinator();
    let share = text(&scene.fleet.share());
    wait_for("the same request is taken again", || {
        let said = scene.fleet.run(&["start", "--request", "second", "--json"]);
        (said.code == 0 && said.json()["state"] == "queued").then_some(())
    });
    scene.gate.open();
    for number in [1, 2] {
        assert_eq!(scene.fleet.wait_for_round(number, &["verified"])["outcome"], "complete", "{share}");
    }
    assert_eq!(scene.fleet.rounds().len(), 2, "the same request is the same round");
}
