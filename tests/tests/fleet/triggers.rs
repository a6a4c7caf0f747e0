//! Rounds by a plain message, from a client that knows nothing of us; and garbage that must change nothing.

use std::time::Duration;

use bytes::Bytes;
use muster_tests::fleet::{Fleet, text};
use muster_tests::gate::Gate;
use muster_tests::{process::wait_for, tree};
use serde_json::{Value, json};

fn fleet() -> (Fleet, tempfile::TempDir) {
    fleet_after(|_| {})
}

/// The fleet, changed before it starts.
fn fleet_after(change: impl FnOnce(&mut Fleet)) -> (Fleet, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 1);
    tree::small(&data.path().join("b"), 2);
    let mut fleet = Fleet::init(&[
        format!("a=files:{}", text(&data.path().join("a"))),
        format!("b=files:{}", text(&data.path().join("b"))),
    ]);
    change(&mut fleet);
    fleet.up();
    // The coordinator answers once it leads.
    wait_for("the leader answers", || {
        (fleet.run(&["status", "--json"]).json()["leader"] != Value::Null).then_some(())
    });
    (fleet, data)
}

async fn ask(client: &async_nats::Client, headers: &[(&str, &str)], payload: Vec<u8>) -> async_nats::Message {
    let mut map = async_nats::HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    let request = async_nats::Request::new()
        .headers(map)
        .payload(payload.into())
        .timeout(Some(Duration::from_secs(20)));
    client.send_request("muster.v1.test.trigger", request).await.expect("an answer")
}

#[tokio::test]
async fn the_same_request_twice_is_one_round_in_json_and_message_pack() {
    let (fleet, _data) = fleet();
    let client = fleet.trigger_client().await;
    let request = json!({"services": ["a"], "request": "nightly-1"});
    let first = ask(&client, &[], serde_json::to_vec(&request).expect("JSON")).await;
    let first: Value = serde_json::from_slice(&first.payload).expect("JSON");
    assert_eq!((&first["state"], &first["number"]), (&"opened".into(), &1.into()), "{first}");
    let pack = muster_protocol::wire::encode(&json!({"request": "nightly-1"}));
    let again = ask(&client, &[("Content-Type", "application/msgpack")], pack).await;
    let again: muster_protocol::message::TriggerReply =
        muster_protocol::wire::decode(&again.payload).expect("message pack");
    assert_eq!(again.number, Some(1));
    assert_eq!(again.round.map(|r| r.to_string()).as_deref(), first["round"].as_str());
    let round = fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    let show = fleet.run(&["show", "1", "--json"]).with_code(0).json();
    assert_eq!(show["services"].as_array().map(Vec::len), Some(1), "only the asked service: {show}");
    let other = fleet.run(&["start", "--request", "nightly-1", "--services", "b"]).with_code(7);
    assert!(other.out.contains("the same request id asked for other services"), "{other:?}");
    assert_eq!(fleet.rounds().len(), 1);
}

/// The leader of an open round dies, with the requests that wait for it.
#[test]
fn who_waits_for_a_queued_request_asks_the_next_leader_for_it() {
    let data = tempfile::TempDir::new().expect("folder");
    let file = data.path().join("file");
    std::fs::write(&file, tree::noise(3, 100_000)).expect("file");
    let gate = Gate::at(data.path().join("gate"));
    let mut fleet = Fleet::init(&[format!("slow={}", gate.source(&file))]);
    fleet.up();
    let _ = fleet.run(&["start"]).with_code(0);
    gate.wait_for_capture();
    let said = fleet.run(&["start", "--request", "not-waited-for", "--services", "slow"]).with_code(0).out;
    assert!(said.contains("→ muster start --request not-waited-for --services slow"), "{said}");
    let mut waiting = fleet.spawn(&["start", "--wait", "--request", "second"], "waiting.log");
    wait_for("both wait", || fleet.run(&["status"]).out.contains("2 requests").then_some(()));
    let shown = fleet.run(&["show", "1"]).with_code(0).out;
    assert!(shown.contains("→ muster watch 1"), "{shown}");
    fleet.kill_coordinator();
    fleet.start_coordinator();
    wait_for("it is asked again", || fleet.run(&["status"]).out.contains("1 request:").then_some(()));
    gate.open();
    assert_eq!(waiting.wait().code(), Some(0));
    assert_eq!(fleet.rounds().len(), 2, "what nobody waited for is gone");
    let shown = fleet.run(&["show", "1"]).with_code(0).out;
    assert!(shown.contains("in epoch 2 from "), "{shown}");
    let shown = fleet.run(&["show", "1", "--json"]).with_code(0).json();
    assert_eq!(shown["resumed"][0]["epoch"], 2, "{shown}");
}

#[tokio::test]
async fn a_published_message_starts_a_round_even_while_no_coordinator_is_up() {
    let (mut fleet, _data) = fleet();
    fleet.kill_coordinator();
    let client = fleet.trigger_client().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "from-cron-7");
    for _ in 0..2 {
        let payload = Bytes::from_static(br#"{"services":["b"]}"#);
        client
            .publish_with_headers("muster.v1.test.trigger.async", headers.clone(), payload)
            .await
            .expect("published");
    }
    client.flush().await.expect("flushed");
    fleet.start_coordinator();
    let round = fleet.wait_for_round(1, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    assert_eq!(fleet.rounds().len(), 2, "twice the same message was one round");
}

#[tokio::test]
async fn a_trigger_that_makes_no_sense_is_refused_with_the_reason() {
    let (fleet, _data) = fleet();
    let client = fleet.trigger_client().await;
    for (payload, word) in [
        (r#"{"services":["nobody"]}"#, "nobody"),
        (r#"{"service":"a"}"#, "unknown field"),
        (r#"{"services":[]}"#, "empty"),
        ("garbage", "JSON"),
    ] {
        let answer = ask(&client, &[], payload.into()).await;
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert_eq!(answer["state"], "refused", "{payload}: {answer}");
        assert!(answer["reason"].as_str().is_some_and(|r| r.contains(word)), "{payload}: {answer}");
    }
    assert_eq!(fleet.rounds().len(), 0);
}

#[tokio::test]
async fn garbage_on_every_subject_is_ignored_and_counted() {
    // On a server that lets everybody in: with accounts, nobody could say all of it.
    let (fleet, _data) = fleet_after(Fleet::open_the_bus);
    let port = fleet.nats.as_ref().expect("it runs").port;
    let client = async_nats::connect(format!("127.0.0.1:{port}")).await.expect("connects");
    let subjects = [
        "state",
        "state.a",
        "hello.a",
        "notice.a",
        "heartbeat.a",
        "progress.a",
        "hello.zz",
        "query",
        "trigger.async",
    ];
    for n in 0..20u64 {
        for subject in subjects {
            let payload = tree::noise(n, 300);
            client.publish(format!("muster.v1.test.{subject}"), payload.into()).await.expect("published");
        }
    }
    client.flush().await.expect("flushed");
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    let status = fleet.run(&["status", "--json"]).with_code(0).json();
    let ignored = status["leader"]["ignored_messages"].as_u64().expect("a count");
    assert!(ignored >= 100, "{status}");
}
