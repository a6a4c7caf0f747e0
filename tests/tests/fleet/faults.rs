//! What a fleet meets: absent and killed agents, killed coordinators, a wiped bus. FAULTS invariants 1, 2, 7, 8, 16.

use std::fs;
use std::path::Path;

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use muster_tests::tree;

/// A command source that prints the file's content once `gate` exists, and tells that it waits.
fn gated(file: &Path, gate: &Path) -> String {
    let script = format!(
        "touch '{0}.waiting'; while [ ! -e '{0}' ]; do sleep 0.02; done; cat '{1}'",
        text(gate),
        text(file)
    );
    serde_json::to_string(&["sh", "-c", &script]).expect("JSON")
}

fn waiting(gate: &Path) -> std::path::PathBuf {
    format!("{}.waiting", text(gate)).into()
}

/// A fleet with a capture that waits for a gate.
pub(crate) struct Gated {
    pub(crate) fleet: Fleet,
    _data: tempfile::TempDir,
    pub(crate) gate: std::path::PathBuf,
    bytes: Vec<u8>,
}

fn gated_fleet() -> Gated {
    gated_fleet_of(1)
}

/// Service `steady` of files and service `slow` whose capture waits for a gate, and this many coordinators.
pub(crate) fn gated_fleet_of(coordinators: u8) -> Gated {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let (file, gate) = (data.path().join("file"), data.path().join("gate"));
    let bytes = tree::noise(5, 3_000_000);
    fs::write(&file, &bytes).expect("file");
    let fleet = Fleet::init_with_coordinators(
        coordinators,
        &[
            format!("steady=files:{}", text(&data.path().join("tree"))),
            format!("slow=command:{}", gated(&file, &gate)),
        ],
    );
    Gated { fleet, _data: data, gate, bytes }
}

impl Gated {
    pub(crate) fn check_recovery(&self) {
        let out = self.fleet.path("out");
        let _ = self.fleet.recover(&out).with_code(0);
        assert_eq!(fs::read(out.join("slow/command/output")).expect("the dump"), self.bytes);
    }

    pub(crate) fn wait_for_capture(&self) {
        wait_for("the slow capture has begun", || waiting(&self.gate).exists().then_some(()));
    }
}

pub(crate) fn commits(fleet: &Fleet) -> usize {
    let rounds = fleet.rounds();
    rounds.iter().filter(|r| r["outcome"] == "complete" || r["outcome"] == "partial").count()
}

#[test]
fn an_absent_agent_makes_the_round_partial_and_is_named_with_its_reason() {
    let mut g = gated_fleet();
    fs::write(&g.gate, b"").expect("gate");
    g.fleet.set("MUSTER_ROUND_RECRUIT", "300ms");
    g.fleet.start_nats();
    g.fleet.start_coordinator();
    g.fleet.start_agent("steady");
    let said = g.fleet.run(&["start", "--wait", "--json"]).with_code(3);
    assert!(said.out.contains("slow"), "{}", said.out);
    let show = g.fleet.run(&["show", "latest", "--json"]).with_code(0).json();
    assert_eq!(show["outcome"], "partial");
    let services = show["services"].as_array().expect("services");
    let slow = services.iter().find(|s| s["service"] == "slow").expect("slow is named");
    assert!(
        slow["reason"].as_str().is_some_and(|r| r.contains("AGENT-01") && r.contains("no hello")),
        "{slow}"
    );
    // It comes back: the next round is complete.
    g.fleet.start_agent("slow");
    let _ = g.fleet.run(&["start", "--wait"]).with_code(0);
    g.check_recovery();
}

#[test]
fn an_agent_killed_in_mid_slice_and_started_again_completes_the_same_round() {
    let mut g = gated_fleet();
    g.fleet.up();
    let _ = g.fleet.run(&["start"]).with_code(0);
    g.wait_for_capture();
    g.fleet.kill_agent("slow");
    fs::remove_file(waiting(&g.gate)).expect("told");
    g.fleet.start_agent("slow");
    g.wait_for_capture();
    fs::write(&g.gate, b"").expect("gate");
    let round = g.fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    assert_eq!(commits(&g.fleet), 1);
    g.check_recovery();
}

