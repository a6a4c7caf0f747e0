//! Everything is lost but share, kit and root: the fleet is made again from them, goes on with fresh keys, and what was backed up
//! before still recovers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use muster_protocol::log::{Effect, Pin, State};
use muster_tests::fleet::{Fleet, text};
use muster_tests::gate::Gate;
use muster_tests::process::{Said, wait_for};
use muster_tests::tree;
use serde_json::Value;

struct Case {
    fleet: Fleet,
    data: tempfile::TempDir,
}

fn case() -> Case {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let fleet = Fleet::init(&[format!("dns=files:{}", text(&data.path().join("tree")))]);
    Case { fleet, data }
}

fn rebuild(fleet: &Fleet, into: &Path, more: &[&str]) -> Said {
    let (share, kit, root, into) =
        (text(&fleet.share()), text(&fleet.kit()), text(&fleet.root()), text(into));
    let mut args = vec!["rebuild", "--share", &share, "--kit", &kit, "--root", &root, "--into", &into];
    args.extend(more);
    fleet.run(&args)
}

fn records(fleet: &Fleet) -> usize {
    fs::read_dir(fleet.share().join("log")).expect("a log").count()
}

fn change(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("a file");
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replacen(from, to, 1)).expect("written");
}

fn named(head: &Value) -> String {
    format!("{}:{}", head["number"], head["hash"].as_str().expect("a hash"))
}

#[test]
fn a_lost_fleet_is_rebuilt_goes_on_and_recovers_what_was_before() {
    let data = tempfile::TempDir::new().expect("folder");
    let tree_of = data.path().join("tree");
    tree::small(&tree_of, 3);
    fs::write(data.path().join("file"), tree::noise(5, 200_000)).expect("file");
    let gate = Gate::at(data.path().join("gate"));
    let mut fleet = Fleet::init(&[
        format!("dns=files:{}", text(&tree_of)),
        format!("slow={}", gate.source(&data.path().join("file"))),
    ]);
    // What the operator changed is kept, too: by the next command that finds it changed.
    change(&fleet.dir().join("agents/dns.toml"), "heartbeat = \"15s\"", "heartbeat = \"14s\"");
    gate.open();
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    gate.close();
    let _ = fleet.run(&["config", "set", "interval", "12h"]).with_code(0);
    let fleet_id = fleet.run(&["status", "--json"]).json()["fleet_id"].clone();
    fleet.up();
    let started = fleet.run(&["start", "--json"]).with_code(0).json();
    let lost = started["round"].as_str().expect("a round").to_owned();
    let _ = fleet.wait_for_round(2, &["open"]);
    let before = fs::read_to_string(fleet.dir().join("keys/agent-dns.key")).expect("a key");
    fleet.down();
    fs::remove_dir_all(fleet.dir()).expect("all is lost");

    let rebuilt = rebuild(&fleet, &fleet.dir(), &["--json"]).with_code(0).json();
    assert_eq!(rebuilt["services"], serde_json::json!(["dns", "slow"]));
    assert_eq!(rebuilt["ended"], serde_json::json!([2]));
    assert_eq!((&rebuilt["unkept"], &rebuilt["left"]), (&serde_json::json!([]), &serde_json::json!([])));
    if fleet_id != Value::Null {
        assert_eq!(rebuilt["fleet_id"], fleet_id);
    }
    let after = fs::read_to_string(fleet.dir().join("keys/agent-dns.key")).expect("a key");
    assert_ne!(before, after, "keys are fresh");
    for entry in fs::read_dir(fleet.dir().join("keys")).expect("keys") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        let public = entry.path().extension().is_some_and(|ending| ending == "crt");
        assert!(public || mode == 0o600, "{}: {mode:o}", entry.path().display());
    }
    let agent = fs::read_to_string(fleet.dir().join("agents/dns.toml")).expect("a file");
    assert!(agent.contains("heartbeat = \"14s\"") && agent.contains(&text(&tree_of)), "{agent}");
    let shown = fleet.run(&["show", &lost, "--json"]).with_code(0).json();
    assert_eq!(shown["state"], "failed", "{shown}");
    let settings = fleet.run(&["config", "show", "--json"]).with_code(0).json();
    assert_eq!(settings["settings"]["interval"], "12h");

    fleet.take_own_port();
    gate.open();
    fleet.up();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let _ = fleet.wait_for_round(3, &["verified"]);
    let (share, kit) = (text(&fleet.share()), text(&fleet.kit()));
    for round in ["1", "3"] {
        let out = fleet.path(&format!("out-{round}"));
        let args = ["recover", "--share", &share, "--kit", &kit, "--round", round, "--into", &text(&out)];
        let _ = fleet.run(&args).with_code(0);
        tree::assert_same(&tree_of, &out.join("dns/files"));
    }
}

