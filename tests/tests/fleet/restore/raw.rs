//! Restores at the level of messages: orders that are forged, replayed or late, and whoever records all of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use muster_agent::config::Config as AgentConfig;
use muster_bus::{Bus, BusError, Headers, NatsBus, NatsConfig, Streams};
use muster_protocol::age::{FileKey, Identity, Recipient};
use muster_protocol::alert::Code;
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, Nonce, ObjectId, RestoreId, RoundId, ServiceName};
use muster_protocol::message::{
    OfferVerdict, RestoreAsk, RestoreExisting, RestoreOffer, RestoreOrder, RestoreQuery, RestoreRefusal,
    RestoreState, RestoreStatus, RestoreTarget,
};
use muster_protocol::subject::{Subject, Subjects};
use muster_share::entropy::OsEntropy;
use muster_share::grant::Grant;
use muster_share::layout::ObjectPath;
use muster_share::sealed::key_of_header;
use muster_share::secret_file;
use muster_tests::fleet::text;
use muster_tests::process::wait_for;
use tokio::runtime::Runtime;

use super::{Scene, files};

/// Raw words on the subject of one service.
struct Raw {
    runtime: Runtime,
    bus: NatsBus,
    subject: String,
    service: ServiceName,
    fleet: FleetId,
    signer: Signer,
    round: RoundId,
    receipt: ObjectId,
}

impl Raw {
    fn new(scene: &Scene, service: &str) -> Self {
        let config =
            AgentConfig::load(&scene.fleet.dir().join(format!("agents/{service}.toml"))).expect("agent");
        let (subjects, name) = (Subjects::new(&config.fleet.name), config.fleet.name.to_string());
        let streams =
            Streams::new(&name, &subjects.print(&Subject::State), &subjects.print(&Subject::TriggerAsync));
        let nats = NatsConfig::new(config.nats.url.as_str(), "raw".to_owned(), streams.expect("streams"));
        let nkey = scene.fleet.dir().join("keys/operator.nk");
        let nats = nats.with_files(&nkey, &config.nats.ca, "operators").expect("credentials");
        let runtime = Runtime::new().expect("a runtime");
        let bus = runtime.block_on(NatsBus::connect(nats)).expect("connects");
        let service: ServiceName = service.parse().expect("a name");
        let manifest = scene.manifest();
        let slice = manifest.slices.iter().find(|slice| slice.service == service).expect("its slice");
        Self {
            runtime,
            bus,
            subject: subjects.print(&Subject::Restore(service.clone())),
            fleet: config.fleet.id,
            signer: scene.operator(),
            round: manifest.round,
            receipt: slice.receipt,
            service,
        }
    }

    fn send(&self, payload: Vec<u8>, limit: Duration) -> Result<Bytes, BusError> {
        let headers = Headers::new();
        let answer = self.bus.request(&self.subject, headers, Bytes::from(payload), limit);
        self.runtime.block_on(answer).map(|message| message.payload)
    }

    fn exchange<Q: Payload, A: Payload>(&self, question: &Q) -> A {
        let question = self.signer.seal(&self.fleet, question);
        let answer = self.send(question, Duration::from_secs(30)).expect("an answer");
        open_as::<A>(&answer, &self.fleet).expect("a signed one").1
    }

    fn ask(&self) -> (RestoreId, Recipient) {
        let (service, round, receipt) = (self.service.clone(), self.round, self.receipt);
        let ask = RestoreAsk { service, round, receipt, nonce: Nonce::from_bytes([1; 16]) };
        match self.exchange::<_, RestoreOffer>(&ask).verdict {
            OfferVerdict::Offered { restore, recipient, .. } => (restore, recipient),
            OfferVerdict::Refused(refused) => panic!("{refused:?}"),
        }
    }

    fn state(&self, restore: RestoreId) -> RestoreState {
        let (service, nonce) = (self.service.clone(), Nonce::from_bytes([2; 16]));
        self.exchange::<_, RestoreStatus>(&RestoreQuery { service, restore: Some(restore), nonce }).state
    }

