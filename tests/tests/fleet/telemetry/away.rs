//! Logs behind the collector, with their ids and without secrets; and a collector that goes away: no backup minds.

use muster_test_servers::Rotel;
use muster_tests::http::Api;
use muster_tests::process::wait_for;
use muster_tests::secrets::Secrets;
use muster_tests::telemetry::{Sink, Trace, deploy};

use super::scene::Scene;

/// The sum of all series of a counter on a page of metrics.
fn counted(port: u16, name: &str) -> f64 {
    let page = Api { port, token: None }.get("/metrics").with_status(200).body;
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
#[ignore = "needs rotel: ./x test --servers"]
fn servers_telemetry_logs_arrive_with_their_round_and_without_secrets() {
    let sink = Sink::start();
    let rotel = Rotel::start(&deploy("otel/rotel.env"), &sink.url());
    let mut scene = Scene::new(1, Some(&rotel.url()));
    scene.break_flaky(1);
    scene.up();
    scene.round(0);
    let id = scene.id(1);
    let of_round = |name: &'static str| {
        wait_for(&format!("a line of {name} in the round's trace"), || {
            let of = |line: &muster_tests::telemetry::Line| {
                line.resource.get("service.name").is_some_and(|from| from == name) && line.trace == id
            };
            sink.lines().into_iter().find(of)
        })
    };
    for name in ["muster-coordinator", "muster-agent"] {
        let line = of_round(name);
        assert!(!line.body.is_empty() && !line.severity.is_empty(), "{line:?}");
        // The trace's id is the round's; its number is for people.
        let said =
            ["round", "number"].iter().find_map(|key| line.attributes.get(*key)).map_or("", String::as_str);
        assert!([id.as_str(), "1"].contains(&said), "a line of a round names it: {line:?}");
    }
    let mut secrets = Secrets::default();
    let keys =
        secrets.keys_below(&scene.fleet().dir().join("keys")) + secrets.keys_below(&scene.fleet().kit());
    assert!(keys > 5, "no keys were found");
    // Traces, logs and metrics of all, more than once.
    let parts =
        wait_for("enough has arrived to look into", || Some(sink.bytes()).filter(|parts| parts.len() > 5));
    for part in parts {
        let found = secrets.found_in(&part);
        assert!(found.is_empty(), "secrets leave by telemetry: {found:?}");
    }
}

#[test]
#[ignore = "needs rotel: ./x test --servers"]
fn servers_telemetry_rounds_go_on_without_the_collector_and_what_is_lost_is_counted() {
    let sink = Sink::start();
    let mut rotel = Rotel::start(&deploy("otel/rotel.env"), &sink.url());
    let mut scene = Scene::new(1, Some(&rotel.url()));
    scene.up();
    scene.round(0);
    let coordinator = scene.wired.ports["coordinator.toml"];
    assert!(
        counted(coordinator, "muster_telemetry_dropped_total") == 0.0,
        "nothing is lost while it is there"
    );
    rotel.kill();
    scene.change(1);
    scene.round(0);
    wait_for("what is lost is counted", || {
        (counted(coordinator, "muster_telemetry_dropped_total") > 0.0).then_some(())
    });
    rotel.restart();
    scene.change(2);
    scene.round(0);
    let id = scene.id(3);
    wait_for("the round behind it is told again", || {
        Trace::all(&sink.spans()).remove(&id)?.named("round").first().map(|_| ())
    });
}

/// A process that ends tells what it still has.
#[test]
#[ignore = "needs rotel: ./x test --servers"]
fn servers_telemetry_is_flushed_when_a_process_ends() {
    let sink = Sink::start();
    let rotel = Rotel::start(&deploy("otel/rotel.env"), &sink.url());
    let mut scene = Scene::new(1, Some(&rotel.url()));
    scene.up();
    scene.round(0);
    let id = scene.id(1);
    // At once: no timer of the exporter has come round.
    for service in super::scene::SERVICES {
        scene.fleet().agent(service).terminate();
        assert_eq!(scene.fleet().agent(service).wait().code(), Some(0), "{service}");
    }
    scene.fleet().coordinator().terminate();
    assert_eq!(scene.fleet().coordinator_ends(), Some(0));
    wait_for("all of it is told", || {
        let trace = Trace::all(&sink.spans()).remove(&id)?;
        (trace.named("round").len() == 1 && trace.named("send notice").len() == 3).then_some(())
    });
}
