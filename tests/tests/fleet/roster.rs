//! Who counts, with real processes: members that are enrolled while the fleet runs, and what a revocation stops at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use muster_protocol::config::ShareConfig;
use muster_protocol::log::{Pin, RoundPhase, State};
use muster_share::log::Log;
use muster_share::store;
use muster_tests::fleet::{Fleet, text};
use muster_tests::gate::Gate;
use muster_tests::process::{Running, binaries, wait_for};
use muster_tests::tree;
use serde_json::Value;

struct Case {
    fleet: Fleet,
    data: tempfile::TempDir,
    gate: Gate,
}

/// Services `steady`, of files, and `slow`, whose capture waits for a gate.
fn case() -> Case {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    fs::write(data.path().join("file"), tree::noise(5, 200_000)).expect("file");
    let gate = Gate::at(data.path().join("gate"));
    let fleet = Fleet::init(&[
        format!("steady=files:{}", text(&data.path().join("tree"))),
        format!("slow={}", gate.source(&data.path().join("file"))),
    ]);
    Case { fleet, data, gate }
}

fn log(fleet: &Fleet) -> State {
    let share = text(&fleet.share());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = store::open(&ShareConfig::at(&share)).await.expect("the share");
        Log::open(store, Pin::default()).await.expect("the log").state().clone()
    })
}

/// The reason that a round names for a service.
fn reason(fleet: &Fleet, round: &str, service: &str) -> String {
    let show = fleet.run(&["show", round, "--json"]).with_code(0).json();
    let services = show["services"].as_array().expect("services").clone();
    let found = services.iter().find(|line| line["service"] == service).expect("it is named");
    found["reason"].as_str().unwrap_or_default().to_owned()
}

fn modes_are_tight(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.path().extension().is_some_and(|ending| ending == "crt") {
            continue;
        }
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn an_enrolled_agent_runs_from_the_folder_that_was_copied() {
    let case = case();
    let (mut fleet, data) = (case.fleet, case.data);
    case.gate.open();
    fleet.up();
    let tree = data.path().join("more");
    tree::small(&tree, 9);
    let (into, root) = (fleet.path("made"), text(&fleet.root()));
    let enroll = |more: &[&str]| {
        let mut args = vec!["enroll", "dns", "--root", &root];
        args.extend(more);
        fleet.run(&args)
    };
    let source = format!("files:{}", text(&tree));
    // Nothing is left of what was refused.
    let said = enroll(&["--into", &text(&into)]).with_code(2);
    assert!(said.err.contains("--source is missing"), "{}", said.err);
    let said = enroll(&["--into", &text(&into), "--source", "files:relative"]).with_code(2);
    assert!(said.err.contains("relative path") && !into.exists(), "{}", said.err);
    let said = enroll(&["--into", &text(&fleet.share().join("x")), "--source", &source]).with_code(2);
    assert!(said.err.contains("within the share"), "{}", said.err);
    let before = log(&fleet).next;

    let said = enroll(&["--into", &text(&into), "--source", &source]).with_code(0);
    for part in ["enrolled dns · agent", "muster-agent --config", "mounted there as", "127.0.0.1"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    // Its admission, and the configuration that the share keeps from now on.
    assert_eq!(log(&fleet).next, before + 2);
    modes_are_tight(&into.join("keys"));
    let head = fs::read_to_string(into.join("state/head")).expect("the pinned head");
    assert_eq!(head.trim(), log(&fleet).head.to_string());

    // It is taken elsewhere, and runs there.
    let there = fleet.path("etc-muster-dns");
    assert!(Command::new("cp").arg("-a").arg(&into).arg(&there).status().expect("cp runs").success());
    fs::remove_dir_all(&into).expect("removed here");
    let mut command = Command::new(binaries().join("muster-agent"));
    command.arg("--config").arg(there.join("agent.toml"));
    let agent = Running::start(command, &fleet.path("agent-dns.log"));
    wait_for("the leader has read of it", || {
        fleet.run(&["agents", "--json"]).out.contains("\"dns\"").then_some(())
    });
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let show = fleet.run(&["show", "1", "--json"]).with_code(0).json();
    assert_eq!((&show["outcome"], show["services"].as_array().map(Vec::len)), (&"complete".into(), Some(3)));
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&tree, &out.join("dns/files"));

    // A second one for the service is refused; one in its place is not, and the old one counts no longer.
    let said = enroll(&["--into", &text(&into), "--source", &source]).with_code(7);
    assert!(said.err.contains("has an agent already") && said.err.contains("--replace"), "{}", said.err);
    let said = enroll(&["--into", &text(&into), "--source", &source, "--replace"]).with_code(0);
    assert!(said.out.contains("full upload"), "{}", said.out);
    let log_of_old = agent.log.clone();
    wait_for("the old agent notices", || {
        fs::read_to_string(&log_of_old).ok()?.contains("was revoked by log record").then_some(())
    });
    let mut command = Command::new(binaries().join("muster-agent"));
    command.arg("--config").arg(into.join("agent.toml"));
    let _new = Running::start(command, &fleet.path("agent-dns-2.log"));
    let _ = fleet.run(&["start", "--services", "dns", "--wait"]).with_code(0);
    let _ = fleet.run(&["verify", "--kit", &text(&fleet.kit())]).with_code(0);
}

#[test]
fn a_revoked_agent_is_ignored_and_its_round_ends_without_it() {
    let case = case();
    let mut fleet = case.fleet;
    fleet.up();
    let _ = fleet.run(&["start"]).with_code(0);
    case.gate.wait_for_capture();
    let said = fleet.run(&["revoke", "slow", "--root", &text(&fleet.root())]).with_code(0);
    assert!(said.out.contains("revoked slow · agent") && said.out.contains("log record"), "{}", said.out);
    let record = said.out.split("from log record ").nth(1).and_then(|rest| rest.split(' ').next());
    let record = record.expect("the record is told").to_owned();
    // Nobody was started again, and the capture still stands before its gate: the leader has read the log.
    let round = fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "partial");
    let why = reason(&fleet, "1", "slow");
    assert!(why.contains("KEY-03") && why.contains(&format!("revoked by log record {record}")), "{why}");

    // The agent goes on saying hello, with a key that was good a moment ago. Rounds go without it.
    case.gate.open();
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let show = fleet.run(&["show", "2", "--json"]).with_code(0).json();
    assert_eq!(show["services"].as_array().map(Vec::len), Some(1), "{show}");
    let said = fleet.run(&["start", "--services", "slow"]).with_code(7);
    assert!(format!("{}{}", said.out, said.err).contains("slow"), "{} {}", said.out, said.err);
    let _ = fleet.run(&["verify", "--kit", &text(&fleet.kit())]).with_code(0);
    assert!(
        fleet.dir().join("agents/slow.toml.revoked").exists()
            && !fleet.dir().join("agents/slow.toml").exists()
    );
    let again = fleet.run(&["revoke", "slow", "--root", &text(&fleet.root())]).with_code(7);
    assert!(again.err.contains(&format!("already, by log record {record}")), "{}", again.err);
    let said = fleet.run(&["revoke", "nobody", "--root", &text(&fleet.root())]).with_code(2);
    assert!(said.err.contains("steady (agent)"), "{}", said.err);
}

