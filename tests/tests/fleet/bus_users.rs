//! Who may sign on to the fleet's NATS server: `enroll` and `revoke` change it, and the server of `muster up` obeys at
//! once.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::Event;
use muster_bus::UserKey;
use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Running, binaries, wait_for};
use muster_tests::tree;
use serde_json::Value;
use tokio::sync::Notify;

fn fleet() -> (Fleet, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let fleet = Fleet::init(&[format!("steady=files:{}", text(&data.path().join("tree")))]);
    (fleet, data)
}

fn up(fleet: &Fleet) -> Running {
    let up = fleet.spawn(&["up", &text(&fleet.dir())], "up.log");
    wait_for("a coordinator leads", || {
        let status: Value = serde_json::from_str(&fleet.run(&["status", "--json"]).out).ok()?;
        (status["leader"] != Value::Null).then_some(())
    });
    up
}

fn said(up: &Running) -> String {
    fs::read_to_string(&up.log).unwrap_or_default()
}

fn users(fleet: &Fleet) -> String {
    fs::read_to_string(fleet.dir().join("nats-users.toml")).expect("the users")
}

fn public(seed: &Path) -> String {
    UserKey::read(seed).expect("a seed").public()
}

#[tokio::test]
async fn a_running_server_lets_in_who_is_enrolled_and_out_who_is_revoked() {
    let (fleet, data) = fleet();
    let up = up(&fleet);
    let (into, root) = (fleet.path("made"), text(&fleet.root()));
    let source = format!("files:{}", text(&data.path().join("tree")));
    let enroll = ["enroll", "dns", "--source", &source, "--root", &root, "--into", &text(&into)];
    let told = fleet.run(&enroll).with_code(0);
    assert!(told.out.contains("agent dns is let in by nats-users.toml"), "{}", told.out);
    wait_for("the server has read it", || said(&up).contains("has read its users again").then_some(()));
    let mut command = Command::new(binaries().join("muster-agent"));
    command.arg("--config").arg(into.join("agent.toml"));
    let agent = Running::start(command, &fleet.path("agent-dns.log"));
    wait_for("it is there, and the leader has read of it", || {
        let up = fs::read_to_string(&agent.log).ok()?.contains("the agent is up");
        (up && fleet.run(&["agents", "--json"]).out.contains("\"dns\"")).then_some(())
    });
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let show = fleet.run(&["show", "1", "--json"]).with_code(0).json();
    assert_eq!((&show["outcome"], show["services"].as_array().map(Vec::len)), (&"complete".into(), Some(2)));

    // Somebody else with the agent's credentials, and the trigger's client.
    let seed = into.join("keys/agent.nk");
    let gone = Arc::new(Notify::new());
    let seen = Arc::clone(&gone);
    let options = fleet.client_options(Some(&seed)).event_callback(move |event| {
        if event == Event::Disconnected {
            seen.notify_one();
        }
        std::future::ready(())
    });
    let thief = options.connect(fleet.nats_url()).await.expect("it may");
    thief.flush().await.expect("it is there");
    let trigger = fleet.trigger_client().await;
    let told = fleet.run(&["revoke", "dns", "--root", &root]).with_code(0);
    assert!(told.out.contains("dns is out of nats-users.toml"), "{}", told.out);
    let waited = tokio::time::timeout(muster_tests::process::LIMIT, gone.notified());
    waited.await.expect("its connection is closed");
    let refused = fleet.client_options(Some(&seed)).connect(fleet.nats_url()).await;
    assert!(refused.is_err(), "and not opened again");
    assert_eq!(trigger.connection_state(), async_nats::connection::State::Connected, "others stay");
    assert_eq!(trigger.statistics().connects.load(Ordering::SeqCst), 1, "without a break");

    let _ = fleet.run(&["start", "--services", "steady", "--wait"]).with_code(0);
    drop(agent);

    // One of the folder's own does not try for ever.
    let _ = fleet.run(&["revoke", "steady", "--root", &root]).with_code(0);
    wait_for("up stops it", || said(&up).contains("agent steady was stopped").then_some(()));
    up.terminate();
}

