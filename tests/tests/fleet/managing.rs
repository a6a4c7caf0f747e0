//! Who lets rounds begin, and when: the schedule with real coordinators, `enable` and `disable`, signed starts, settings as a
//! whole, and what the log says of it all.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_tests::fleet::{Fleet, text};
use muster_tests::gate::Gate;
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::{Value, json};

/// A fleet of one service, whose agents are not started yet.
fn fleet(coordinators: u8) -> (Fleet, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 1);
    let services = [format!("a=files:{}", text(&data.path().join("a")))];
    (Fleet::init_with_coordinators(coordinators, &services), data)
}

fn wait_for_leader(fleet: &Fleet) -> String {
    wait_for("somebody leads", || {
        let status = fleet.run(&["status", "--json"]);
        let status: Value = serde_json::from_str(&status.out).ok()?;
        status["leader"]["coordinator"].as_str().map(str::to_owned)
    })
}

fn settings(fleet: &Fleet) -> Value {
    fleet.run(&["config", "show", "--json"]).with_code(0).json()["settings"].clone()
}

fn sched_01(fleet: &Fleet) -> Option<Value> {
    let said = fleet.run(&["alerts", "--json"]).with_code(0).json();
    let alerts = said["alerts"].as_array().expect("alerts").clone();
    alerts.into_iter().find(|alert| alert["code"] == "SCHED-01")
}

/// Waits for a second of the minute in which nothing is about to happen, or has just happened.
fn wait_for_the_minute() {
    wait_for("the next minute", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        (now % 60 < 3).then_some(())
    });
}

/// The slot in the words that say what began a round.
fn slot(round: &Value) -> String {
    let trigger = round["trigger"].as_str().expect("a trigger");
    trigger.strip_prefix("schedule, slot ").unwrap_or_else(|| panic!("not by schedule: {trigger}")).to_owned()
}

#[test]
fn two_coordinators_make_one_round_of_a_slot_and_another_leader_goes_on() {
    let (mut fleet, _data) = fleet(2);
    fleet.up();
    assert_eq!(wait_for_leader(&fleet), "coordinator");
    fleet.start_standby("coordinator-2");
    let said = fleet.run(&["config", "set", "schedule", "* * * * *"]).with_code(0).out;
    assert!(said.contains("schedule = * * * * *, was off") && said.contains("next round: "), "{said}");
    let status = fleet.run(&["status", "--json"]).with_code(0).json();
    assert!(status["schedule"]["next"].is_string(), "{status}");
    wait_for_the_minute();
    let first = fleet.wait_for_round(1, &["open", "committed", "verified"]);
    // The slot is still on time for whoever comes next, and is a round already.
    fleet.kill_coordinator();
    wait_for("the other leads", || {
        let status = fleet.run(&["status", "--json"]);
        let status: Value = serde_json::from_str(&status.out).ok()?;
        (status["leader"]["coordinator"] == "coordinator-2").then_some(())
    });
    fleet.start_coordinator();
    let _ = fleet.wait_for_round(1, &["verified"]);
    wait_for_the_minute();
    let second = fleet.wait_for_round(2, &["verified"]);
    assert_ne!(slot(&first), slot(&second), "each slot is one round");
    let _ = fleet.run(&["config", "set", "schedule=off"]).with_code(0);
    let by_schedule: Vec<String> = fleet.rounds().iter().map(slot).collect();
    let mut once = by_schedule.clone();
    once.dedup();
    assert_eq!(by_schedule, once);
    let said = fleet.run(&["status"]).with_code(0).out;
    assert!(said.contains("NEXT ROUND       none: the schedule is off"), "{said}");
}

