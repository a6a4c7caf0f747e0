//! Who leads: two coordinators on one share and one bus.

mod alerts;
mod schedule;
mod sealed;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_bus::{Bus, EmbeddedBus, Limits, Streams};
use muster_protocol::age::Identity;
use muster_protocol::config::{BusConfig, FleetConfig, ShareConfig};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, Nonce, RoundId};
use muster_protocol::log::{
    Change, Genesis, Keyset, KeysetKey, Member, Pin, Role, Roster, RoundPhase, seal_statement,
};
use muster_protocol::subject::{Subject, Subjects};
use muster_protocol::time::UnixMillis;
use muster_protocol::{log, pem};
use muster_share::entropy::OsEntropy;
use muster_share::layout::ObjectPath;
use muster_share::log::{Log, found};
use muster_share::secret_file;
use muster_share::store::{self, Store};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Slots, run_on};
use crate::config::{Config, CoordinatorConfig};
use crate::query::{Answer, LeaderView, Query};

const LIMIT: Duration = Duration::from_secs(30);

struct World {
    folder: TempDir,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    subjects: Subjects,
    fleet: FleetId,
    root: Signer,
}

fn coordinator(number: u8) -> Signer {
    Signer::from_seed(&[number; 32])
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these members besides.
    async fn with(members: &[(&Signer, &str, Role)]) -> Self {
        let folder = TempDir::new().expect("folder");
        let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("share");
        let root = Signer::from_seed(&[1; 32]);
        let genesis = Genesis {
            name: "test".parse().expect("name"),
            salt: [2; 32],
            share: Nonce::from_bytes([3; 16]),
            created: UnixMillis(0),
        };
        let mut log = found(store.clone(), &root, &genesis).await.expect("founded");
        let fleet = log.state().fleet;
        let recipient = Identity::generate(&mut OsEntropy).recipient();
        let keys = vec![KeysetKey { recipient: recipient.clone(), label: "one".into() }];
        let keyset = seal_statement(&root, &fleet, &Keyset { previous: None, keys, at: None });
        log.append_statement::<Keyset>(&root, keyset).await.expect("keyset");
        let member = |signer: Signer, name: &str, role| {
            Change::Admit(Member { key: signer.key_id(), name: name.parse().expect("name"), role })
        };
        let service = "only".parse().expect("name");
        let mut changes = vec![
            member(coordinator(11), "one", Role::Coordinator),
            member(coordinator(12), "two", Role::Coordinator),
            member(Signer::from_seed(&[20; 32]), "only", Role::Agent { service, sealing: recipient }),
        ];
        let more = members.iter().map(|(signer, name, role)| member((*signer).clone(), name, role.clone()));
        changes.extend(more);
        let roster = seal_statement(&root, &fleet, &Roster { previous: None, changes, at: None });
        log.append_statement::<Roster>(&root, roster).await.expect("roster");
        let subjects = Subjects::new(&"test".parse().expect("name"));
        let streams =
            Streams::new("test", &subjects.print(&Subject::State), &subjects.print(&Subject::TriggerAsync));
        let bus = Arc::new(EmbeddedBus::new(streams.expect("streams"), Limits::default()));
        Self { folder, store, bus, subjects, fleet, root }
    }

    fn config(&self, number: u8, state: &Path) -> Config {
        let key = state.join("key");
        secret_file::create(&key, pem::signing_key_to_pem(&coordinator(number)).as_bytes())
            .expect("key file");
        let name = if number == 11 { "one" } else { "two" };
        let mut config = Config {
            fleet: FleetConfig {
                name: "test".parse().expect("name"),
                id: self.fleet,
                root: self.root.key_id(),
            },
            coordinator: CoordinatorConfig {
                sealing_key: std::path::PathBuf::new(),
                name: name.parse().expect("name"),
                key,
                state: state.to_owned(),
            },
            share: ShareConfig::at(self.folder.path().to_string_lossy().into_owned()),
            nats: BusConfig::at(""),
            streams: crate::config::StreamsConfig::default(),
            round: crate::config::RoundConfig::default(),
            cut: crate::config::CutConfig::default(),
            lead: crate::config::LeadConfig::default(),
            http: crate::config::HttpConfig::nowhere(),
            log: muster_protocol::config::LogConfig::default(),
            telemetry: muster_protocol::config::TelemetryConfig::default(),
            notify: Vec::new(),
        };
        config.lead.lease.0 = Duration::from_millis(900);
        config.round.offline_after.0 = Duration::from_millis(500);
        config.lead.takeover.0 = Duration::from_millis(300);
        config
    }

    /// Starts a coordinator; the sender stops it.
    fn start(&self, number: u8, state: &TempDir) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        self.start_as(self.config(number, state.path()))
    }

    fn start_as(&self, config: Config) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let (stop, stopped) = watch::channel(false);
        let running = run_on(config, self.bus.clone(), self.store.clone(), Slots::Follow, stopped);
        (stop, tokio::spawn(async move { running.await.expect("ends well") }))
    }

    async fn leader(&self) -> Option<LeaderView> {
        let ask = serde_json::to_vec(&Query::Leader).expect("encodes");
        let subject = self.subjects.print(&Subject::Query);
        let answer = self.bus.request(&subject, Vec::new(), ask.into(), Duration::from_secs(2)).await.ok()?;
        match serde_json::from_slice(&answer.payload).expect("an answer") {
            Answer::Leader(view) => Some(view),
            Answer::Agents(_)
            | Answer::Round(_)
            | Answer::Alerts(_)
            | Answer::Channels(_)
            | Answer::Error { .. } => None,
        }
    }

    async fn wait_for_leader(&self, name: &str) -> LeaderView {
        let found = async {
            loop {
                if let Some(view) = self.leader().await.filter(|view| view.coordinator == name) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, found).await.expect("it leads in time")
    }

    async fn log(&self) -> Log {
        Log::open(self.store.clone(), Pin::default()).await.expect("opens")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_leader_keeps_its_place_and_a_silent_one_is_followed() {
    let world = World::new().await;
    let (a, b) = (TempDir::new().expect("folder"), TempDir::new().expect("folder"));
    let (stop_one, one) = world.start(11, &a);
    assert_eq!(world.wait_for_leader("one").await.epoch, Some(1));
    let (stop_two, two) = world.start(12, &b);
    // Several leases: the idle leader writes its own again and again, so nobody takes its place.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.log().await.state().epoch.map(|e| e.epoch), Some(1));

    stop_one.send_replace(true);
    one.await.expect("ends");
    assert_eq!(world.wait_for_leader("two").await.epoch, Some(2));
    stop_two.send_replace(true);
    two.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_followed_while_it_slept_writes_nothing_more() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;

    // Somebody else takes the lead in the log, behind its back.
    let mut log = world.log().await;
    let epoch = log::Epoch { epoch: 2, instance: Nonce::from_bytes([9; 16]), at: UnixMillis(0) };
    log.append(&coordinator(12), &epoch).await.expect("the lead is taken");
    let trigger = world.subjects.print(&Subject::Trigger);
    // Whether it notices before or after it is asked: no record of its own may follow under its old epoch.
    let _ = world.bus.request(&trigger, Vec::new(), "{}".into(), Duration::from_secs(3)).await;
    log.refresh().await.expect("reads on");
    assert_eq!(log.state().without_effect, []);
    let under_one = log.state().rounds.values().filter(|r| r.open.epoch == 1).count();
    assert_eq!(under_one, 0);
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_coordinator_runs_once_and_goes_on_with_what_was_open() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    let subject = world.subjects.print(&Subject::Trigger);
    let asked =
        world.bus.request(&subject, Vec::new(), r#"{"request":"x"}"#.into(), LIMIT).await.expect("answered");
    assert!(asked.payload.starts_with(b"{\"round\""), "{:?}", asked.payload);
    stop.send_replace(true);
    one.await.expect("ends");
    assert_eq!(world.log().await.state().open_rounds().len(), 1);

    std::fs::remove_file(a.path().join("key")).expect("written anew by start");
    let (stop, again) = world.start(11, &a);
    let view = world.wait_for_leader("one").await;
    assert_eq!((view.epoch, view.rounds.len()), (Some(2), 1), "{view:?}");
    stop.send_replace(true);
    again.await.expect("ends");
    let log = world.log().await;
    assert!(log.state().rounds.values().all(|round| round.phase == RoundPhase::Open));
    assert!(world.store.head(&ObjectPath::Format).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_record_that_arrives_after_it_was_given_up_is_taken_up_and_ended() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    // The leader's own record, of its epoch, from a call that took longer than anybody waited.
    let mut log = world.log().await;
    let round = RoundId::from_bytes([7; 16]);
    let open = log::Open {
        epoch: 1,
        round,
        number: 1,
        scope: log::Scope::All,
        nonce: Nonce::from_bytes([8; 16]),
        trigger: "late".to_owned(),
        deadline_millis: 1_000,
        at: UnixMillis(0),
        cut: None,
    };
    log.append(&coordinator(11), &open).await.expect("it gets through");
    let ended = async {
        while log.state().rounds.get(&round).is_some_and(|round| round.outcome().is_none()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            log.refresh().await.expect("reads on");
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("nobody is left with a round that blocks its services");
    assert_eq!(log.state().epoch.map(|epoch| epoch.epoch), Some(1), "its leader did it");
    stop.send_replace(true);
    one.await.expect("ends");
}
