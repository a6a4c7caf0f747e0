//! Rounds as operators shape them: rules for services, labels, tiers, cancel, and the story afterwards.

use std::fs;
use std::path::Path;
use std::time::Duration;

use muster_tests::fleet::{Fleet, text};
use muster_tests::gate::Gate;
use muster_tests::process::{Said, wait_for};
use muster_tests::tree;
use serde_json::Value;

/// `command:…` out of a shell script.
fn script(script: &str) -> String {
    format!("command:{}", serde_json::to_string(&["sh", "-c", script]).expect("JSON"))
}

fn rule(fleet: &Fleet, pattern: &str, words: &str) {
    let _ = fleet.run(&["config", "set", &format!("service.{pattern}"), words]).with_code(0);
}

fn last_line(said: &Said) -> Value {
    let line = said.out.lines().last().expect("a line");
    serde_json::from_str(line).expect("JSON")
}

fn service<'a>(round: &'a Value, name: &str) -> &'a Value {
    let services = round["services"].as_array().expect("services");
    services.iter().find(|service| service["service"] == name).expect("the service is in the round")
}

#[test]
fn rules_say_who_is_missed_and_who_begins_first() {
    let data = tempfile::TempDir::new().expect("folder");
    let (file, began) = (data.path().join("file"), data.path().join("web-began"));
    fs::write(&file, tree::noise(1, 100_000)).expect("file");
    let gate = Gate::at(data.path().join("gate"));
    let mut fleet = Fleet::init(&[
        format!("core={}", gate.source(&file)),
        format!("web={}", script(&format!("touch '{}'; echo web", text(&began)))),
        format!("lab-1={}", script("echo the lab is broken >&2; exit 3")),
        format!("lab-2={}", script("echo lab")),
        format!("pda={}", script("echo pda")),
    ]);
    rule(&fleet, "core", "tier=1");
    rule(&fleet, "web", "tier=2");
    rule(&fleet, "lab-*", "optional, label=lab, attempts=1");
    rule(&fleet, "pda", "while-present");
    fleet.start_nats();
    fleet.start_coordinator();
    for agent in ["core", "web", "lab-1", "lab-2"] {
        fleet.start_agent(agent);
    }
    let log = "start.log";
    let mut start = fleet.spawn(&["start", "--wait", "--json"], log);
    gate.wait_for_capture();
    std::thread::sleep(Duration::from_millis(700));
    assert!(!began.exists(), "the second tier began before the first was through an attempt");
    gate.open();
    assert_eq!(start.wait().code(), Some(0), "an optional and an absent passing service leave it complete");
    assert!(began.exists());

    let round = fleet.run(&["show", "--json"]).with_code(0).json();
    assert_eq!((&round["outcome"], &round["state"]), (&"complete".into(), &"verified".into()));
    let lab = service(&round, "lab-1");
    assert_eq!(
        (&lab["state"], &lab["excuse"], &lab["attempts"]),
        (&"absent".into(), &"optional".into(), &1.into())
    );
    assert!(lab["reason"].as_str().is_some_and(|reason| reason.contains("the lab is broken")), "{lab}");
    assert_eq!(service(&round, "pda")["excuse"], "not-present");
    let timing = |name: &str| service(&round, name)["timing"].clone();
    assert!(timing("web")["greeted_millis"].as_u64() >= timing("core")["checked_millis"].as_u64(), "{round}");
    let shown = fleet.run(&["show"]).with_code(0).out;
    assert!(shown.contains("pda: not present, and expected only while it is"), "{shown}");
    // The log of the coordinator says it when it happens.
    let log = std::fs::read_to_string(fleet.path("coordinator.log")).expect("a log");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told: Vec<_> = lines
        .filter(|line| line["message"] == "AGENT-03: an attempt failed" && line["service"] == "lab-1")
        .collect();
    assert_eq!(told.len(), 1, "each attempt once: {told:?}");
    assert_eq!((&told[0]["attempt"], &told[0]["again"]), (&1.into(), &false.into()), "{told:?}");
    assert!(
        told[0]["reason"].as_str().is_some_and(|reason| reason.contains("the lab is broken")),
        "{told:?}"
    );
    let id = round["round"].as_str().expect("an id");
    assert!(
        id.len() == 32 && shown.contains(&format!("id {id}")),
        "a trace viewer takes the whole id: {shown}"
    );
    assert!(shown.contains("lab-1: attempt 1 failed after"), "{shown}");
    assert!(shown.contains("tier 2 waited for core, which was through after"), "{shown}");

    // A subset by label; a label that nobody has, and one that is none.
    let said = fleet.run(&["start", "--labels", "lab", "--wait", "--json"]).with_code(0);
    let lab: Vec<_> = last_line(&said)["services"]
        .as_array()
        .expect("services")
        .iter()
        .map(|service| service["service"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(lab, ["lab-1", "lab-2"]);
    let said = fleet.run(&["start", "--labels", "nobody"]).with_code(7);
    assert!(said.out.contains("no service has the label nobody"), "{said:?}");
    let said = fleet.run(&["start", "--labels", "No"]).with_code(2);
    assert!(said.err.contains("is no label"), "{said:?}");
    let said = fleet.run(&["config", "set", "service.web", "tier=12"]).with_code(2);
    assert!(said.err.contains("tier=1…9"), "{said:?}");

    // Once it is there, a passing service is in the round like any other.
    fleet.start_agent("pda");
    let said = fleet.run(&["start", "--services", "pda", "--wait", "--json"]).with_code(0);
    assert_eq!(service(&last_line(&said), "pda")["state"], "stored");
}

#[test]
fn a_round_is_cancelled_by_an_operator_and_tells_what_became_of_everybody() {
    let data = tempfile::TempDir::new().expect("folder");
    let file = data.path().join("file");
    fs::write(&file, tree::noise(2, 200_000)).expect("file");
    let gate = Gate::at(data.path().join("gate"));
    let mut fleet =
        Fleet::init(&[format!("quick={}", script("echo quick")), format!("slow={}", gate.source(&file))]);
    let (root, viewer) = (text(&fleet.root()), text(&fleet.path("viewer")));
    let enroll = ["enroll", "eve", "--role", "viewer", "--root", &root, "--into", &viewer];
    let _ = fleet.run(&enroll).with_code(0);
    fleet.up();
    let said = fleet.run(&["cancel", "latest"]).with_code(7);
    assert!(said.err.contains("no round is open"), "{said:?}");
    let _ = fleet.run(&["start"]).with_code(0);
    gate.wait_for_capture();
    wait_for("the quick slice counts", || {
        let said = fleet.run(&["status"]).out;
        said.contains("1 of 2").then_some(())
    });

    // Who may only look is refused, whoever asks.
    let config = Path::new(&viewer).join("operator.toml");
    let said = fleet.run(&["cancel", "1", "--config", &text(&config)]).with_code(7);
    assert!(said.err.contains("viewer"), "{said:?}");

    let said = fleet.run(&["cancel", "1", "--reason", "maintenance", "--json"]).with_code(0).json();
    assert_eq!(said["state"], "done");
    let round = fleet.wait_for_round(1, &["cancelled"]);
    assert_eq!(round["outcome"], "cancelled");
    let told = fleet.run(&["show", "1", "--json"]).with_code(0).json();
    assert_eq!(told["reason"], "cancelled by operator: maintenance");
    assert_eq!(service(&told, "quick")["state"], "stored");
    let slow = service(&told, "slow");
    assert_eq!(slow["state"], "absent");
    assert!(
        slow["reason"].as_str().is_some_and(|r| r.contains("the round ended while it was capturing")),
        "{slow}"
    );
    let shown = fleet.run(&["show", "1"]).with_code(0).out;
    assert!(shown.contains("what was stored does not count"), "{shown}");
    let said = fleet.run(&["cancel", "1"]).with_code(7);
    assert!(said.out.contains("is not open"), "{said:?}");

    gate.open();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    assert_eq!(fs::read(out.join("slow/command/output")).expect("the dump"), fs::read(&file).expect("file"));
}

#[test]
fn the_story_has_every_attempt_and_a_failed_round_has_one_too() {
    let data = tempfile::TempDir::new().expect("folder");
    let once = data.path().join("once");
    let flaky = format!(
        "if [ -e '{0}' ]; then echo fine; else touch '{0}'; echo first time >&2; exit 4; fi",
        text(&once)
    );
    let mut fleet = Fleet::init(&[format!("flaky={}", script(&flaky)), format!("dead={}", script("exit 5"))]);
    fleet.up();
    let said = fleet.run(&["start", "--services", "flaky", "--wait", "--json"]).with_code(0);
    let flaky = last_line(&said);
    let tries = service(&flaky, "flaky")["tries"].clone();
    assert_eq!((&tries[0]["attempt"], &tries[0]["code"]), (&1.into(), &"AGENT-03".into()), "{tries}");
    assert!(tries[0]["reason"].as_str().is_some_and(|reason| reason.contains("first time")), "{tries}");

    let _ = fleet.run(&["start", "--services", "dead", "--wait"]).with_code(1);
    let told = fleet.run(&["show", "2", "--json"]).with_code(0).json();
    assert_eq!(told["state"], "failed");
    let tries = service(&told, "dead")["tries"].as_array().expect("tries").len();
    assert_eq!(tries, 3, "{told}");
    let shown = fleet.run(&["show", "2"]).with_code(0).out;
    assert!(shown.contains("dead: attempts 1 to 3 failed after"), "{shown}");
}

/// What a source prints piece by piece, while `slow` is there; then it keeps its output open for as long.
#[test]
fn a_watcher_sees_bytes_speed_and_time_left_and_no_guess_once_everything_is_read() {
    let data = tempfile::TempDir::new().expect("folder");
    let slow = data.path().join("slow");
    let dump = format!(
        "for piece in 1 2 3 4 5 6 7 8; do head -c 500000 /dev/zero; [ ! -e '{0}' ] || sleep 0.5; done; \
         while [ -e '{0}' ]; do sleep 0.05; done",
        text(&slow)
    );
    let mut fleet = Fleet::init(&[format!("dump={}", script(&dump))]);
    fleet.up();
    // The first round tells how much is to be expected.
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    fs::write(&slow, b"").expect("written");
    let started = fleet.run(&["start", "--json"]).with_code(0).json();
    assert_eq!(started["number"], 2, "{started}");
    let watch = fleet.spawn(&["watch", "2", "--json"], "watch.log");
    let seen = || -> Vec<Value> {
        let lines = fs::read_to_string(&watch.log).unwrap_or_default();
        let pages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        pages.filter(|page| page["services"].is_array()).map(|page| service(&page, "dump").clone()).collect()
    };
    let find = |what: &str, fits: &dyn Fn(&Value) -> bool| {
        wait_for(what, || seen().into_iter().find(|service| fits(service)))
    };
    let moving = find("it moves", &|service| service["bytes_per_sec"].as_u64() > Some(0));
    assert_eq!(moving["expected_bytes"], 4_000_000, "{moving}");
    let timed = find("time left is told", &|service| service["secs_left"].is_u64());
    assert!(timed["source_bytes"].as_u64() < Some(4_000_000), "{timed}");
    let read = find("everything is read", &|service| service["source_bytes"] == 4_000_000);
    assert_eq!((&read["secs_left"], &read["state"]), (&Value::Null, &"capturing".into()), "{read}");
    fs::remove_file(&slow).expect("removed");
    let _ = fleet.wait_for_round(2, &["verified"]);
}
