//! The NATS server dies, comes back without what it kept, or finds no room to keep anything. FAULTS
//! invariants 2, 7, 8, 10, 16: the share is the truth, the bus a conversation.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use muster_tests::process::wait_for;

use super::scene::{GATED, Scene};
use crate::full::{Small, elsewhere};

/// What the server comes back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Kept,
    Wiped,
}

fn restart(scene: &mut Scene, memory: Memory) {
    let store = scene.fleet.dir().join("state/nats");
    let nats = scene.fleet.nats.as_mut().expect("it runs");
    nats.kill();
    if memory == Memory::Wiped {
        assert!(store.exists(), "JetStream's folder is where it is deleted");
        fs::remove_dir_all(&store).expect("wiped");
    }
    nats.restart();
}

#[test]
fn a_server_that_restarts_at_any_moment_costs_no_round() {
    let mut scene = Scene::new();
    scene.fleet.up();
    scene.round();
    for (number, millis) in [0, 60, 120, 200, 300, 450].into_iter().enumerate() {
        let memory = if number % 2 == 0 { Memory::Kept } else { Memory::Wiped };
        let _starter = scene.begin();
        sleep(Duration::from_millis(millis));
        restart(&mut scene, memory);
        scene.finish();
        scene.is_sound();
    }
}

#[test]
fn a_server_that_is_gone_for_a_while_and_forgets_everything_costs_no_round() {
    let mut scene = Scene::gated();
    scene.fleet.up();
    scene.gate.open();
    scene.round();
    scene.gate.close();
    scene.gate.forget_captures();
    let _starter = scene.begin();
    scene.gate.wait_for_capture();
    let nats = scene.fleet.nats.as_mut().expect("it runs");
    nats.kill();
    // The capture ends while there is nobody to tell.
    scene.gate.open();
    wait_for("the receipt is on the share", || {
        let slices = scene.fleet.share().join(format!("agents/{GATED}/slices"));
        let rounds = fs::read_dir(slices).ok()?.flatten();
        let objects = |round: fs::DirEntry| fs::read_dir(round.path()).into_iter().flatten().flatten();
        let is_receipt = |object: fs::DirEntry| object.path().extension().is_some_and(|e| e == "receipt");
        let stored = rounds.filter(|round| round.path().is_dir());
        let stored = stored.filter_map(|round| objects(round).any(is_receipt).then_some(()));
        (stored.count() as u64 == scene.number()).then_some(())
    });
    restart(&mut scene, Memory::Wiped);
    let round = scene.fleet.wait_for_round(scene.number(), &["verified"]);
    assert_eq!(round["outcome"], "complete");
    scene.is_sound();
}

#[test]
fn a_server_whose_disk_is_full_costs_no_round() {
    if elsewhere("matrix::server::a_server_whose_disk_is_full_costs_no_round") {
        return;
    }
    let mut scene = Scene::gated();
    let store = scene.fleet.dir().join("state/nats");
    let small = Small::mount(&store).expect("it was possible a moment ago");
    scene.fleet.up();
    scene.gate.open();
    scene.round();
    scene.gate.close();
    scene.gate.forget_captures();
    let _starter = scene.begin();
    scene.gate.wait_for_capture();
    let ballast = store.join("ballast");
    let mut file = fs::File::create(&ballast).expect("file");
    let full = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("it ends");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // What the leader says from here on cannot be kept: the end of this round, and all of the next one.
    scene.gate.open();
    let round = scene.fleet.wait_for_round(scene.number(), &["verified"]);
    assert_eq!(round["outcome"], "complete");
    scene.is_sound();
    scene.round();
    scene.is_sound();
    // Nobody has to do more than to make room.
    fs::remove_file(&ballast).expect("there is room now");
    scene.round();
    scene.is_sound();
    scene.fleet.down();
    drop(small);
}