#[test]
fn a_coordinator_killed_after_the_receipts_commits_once() {
    let mut g = gated_fleet();
    g.fleet.up();
    let _ = g.fleet.run(&["start"]).with_code(0);
    g.wait_for_capture();
    let receipts = g.fleet.share().join("agents/steady/slices");
    wait_for("the steady receipt is on the share", || {
        let rounds = fs::read_dir(&receipts).ok()?;
        let objects = rounds.flatten().flat_map(|r| fs::read_dir(r.path()).into_iter().flatten().flatten());
        objects.filter(|o| o.path().extension().is_some_and(|e| e == "receipt")).count().checked_sub(1)
    });
    g.fleet.kill_coordinator();
    fs::write(&g.gate, b"").expect("gate");
    g.fleet.start_coordinator();
    let round = g.fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    assert_eq!(commits(&g.fleet), 1);
    let _ = g.fleet.run(&["start", "--wait"]).with_code(0);
    assert_eq!(commits(&g.fleet), 2);
    g.check_recovery();
}

#[test]
fn a_coordinator_killed_again_and_again_commits_each_round_once() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let mut fleet = Fleet::init(&[format!("only=files:{}", text(&data.path().join("tree")))]);
    fleet.up();
    for number in 1..=6 {
        let request = format!("request-{number}");
        let mut starter = fleet.spawn(&["start", "--request", &request], "start.log");
        // Each round is hit at another moment of its short life.
        std::thread::sleep(std::time::Duration::from_millis(30 * number));
        fleet.kill_coordinator();
        fleet.start_coordinator();
        let _ = starter.wait();
        let _ = fleet.run(&["start", "--request", &request, "--wait"]).with_code(0);
        assert_eq!(fleet.rounds().len() as u64, number, "the same request is the same round");
        assert_eq!(commits(&fleet) as u64, number);
    }
}

#[test]
fn a_wiped_bus_between_and_during_rounds_costs_nothing_that_was_committed() {
    let mut g = gated_fleet();
    g.fleet.up();
    fs::write(&g.gate, b"").expect("gate");
    let _ = g.fleet.run(&["start", "--wait"]).with_code(0);
    let wipe = |fleet: &mut Fleet| {
        let nats = fleet.nats.as_mut().expect("it runs");
        nats.kill();
        let store = fleet.dir().join("state/nats");
        assert!(store.exists(), "JetStream's folder is where it is deleted");
        fs::remove_dir_all(&store).expect("wiped");
        fleet.nats.as_mut().expect("it runs").restart();
    };
    wipe(&mut g.fleet);
    let _ = g.fleet.run(&["start", "--wait"]).with_code(0);

    fs::remove_file(&g.gate).expect("gate");
    fs::remove_file(waiting(&g.gate)).expect("told");
    let _ = g.fleet.run(&["start"]).with_code(0);
    g.wait_for_capture();
    wipe(&mut g.fleet);
    fs::write(&g.gate, b"").expect("gate");
    let round = g.fleet.wait_for_round(3, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    assert_eq!(commits(&g.fleet), 3);
    g.check_recovery();
}

#[test]
fn a_failing_capture_is_told_with_its_native_error_and_the_others_count() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let fails = serde_json::to_string(&["sh", "-c", "echo half; echo the disk is on fire >&2; exit 3"])
        .expect("JSON");
    let fleet = Fleet::init(&[
        format!("good=files:{}", text(&data.path().join("tree"))),
        format!("bad=command:{fails}"),
    ]);
    let said = fleet.run(&["once", &text(&fleet.dir()), "--json"]).with_code(3).json();
    let services = said["services"].as_array().expect("services").clone();
    let bad = services.iter().find(|s| s["service"] == "bad").expect("bad is named");
    let reason = bad["reason"].as_str().expect("a reason");
    assert!(reason.contains("AGENT-03") && reason.contains("the disk is on fire"), "{reason}");
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(3);
    tree::assert_same(&data.path().join("tree"), &out.join("good/files"));
    assert!(!out.join("bad/command/output").exists());
}
