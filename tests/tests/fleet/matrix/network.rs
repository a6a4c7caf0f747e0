//! A network that stalls or cuts connections in mid-round, between the server and an agent, or the
//! coordinator. FAULTS invariants 8, 16. How soon a silent connection is noticed is `half_open`'s.

use std::fs;
use std::path::Path;

use muster_tests::process::wait_for;
use muster_tests::proxy::{Mode, Proxy};

use super::scene::{FILES, GATED, Scene};

/// Who is behind the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Agent,
    Coordinator,
}

/// A fleet with one of its parts behind a proxy, in mid-round.
fn in_mid_round(behind: Behind) -> (Scene, Proxy) {
    let mut scene = Scene::gated();
    // Whoever is cut off is behind for longer than tests are patient with an agent that is silent.
    scene.fleet.set("MUSTER_ROUND_OFFLINE_AFTER", "45s");
    scene.fleet.start_nats();
    let direct = scene.fleet.nats_url();
    let port = scene.fleet.nats.as_ref().expect("it runs").port;
    let proxy = Proxy::to(port);
    let through = format!("tls://127.0.0.1:{}", proxy.port);
    scene.fleet.set("MUSTER_NATS_URL", if behind == Behind::Coordinator { &through } else { &direct });
    scene.fleet.start_coordinator();
    scene.fleet.set("MUSTER_NATS_URL", if behind == Behind::Agent { &through } else { &direct });
    scene.fleet.start_agent(GATED);
    scene.fleet.set("MUSTER_NATS_URL", &direct);
    scene.fleet.start_agent(FILES);
    scene.open();
    scene.gate.wait_for_capture();
    (scene, proxy)
}

fn count(log: &Path, words: &str) -> usize {
    fs::read_to_string(log).unwrap_or_default().matches(words).count()
}

/// The round ends complete although its connection does this, and passes again once that was noticed.
fn survives(behind: Behind, mode: Mode) {
    let (scene, proxy) = in_mid_round(behind);
    let log = match behind {
        Behind::Agent => scene.fleet.path(&format!("agent-{GATED}.log")),
        Behind::Coordinator => scene.fleet.path("coordinator.log"),
    };
    assert_eq!(count(&log, "connection to NATS lost"), 0);
    proxy.set(mode);
    // What is to be told is told into the void first.
    scene.gate.open();
    wait_for("it is noticed", || (count(&log, "connection to NATS lost") > 0).then_some(()));
    proxy.set(Mode::Pass);
    let round = scene.fleet.wait_for_round(scene.number(), &["verified"]);
    assert_eq!(round["outcome"], "complete", "{behind:?}, {mode:?}");
    scene.is_sound();
}

#[test]
fn an_agent_whose_connection_is_silent_in_mid_round_completes_it() {
    survives(Behind::Agent, Mode::SILENT);
}

#[test]
fn an_agent_whose_connections_are_cut_in_mid_round_completes_it() {
    survives(Behind::Agent, Mode::Cut);
}

#[test]
fn a_coordinator_whose_connection_is_silent_in_mid_round_completes_it() {
    survives(Behind::Coordinator, Mode::SILENT);
}

#[test]
fn a_coordinator_that_hears_all_and_is_not_heard_in_mid_round_completes_it() {
    survives(Behind::Coordinator, Mode::Stall { to_server: true, to_client: false });
}

#[test]
fn a_coordinator_whose_connections_are_cut_in_mid_round_completes_it() {
    survives(Behind::Coordinator, Mode::Cut);
}
