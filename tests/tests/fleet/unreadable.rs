//! What no client of NATS can read, from somebody who may only start rounds, on the accounts and nkeys that `init` makes: it costs
//! the coordinator a reconnect, and no round.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_bus::UserKey;
use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{LIMIT, wait_for};
use muster_tests::tree;
use serde_json::{Value, json};

/// A carriage return within a value: it ends the client's task.
const HEADER: &[u8] = b"NATS/1.0\r\nname: a\rb\r\n\r\n";

/// What a coordinator says of it.
const ENDED: &str = "the NATS client ended over something";

/// Between two messages of a flood.
const BETWEEN: Duration = Duration::from_millis(250);

fn key(fleet: &Fleet, user: &str) -> UserKey {
    UserKey::read(&fleet.dir().join(format!("keys/{user}.nk"))).expect("its seed")
}

fn port(fleet: &Fleet) -> u16 {
    fleet.nats.as_ref().expect("the fleet's server runs").port
}

/// Signs on with a key, and publishes the header as it stands.
fn send(port: u16, key: &UserKey, subject: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server takes a client");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut lines = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut next = || {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).expect("a line") > 0, "the server hung up");
        line
    };
    let info = next();
    let info: Value =
        serde_json::from_str(info.strip_prefix("INFO ").expect("the server's greeting")).expect("JSON");
    let signature = key.sign(info["nonce"].as_str().expect("a challenge").as_bytes());
    let hello = json!({
        "verbose": false, "pedantic": false, "headers": true, "protocol": 1,
        "nkey": key.public(), "sig": URL_SAFE_NO_PAD.encode(signature),
    });
    let said = format!("CONNECT {hello}\r\nHPUB {subject} {0} {0}\r\n", HEADER.len());
    stream.write_all(&[said.as_bytes(), HEADER, b"\r\nPING\r\n"].concat()).expect("the server takes it");
    loop {
        match next().trim_end() {
            "PONG" => return,
            line => assert!(!line.starts_with("-ERR"), "refused: {line}"),
        }
    }
}

/// How many jobs lie in the fleet's queue, asked as its coordinator.
async fn queued(fleet: &Fleet) -> Option<u64> {
    let key = key(fleet, "coordinator");
    let port = port(fleet);
    let client = async_nats::ConnectOptions::with_nkey(key.seed().to_string())
        .custom_inbox_prefix(muster_bus::inbox_prefix("coordinators", &key.public()))
        .connect(format!("127.0.0.1:{port}"))
        .await
        .expect("the server takes a client");
    let said = client.request("$JS.API.STREAM.INFO.MUSTER_test_QUEUE", "".into()).await.ok()?;
    let said: Value = serde_json::from_slice(&said.payload).expect("JSON");
    said["state"]["messages"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_only_start_rounds_ends_no_coordinator_with_a_message_that_nobody_can_read() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("web"), 1);
    let mut fleet = Fleet::init(&[format!("web=files:{}", text(&data.path().join("web")))]);
    fleet.take_tls_off_the_bus();
    fleet.up();
    wait_for("the leader answers", || {
        (fleet.run(&["status", "--json"]).json()["leader"] != Value::Null).then_some(())
    });
    let coordinator = fleet.coordinator().id();
    let counted = |fleet: &Fleet, words: &str| {
        fs::read_to_string(fleet.path("coordinator.log")).expect("a log").matches(words).count()
    };
    for (number, subject) in (1..).zip(["muster.v1.test.trigger", "muster.v1.test.trigger.async"]) {
        let before = counted(&fleet, ENDED);
        send(port(&fleet), &key(&fleet, "trigger"), subject);
        // It has arrived: nothing here would be shown by a message that the server kept to itself.
        wait_for(&format!("{subject} cost a reconnect"), || (counted(&fleet, ENDED) > before).then_some(()));
        let _ = fleet.run(&["start", "--wait"]).with_code(0);
        assert_eq!(fleet.wait_for_round(number, &["verified"])["outcome"], "complete", "after {subject}");
        assert!(fleet.coordinator().is_running(), "the coordinator ended over {subject}");
        assert_eq!(fleet.coordinator().id(), coordinator);
    }
    wait_for("the job is deleted", || {
        (counted(&fleet, "had headers that nobody can read: deleted") > 0).then_some(())
    });
    assert_eq!(queued(&fleet).await, Some(0), "the queue holds something");
    assert_eq!(fleet.rounds().len(), 2, "what nobody can read began no round");
}

#[test]
fn rounds_go_on_while_an_agents_key_sends_such_messages_without_end() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("web"), 1);
    let services = ["web", "evil"].map(|name| format!("{name}=files:{}", text(&data.path().join("web"))));
    let mut fleet = Fleet::init(&services);
    fleet.take_tls_off_the_bus();
    fleet.up();
    wait_for("the leader answers", || {
        (fleet.run(&["status", "--json"]).json()["leader"] != Value::Null).then_some(())
    });
    let (port, key) = (port(&fleet), key(&fleet, "agent-evil"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                send(port, &key, "muster.v1.test.notice.evil");
                thread::sleep(BETWEEN);
            }
        });
        wait_for("the flood arrives", || {
            let log = fs::read_to_string(fleet.path("coordinator.log")).expect("a log");
            log.contains(ENDED).then_some(())
        });
        let ends: Vec<_> = (0..3).map(|_| fleet.run(&["start", "--wait"])).collect();
        stop.store(true, Ordering::Relaxed);
        flood.join().expect("the server takes them");
        assert!(ends.iter().all(|end| end.code == 0), "{ends:?}");
    });
}
