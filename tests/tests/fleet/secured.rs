//! The NATS server that `init` sets up, with accounts, nkeys and TLS: rounds work, and whoever has one client's
//! credentials may say and hear what is that client's, and nothing else (invariants 9 and 13).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap};
use muster_bus::UserKey;
use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::Value;

struct Secured {
    fleet: Fleet,
    data: tempfile::TempDir,
}

impl Secured {
    /// A fleet as `init` makes it, with a viewer, and with everything running.
    fn up() -> Self {
        let data = tempfile::TempDir::new().expect("folder");
        tree::small(&data.path().join("a"), 1);
        let service = |name: &str| format!("{name}=files:{}", text(&data.path().join("a")));
        let mut fleet = Fleet::init(&[service("secrets"), service("orders")]);
        let root = text(&fleet.root());
        let _ = fleet.run(&["enroll", "viewer", "--role", "viewer", "--here", "--root", &root]).with_code(0);
        fleet.up();
        let secured = Self { fleet, data };
        wait_for("the leader answers", || {
            (secured.fleet.run(&["status", "--json"]).json()["leader"] != Value::Null).then_some(())
        });
        secured
    }

    fn seed_file(&self, user: &str) -> PathBuf {
        self.fleet.dir().join(format!("keys/{user}.nk"))
    }

    fn key(&self, user: &str) -> UserKey {
        UserKey::read(&self.seed_file(user)).expect("its seed")
    }

    /// A client with a user's credentials, and what the server refused it.
    async fn client(&self, user: &str, inbox: &str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let refused = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&refused);
        let options =
            self.fleet.client_options(Some(&self.seed_file(user))).custom_inbox_prefix(inbox).event_callback(
                move |event| {
                    if let Event::ServerError(error) = &event {
                        seen.lock().expect("not poisoned").push(error.to_string());
                    }
                    std::future::ready(())
                },
            );
        (options.connect(self.fleet.nats_url()).await.expect("connects"), refused)
    }
}

