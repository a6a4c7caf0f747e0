//! Bad input on the bus, from somebody who has one agent's key and hears everything: refused, counted, alerted; nothing
//! changes, and the round that is open meanwhile ends complete.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use muster_protocol::document::{Manifest, ObjectRef, Receipt};
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{RoundState, State};
use muster_protocol::message::{Command, Demand, Heartbeat, Hello, Notice, NoticeOutcome};
use muster_protocol::wire;
use muster_share::entropy::OsEntropy;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::PackList;
use muster_tests::fleet::{Fleet, text};
use muster_tests::hand::{Hand, stolen};
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::Value;

const PREFIX: &str = "muster.v1.test.";
/// Longer than any message, and as long as the server lets through.
const NOISE: usize = 64 * 1024 - 512;

/// Subjects on which anybody says anything.
const SUBJECTS: [&str; 18] = [
    "state",
    "state.web",
    "hello.web",
    "hello.config",
    "hello.nobody",
    "notice.web",
    "notice.config",
    "heartbeat.web",
    "heartbeat.config",
    "progress.web",
    "progress.config",
    "restore.web",
    "restore.config",
    "trigger",
    "trigger.async",
    "query",
    "command",
    "none.of.ours",
];

fn fleet() -> (Fleet, tempfile::TempDir) {
    let data = tempfile::TempDir::new().expect("folder");
    let services = ["config", "web"].map(|name| {
        tree::small(&data.path().join(name), 1);
        format!("{name}=files:{}", text(&data.path().join(name)))
    });
    let mut fleet = Fleet::init(&services);
    // On a server that lets everybody in: with accounts, an agent could not even say most of it.
    fleet.open_the_bus();
    fleet.set("MUSTER_ROUND_RECRUIT", "90s");
    fleet.set("MUSTER_ROUND_ATTEMPTS", "20");
    fleet.up();
    (fleet, data)
}

/// Whoever has the key of `web`'s agent, reads the share, and hears the bus.
struct Thief<'a> {
    fleet: &'a Fleet,
    client: async_nats::Client,
    key: Signer,
    state: State,
}

impl Thief<'_> {
    fn id(&self) -> FleetId {
        self.state.fleet
    }

    async fn say(&self, subject: &str, payload: Vec<u8>) {
        self.client.publish(format!("{PREFIX}{subject}"), payload.into()).await.expect("published");
    }

    /// A request, so that the leader would have somebody to answer.
    async fn ask(&self, subject: &str, payload: Vec<u8>) {
        let request =
            async_nats::Request::new().payload(payload.into()).timeout(Some(Duration::from_millis(300)));
        // That nobody answers is what is hoped for.
        drop(self.client.send_request(format!("{PREFIX}{subject}"), request).await);
    }

    fn write(&self, path: &ObjectPath, bytes: &[u8]) {
        let path = self.fleet.share().join(path.to_string());
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, bytes).expect("written");
    }

    fn read<P: Payload>(&self, path: &ObjectPath) -> P {
        let bytes = fs::read(self.fleet.share().join(path.to_string())).expect("an object");
        open_as::<P>(&bytes, &self.id()).expect("a document").1
    }

    fn notice(&self, round: RoundId, epoch: u64, attempt: u32, receipt: &[u8]) -> Vec<u8> {
        let outcome = NoticeOutcome::Stored {
            receipt: ObjectId::of(receipt),
            receipt_size: receipt.len() as u64,
            totals: muster_protocol::document::SliceTotals::default(),
        };
        self.key.seal(&self.id(), &Notice { service: web(), round, epoch, attempt, outcome })
    }

    /// A receipt of the open round that names these pack lists, on the share.
    fn receipt(&self, last: &RoundState, open: &RoundState, attempt: u32, packs: Vec<ObjectRef>) -> Vec<u8> {
        let manifest: Manifest = self.read(&ObjectPath::Manifest(last.commit().expect("committed").manifest));
        let slice = manifest.slices.iter().find(|slice| slice.service == web()).expect("its slice");
        let honest: Receipt = self.read(&part(last.open.round, slice.receipt, SlicePart::Receipt));
        let round = open.open.round;
        let nonce = open.open.nonce.for_attempt(&web(), attempt);
        let new_packs = u32::try_from(packs.len()).expect("few");
        let forged = Receipt { round, attempt, nonce, packs, new_packs, ..honest };
        let sealed = self.key.seal(&self.id(), &forged);
        self.write(&part(round, ObjectId::of(&sealed), SlicePart::Receipt), &sealed);
        sealed
    }
}

fn web() -> ServiceName {
    "web".parse().expect("name")
}