#[test]
fn a_leader_that_takes_a_round_up_again_names_who_was_revoked_meanwhile() {
    let case = case();
    let mut fleet = case.fleet;
    fleet.up();
    let _ = fleet.run(&["start"]).with_code(0);
    case.gate.wait_for_capture();
    fleet.kill_coordinator();
    let _ = fleet.run(&["revoke", "slow", "--root", &text(&fleet.root())]).with_code(0);
    fleet.start_coordinator();
    let round = fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "partial");
    assert!(reason(&fleet, "1", "slow").contains("revoked by log record"));
}

#[test]
fn a_revoked_coordinator_stops_and_another_ends_its_round() {
    let case = case();
    let mut fleet = case.fleet;
    fleet.up();
    let _ = fleet.run(&["start"]).with_code(0);
    case.gate.wait_for_capture();
    let root = text(&fleet.root());
    let _ = fleet
        .run(&["enroll", "coordinator-2", "--role", "coordinator", "--here", "--root", &root])
        .with_code(0);
    let said = fleet.run(&["revoke", "coordinator", "--root", &root]).with_code(0);
    assert!(said.out.contains("1 coordinator left"), "{}", said.out);
    let revoked = log(&fleet).head.number;
    // By what it reads in the log: this server has not read its users again.
    assert_eq!(fleet.coordinator_ends(), Some(5));
    let state = log(&fleet);
    assert_eq!(state.head.number, revoked, "it appended nothing more");
    assert_eq!(state.open_rounds().len(), 1);

    case.gate.open();
    let config = text(&fleet.dir().join("coordinator-2.toml"));
    let _second = fleet.spawn(&["daemon", "coordinator", "--config", &config], "coordinator-2.log");
    let round = fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    let state = log(&fleet);
    let epoch = state.epoch.expect("somebody leads");
    assert_eq!(epoch.epoch, 2);
    assert_eq!(state.members[&epoch.holder].member.name.as_str(), "coordinator-2");
    assert!(state.void.is_empty() && state.without_effect.is_empty());
    let round = state.rounds.values().next().expect("a round");
    assert!(matches!(round.phase, RoundPhase::Committed { position, .. } if position > revoked));
    let _ = fleet.run(&["verify", "--kit", &text(&fleet.kit())]).with_code(0);
    // Started again, the revoked one refuses to run: the server lets it in no more.
    fs::rename(fleet.dir().join("coordinator.toml.revoked"), fleet.dir().join("coordinator.toml"))
        .expect("back");
    fleet.start_coordinator();
    assert_eq!(fleet.coordinator_ends(), Some(6));
}