#[test]
fn a_disabled_fleet_begins_no_round_unless_an_operator_forces_it() {
    let (mut fleet, _data) = fleet(1);
    fleet.up();
    let _ = wait_for_leader(&fleet);
    let _ = fleet.run(&["start", "--wait", "--reason", "a test"]).with_code(0);
    assert_eq!(fleet.rounds()[0]["trigger"], "command of operator: a test");

    let said = fleet.run(&["disable", "--reason", "the racks are moved"]).with_code(0).out;
    assert!(said.contains("disabled since ") && said.contains("the racks are moved"), "{said}");
    let refused = fleet.run(&["start"]).with_code(7);
    assert!(refused.out.contains("the fleet is disabled (the racks are moved)"), "{refused:?}");
    let again = fleet.run(&["disable"]).with_code(0).out;
    assert!(again.contains("the racks are moved") && again.contains("(already)"), "{again}");
    assert!(refused.out.contains("--force"), "{refused:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answer: Value = runtime.block_on(async {
        let client = fleet.trigger_client().await;
        let answer = client.request("muster.v1.test.trigger", "{}".into()).await.expect("an answer");
        serde_json::from_slice(&answer.payload).expect("JSON")
    });
    assert_eq!(answer["state"], "refused", "a message forces nothing: {answer}");
    let alert = wait_for("SCHED-01", || sched_01(&fleet));
    assert!(alert["cause"].as_str().is_some_and(|cause| cause.contains("the racks are moved")), "{alert}");
    let status = fleet.run(&["status"]).with_code(0).out;
    assert!(status.contains("DISABLED         since ") && status.contains("the racks are moved"), "{status}");
    let status = fleet.run(&["status", "--json"]).with_code(0).json();
    assert_eq!(
        (&status["schedule"]["state"], &status["schedule"]["next"]),
        (&"disabled".into(), &Value::Null)
    );

    let _ = fleet.run(&["start", "--force", "--wait"]).with_code(0);
    assert_eq!(fleet.rounds()[0]["trigger"], "command of operator, forced");
    let _ = fleet.run(&["disable", "--until", "2s"]).with_code(0);
    wait_for("the pause is over by itself", || {
        let started = fleet.run(&["start"]);
        (started.code == 0).then_some(())
    });
    let said = fleet.run(&["disable", "--until", "2001-01-01"]).with_code(2);
    assert!(said.err.contains("--until must lie ahead"), "{said:?}");
    let _ = fleet.run(&["disable"]).with_code(0);
    let said = fleet.run(&["enable"]).with_code(0).out;
    assert!(said.contains("enabled · signed by operator"), "{said}");
    assert_eq!(settings(&fleet)["schedule"], "every 12h");
    wait_for("SCHED-01 is over", || sched_01(&fleet).is_none().then_some(()));
    let _ = fleet.run(&["start", "--wait"]).with_code(0);

    // Who did it, from the share alone.
    let share = text(&fleet.share());
    let audit = fleet.run(&["audit", "--share", &share, "--kind", "config", "--json"]).with_code(0).json();
    let entries = audit["entries"].as_array().expect("entries");
    let what: Vec<_> = entries.iter().map(|entry| entry["what"].as_str().expect("words")).collect();
    assert!(what[0].contains("enabled = yes (was no)"), "{what:?}");
    assert!(what.iter().any(|what| what.contains("disabled.reason = the racks are moved")), "{what:?}");
    let by = &entries[0];
    assert_eq!((&by["who"], &by["role"]), (&"operator".into(), &"admin".into()));
    assert!(by["at"].is_string(), "{by}");
    let page = fleet.run(&["audit", "--limit", "2", "--json"]).with_code(0).json();
    assert_eq!(page["entries"].as_array().map(Vec::len), Some(2));
    let before = page["next"].as_u64().expect("there is more").to_string();
    let next = fleet.run(&["audit", "--limit", "2", "--before", &before, "--json"]).with_code(0).json();
    let number = |page: &Value, at: usize| page["entries"][at]["number"].as_u64().expect("a number");
    assert_eq!(number(&next, 0) + 1, number(&page, 1), "the pages meet");
    let all = fleet.run(&["audit", "--limit", "0"]).with_code(0).out;
    assert!(
        all.contains("founded the fleet test") && all.contains("opened round 1 by command of operator"),
        "{all}"
    );
}