#[tokio::test]
async fn rounds_run_and_nobody_says_what_is_not_theirs() {
    let secured = Secured::up();
    let _ = secured.fleet.run(&["start", "--wait"]).with_code(0);
    let agents = secured.fleet.run(&["agents", "--json"]).with_code(0).json();
    assert!(
        agents["agents"].as_array().is_some_and(|all| all.iter().all(|a| a["state"] == "online")),
        "{agents}"
    );

    let into = secured.fleet.path("restored");
    let kit = text(&secured.fleet.kit());
    let restore = ["restore", "1", "--service", "orders", "--kit", &kit, "--into", &text(&into)];
    let _ = secured.fleet.run(&restore).with_code(0);
    tree::assert_same(&secured.data.path().join("a"), &into.join("orders/files"));

    // The trigger's own: a request, and a job for later.
    let (trigger, refused) = secured.client("trigger", "_INBOX").await;
    let asked = async_nats::Request::new()
        .payload(r#"{"services":["orders"],"request":"one"}"#.into())
        .timeout(Some(Duration::from_secs(20)));
    let answer = trigger.send_request("muster.v1.test.trigger", asked).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer["state"], "opened", "{answer}");
    secured.fleet.wait_for_round(2, &["verified"]);
    trigger
        .publish("muster.v1.test.trigger.async", r#"{"services":["secrets"]}"#.into())
        .await
        .expect("sent");
    trigger.flush().await.expect("flushed");
    secured.fleet.wait_for_round(3, &["verified"]);
    assert_eq!(*refused.lock().expect("not poisoned"), Vec::<String>::new());

    let own = format!("_INBOX_agents.{}", secured.key("agent-orders").public());
    let others = format!("_INBOX_agents.{}", secured.key("agent-secrets").public());
    let leader = format!("_INBOX_coordinators.{}", secured.key("coordinator").public());
    // Which of these a user may publish and hear; all others are refused.
    let subjects = [
        "muster.v1.test.hello.orders",
        "muster.v1.test.hello.secrets",
        "muster.v1.test.notice.orders",
        "muster.v1.test.notice.secrets",
        "muster.v1.test.heartbeat.orders",
        "muster.v1.test.heartbeat.secrets",
        "muster.v1.test.progress.orders",
        "muster.v1.test.progress.secrets",
        "muster.v1.test.state",
        "muster.v1.test.state.orders",
        "muster.v1.test.state.secrets",
        "muster.v1.test.trigger",
        "muster.v1.test.trigger.async",
        "muster.v1.test.query",
        "muster.v1.test.command",
        "muster.v1.test.restore.orders",
        "muster.v1.test.restore.secrets",
        "muster.v1.other.hello.orders",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.EVIL",
        "$JS.API.STREAM.DELETE.MUSTER_test_STATE",
        "$JS.API.STREAM.PURGE.MUSTER_test_STATE",
        "$JS.API.STREAM.UPDATE.MUSTER_test_STATE",
        "$JS.API.STREAM.MSG.GET.MUSTER_test_STATE",
        "$JS.API.STREAM.MSG.DELETE.MUSTER_test_STATE",
        "$JS.API.CONSUMER.CREATE.MUSTER_test_STATE",
        "$JS.API.CONSUMER.DELETE.MUSTER_test_QUEUE.coordinators",
        "muster.v1.test.alert",
        "$JS.API.CONSUMER.MSG.NEXT.MUSTER_test_QUEUE.coordinators",
        "$JS.API.DIRECT.GET.MUSTER_test_STATE",
        "$JS.API.DIRECT.GET.MUSTER_test_STATE.muster.v1.test.state",
        "$JS.API.DIRECT.GET.MUSTER_test_STATE.muster.v1.test.state.orders",
        "$JS.API.DIRECT.GET.MUSTER_test_STATE.muster.v1.test.state.secrets",
        "$JS.ACK.MUSTER_test_QUEUE.coordinators.1.1.1.1.1",
        "$KV.lease.leader",
        "$SYS.REQ.SERVER.PING",
        "_R_.abcdef.1",
        "_INBOX.abcdef",
        &format!("{others}.1"),
        &format!("{leader}.1"),
    ];
    let agent_says = |subject: &str| {
        let says = ["hello.orders", "notice.orders", "heartbeat.orders", "progress.orders"];
        says.iter().any(|end| subject == format!("muster.v1.test.{end}"))
            || subject.ends_with("DIRECT.GET.MUSTER_test_STATE.muster.v1.test.state")
            || subject.ends_with("DIRECT.GET.MUSTER_test_STATE.muster.v1.test.state.orders")
    };
    let agent_hears = |subject: &str| {
        let hears = ["state", "state.orders", "restore.orders"];
        hears.iter().any(|end| subject == format!("muster.v1.test.{end}")) || subject.starts_with(&own)
    };
    let trigger_says = |subject: &str| subject.starts_with("muster.v1.test.trigger");
    let trigger_hears = |subject: &str| subject.starts_with("_INBOX.");
    let operator_says = |subject: &str| {
        let says = ["muster.v1.test.query", "muster.v1.test.command", "muster.v1.test.restore."];
        trigger_says(subject) || says.iter().any(|start| subject.starts_with(start))
    };
    let viewer_says = |subject: &str| subject == "muster.v1.test.query";
    let operator_hears = |subject: &str| subject == "muster.v1.test.alert";
    type May<'a> = &'a dyn Fn(&str) -> bool;
    let users: [(&str, &str, May<'_>, May<'_>); 4] = [
        ("agent-orders", &own, &agent_says, &agent_hears),
        ("trigger", "_INBOX", &trigger_says, &trigger_hears),
        ("operator", "_INBOX_operators.x", &operator_says, &operator_hears),
        ("operator-viewer", "_INBOX_operators.x", &viewer_says, &operator_hears),
    ];
    for (user, inbox, says, hears) in users {
        let (client, refused) = secured.client(user, inbox).await;
        let (mut turn, mut before) = (0, 0);
        for subject in subjects {
            // Garbage: where it may arrive, its signature does not hold.
            client.publish(subject.to_owned(), "garbage".into()).await.expect("sent");
            let count = refusals(&client, &refused, &mut turn).await;
            assert_eq!(count == before, says(subject), "{user} says {subject}: {refused:?}");
            before = count;
        }
        for subject in subjects.iter().copied().chain([
            ">",
            "muster.>",
            "muster.v1.test.hello.*",
            "_INBOX.>",
            "_R_.>",
            "$JS.>",
        ]) {
            let heard = client.subscribe(subject.to_owned()).await.expect("asked");
            let count = refusals(&client, &refused, &mut turn).await;
            let may = hears(subject) || (user == "trigger" && subject == "_INBOX.>");
            assert_eq!(count == before, may, "{user} hears {subject}: {refused:?}");
            before = count;
            drop(heard);
        }
    }
    // All of it changed nothing: the next round is complete.
    let _ = secured.fleet.run(&["start", "--wait"]).with_code(0);
}

/// How many refusals came of what was sent before: the server refuses in order, so what it refuses last is waited for.
async fn refusals(client: &Client, refused: &Mutex<Vec<String>>, turn: &mut u32) -> usize {
    *turn += 1;
    let last = format!("muster.v1.last.{turn}\"");
    client.publish(format!("muster.v1.last.{turn}"), "".into()).await.expect("sent");
    client.flush().await.expect("flushed");
    let began = std::time::Instant::now();
    while !refused.lock().expect("not poisoned").iter().any(|said| said.contains(&last)) {
        assert!(began.elapsed() < Duration::from_secs(30), "{last} is refused: {refused:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    refused.lock().expect("not poisoned").iter().filter(|said| !said.contains("muster.v1.last")).count()
}

#[tokio::test]
async fn a_reply_subject_stores_nothing_and_strangers_stay_out() {
    let secured = Secured::up();
    let _ = secured.fleet.run(&["start", "--wait"]).with_code(0);
    let own = format!("_INBOX_agents.{}", secured.key("agent-orders").public());
    let (agent, _) = secured.client("agent-orders", &own).await;
    let (trigger, _) = secured.client("trigger", "_INBOX").await;
    let stored = async || {
        let get = "$JS.API.DIRECT.GET.MUSTER_test_STATE.muster.v1.test.state";
        let value = agent.request(get, "".into()).await.expect("an answer");
        let sequence = value.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence")).cloned();
        (sequence.expect("a stored value"), value.payload)
    };
    // The leader says the document again every 30 s: compare what it says of rounds, signed, not how often.
    let before = stored().await;
    let aims = [
        "muster.v1.test.state",
        "muster.v1.test.state.orders",
        "muster.v1.test.trigger.async",
        "$JS.API.STREAM.PURGE.MUSTER_test_STATE",
        "$JS.API.STREAM.DELETE.MUSTER_test_STATE",
    ];
    for aim in aims {
        for what in ["hello", "notice", "heartbeat"] {
            let subject = format!("muster.v1.test.{what}.orders");
            agent.publish_with_reply(subject, aim, "garbage".into()).await.expect("sent");
        }
        for get in ["muster.v1.test.state", "muster.v1.test.state.orders"] {
            let get = format!("$JS.API.DIRECT.GET.MUSTER_test_STATE.{get}");
            agent.publish_with_reply(get, aim, "".into()).await.expect("sent");
        }
        let mut id = HeaderMap::new();
        id.insert("Nats-Msg-Id", aim);
        let job = r#"{"services":["orders"]}"#;
        let queue = "muster.v1.test.trigger.async";
        trigger.publish_with_reply_and_headers(queue, aim, id, job.into()).await.expect("sent");
        trigger.publish_with_reply("muster.v1.test.trigger", aim, job.into()).await.expect("sent");
    }
    // One round after the other, each answered to an aim; then one whose answer is asked for.
    agent.flush().await.expect("flushed");
    trigger.flush().await.expect("flushed");
    let _ = secured.fleet.run(&["start", "--wait"]).with_code(0);
    let after = stored().await;
    let document = |bytes: &[u8]| bytes.windows(5).any(|part| part == b"state");
    assert!(document(&before.1) && document(&after.1), "the stored value is a document: {after:?}");
    assert!(!String::from_utf8_lossy(&after.1).contains("\"stream\""), "no acknowledgement: {after:?}");

    // Nobody in particular, without TLS, and with another key.
    let (fleet, url) = (&secured.fleet, secured.fleet.nats_url());
    assert!(fleet.client_options(None).connect(&url).await.is_err(), "without an nkey");
    let seed = secured.key("trigger").seed().to_string();
    assert!(ConnectOptions::with_nkey(seed).connect(url.replace("tls://", "nats://")).await.is_err());
    let other = Fleet::init(&[format!("a=files:{}", text(&secured.data.path().join("a")))]);
    let stranger = fleet.client_options(Some(&other.dir().join("keys/trigger.nk")));
    assert!(stranger.connect(&url).await.is_err());

    // Another CA is not believed, an open or missing nkey is named; nothing waits for what waiting does not mend.
    let said = |key: &str, value: &str| {
        let mut command = Command::new(muster_tests::process::binaries().join("muster"));
        command.args(["agents", "--config"]).arg(secured.fleet.dir().join("operator.toml"));
        command.env(key, value).output().map(muster_tests::process::Said::from).expect("muster runs")
    };
    let other = text(&other.dir().join("keys/bus-ca.crt"));
    let untrusted = said("MUSTER_NATS_CA", &other);
    assert!(untrusted.code == 6 && untrusted.err.contains("certificate"), "{untrusted:?}");
    let missing = said("MUSTER_NATS_NKEY", "/nowhere/at.nk");
    assert!(missing.code == 2 && missing.err.contains("/nowhere/at.nk"), "{missing:?}");
    let (open, key) = (secured.seed_file("operator"), secured.key("operator"));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("opened");
    let open = said("MUSTER_NATS_NKEY", &text(&open));
    assert!(open.code == 2 && open.err.contains("operator.nk"), "{open:?}");
    assert!(!open.err.contains(key.seed().as_str()), "never the seed");
}