#[test]
fn an_enroller_lets_new_agents_in_under_its_prefix_and_nothing_else() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let source = format!("files:{}", text(&data.path().join("tree")));
    let fleet = Fleet::init(&[format!("dns={source}")]);
    let root = text(&fleet.root());
    let own = fleet.path("enroller");
    let said = fleet.run(&["enroll", "scaler", "--role", "enroller", "--root", &root, "--into", &text(&own)]);
    assert!(said.with_code(2).err.contains("--prefix is missing"));
    let mut args = vec!["enroll", "scaler", "--role", "enroller", "--prefix", "web-", "--until", "+4"];
    let into = text(&own);
    args.extend(["--root", &root, "--into", &into]);
    let _ = fleet.run(&args).with_code(0);
    modes_are_tight(&own.join("keys"));

    let (key, config) = (text(&own.join("keys/scaler.key")), text(&own.join("operator.toml")));
    let enroll = |name: &str, into: &str, more: &[&str]| {
        let into = text(&fleet.path(into));
        let mut args = vec!["enroll", name, "--enroller", &key, "--config", &config, "--into", &into];
        args.extend(more);
        fleet.run(&args)
    };
    let _ = enroll("web-1", "web-1", &["--source", &source]).with_code(0);
    let before = log(&fleet).next;
    for (name, more, part) in [
        ("vault", vec!["--source", &source], "may not admit vault"),
        ("web-1", vec!["--source", &source], "has an agent already"),
        ("web-1", vec!["--source", &source, "--replace"], "never gives an agent new keys"),
        ("dns", vec!["--source", &source, "--replace"], "never gives an agent new keys"),
        ("web-2", vec!["--role", "admin"], "agents in, and nobody else"),
        ("web-2", vec!["--role", "coordinator"], "agents in, and nobody else"),
    ] {
        let said = enroll(name, "refused", &more).with_code(7);
        assert!(said.err.contains(part), "{name} {more:?}: {}", said.err);
        assert!(!fleet.path("refused").exists(), "{name} {more:?} left something behind");
    }
    assert_eq!(log(&fleet).next, before, "nothing refused reached the log");
    // Its time is counted in records, and the share's copy of the configuration was one: the fourth is the last.
    let _ = enroll("web-2", "web-2", &["--source", &source]).with_code(0);
    let said = enroll("web-3", "web-3", &["--source", &source]).with_code(7);
    assert!(said.err.contains("time is over"), "{}", said.err);
    let _ = fleet.run(&["revoke", "scaler", "--root", &root]).with_code(0);
    let said = enroll("web-3", "web-3", &["--source", &source]).with_code(5);
    assert!(said.err.contains("is revoked"), "{}", said.err);
    // What it let in before stays.
    let services: Vec<_> = log(&fleet).services().iter().map(ToString::to_string).collect();
    assert_eq!(services, ["dns", "web-1", "web-2"]);
}