    /// An order for a grant of these keys.
    fn order(
        &self,
        scene: &Scene,
        restore: RestoreId,
        recipient: &Recipient,
        keys: BTreeMap<ObjectId, FileKey>,
        change: impl FnOnce(&mut Grant),
    ) -> RestoreOrder {
        let (fleet, service, round, receipt) = (self.fleet, self.service.clone(), self.round, self.receipt);
        let mut grant = Grant { fleet, service: service.clone(), round, restore, receipt, keys };
        change(&mut grant);
        let keyset = *scene.log().keysets.keys().next().expect("a keyset");
        let sealed = grant.seal(recipient, keyset, &mut OsEntropy).expect("seals");
        let path = scene.fleet.share().join(ObjectPath::Grant(sealed.id).to_string());
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, &sealed.bytes).expect("written");
        RestoreOrder {
            service,
            restore,
            nonce: Nonce::from_bytes([3; 16]),
            round,
            receipt,
            grant: sealed.id,
            grant_size: sealed.bytes.len() as u64,
            path: None,
            existing: RestoreExisting::Replace,
            target: RestoreTarget::InPlace,
        }
    }

    fn refusal(&self, order: &RestoreOrder) -> RestoreRefusal {
        let mut state = self.exchange::<_, RestoreStatus>(order).state;
        loop {
            match state {
                RestoreState::Refused(refusal) => return refusal,
                RestoreState::Running { .. } => state = self.state(order.restore),
                other @ (RestoreState::Unknown | RestoreState::Offered | RestoreState::Ended(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }
}

/// The objects of a service by name.
fn by_id(keys: BTreeMap<PathBuf, FileKey>) -> BTreeMap<ObjectId, FileKey> {
    let id = |path: &Path| path.file_name()?.to_str()?.split('.').next()?.parse().ok();
    keys.into_iter().filter_map(|(path, key)| Some((id(&path)?, key))).collect()
}

#[test]
fn orders_that_are_forged_replayed_expired_or_of_another_restore_are_refused() {
    let mut scene = Scene::new();
    scene.fleet.up();
    let one = scene.path("tree/one");
    let old = fs::read(&one).expect("file");
    fs::write(&one, b"changed").expect("file");
    let raw = Raw::new(&scene, "config");
    let keys = by_id(scene.file_keys("config"));
    wait_for("the agent listens", || match raw.send(b"unsigned".to_vec(), Duration::from_secs(1)) {
        // Nobody answers what is not signed; an agent that is not there is told by the server at once.
        Err(BusError::Timeout { .. }) => Some(()),
        Err(BusError::NoResponders { .. }) => None,
        other => panic!("{other:?}"),
    });
    // A receipt of another service.
    let foreign = Raw { receipt: Raw::new(&scene, "orders").receipt, ..Raw::new(&scene, "config") };
    let ask = RestoreAsk {
        service: raw.service.clone(),
        round: raw.round,
        receipt: foreign.receipt,
        nonce: Nonce::from_bytes([1; 16]),
    };
    let refused = raw.exchange::<_, RestoreOffer>(&ask).verdict;
    assert!(
        matches!(&refused, OfferVerdict::Refused(refusal) if refusal.code == Some(Code::Sec01)),
        "{refused:?}"
    );

    // Another restore than the one that was offered.
    let (restore, recipient) = raw.ask();
    let never = RestoreId::from_bytes([7; 16]);
    let order = raw.order(&scene, never, &recipient, keys.clone(), |_| {});
    assert_eq!(raw.refusal(&order).code, Some(Code::Sec01));
    // A grant that was made for another restore.
    let order = raw.order(&scene, restore, &recipient, keys.clone(), |grant| grant.restore = never);
    let refusal = raw.refusal(&order);
    assert_eq!(refusal.code, Some(Code::Key03), "{refusal:?}");
    // A grant to somebody else.
    let (restore, _) = raw.ask();
    let nobody = Identity::generate(&mut OsEntropy).recipient();
    let refusal = raw.refusal(&raw.order(&scene, restore, &nobody, keys.clone(), |_| {}));
    assert_eq!(refusal.code, Some(Code::Key03), "{refusal:?}");
    // A grant that gives the file key of another service's pack.
    let (restore, recipient) = raw.ask();
    let theirs = scene.file_keys("orders").into_values().next().expect("a key");
    let swapped = keys.keys().map(|id| (*id, theirs.clone())).collect();
    let order = raw.order(&scene, restore, &recipient, swapped, |_| {});
    let _ = raw.refusal(&order);
    assert_eq!(fs::read(&one).expect("file"), b"changed", "nothing was changed by any of them");

    // A good one; and the same once more.
    let (restore, recipient) = raw.ask();
    let order = raw.order(&scene, restore, &recipient, keys.clone(), |_| {});
    let state = raw.exchange::<_, RestoreStatus>(&order).state;
    assert!(matches!(state, RestoreState::Running { .. }), "{state:?}");
    let ended = wait_for("the restore ends", || match raw.state(restore) {
        RestoreState::Ended(outcome) => Some(outcome),
        RestoreState::Running { .. } => None,
        other @ (RestoreState::Unknown | RestoreState::Offered | RestoreState::Refused(_)) => {
            panic!("{other:?}")
        }
    });
    assert!(ended.failure.is_none() && ended.lost == 0, "{ended:?}");
    assert!(fs::read(&one).expect("file") == old);
    fs::write(&one, b"changed").expect("file");
    let replayed = raw.exchange::<_, RestoreStatus>(&order).state;
    assert!(matches!(&replayed, RestoreState::Refused(why) if why.code == Some(Code::Sec01)), "{replayed:?}");

    // One that comes too late.
    scene.fleet.kill_agent("config");
    scene.fleet.set("MUSTER_RESTORE_OFFER", "300ms");
    scene.fleet.start_agent("config");
    wait_for("the agent listens", || {
        let here = raw.send(b"unsigned".to_vec(), Duration::from_secs(1));
        matches!(here, Err(BusError::Timeout { .. })).then_some(())
    });
    let (restore, recipient) = raw.ask();
    let order = raw.order(&scene, restore, &recipient, keys, |_| {});
    wait_for("the offer expires", || (raw.state(restore) == RestoreState::Unknown).then_some(()));
    let late = raw.refusal(&order);
    assert!(late.reason.contains("expired"), "{late:?}");
    assert_eq!(fs::read(&one).expect("file"), b"changed");
}

/// Each byte as a character: texts are searched quickly, also by tests that are not optimised.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Everything that goes over NATS, from now on.
fn record(port: u16) -> (Arc<std::sync::Mutex<Vec<u8>>>, Runtime) {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let runtime = Runtime::new().expect("a runtime");
    let into = Arc::clone(&heard);
    let mut all = runtime.block_on(async {
        let client = async_nats::connect(format!("127.0.0.1:{port}")).await.expect("connects");
        let all = client.subscribe(">").await.expect("subscribes");
        client.flush().await.expect("flushes");
        all
    });
    runtime.spawn(async move {
        while let Some(message) = all.next().await {
            into.lock().expect("not poisoned").extend_from_slice(&message.payload);
        }
    });
    (heard, runtime)
}

#[test]
fn whoever_hears_the_whole_bus_and_has_the_share_opens_nothing() {
    let mut scene = Scene::new();
    scene.fleet.open_the_bus();
    scene.fleet.up();
    // The recorder counts as somebody who listens: without the agent, nothing would say so and be tried again.
    wait_for("the agent listens", || {
        let log = fs::read_to_string(scene.fleet.path("agent-config.log")).ok()?;
        log.contains("the agent is up").then_some(())
    });
    let (heard, _runtime) = record(scene.fleet.nats.as_ref().expect("a server").port);
    let said = scene.restore("config", &["--existing", "replace"]).with_code(0);
    let subject = b"restore-status";
    let heard = wait_for("something was heard", || {
        let heard = heard.lock().expect("not poisoned").clone();
        heard.windows(subject.len()).any(|window| window == subject).then_some(heard)
    });
    let heard_order = heard.windows(13).any(|window| window == b"restore-order");
    assert!(heard_order, "the recorder hears the order itself: {}", said.err);
    let keys = scene.file_keys("config");
    assert!(keys.len() >= 2, "an index and a pack");
    let shared = files(&scene.fleet.share());
    let grants = files(&scene.fleet.share().join("grants"));
    assert_eq!(grants.len(), 1);
    let recovery = fs::read_to_string(scene.fleet.kit().join("recovery.key")).expect("the key");
    let recovery =
        recovery.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).expect("a key").to_owned();
    let mut places: Vec<(String, Vec<u8>)> = vec![("the bus".to_owned(), heard)];
    // The beginning is where keys would stand; the rest of a pack is cipher text.
    let read = |path: &PathBuf| {
        let mut bytes = fs::read(path).unwrap_or_default();
        bytes.truncate(64 * 1024);
        (text(path), bytes)
    };
    places.extend(shared.iter().chain(&files(&scene.fleet.dir())).map(read));
    for agent in scene.fleet.services() {
        let log = scene.fleet.path(&format!("agent-{agent}.log"));
        places.push(read(&log));
    }
    for (place, bytes) in &places {
        let text = latin(bytes);
        for key in keys.values() {
            let hex = muster_protocol::ids::hex(key.expose());
            assert!(!text.contains(&latin(key.expose())), "a file key is in {place}");
            assert!(!text.contains(&hex), "a file key is in {place}");
        }
        assert!(!text.contains("AGE-SECRET-KEY-") || place.ends_with(".sealing"), "{place}");
        assert!(!text.contains(&recovery), "{place}");
    }
    // Nor does anything that stays open the grant.
    let sealed = fs::read(&grants[0]).expect("the grant");
    let agents = scene.fleet.services();
    let sealing = agents.iter().map(|agent| scene.fleet.dir().join(format!("keys/agent-{agent}.sealing")));
    for file in sealing.chain([scene.fleet.kit().join("recovery.key")]) {
        let identities = secret_file::read_identities(&file).expect("identities");
        assert!(key_of_header(&sealed, &identities).is_err(), "{}", file.display());
    }
}
