//! A cluster of three servers that loses the leader of its streams in mid-round. FAULTS invariants 2, 7, 8,
//! 16.

use muster_tests::cluster::NatsCluster;
use muster_tests::process::wait_for;

use super::scene::Scene;

#[test]
fn a_cluster_that_loses_the_leader_of_its_streams_in_mid_round_completes_it() {
    let mut scene = Scene::gated();
    let mut cluster = NatsCluster::start(&mut scene.fleet);
    scene.fleet.start_coordinator();
    for service in scene.fleet.services() {
        scene.fleet.start_agent(&service);
    }
    let _starter = scene.begin();
    scene.gate.wait_for_capture();
    let leader = cluster.stream_leader("_STATE");
    cluster.kill(leader);
    let next = cluster.next_leader("_STATE", leader);
    assert_ne!(next, leader);
    // The document of the round outlived the server that kept it first: an agent that comes only now reads it
    // there.
    scene.gate.forget_captures();
    scene.fleet.kill_agent(super::scene::GATED);
    scene.fleet.start_agent(super::scene::GATED);
    scene.gate.wait_for_capture();
    scene.gate.open();
    let round = scene.fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    scene.is_sound();
    // With one server gone for good, rounds go on; with it back, its copies catch up.
    scene.round();
    cluster.restart(leader);
    wait_for("all copies are current again", || Some(cluster.stream_leader("_STATE")));
    scene.round();
    scene.is_sound();
}