fn part(round: RoundId, id: ObjectId, part: SlicePart) -> ObjectPath {
    ObjectPath::Slice { service: web(), round, id, part }
}

fn leader(fleet: &Fleet) -> Value {
    wait_for("the leader answers", || {
        let status: Value = serde_json::from_str(&fleet.run(&["status", "--json"]).out).ok()?;
        status.get("leader").filter(|leader| !leader.is_null()).cloned()
    })
}

/// Waits until the leader refused this many slices of `web` in the open round.
fn refused(fleet: &Fleet, times: u64) {
    wait_for(&format!("{times} slices of web were refused"), || {
        let log = fs::read_to_string(fleet.path("coordinator.log")).expect("a log");
        let refusals = log.lines().filter(|line| line.contains("slice not accepted")).count() as u64;
        (refusals >= times).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_agents_key_nobody_changes_anything_but_its_own_slice() {
    let (mut fleet, data) = fleet();
    leader(&fleet);
    let client = fleet.client().await;
    let recorded: Arc<Mutex<Vec<async_nats::Message>>> = Arc::default();
    let (mut everything, record) =
        (client.subscribe(format!("{PREFIX}>")).await.expect("hears"), recorded.clone());
    client.flush().await.expect("subscribed");
    let recorder = tokio::spawn(async move {
        while let Some(message) = everything.next().await {
            record.lock().expect("a lock").push(message);
        }
    });
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    // They come in their own time, whether there is a round or not.
    wait_for("a heartbeat on the tape", || {
        let tape = recorded.lock().expect("a lock");
        tape.iter().any(|message| message.subject.contains("heartbeat")).then_some(())
    });
    recorder.abort();
    let tape = std::mem::take(&mut *recorded.lock().expect("a lock"));
    let kinds: BTreeSet<_> =
        tape.iter().filter_map(|m| m.subject.strip_prefix(PREFIX)?.split('.').next()).collect();
    // A start is signed: said again, it is the same round.
    for kind in ["hello", "notice", "heartbeat", "command", "query", "state"] {
        assert!(kinds.contains(kind), "the tape has no {kind}: {kinds:?}");
    }

    // The next round waits for web, whose agent is away.
    fleet.kill_agent("web");
    let _ = fleet.run(&["start"]).with_code(0);
    fleet.wait_for_round(2, &["open"]);
    let hand = Hand::of(&fleet);
    let epoch = hand.state.epoch.expect("a leader").epoch;
    let rounds: Vec<RoundState> = hand.state.rounds_by_number().into_iter().cloned().collect();
    let (last, open) = (&rounds[0], &rounds[1]);
    let thief =
        Thief { fleet: &fleet, client: client.clone(), key: stolen(&fleet, "agent-web"), state: hand.state };
    let (id, round) = (thief.id(), open.open.round);

    // Everything that was said in the first round, twice.
    for message in tape.iter().chain(&tape) {
        let headers = message.headers.clone().unwrap_or_default();
        client
            .publish_with_headers(message.subject.clone(), headers, message.payload.clone())
            .await
            .expect("said");
    }
    // Noise, on every subject, as message and as request.
    for (seed, subject) in (0..).zip(SUBJECTS) {
        thief.say(subject, tree::noise(seed, NOISE)).await;
        thief.ask(subject, tree::noise(seed, 300)).await;
    }
    // Messages of another version, another fleet, another service.
    let beat = |service: &str| Heartbeat {
        service: service.parse().expect("name"),
        instance: Nonce::from_bytes([1; 16]),
        sequence: 1,
        version: "2".into(),
        round: Some(round),
        at: None,
        leaving: false,
    };
    let payload = wire::encode(&beat("web"));
    thief
        .say("heartbeat.web", thief.key.seal_raw(Heartbeat::DOMAIN, Heartbeat::TYPE, 2, &id, &payload))
        .await;
    thief.say("heartbeat.web", thief.key.seal(&FleetId::from_bytes([9; 32]), &beat("web"))).await;
    thief.say("heartbeat.config", thief.key.seal(&id, &beat("config"))).await;
    thief.say("heartbeat.web", thief.key.seal(&id, &beat("config"))).await;
    let hello = |service: &str, epoch, round, attempt| Hello {
        service: service.parse().expect("name"),
        round,
        epoch,
        attempt,
        nonce: Nonce::from_bytes([2; 16]),
        ephemeral: [3; 32],
        version: "2".into(),
        sealed: false,
    };
    for said in
        [hello("config", epoch, round, 1), hello("web", epoch + 1, round, 1), hello("web", 0, round, 1)]
    {
        let subject = format!("hello.{}", said.service);
        thief.ask(&subject, thief.key.seal(&id, &said)).await;
    }
    thief.ask("hello.web", thief.key.seal(&id, &hello("web", epoch, RoundId::from_bytes([7; 16]), 1))).await;
    thief.ask("hello.web", thief.key.seal(&id, &hello("web", epoch, round, 77))).await;
    // An agent demands what takes an operator.
    let demand = Demand::Cancel { round, reason: "no".into() };
    thief
        .ask(
            "command",
            thief.key.seal(&id, &Command { nonce: Nonce::from_bytes([4; 16]), demand, token: None }),
        )
        .await;
    // Slices: of a round that is over, of one that never was, of an attempt that nobody asked for.
    thief.ask("notice.web", thief.notice(last.open.round, epoch, 1, b"not there")).await;
    thief.ask("notice.web", thief.notice(RoundId::from_bytes([7; 16]), epoch, 1, b"not there")).await;
    let mut notice = thief.notice(round, epoch, 1, b"not there");
    // Another service's: the leader hears it from a key that is not that service's agent.
    thief.ask("notice.config", notice.clone()).await;
    // A receipt that is not there; it costs web, and only web, an attempt.
    thief.ask("notice.web", notice.clone()).await;
    refused(&fleet, 1);
    // One that names the packs of the other service, and one that names packs that nobody wrote.
    let config: ServiceName = "config".parse().expect("name");
    let manifest: Manifest = thief.read(&ObjectPath::Manifest(last.commit().expect("committed").manifest));
    let other = manifest.slices.iter().find(|slice| slice.service == config).expect("its slice");
    let path = |id, part| ObjectPath::Slice { service: config.clone(), round: last.open.round, id, part };
    let theirs: Receipt = thief.read(&path(other.receipt, SlicePart::Receipt));
    let list =
        fs::read(fleet.share().join(path(theirs.packs[0].id, SlicePart::Packs).to_string())).expect("a list");
    let mut invented = PackList::decode(&list).expect("a list");
    for pack in &mut invented.packs {
        pack.id = ObjectId::of(b"nobody wrote it");
    }
    let invented = invented.encode(&mut OsEntropy).expect("encodes");
    for (times, list) in [(2, &list), (3, &invented)] {
        let object = ObjectRef { round, id: ObjectId::of(list), size: list.len() as u64 };
        thief.write(&part(round, object.id, SlicePart::Packs), list);
        for attempt in 1..=4 {
            let receipt = thief.receipt(last, open, attempt, vec![object]);
            notice = thief.notice(round, epoch, attempt, &receipt);
            thief.ask("notice.web", notice.clone()).await;
        }
        refused(&fleet, times);
    }
    client.flush().await.expect("all of it was sent");

    // Nothing has changed: the same rounds, the same roster, one of them open.
    let after = Hand::of(&fleet).state;
    assert_eq!(after.rounds.len(), 2, "a replayed request is the same round");
    assert_eq!(after.open_rounds().len(), 1);
    assert_eq!((after.members, after.without_effect), (thief.state.members.clone(), Vec::new()));
    let said = fleet.run(&["show", "2", "--json"]).with_code(0).json();
    assert_eq!(said["services"].as_array().map(Vec::len), Some(2), "{said}");

    // And the round ends, complete and with what is true, once its agent is back.
    fleet.start_agent("web");
    let ended = fleet.wait_for_round(2, &["verified"]);
    assert_eq!(ended["outcome"], "complete", "{ended}");
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    for name in ["config", "web"] {
        tree::assert_same(&data.path().join(name), &out.join(name).join("files"));
    }

    // It was counted, and told.
    let ignored = leader(&fleet)["ignored"].clone();
    for reason in ["noise", "fleet", "version", "stranger", "subject", "replay", "epoch", "command"] {
        assert!(ignored[reason].as_u64() >= Some(1), "{reason}: {ignored}");
    }
    let wanted = [("KEY-03", "web"), ("AGENT-05", "web"), ("SEC-01", "key "), ("SHARE-07", "web")];
    wait_for("alerts tell it", || {
        let all = fleet.run(&["alerts", "--all", "--json"]).with_code(0).json();
        let alerts = all["alerts"].as_array()?.clone();
        let told = |(code, subject): &(&str, &str)| {
            alerts
                .iter()
                .any(|a| a["code"] == *code && a["subject"].as_str().is_some_and(|s| s.starts_with(subject)))
        };
        wanted.iter().all(told).then_some(())
    });
    let log = fs::read_to_string(fleet.path("coordinator.log")).expect("a log");
    let lines = log.lines().filter(|line| line.contains("were ignored")).count();
    assert!(lines <= 10 * 5, "{lines} lines of a flood");
}
