//! Many agents at once: simulated ones, that speak the real protocol to a real coordinator over a real server.

use std::time::Duration;

use muster_bus::NatsBus;
use muster_coordinator::config::RoundConfig;
use muster_protocol::ids::RoundId;
use muster_protocol::log::Outcome;
use muster_tests::process::{binaries, wait_for};
use muster_tests::swarm::{Places, Stage, Swarm, leads, trigger, until};

const AGENTS: usize = 200;
const REQUEST: &str = "in the storm";
/// A capture takes so long that the server can be killed while all of them run.
const CAPTURE: Duration = Duration::from_secs(3);

/// The server dies while two hundred agents work for a round, and comes back at once: all of them connect anew, but not
/// in the same instant, and the round loses none of them.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_agents_reconnect_at_once() {
    let folder = tempfile::TempDir::with_prefix("muster-").expect("a temporary folder");
    let places =
        Places { folder: folder.path().to_owned(), coordinator: binaries().join("muster-coordinator") };
    let mut stage = Stage::found(places, AGENTS, RoundConfig::default()).await.expect("a fleet");
    stage.start_server();
    stage.start_coordinator();
    leads(&stage).await.expect("it leads");
    let round = RoundId::derive(&stage.fleet.id, REQUEST);
    let swarm = Swarm::gather(&stage, &[round], CAPTURE).await.expect("they gather");
    let bus = NatsBus::connect(stage.client("test").expect("a client")).await.expect("connects");
    trigger(&stage, &bus, REQUEST).await.expect("a round");
    let all = AGENTS as u64;
    wait_for("all agents capture", || (swarm.captures() >= all).then_some(()));

    let server = stage.nats.as_mut().expect("it runs");
    server.kill();
    server.restart();

    let mut log = stage.log().await.expect("a log");
    let ended = |state: &muster_protocol::log::State| {
        state.rounds.get(&round).is_some_and(|round| round.outcome().is_some())
    };
    until(&mut log, "the round ends", ended).await.expect("it does");
    let outcome = log.state().rounds.get(&round).and_then(|round| round.outcome());
    assert_eq!(outcome, Some(Outcome::Complete), "{:?}", swarm.wrong());
    // On a busy machine a connection may be given up once more.
    let reconnects = swarm.reconnects();
    assert!(reconnects.count() >= AGENTS, "{}: {:?}", reconnects.count(), swarm.wrong());
    // The first delays are spread over a good part of a quarter of a second; without jitter they are one.
    let (most, span) = (reconnects.most_within(Duration::from_millis(25)), Duration::from_millis(25));
    assert!(most < AGENTS / 2, "{most} of {AGENTS} agents came back within {span:?}");
    swarm.dismiss().await;
}
