//! An alert's life with real processes: raised by a round, kept through a killed coordinator, written anew from the share,
//! closed by a verified round.

use std::fs;
use std::path::PathBuf;

use muster_coordinator::config::Config;
use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::Value;

/// `config` has an agent, `web` has none yet.
fn half() -> (Fleet, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("folder");
    let services = ["config", "web"].map(|name| {
        tree::small(&data.path().join(name), 1);
        format!("{name}=files:{}", text(&data.path().join(name)))
    });
    let mut fleet = Fleet::init(&services);
    fleet.start_nats();
    fleet.start_coordinator();
    fleet.start_agent("config");
    (fleet, data)
}

fn state(fleet: &Fleet) -> PathBuf {
    Config::load(&fleet.dir().join("coordinator.toml")).expect("a configuration").coordinator.state
}

fn alerts(fleet: &Fleet, args: &[&str]) -> Value {
    let said = fleet.run(&[&["alerts", "--json"], args].concat());
    said.with_code(0).json()
}

fn find<'a>(alerts: &'a Value, code: &str, subject: &str) -> Option<&'a Value> {
    let alerts = alerts["alerts"].as_array().expect("alerts");
    alerts.iter().find(|alert| alert["code"] == code && alert["subject"] == subject)
}

/// What the leader says once it says something of both.
fn told(fleet: &Fleet) -> (Value, Value) {
    wait_for("the leader tells of the round and of the agent", || {
        let all = alerts(fleet, &[]);
        let agent = find(&all, "AGENT-01", "web").filter(|alert| alert["count"].as_u64() >= Some(1));
        let both = (find(&all, "ROUND-01", "fleet")?.clone(), agent?.clone());
        (all["bus"] == true).then_some(both)
    })
}

/// What `status` names, `alerts` has, and `alerts show` explains.
fn same_as_status(fleet: &Fleet) {
    let ids = |said: &Value| -> Vec<String> {
        let alerts = said["alerts"].as_array().expect("alerts").iter();
        alerts.map(|alert| alert["id"].as_str().expect("an id").to_owned()).collect()
    };
    let (mut status, mut alerts) =
        (ids(&fleet.run(&["status", "--json"]).with_code(0).json()), ids(&alerts(fleet, &[])));
    status.sort();
    alerts.sort();
    assert_eq!(status, alerts);
    for id in status {
        let shown = fleet.run(&["alerts", "show", &id]).with_code(0).out;
        assert!(shown.contains("  cause   "), "{shown}");
    }
}

#[test]
fn an_alert_outlives_its_coordinator_and_its_disk_and_closes_with_a_verified_round() {
    let (mut fleet, _data) = half();
    let _ = fleet.run(&["start", "--wait"]).with_code(3);
    let (round, agent) = told(&fleet);
    assert_eq!(
        (&round["severity"], &round["open"], &round["count"]),
        (&"error".into(), &true.into(), &1.into())
    );
    let steps = agent["steps"].as_array().expect("steps");
    assert!(!steps.is_empty() && agent["since"].is_string() && agent["acknowledged_by"].is_null(), "{agent}");
    let id = agent["id"].as_str().expect("an id").to_owned();
    let acknowledged = fleet.run(&["alerts", "ack", &id]).with_code(0);
    assert!(acknowledged.out.contains("acknowledged"), "{}", acknowledged.out);
    let file = state(&fleet).join("alerts.json");
    wait_for("it is on the disk", || {
        fs::read_to_string(&file).ok().filter(|text| text.contains("\"acknowledged\":{"))
    });

    same_as_status(&fleet);
    fleet.kill_coordinator();
    same_as_status(&fleet);
    let without = alerts(&fleet, &[]);
    assert_eq!(without["bus"], false);
    assert!(find(&without, "ROUND-01", "fleet").is_some(), "the share tells it: {without}");
    fleet.start_coordinator();
    let (again, agent) = told(&fleet);
    assert_eq!(again, round, "the same one, once");
    assert_eq!((&agent["id"], &agent["acknowledged_by"]), (&id.into(), &"operator".into()), "{agent}");

    fleet.kill_coordinator();
    fs::remove_dir_all(state(&fleet)).expect("it had a state");
    fleet.start_coordinator();
    let (rebuilt, _) = told(&fleet);
    assert_eq!(rebuilt, round, "from the share alone");
    let status = fleet.run(&["status", "--json"]).with_code(0).json();
    assert!(find(&status, "AGENT-01", "web").is_some(), "{status}");

    fleet.start_agent("web");
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let status = fleet.run(&["status", "--json"]).with_code(0).json();
    assert!(status["room"]["free_bytes"].is_u64() && status["room"]["basis"].is_string(), "{status}");
    assert!(status["coordinators"][0]["name"].is_string(), "{status}");
    assert_eq!(status["coordinators"][0]["epoch"], status["leader"]["epoch"], "{status}");
    let shown = fleet.run(&["status"]).with_code(0).out;
    assert!(shown.lines().any(|line| line.starts_with("SHARE ") && line.contains(" free")), "{shown}");
    assert!(shown.contains("verified  "), "{shown}");
    wait_for("nothing is wrong any more", || {
        let all = alerts(&fleet, &[]);
        let open = [("ROUND-01", "fleet"), ("AGENT-01", "web"), ("COVER-01", "web"), ("COVER-01", "config")];
        open.iter().all(|(code, subject)| find(&all, code, subject).is_none()).then_some(())
    });
    let all = alerts(&fleet, &["--all"]);
    for (code, subject) in [("ROUND-01", "fleet"), ("AGENT-01", "web")] {
        let closed = find(&all, code, subject).expect("in the history");
        assert_eq!(closed["open"], false, "{closed}");
        assert!(closed["closed"].is_string(), "{closed}");
        let shown = fleet.run(&["alerts", "show", closed["id"].as_str().expect("an id")]).with_code(0).out;
        assert!(shown.contains("  closed  "), "{shown}");
    }
}