#[test]
fn the_lost_keys_count_no_longer() {
    let case = case();
    let fleet = &case.fleet;
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let stolen = fleet.path("stolen");
    fs::rename(fleet.dir(), &stolen).expect("moved");
    let _ = rebuild(fleet, &fleet.dir(), &[]).with_code(0);
    let said = fleet.run(&["once", &text(&stolen)]);
    assert!(said.code == 5 && said.err.contains("KEY-03"), "{} {}", said.code, said.err);
    let config = text(&stolen.join("operator.toml"));
    let said = fleet.run(&["config", "set", "interval", "1h", "--config", &config]);
    assert!(said.code == 7 && said.err.contains("SEC-01"), "{} {}", said.code, said.err);
    let status = fleet.run(&["status", "--json", "--config", &config]);
    assert!(status.out.contains("this operator was revoked by log record"), "{}", status.out);
    // Nor does the old coordinator's key open the configuration that was published since.
    let shown = fleet.run(&["config", "show", "--json", "--config", &config]).with_code(0).json();
    assert_eq!(shown["kept"], Value::Null);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    tree::assert_same(&case.data.path().join("tree"), &recovered(fleet).join("dns/files"));
}

fn recovered(fleet: &Fleet) -> std::path::PathBuf {
    let out = fleet.path("recovered");
    let _ = fleet.recover(&out).with_code(0);
    out
}

#[test]
fn what_cannot_be_rebuilt_is_refused_and_changes_nothing() {
    let case = case();
    let fleet = &case.fleet;
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let head = fleet.run(&["rounds", "--json"]).with_code(0).json()["head"].clone();
    let other = Fleet::init(&[format!("dns=files:{}", text(&case.data.path().join("tree")))]);
    let (count, new) = (records(fleet), fleet.path("new"));
    let refused =
        |code: i32, part: &str, share: &Path, kit: &Path, root: &Path, into: &Path, more: &[&str]| {
            let (share, kit, root, text_into) = (text(share), text(kit), text(root), text(into));
            let mut args =
                vec!["rebuild", "--share", &share, "--kit", &kit, "--root", &root, "--into", &text_into];
            args.extend(more);
            let said = fleet.run(&args);
            assert!(said.code == code && said.err.contains(part), "{part}: {} {}", said.code, said.err);
            assert!(said.err.contains("→"), "no next step: {}", said.err);
            assert_eq!(records(fleet), count, "{part}: the log is as it was");
            assert!(into != new || !into.exists(), "{part}: nothing is left behind");
        };
    let (share, kit, root) = (fleet.share(), fleet.kit(), fleet.root());
    refused(5, "not of one fleet", &share, &other.kit(), &other.root(), &new, &[]);
    refused(5, "another fleet", &share, &kit, &other.root(), &new, &[]);
    refused(2, "lies within", &share, &kit, &kit, &new, &[]);
    refused(5, "root.key", &share, &kit, &fleet.path("no-root"), &new, &[]);
    refused(5, "recovery.key", &share, &fleet.path("no-kit"), &root, &new, &[]);
    refused(6, "SHARE-0", &fleet.path("nowhere"), &kit, &root, &new, &[]);
    refused(2, "--into", &share, &kit, &root, &fleet.dir(), &[]);
    refused(2, "lies within", &share, &kit, &root, &share.join("new"), &[]);
    refused(2, "lies within", &share, &kit, &root, &kit.join("new"), &[]);
    let later = format!("{}:{}", head["number"].as_u64().expect("a number") + 1, "ab".repeat(32));
    refused(4, "SHARE-08", &share, &kit, &root, &new, &["--expect-head", &later]);

    // The kit of a recovery key that was never in a keyset.
    let strange = fleet.path("strange");
    assert!(Command::new("cp").args([text(&kit), text(&strange)]).arg("-r").status().expect("cp").success());
    fs::remove_file(strange.join("recovery.key")).expect("removed");
    let _ = fleet.run(&["key", "generate", "--out", &text(&strange.join("recovery.key"))]).with_code(0);
    refused(5, "KEY-03", &share, &strange, &root, &new, &[]);

    // What the log names is damaged, then gone.
    let shown = fleet.run(&["config", "show", "--json"]).with_code(0).json();
    let object = share.join(shown["sealed"].as_str().expect("an object"));
    let mut bytes = fs::read(&object).expect("sealed");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::remove_file(&object).expect("removed");
    fs::write(&object, &bytes).expect("damaged");
    refused(4, "VERIFY-01", &share, &kit, &root, &new, &[]);
    let verified = |what: &str| {
        let said = fleet.run(&["verify", "--json"]).with_code(4).json();
        let damaged = said["damaged"].as_array().expect("a list").clone();
        assert!(damaged.iter().any(|d| d["what"].as_str().is_some_and(|have| have.contains(what))), "{said}");
    };
    verified("hash differs");
    fs::remove_file(&object).expect("removed");
    verified("missing");
    refused(4, "VERIFY-01", &share, &kit, &root, &new, &[]);
    bytes[last] ^= 1;
    fs::write(&object, &bytes).expect("mended");
    let _ = rebuild(fleet, &new, &["--expect-head", &named(&head)]).with_code(0);
}