#[test]
fn other_members_get_a_configuration_of_their_own() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let fleet = Fleet::init(&[format!("dns=files:{}", text(&data.path().join("tree")))]);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let root = text(&fleet.root());
    for (name, role) in [("eve", "viewer"), ("olga", "operator"), ("ada", "admin")] {
        let into = fleet.path(name);
        let enroll = || {
            fleet.run(&["enroll", name, "--role", role, "--root", &root, "--into", &text(&into), "--json"])
        };
        let said = enroll().with_code(0).json();
        assert_eq!((&said["schema"], &said["role"]), (&"muster.enroll/1".into(), &role.into()));
        modes_are_tight(&into.join("keys"));
        let config = text(&into.join("operator.toml"));
        let rounds = fleet.run(&["rounds", "--json", "--config", &config]).with_code(0).json();
        assert_eq!(rounds["rounds"].as_array().map(Vec::len), Some(1));
        let text = fs::read_to_string(&config).expect("the configuration");
        assert!(text.contains("kit = \"\"") && text.contains("root = \"\""), "{text}");
        let said =
            fleet.run(&["enroll", name, "--role", role, "--root", &root, "--into", "elsewhere"]).with_code(7);
        assert!(said.err.contains(&format!("has a member {name} already")), "{}", said.err);
    }
    // The root of another fleet says nothing here.
    let stranger = fleet.path("stranger");
    fs::create_dir(&stranger).expect("a folder");
    let key = muster_protocol::envelope::Signer::from_seed(&[9; 32]);
    let pem = muster_protocol::pem::signing_key_to_pem(&key);
    muster_share::secret_file::create(&stranger.join("root.key"), pem.as_bytes()).expect("written");
    let before = log(&fleet).next;
    for args in [
        vec!["enroll", "x", "--role", "admin", "--root", "STRANGER"],
        vec!["revoke", "dns", "--root", "STRANGER"],
        vec!["key", "rotate", "--root", "STRANGER", "--kit", "KIT"],
        vec!["adopt", "--root", "STRANGER", "--config", "CONFIG"],
    ] {
        let config = text(&fleet.dir().join("operator.toml"));
        let (stranger, kit) = (text(&stranger), text(&fleet.path("new-kit")));
        let fill = |arg: &str| match arg {
            "STRANGER" => stranger.clone(),
            "KIT" => kit.clone(),
            "CONFIG" => config.clone(),
            other => other.to_owned(),
        };
        let args: Vec<_> = args.into_iter().map(fill).collect();
        let said = fleet.run(&args).with_code(5);
        assert!(said.err.contains("root key of another fleet"), "{args:?}: {}", said.err);
    }
    assert_eq!(log(&fleet).next, before);
}

#[test]
fn an_agent_is_enrolled_and_given_new_keys_in_the_fleets_own_folder() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 3);
    tree::small(&data.path().join("b"), 4);
    let fleet = Fleet::init(&[format!("dns=files:{}", text(&data.path().join("a")))]);
    let (root, source) = (text(&fleet.root()), format!("files:{}", text(&data.path().join("b"))));
    let once = || fleet.run(&["once", &text(&fleet.dir()), "--json"]).with_code(0).json();
    let _ = fleet.run(&["enroll", "web", "--here", "--source", &source, "--root", &root]).with_code(0);
    assert_eq!(once()["services"].as_array().map(Vec::len), Some(2));
    let key = |fleet: &Fleet| {
        let agent =
            muster_agent::config::Config::load(&fleet.dir().join("agents/web.toml")).expect("loads").agent;
        muster_share::secret_file::read_signing_key(&agent.key).expect("a key").key_id()
    };
    let before = key(&fleet);
    let said = fleet.run(&["enroll", "web", "--here", "--replace", "--root", &root]).with_code(0);
    assert!(said.err.contains("web.toml.replaced"), "{}", said.err);
    assert_ne!(key(&fleet), before);
    assert!(log(&fleet).members[&before].revoked.is_some());
    // The sources are those of the agent before it.
    assert_eq!(once()["services"].as_array().map(Vec::len), Some(2));
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&data.path().join("b"), &out.join("web/files"));
    // The whole folder is locked up as before: every key for its owner alone.
    modes_are_tight(&fleet.dir().join("keys"));
}

/// KEY-02: private keys that this machine can read, wherever they lie and whatever they are called.
#[test]
fn an_agent_that_is_stopped_is_not_counted_on_from_then_on() {
    let mut fleet = Fleet::init(&["dns=files:/etc/hostname".to_owned()]);
    fleet.up();
    let state = |fleet: &Fleet| fleet.run(&["agents", "--json"]).json()["agents"][0]["state"].clone();
    wait_for("it is there", || (state(&fleet) == "online").then_some(()));
    fleet.agent("dns").terminate();
    assert_eq!(fleet.agent("dns").wait().code(), Some(0));
    let began = std::time::Instant::now();
    wait_for("it is gone", || (state(&fleet) == "offline").then_some(()));
    // Silence alone is told after 45 s.
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    fleet.start_agent("dns");
    wait_for("it is back", || (state(&fleet) == "online").then_some(()));
}

