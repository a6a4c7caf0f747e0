//! SIGTERM at any moment of a round: agent and coordinator end by themselves, well, and soon; what was held
//! is released; the round goes on with those that are started next. FAULTS invariants 2, 3, 7, 8, 15, 16.

use std::thread::sleep;
use std::time::{Duration, Instant};

use muster_tests::process::{Running, wait_for};

use super::scene::{FILES, Scene};

/// Between two moments.
const STEP: Duration = Duration::from_millis(50);
/// Most that a clean end may take; what service managers allow is 90 s. Idle machines need less than one.
const LONGEST_END: Duration = Duration::from_secs(5);

/// Asks it to end, and sees it do so.
fn ends_well(running: &mut Running, at: Duration) {
    let asked = Instant::now();
    running.terminate();
    assert_eq!(running.wait().code(), Some(0), "stopped {at:?} after the request");
    let took = asked.elapsed();
    assert!(took <= LONGEST_END, "stopped {at:?} after the request: it took {took:?}");
}

/// One round for each of these many moments, in which the agent, the coordinator, or both are stopped and
/// started again.
fn stop_at(moments: impl IntoIterator<Item = u32>) {
    let mut scene = Scene::held();
    scene.fleet.up();
    scene.round();
    for moment in moments {
        let at = STEP * moment;
        let (agent, coordinator) = (moment % 3 != 1, moment % 3 != 0);
        let _starter = scene.begin();
        sleep(at);
        if agent {
            ends_well(scene.fleet.agent(FILES), at);
            wait_for("the service is released", || (!scene.is_held()).then_some(()));
        }
        if coordinator {
            ends_well(scene.fleet.coordinator(), at);
            scene.fleet.start_coordinator();
        }
        if agent {
            scene.fleet.start_agent(FILES);
        }
        scene.finish();
        assert!(!scene.is_held());
        scene.is_sound();
    }
}

#[test]
fn whoever_is_stopped_in_mid_round_ends_well_and_the_round_goes_on() {
    stop_at([0, 2, 3, 4, 6, 7, 9, 11, 14]);
}

/// `./x long`: every 50 ms.
#[test]
#[ignore = "takes minutes: ./x long"]
fn every_moment() {
    stop_at(0..60);
}
