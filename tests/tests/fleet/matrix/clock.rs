//! Wall clocks that are years off, or jump in mid-round: deadlines are monotonic, and the log's order is not
//! the clock's. FAULTS invariants 2, 6, 7, 16.

use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::fleet::text;
use muster_tests::process::skip;

use super::scene::{FILES, GATED, Scene};

/// The preloaded library that lies about the time, where Debian's package `faketime` puts it.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let mut places = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = places.find(|place| place.exists());
    if found.is_none() {
        skip("libfaketime is not installed");
    }
    found
}

/// The words before a program that let its wall clock, not its monotonic one, be what `file` says: `+10y`,
/// `-10y`, `+0`.
fn clock(library: &Path, file: &Path) -> Vec<String> {
    let of = |name: &str, value: &str| format!("{name}={value}");
    vec![
        "env".to_owned(),
        of("LD_PRELOAD", &text(library)),
        of("FAKETIME_TIMESTAMP_FILE", &text(file)),
        of("FAKETIME_NO_CACHE", "1"),
        of("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
}

#[test]
fn clocks_that_are_years_off_or_jump_in_mid_round_change_nothing() {
    let Some(library) = library() else { return };
    let mut scene = Scene::gated();
    // Certificates have dates; a clock that is years off reaches no server that proves itself by one.
    scene.fleet.open_the_bus();
    scene.fleet.set("MUSTER_ROUND_DEADLINE", "10m");
    let (leader, agent) = (scene.fleet.path("leader-clock"), scene.fleet.path("agent-clock"));
    let set = |file: &Path, to: &str| {
        // Replaced at once: who reads it meanwhile must not find it empty.
        let new = file.with_extension("new");
        fs::write(&new, format!("{to}\n")).expect("written");
        fs::rename(&new, file).expect("in place");
    };
    set(&leader, "+10y");
    set(&agent, "-10y");
    scene.fleet.start_nats();
    scene.fleet.start_coordinator_under(&clock(&library, &leader));
    for service in [FILES, GATED] {
        scene.fleet.start_agent_under(&clock(&library, &agent), service);
    }
    // Ten years forth and back again within one round, far beyond its deadline by the wall clock.
    let jumps = [("-10y", "+10y"), ("+10y", "-10y"), ("-0", "-10y")];
    for (number, (leader_jumps, agent_jumps)) in (1..).zip(jumps) {
        let _starter = scene.begin();
        scene.gate.wait_for_capture();
        set(&leader, leader_jumps);
        set(&agent, agent_jumps);
        scene.gate.open();
        let round = scene.fleet.wait_for_round(number, &["verified"]);
        assert_eq!(round["outcome"], "complete", "{round}");
        scene.gate.close();
        scene.gate.forget_captures();
    }
    // The newest is the last in the log, whatever its date.
    let rounds = scene.fleet.rounds();
    let opened: Vec<_> =
        rounds.iter().map(|round| round["opened"].as_str().expect("a time").to_owned()).collect();
    assert!(opened.windows(2).any(|pair| pair[0] < pair[1]), "no clock went back, newest first: {opened:?}");
    scene.is_sound();
}