#[test]
fn agents_that_live_elsewhere_are_kept_until_they_are_revoked() {
    let case = case();
    let fleet = &case.fleet;
    let root = text(&fleet.root());
    let source = format!("files:{}", text(&case.data.path().join("tree")));
    let apart = text(&fleet.path("apart"));
    let kept = || {
        let shown = fleet.run(&["config", "show", "--json"]).with_code(0).json();
        let files = shown["kept"]["files"].as_array().expect("files").clone();
        files.iter().map(|file| file.as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kept(), ["agents/dns.toml", "coordinator.toml", "operator.toml"]);
    let enroll = ["enroll", "web", "--source", &source, "--root", &root, "--into", &apart];
    let _ = fleet.run(&enroll).with_code(0);
    assert_eq!(kept(), ["agents/dns.toml", "agents/web.toml", "coordinator.toml", "operator.toml"]);
    let two =
        ["enroll", "two", "--role", "coordinator", "--root", &root, "--into", &text(&fleet.path("two"))];
    let _ = fleet.run(&two).with_code(0);
    assert!(kept().contains(&"coordinator-two.toml".to_owned()), "{:?}", kept());
    // A folder without them does not make the share forget them.
    let _ = fleet.run(&["once", &text(&fleet.dir()), "--services", "dns"]).with_code(0);
    assert!(kept().contains(&"agents/web.toml".to_owned()));

    fs::remove_dir_all(fleet.dir()).expect("lost");
    let _ = rebuild(fleet, &fleet.dir(), &[]).with_code(0);
    for file in ["agents/web.toml", "agents/dns.toml", "coordinator-two.toml", "coordinator.toml"] {
        assert!(fleet.dir().join(file).is_file(), "{file}");
    }
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let _ = fleet.run(&["revoke", "web", "--root", &root]).with_code(0);
    assert!(!kept().contains(&"agents/web.toml".to_owned()), "{:?}", kept());
}

#[test]
fn credentials_of_the_share_reach_the_agents_of_a_round_and_nobody_sees_them() {
    let mut case = case();
    let secret = "user=CORP\\backup password=correct-horse-battery";
    let file = case.fleet.path("secret");
    fs::write(&file, format!("{secret}\n")).expect("written");
    let from = text(&file);
    let credentials = |fleet: &Fleet| fleet.run(&["share", "credentials", "--from", &from, "--json"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("open to all");
    let said = credentials(&case.fleet).with_code(2);
    assert!(said.err.contains("0644") && !said.err.contains("horse"), "{}", said.err);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("closed");
    fs::write(&file, "\n").expect("written");
    assert!(credentials(&case.fleet).with_code(2).err.contains("no credentials in it"));
    fs::write(&file, "x".repeat(3000)).expect("written");
    assert!(credentials(&case.fleet).with_code(2).err.contains("more than 2048 bytes"));
    fs::write(&file, format!("{secret}\n")).expect("written");

    case.fleet.up();
    let said = credentials(&case.fleet).with_code(0);
    let fingerprint = said.json()["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let shown = case.fleet.run(&["config", "show", "--json"]).with_code(0);
    assert_eq!(shown.json()["kept"]["credentials"], fingerprint.as_str());
    let told = |fleet: &Fleet| {
        let log = fs::read_to_string(fleet.path("agent-dns.log")).unwrap_or_default();
        log.contains(&fingerprint).then_some(())
    };
    // The leader reads the log every two seconds.
    wait_for("the agent is told", || {
        let _ = case.fleet.run(&["start", "--wait"]).with_code(0);
        told(&case.fleet)
    });
    for said in [said, shown] {
        assert!(!said.out.contains("horse") && !said.err.contains("horse"), "{} {}", said.out, said.err);
    }
    case.fleet.down();
    let seen = Command::new("grep")
        .args(["-rlF", "correct-horse", "--exclude=secret", &text(&case.fleet.path(""))])
        .output()
        .expect("grep runs");
    assert!(seen.stdout.is_empty(), "{}", String::from_utf8_lossy(&seen.stdout));

    // A rebuilt fleet still has them; a fleet that forgets them has not.
    fs::remove_dir_all(case.fleet.dir()).expect("lost");
    let _ = rebuild(&case.fleet, &case.fleet.dir(), &[]).with_code(0);
    let kept =
        || case.fleet.run(&["config", "show", "--json"]).with_code(0).json()["kept"]["credentials"].clone();
    assert_eq!(kept(), fingerprint.as_str());
    let _ = case.fleet.run(&["share", "credentials", "--forget"]).with_code(0);
    assert_eq!(kept(), Value::Null);
}

#[test]
fn only_an_admin_changes_the_configuration() {
    let case = case();
    let fleet = &case.fleet;
    let (root, apart) = (text(&fleet.root()), fleet.path("bob"));
    let enroll = ["enroll", "bob", "--role", "operator", "--root", &root, "--into", &text(&apart)];
    let _ = fleet.run(&enroll).with_code(0);
    let config = text(&apart.join("operator.toml"));
    let said = fleet.run(&["config", "set", "interval", "1h", "--config", &config]).with_code(7);
    assert!(said.err.contains("SEC-01") && said.err.contains("admin"), "{}", said.err);
    let apart = text(&fleet.path("vic"));
    let enroll = ["enroll", "vic", "--role", "viewer", "--root", &root, "--into", &apart];
    let _ = fleet.run(&enroll).with_code(0);
    let config = text(&fleet.path("vic/operator.toml"));
    let said = fleet.run(&["start", "--config", &config]).with_code(7);
    assert!(said.err.contains("vic may not start rounds") && said.err.contains("viewer"), "{}", said.err);
    let count = records(fleet);
    for (args, part) in [
        (["config", "set", "interval", "1s"], "from a minute"),
        (["config", "set", "retention", "1"], "no setting \"retention\""),
        (["config", "set", "schedule", "3h"], "must be off"),
    ] {
        let said = fleet.run(&args).with_code(2);
        assert!(said.err.contains(part) && said.err.contains("→"), "{}", said.err);
    }
    assert_eq!(records(fleet), count, "nothing was written");
    let said = fleet.run(&["config", "set", "retention.keep_days", "30"]).with_code(0);
    assert!(said.out.contains("retention.keep_days = 30, was 7"), "{}", said.out);
    assert!(
        fleet.run(&["config", "set", "retention.keep_days", "30"]).with_code(0).out.contains("30 already")
    );
    assert_eq!(records(fleet), count + 1);
}

/// A rebuild of many services takes several records. Wherever it is cut off, no service may be without an agent: the next
/// rebuild would take it for one that was let go on purpose.
#[test]
fn a_rebuild_that_is_cut_off_anywhere_leaves_every_service_an_agent() {
    let data = tempfile::TempDir::new().expect("folder");
    fs::write(data.path().join("file"), b"x").expect("a file");
    let services: Vec<_> = (0..120).map(|n| format!("s{n}=files:{}", text(data.path()))).collect();
    let fleet = Fleet::init(&services);
    let before = records(&fleet);
    fs::remove_dir_all(fleet.dir()).expect("lost");
    let rebuilt = rebuild(&fleet, &fleet.dir(), &["--json"]).with_code(0).json();
    assert_eq!(rebuilt["services"].as_array().map(Vec::len), Some(120));
    let mut state = State::new(Pin::default());
    for number in 0..records(&fleet) {
        let record = fs::read(fleet.share().join(format!("log/{number:010}"))).expect("a record");
        assert_eq!(state.replay(&record).expect("a log"), Effect::Applied, "record {number}");
        assert!(number < before || state.services().len() == 120, "record {number}");
    }
    // Cut off behind the first of its records, as a full share would.
    for number in before + 1..records(&fleet) {
        fs::remove_file(fleet.share().join(format!("log/{number:010}"))).expect("cut off");
    }
    let again = rebuild(&fleet, &fleet.path("again"), &["--json"]).with_code(0).json();
    assert_eq!(
        (again["services"].as_array().map(Vec::len), &again["unkept"]),
        (Some(120), &serde_json::json!([]))
    );
}

#[test]
fn what_lies_about_in_the_folder_does_not_stand_in_the_way_of_a_rebuild() {
    let case = case();
    let fleet = &case.fleet;
    let dir = fleet.dir();
    fs::copy(dir.join("coordinator.toml"), dir.join("coordinator-old.toml")).expect("copied");
    fs::rename(dir.join("agents/dns.toml"), dir.join("agents/renamed.toml")).expect("renamed");
    change(&dir.join("agents/renamed.toml"), "heartbeat = \"15s\"", "heartbeat = \"14s\"");
    let _ = fleet.run(&["once", &text(&dir)]).with_code(0);
    let shown = fleet.run(&["config", "show", "--json"]).with_code(0).json();
    let files = serde_json::json!(["agents/dns.toml", "coordinator.toml", "operator.toml"]);
    assert_eq!(shown["kept"]["files"], files);
    fs::remove_dir_all(&dir).expect("lost");
    let _ = rebuild(fleet, &dir, &[]).with_code(0);
    assert!(fs::read_to_string(dir.join("agents/dns.toml")).expect("a file").contains("\"14s\""));
    let _ = fleet.run(&["once", &text(&dir)]).with_code(0);
}

#[test]
fn a_sealed_configuration_that_was_deleted_is_kept_anew_from_the_folder() {
    let case = case();
    let fleet = &case.fleet;
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let sealed = || {
        let shown = fleet.run(&["config", "show", "--json"]).with_code(0).json();
        fleet.share().join(shown["sealed"].as_str().expect("an object"))
    };
    let first = sealed();
    fs::remove_file(&first).expect("deleted");
    let said = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    assert!(said.err.contains("VERIFY-01") && said.err.contains("share credentials"), "{}", said.err);
    assert_ne!(sealed(), first);
    fs::remove_dir_all(fleet.dir()).expect("lost");
    let _ = rebuild(fleet, &fleet.dir(), &[]).with_code(0);
}

#[test]
fn commands_at_the_same_time_lose_nothing() {
    let case = case();
    let fleet = &case.fleet;
    let root = text(&fleet.root());
    let source = format!("files:{}", text(&case.data.path().join("tree")));
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (root, source) = (&root, &source);
            scope.spawn(move || {
                let (name, days) = (format!("web-{n}"), format!("{}", n + 10));
                let _ = fleet.run(&["config", "set", "retention.keep_days", &days]).with_code(0);
                let enroll = ["enroll", &name, "--source", source, "--root", root, "--here"];
                let _ = fleet.run(&enroll).with_code(0);
                let _ = fleet.run(&["config", "set", "interval", &format!("{}h", n + 10)]).with_code(0);
                let _ = fleet.run(&["rounds"]).with_code(0);
            });
        }
    });
    let shown = fleet.run(&["config", "show", "--json"]).with_code(0).json();
    let files = shown["kept"]["files"].as_array().expect("files");
    assert!((0..4).all(|n| files.contains(&format!("agents/web-{n}.toml").into())), "{files:?}");
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let _ = fleet.run(&["verify", "--kit", &text(&fleet.kit())]).with_code(0);
}