#[test]
fn what_the_preflight_finds_leaves_the_configuration_as_it_was() {
    let (mut fleet, _data) = fleet(1);
    let before = settings(&fleet);
    let said = fleet.run(&["enable"]).with_code(6);
    assert!(said.err.contains("BUS-01") && said.err.contains("as it was before"), "{said:?}");
    fleet.start_nats();
    fleet.start_coordinator();
    let _ = wait_for_leader(&fleet);
    let said = fleet.run(&["enable"]).with_code(1);
    assert!(said.err.contains("AGENT-01") && said.err.contains("nothing is heard of a"), "{said:?}");
    assert_eq!(settings(&fleet), before);
    fleet.start_agent("a");
    let checked = fleet.run(&["enable", "--check", "--json"]).with_code(0).json();
    assert_eq!((&checked["passed"], &checked["head"]), (&true.into(), &Value::Null), "{checked}");
    assert_eq!(settings(&fleet), before, "--check stores nothing");
    let said = fleet.run(&["config", "set", "schedule=0 0 30 2 *"]).with_code(2);
    assert!(said.err.contains("never begins a round: no day of the calendar is like that"), "{said:?}");
    let together = ["config", "set", "interval=12h", "schedule=0 3 * * *", "schedule.windows", "00:00-24:00"];
    let said = fleet.run(&together).with_code(2);
    assert!(said.err.contains("in one of schedule.windows"), "{said:?}");
    assert_eq!(settings(&fleet), before, "one that is wrong leaves all as they were");
    let said = fleet.run(&["config", "set", "enabled", "yes"]).with_code(2);
    assert!(said.err.contains("muster enable"), "{said:?}");
    let said = fleet.run(&["config", "set", "retention.min_verified=0"]).with_code(2);
    assert!(said.err.contains("retention.min_verified must be a number from 1 to 100000"), "{said:?}");
    let _ = fleet.run(&["enable"]).with_code(0);
    let after = settings(&fleet);
    assert_eq!((&after["schedule"], &after["enabled"]), (&"every 12h".into(), &"yes".into()));
    let again = fleet.run(&["enable"]).with_code(0).out;
    assert!(again.contains("it is enabled already"), "{again}");
    let _ = fleet.run(&["config", "unset", "schedule"]).with_code(0);
    let alert = wait_for("SCHED-01", || sched_01(&fleet));
    let cause =
        "the fleet is enabled, its schedule is off, and nobody else begins rounds as often as promised";
    assert_eq!(alert["cause"], cause);
    // Whoever begins rounds from elsewhere keeps that, also over a pause.
    let _ = fleet.run(&["config", "set", "schedule", "off"]).with_code(0);
    let _ = fleet.run(&["disable"]).with_code(0);
    let said = fleet.run(&["enable"]).with_code(0).out;
    assert!(said.contains("the schedule stays off, as it was"), "{said}");
    assert_eq!(settings(&fleet)["schedule"], "off");
}

#[test]
fn lower_retention_says_what_would_go_before_it_is_signed() {
    let (fleet, _data) = fleet(1);
    let dir = text(&fleet.dir());
    for _ in 0..3 {
        let _ = fleet.run(&["once", &dir]).with_code(0);
    }
    let less = ["config", "set", "retention.keep_days=0", "retention.min_verified=1"];
    let said = fleet.run(&less).with_code(0);
    assert!(said.err.contains("2 rounds would go that stayed so far: 1 to 2"), "{said:?}");
    let said = fleet.run(&["config", "history"]).with_code(0).out;
    assert!(said.contains("retention.keep_days = 0 (was 7)"), "{said}");
    let _ = fleet.run(&["disable"]).with_code(0);
    let said = fleet.run(&["once", &dir]).with_code(7);
    assert!(said.err.contains("the fleet is disabled"), "{said:?}");
    let _ = fleet.run(&["once", &dir, "--force"]).with_code(0);
}

#[test]
fn requests_that_anybody_sends_keep_out_no_signed_one() {
    let data = tempfile::TempDir::new().expect("folder");
    let file = data.path().join("file");
    std::fs::write(&file, tree::noise(3, 10_000)).expect("file");
    let gate = Gate::at(data.path().join("gate"));
    let mut fleet = Fleet::init(&[format!("slow={}", gate.source(&file))]);
    fleet.up();
    let _ = wait_for_leader(&fleet);
    let _ = fleet.run(&["start"]).with_code(0);
    gate.wait_for_capture();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let states: Vec<String> = runtime.block_on(async {
        let client = fleet.trigger_client().await;
        let mut states = Vec::new();
        for number in 0..65 {
            let request = serde_json::to_vec(&json!({"request": format!("flood-{number}")})).expect("JSON");
            let answer = client.request("muster.v1.test.trigger", request.into()).await.expect("an answer");
            let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            states.push(answer["state"].as_str().expect("a state").to_owned());
        }
        states
    });
    assert!(states[..64].iter().all(|state| state == "queued"), "{states:?}");
    assert_eq!(states[64], "refused");
    let signed = fleet.run(&["start", "--request", "signed", "--json"]).with_code(0).json();
    assert_eq!(signed["state"], "queued", "{signed}");
    // What waits is dropped when the fleet is disabled, and what was open goes on.
    let said = fleet.run(&["disable"]).with_code(0).out;
    assert!(said.contains("round 1 is open and goes on"), "{said}");
    gate.open();
    let _ = fleet.wait_for_round(1, &["verified"]);
    wait_for("nobody waits", || {
        let status = fleet.run(&["status", "--json"]).with_code(0).json();
        (status["leader"]["queued"] == 0).then_some(())
    });
    assert_eq!(fleet.rounds().len(), 1);
}