#[test]
fn what_the_server_refuses_is_shown_and_leaves_it_as_it_was() {
    let (fleet, _data) = fleet();
    let up = up(&fleet);
    let file = fleet.dir().join("nats-accounts.conf");
    fs::write(&file, "accounts { FLEET {").expect("written");
    wait_for("it is shown", || said(&up).contains("nats-server refuses").then_some(()));
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    // Whoever changes the users prints the file anew.
    let root = text(&fleet.root());
    let enroll = ["enroll", "ada", "--role", "viewer", "--root", &root, "--into", &text(&fleet.path("ada"))];
    let _ = fleet.run(&enroll).with_code(0);
    wait_for("the server has read it", || said(&up).contains("has read its users again").then_some(()));
    let config = text(&fleet.path("ada/operator.toml"));
    let status = fleet.run(&["status", "--config", &config, "--json"]).with_code(0).json();
    assert_ne!(status["leader"], Value::Null, "a viewer is answered");
    up.terminate();
}

#[test]
fn the_list_of_users_follows_the_roster() {
    let (fleet, _data) = fleet();
    let (dir, root) = (fleet.dir(), text(&fleet.root()));
    let accounts = || fs::read_to_string(dir.join("nats-accounts.conf")).expect("the accounts");
    let run = |args: &[&str]| fleet.run(&[args, &["--root", &root]].concat());

    // New keys for an agent of this folder: its user is another one, and nobody else's is.
    let before = users(&fleet);
    let old = public(&dir.join("keys/agent-steady.nk"));
    let _ = run(&["enroll", "steady", "--replace", "--here"]).with_code(0);
    let toml = fs::read_to_string(dir.join("agents/steady.toml")).expect("its configuration");
    let seed = toml.lines().find_map(|line| line.strip_prefix("nkey = ")).expect("an nkey").trim_matches('"');
    let new = public(&dir.join("agents").join(seed));
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&users(&fleet)), sorted(&before.replace(&old, &new)));
    assert!(accounts().contains(&new) && !accounts().contains(&old));

    // An enroller needs the share alone. What the log refuses leaves no user.
    let before = users(&fleet);
    let _ = run(&["enroll", "scaler", "--role", "enroller", "--prefix", "web-", "--here"]).with_code(0);
    assert_eq!(users(&fleet), before);
    let (key, into) = (text(&dir.join("keys/operator-scaler.key")), text(&fleet.path("made")));
    let enroll = ["enroll", "dns", "--source", "files:/srv", "--enroller", &key, "--into", &into];
    let said = fleet.run(&enroll).with_code(7);
    assert!(said.err.contains("the log does not allow this"), "{}", said.err);
    assert_eq!(users(&fleet), before);

    // A second operator's folder keeps no users, and says what the server needs.
    let ada = fleet.path("ada");
    let _ = run(&["enroll", "ada", "--role", "admin", "--into", &text(&ada)]).with_code(0);
    assert!(accounts().contains(&public(&ada.join("keys/ada.nk"))));
    let (before, config) = (users(&fleet), text(&ada.join("operator.toml")));
    let bob = text(&fleet.path("bob"));
    let enroll = ["enroll", "bob", "--role", "viewer", "--into", &bob, "--config", &config, "--json"];
    let told = run(&enroll).with_code(0).json();
    assert_eq!((&told["bus"]["added"], &told["bus"]["kind"]), (&false.into(), &"viewer".into()), "{told}");
    assert_eq!(told["bus"]["nkey"], public(&fleet.path("bob/keys/bob.nk")));
    assert_eq!(users(&fleet), before);

    // A command that was stopped after the log said it: the same one again takes the user out.
    let _ = run(&["revoke", "ada"]).with_code(0);
    let after = users(&fleet);
    assert!(!after.contains("\"ada\"") && after.contains("\"operator\""), "{after}");
    fs::write(dir.join("nats-users.toml"), &before).expect("written");
    let said = run(&["revoke", "ada"]).with_code(7);
    assert!(said.err.contains("revoked already") && said.err.contains("gone now"), "{}", said.err);
    assert_eq!(users(&fleet), after);

    // A server that lets everybody in needs none of this.
    fs::remove_file(dir.join("nats-users.toml")).expect("removed");
    let toml = fs::read_to_string(dir.join("operator.toml")).expect("the configuration");
    let toml = toml.replace("\"keys/operator.nk\"", "\"\"");
    fs::write(dir.join("operator.toml"), toml).expect("written");
    let told = run(&["enroll", "eve", "--role", "viewer", "--into", &text(&fleet.path("eve")), "--json"]);
    assert_eq!(told.with_code(0).json()["bus"], Value::Null);
    assert!(!fleet.path("eve/keys/eve.nk").exists() && !dir.join("nats-users.toml").exists());
}
