//! Several coordinators: whatever happens to the leader, another goes on, one log, one commit of each round. FAULTS
//! invariants 2, 7, 10, 16; SHARE-08.

use std::fs;
use std::path::PathBuf;

use muster_protocol::config::ShareConfig;
use muster_protocol::ids::{Nonce, ObjectId};
use muster_protocol::log::{Epoch, Head, Pin, seal};
use muster_protocol::time::UnixMillis;
use muster_share::log::Log;
use muster_share::{secret_file, store};
use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use muster_tests::tree;

use crate::faults::{Gated, commits, gated_fleet_of};

const FIRST: &str = "coordinator";
const SECOND: &str = "coordinator-2";

/// Two coordinators, of which the first leads.
fn pair() -> Gated {
    let mut g = gated_fleet_of(2);
    start_pair(&mut g.fleet);
    for service in g.fleet.services() {
        g.fleet.start_agent(&service);
    }
    g
}

fn start_pair(fleet: &mut Fleet) {
    fleet.start_nats();
    fleet.start_coordinator();
    assert_eq!(wait_for_leader(fleet, FIRST), 1);
    fleet.start_standby(SECOND);
    wait_until_it_says(fleet, SECOND, "another coordinator leads");
}

/// Waits until this coordinator answers as the leader; its epoch.
fn wait_for_leader(fleet: &Fleet, name: &str) -> u64 {
    wait_for(&format!("{name} leads"), || {
        let status = fleet.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.out).ok()?;
        let leader = &status["leader"];
        (leader["coordinator"] == name).then(|| leader["epoch"].as_u64()).flatten()
    })
}

fn said(fleet: &Fleet, name: &str) -> String {
    fs::read_to_string(fleet.path(&format!("{name}.log"))).unwrap_or_default()
}

fn wait_until_it_says(fleet: &Fleet, name: &str, words: &str) {
    wait_for(&format!("{name} says {words:?}"), || said(fleet, name).contains(words).then_some(()));
}

/// The log, read as anybody may.
fn log(fleet: &Fleet) -> Log {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = store::open(&ShareConfig::at(text(&fleet.share()))).await.expect("a share");
        Log::open(store, Pin::default()).await.expect("a log that can be believed")
    })
}

fn slot(fleet: &Fleet, number: u64) -> PathBuf {
    fleet.share().join(format!("log/{number:010}"))
}

/// Every record is a link, and had an effect: nobody wrote anything that was no longer theirs to write.
fn assert_one_log(fleet: &Fleet) {
    let log = log(fleet);
    let state = log.state();
    assert!(state.void.is_empty() && state.without_effect.is_empty(), "{:?}", state.without_effect);
}

#[test]
fn a_leader_killed_in_mid_round_is_followed_and_the_round_is_finished() {
    let mut g = pair();
    let _ = g.fleet.run(&["start"]).with_code(0);
    g.wait_for_capture();
    g.fleet.kill_coordinator_named(FIRST);
    fs::write(&g.gate, b"").expect("gate");
    let round = g.fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    assert_eq!(wait_for_leader(&g.fleet, SECOND), 2);
    assert_eq!(commits(&g.fleet), 1);
    assert_one_log(&g.fleet);
    g.check_recovery();
    // The first one follows when it is back.
    g.fleet.start_coordinator();
    wait_until_it_says(&g.fleet, FIRST, "another coordinator leads");
    let _ = g.fleet.run(&["start", "--wait"]).with_code(0);
    assert_eq!((commits(&g.fleet), wait_for_leader(&g.fleet, SECOND)), (2, 2));
}

#[test]
fn a_leader_paused_for_longer_than_its_lease_does_no_harm_when_it_wakes() {
    let mut g = pair();
    let _ = g.fleet.run(&["start"]).with_code(0);
    g.wait_for_capture();
    g.fleet.coordinator_named(FIRST).signal("STOP");
    wait_for_leader(&g.fleet, SECOND);
    // Whether it wakes before or after the commit: it takes part in nothing more.
    g.fleet.coordinator_named(FIRST).signal("CONT");
    wait_until_it_says(&g.fleet, FIRST, "COORD-01: another coordinator leads now");
    fs::write(&g.gate, b"").expect("gate");
    let round = g.fleet.wait_for_round(1, &["verified"]);
    assert_eq!((&round["outcome"], commits(&g.fleet)), (&"complete".into(), 1));
    assert_one_log(&g.fleet);
    let _ = g.fleet.run(&["start", "--wait"]).with_code(0);
    assert_eq!((commits(&g.fleet), wait_for_leader(&g.fleet, SECOND)), (2, 2));
    assert!(g.fleet.coordinator_named(FIRST).is_running(), "it follows");
    // And leads again when the other one is gone.
    g.fleet.kill_coordinator_named(SECOND);
    assert_eq!(wait_for_leader(&g.fleet, FIRST), 3);
    let _ = g.fleet.run(&["start", "--wait"]).with_code(0);
    assert_one_log(&g.fleet);
    g.check_recovery();
}

#[test]
fn a_leader_that_ends_well_is_followed_without_waiting_for_its_lease() {
    let mut g = gated_fleet_of(2);
    // No test lives to see this lease expire.
    g.fleet.set("MUSTER_LEAD_LEASE", "5m");
    start_pair(&mut g.fleet);
    g.fleet.coordinator_named(FIRST).terminate();
    assert_eq!(g.fleet.coordinator_named(FIRST).wait().code(), Some(0));
    assert_eq!(wait_for_leader(&g.fleet, SECOND), 2);
}