#[test]
fn private_keys_within_reach_are_named() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let fleet = Fleet::init(&[format!("dns=files:{}", text(&data.path().join("tree")))]);
    let named = || -> Vec<String> {
        let status = fleet.run(&["status", "--json"]).with_code(0).json();
        let alerts = status["alerts"].as_array().cloned().unwrap_or_default();
        let keys = alerts.iter().filter(|alert| alert["code"] == "KEY-02");
        let subjects = keys.filter_map(|alert| alert["subject"].as_str().map(str::to_owned));
        // The same code tells of recovery keys that are unproven.
        subjects.filter(|subject| !subject.starts_with("age1")).collect()
    };
    assert_eq!(named(), [text(&fleet.kit().join("recovery.key")), text(&fleet.root().join("root.key"))]);
    fs::rename(fleet.kit(), fleet.path("away-kit")).expect("moved");
    fs::rename(fleet.root(), fleet.path("away-root")).expect("moved");
    assert!(named().is_empty());
    let copy = fleet.dir().join("notes.txt");
    fs::copy(fleet.path("away-kit/recovery.key"), &copy).expect("copied");
    assert_eq!(named(), [text(&copy)]);
    fs::remove_file(&copy).expect("removed");

    // A kit that is made later, and a copy on the machine of an agent.
    let root = text(&fleet.path("away-root"));
    let kit = fleet.path("second-kit");
    let _ = fleet.run(&["key", "rotate", "--root", &root, "--kit", &text(&kit)]).with_code(0);
    assert_eq!(named(), [text(&kit.join("recovery.key"))]);
    let into = fleet.path("made");
    let source = format!("files:{}", text(&data.path().join("tree")));
    let _ = fleet
        .run(&["enroll", "web", "--source", &source, "--root", &root, "--into", &text(&into)])
        .with_code(0);
    fs::copy(fleet.path("away-root/root.key"), into.join("keys/copy")).expect("copied");
    let mut command = Command::new(binaries().join("muster-agent"));
    command.arg("--config").arg(into.join("agent.toml"));
    let agent = Running::start(command, &fleet.path("agent-web.log"));
    wait_for("the agent warns", || {
        let said = fs::read_to_string(&agent.log).ok()?;
        (said.contains("KEY-02") && said.contains("keys/copy")).then_some(())
    });
}

/// `up` says it, too, and a coordinator that is revoked ends only itself where there is another.
#[test]
fn up_warns_and_goes_on_with_the_coordinators_that_count() {
    let case = case();
    case.gate.open();
    let fleet = case.fleet;
    let root = text(&fleet.root());
    let _ = fleet
        .run(&["enroll", "coordinator-2", "--role", "coordinator", "--here", "--root", &root])
        .with_code(0);
    let up = fleet.spawn(&["up", &text(&fleet.dir())], "up.log");
    let said = || fs::read_to_string(&up.log).unwrap_or_default();
    wait_for("up warns of the keys", || (said().matches("KEY-02").count() >= 2).then_some(()));
    wait_for("a coordinator leads", || {
        let status: Value = serde_json::from_str(&fleet.run(&["status", "--json"]).out).ok()?;
        (status["leader"] != Value::Null).then_some(())
    });
    let _ = fleet.run(&["revoke", "coordinator", "--root", &root]).with_code(0);
    wait_for("the revoked one ends", || said().contains("coordinator cannot run").then_some(()));
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    up.terminate();
}

#[test]
fn up_starts_what_is_enrolled_into_its_folder() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let source = format!("files:{}", text(&data.path().join("tree")));
    let mut fleet = Fleet::init(&[format!("dns={source}")]);
    // Enough for an agent that is seen after a second, and started when its file is three seconds old.
    fleet.set("MUSTER_ROUND_RECRUIT", "30s");
    let up = fleet.spawn(&["up", &text(&fleet.dir())], "up.log");
    let leads = |said: &str| said.contains("\"leader\":{");
    wait_for("it is up", || leads(&fleet.run(&["status", "--json"]).out).then_some(()));
    let root = text(&fleet.root());
    let _ = fleet.run(&["enroll", "web", "--source", &source, "--root", &root, "--here"]).with_code(0);
    wait_for("the leader has read of it", || {
        fleet.run(&["agents", "--json"]).out.contains("\"web\"").then_some(())
    });
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let show = fleet.run(&["show", "1", "--json"]).with_code(0).json();
    assert_eq!((&show["outcome"], show["services"].as_array().map(Vec::len)), (&"complete".into(), Some(2)));
    let said = fs::read_to_string(&up.log).expect("a log");
    assert!(said.contains("agent web is new here"), "{said}");
    up.terminate();
}