#[test]
fn a_bus_wiped_under_two_coordinators_takes_nobodys_lead_away() {
    let mut g = gated_fleet_of(2);
    g.fleet.set("MUSTER_LEAD_LEASE", "12s");
    start_pair(&mut g.fleet);
    for service in g.fleet.services() {
        g.fleet.start_agent(&service);
    }
    let _ = g.fleet.run(&["start"]).with_code(0);
    g.wait_for_capture();
    let nats = g.fleet.nats.as_mut().expect("it runs");
    nats.kill();
    fs::remove_dir_all(g.fleet.dir().join("state/nats")).expect("wiped");
    g.fleet.nats.as_mut().expect("it runs").restart();
    fs::write(&g.gate, b"").expect("gate");
    let round = g.fleet.wait_for_round(1, &["verified"]);
    assert_eq!((&round["outcome"], commits(&g.fleet)), (&"complete".into(), 1));
    assert_eq!(wait_for_leader(&g.fleet, FIRST), 1);
    assert_one_log(&g.fleet);
    let _ = g.fleet.run(&["start", "--wait"]).with_code(0);
    assert_eq!(wait_for_leader(&g.fleet, FIRST), 1);
}

#[test]
fn coordinators_whose_disks_and_bus_are_wiped_go_on_with_the_open_round() {
    let mut g = pair();
    let _ = g.fleet.run(&["start"]).with_code(0);
    g.wait_for_capture();
    g.fleet.kill_coordinator_named(FIRST);
    g.fleet.kill_coordinator_named(SECOND);
    g.fleet.nats.as_mut().expect("it runs").kill();
    for wiped in ["state/nats", "state/coordinator", "state/coordinator-2"] {
        fs::remove_dir_all(g.fleet.dir().join(wiped)).expect(wiped);
    }
    g.fleet.nats.as_mut().expect("it runs").restart();
    g.fleet.start_coordinator();
    g.fleet.start_standby(SECOND);
    fs::write(&g.gate, b"").expect("gate");
    let round = g.fleet.wait_for_round(1, &["verified"]);
    assert_eq!((&round["outcome"], commits(&g.fleet)), (&"complete".into(), 1));
    assert_one_log(&g.fleet);
    g.check_recovery();
}

/// A fleet of plain files that has one round.
fn with_a_round() -> (Fleet, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("a folder");
    tree::small(&data.path().join("tree"), 3);
    let services = [format!("only=files:{}", text(&data.path().join("tree")))];
    let mut fleet = Fleet::init_with_coordinators(2, &services);
    start_pair(&mut fleet);
    fleet.start_agent("only");
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    fleet.wait_for_round(1, &["verified"]);
    (fleet, data)
}

/// Both coordinators stop leading, also when they are started again, operators are told, and nothing is appended.
fn assert_stopped(fleet: &mut Fleet, forged: u64) {
    let records = || fs::read_dir(fleet.share().join("log")).expect("a log").count();
    let before = records();
    let told = fleet.run(&["rounds"]).with_code(4);
    assert!(told.err.contains("SHARE-08"), "{}", told.err);
    let status = fleet.run(&["status"]);
    assert!(status.err.contains("SHARE-08") || status.out.contains("SHARE-08"), "{status:?}");
    // Who is asked for a round must look at the log.
    let starting = fleet.spawn(&["start"], "start.log");
    for name in [FIRST, SECOND] {
        assert_eq!(fleet.coordinator_named(name).wait().code(), Some(4), "{}", said(fleet, name));
        assert!(said(fleet, name).contains("SHARE-08"), "{}", said(fleet, name));
    }
    starting.kill();
    fleet.start_coordinator();
    assert_eq!(fleet.coordinator_named(FIRST).wait().code(), Some(4), "it stays so");
    assert_eq!(fs::read_dir(fleet.share().join("log")).expect("a log").count(), before);
    // Somebody has looked, and taken away what was forged.
    fs::remove_file(slot(fleet, forged)).expect("removed");
    fleet.start_coordinator();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    assert_one_log(fleet);
}

#[test]
fn a_fork_stops_every_coordinator() {
    let (mut fleet, _data) = with_a_round();
    let log = log(&fleet);
    let state = log.state();
    let key = secret_file::read_signing_key(&fleet.dir().join("keys/coordinator-2.key")).expect("a key");
    let other = Head { number: state.head.number, hash: ObjectId::of(b"another history") };
    let epoch = Epoch { epoch: 2, instance: Nonce::from_bytes([9; 16]), at: UnixMillis(0) };
    let forged = seal(&key, &state.fleet, state.next, other, &epoch);
    fs::write(slot(&fleet, state.next), forged).expect("forged");
    let number = state.next;
    assert_stopped(&mut fleet, number);
}

#[test]
fn a_gap_stops_every_coordinator() {
    let (mut fleet, _data) = with_a_round();
    let log = log(&fleet);
    let state = log.state();
    let key = secret_file::read_signing_key(&fleet.dir().join("keys/coordinator-2.key")).expect("a key");
    let epoch = Epoch { epoch: 2, instance: Nonce::from_bytes([9; 16]), at: UnixMillis(0) };
    // What came later is there, and one record is not.
    let number = state.next + 1;
    let later = seal(&key, &state.fleet, number, state.head, &epoch);
    fs::write(slot(&fleet, number), later).expect("written");
    assert_stopped(&mut fleet, number);
}
