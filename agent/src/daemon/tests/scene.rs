//! A fleet for one agent: a share in a folder, the bus in process, a scripted capturer, and leaders that a test moves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muster_bus::{Bus, EmbeddedBus, Headers, Limits, Message, Streams, Subscription};
use muster_protocol::age;
use muster_protocol::alert::Code;
use muster_protocol::document::SliceTotals;
use muster_protocol::entropy::random;
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, KeyId, Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{
    self, Change, Epoch, Genesis, Head, Keyset, KeysetKey, Member, Open, Pin, Role, Roster, Scope,
};
use muster_protocol::message::{
    Acknowledgement, CutOrder, Hello, Notice, OpenRound, Order, Ordered, ServiceState, Stage, StateDocument,
    Verdict, Welcome,
};
use muster_protocol::pem;
use muster_protocol::retry::{Attempts, Retry};
use muster_protocol::session::{Ephemeral, Sealed, Session, Side, Transcript};
use muster_protocol::time::UnixMillis;
use muster_protocol::wire;
use muster_share::credentials::Credentials;
use muster_share::entropy::OsEntropy;
use muster_share::log::{HeadMemory, Log, found};
use muster_share::secret_file;
use muster_share::store::{FileStore, Store};
use serde_bytes::ByteBuf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::daemon::capturer::{Capturer, Failure, Gauged, Job, Written};
use crate::daemon::error::DaemonError;
use crate::daemon::event_loop::{Daemon, Parts};
use crate::daemon::identity::{Identity, Pace};
use crate::daemon::reader::Reader;
use crate::hold::{HooksConfig, Keeper};

pub(super) const STATE: &str = "muster.v1.prod.state";
pub(super) const RETRY: &str = "muster.v1.prod.state.dns";
/// A test that waits longer has failed.
/// What every welcome confides.
pub(super) const CONFIDED: &[u8] = b"user=backup";
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for `what`; a test that waits in vain says for what.
pub(super) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub(super) fn dns() -> ServiceName {
    "dns".parse().expect("name")
}

pub(super) fn signer(number: u8) -> Signer {
    Signer::from_seed(&[number; 32])
}

/// What a scripted capturer was asked, and how it answers.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) jobs: Vec<Job>,
    pub(super) confided: Vec<Vec<u8>>,
    pub(super) cancelled: u64,
    pub(super) receipts: Vec<(u32, Nonce, Head, Option<Nonce>)>,
    pub(super) kept: Vec<ObjectId>,
    /// Fails this many captures.
    pub(super) fail: u64,
}

pub(super) struct Scripted {
    pub(super) script: Arc<Mutex<Script>>,
    changed: watch::Sender<u64>,
    /// All sources count as read while this is open.
    pub(super) read: watch::Sender<bool>,
    /// Captures end only while this is open.
    pub(super) gate: watch::Sender<bool>,
}

impl Scripted {
    pub(super) fn new() -> Arc<Self> {
        let (changed, read, gate) =
            (watch::Sender::new(0), watch::Sender::new(true), watch::Sender::new(true));
        Arc::new(Self { script: Arc::default(), changed, read, gate })
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        let done = change(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|n| *n += 1);
        done
    }

    /// Waits until the script shows it.
    pub(super) async fn until(&self, what: &str, shows: impl Fn(&Script) -> bool) {
        let mut changed = self.changed.subscribe();
        let script = Arc::clone(&self.script);
        let shown = changed.wait_for(|_| shows(&script.lock().unwrap_or_else(PoisonError::into_inner)));
        within(what, shown).await.map(drop).expect("the capturer lives");
    }
}

#[async_trait]
impl Capturer for Scripted {
    type Captured = u64;
    type Run = watch::Sender<bool>;

    fn accept(&self, credentials: &Credentials) {
        self.with(|script| script.confided.push(credentials.expose().to_vec()));
    }

    fn run(&self) -> Self::Run {
        watch::Sender::new(false)
    }

    fn gauged(&self, _: &Self::Run) -> Gauged {
        Gauged { stage: Stage::Capturing, done_bytes: 7, expected_bytes: None, added_bytes: 5 }
    }

    async fn sources_read(&self, run: Arc<Self::Run>) {
        let mut read = self.read.subscribe();
        let _ = read.wait_for(|read| *read).await;
        drop(run);
    }

    fn cancel(&self, run: &Self::Run) {
        run.send_replace(true);
    }

    async fn capture(&self, job: Job, run: Arc<Self::Run>) -> Result<u64, Failure> {
        let fail = self.with(|script| {
            script.jobs.push(job);
            script.fail > 0 && {
                script.fail -= 1;
                true
            }
        });
        if fail {
            return Err(Failure { code: Code::Agent03, reason: "scripted".to_owned(), permanent: false });
        }
        let (mut gate, mut cancel) = (self.gate.subscribe(), run.subscribe());
        tokio::select! {
            _ = gate.wait_for(|open| *open) => Ok(self.with(|script| script.jobs.len() as u64)),
            _ = cancel.wait_for(|cancel| *cancel) => {
                self.with(|script| script.cancelled += 1);
                Err(Failure { code: Code::Agent03, reason: "cancelled".to_owned(), permanent: false })
            }
        }
    }

    async fn write_receipt(
        &self,
        captured: &u64,
        attempt: u32,
        nonce: Nonce,
        head: Head,
        cut: Option<Nonce>,
    ) -> Result<Written, Failure> {
        self.with(|script| script.receipts.push((attempt, nonce, head, cut)));
        let receipt = ObjectId::of(&[*captured as u8, attempt as u8]);
        Ok(Written {
            receipt,
            receipt_size: 300,
            totals: SliceTotals { source_bytes: 7, ..SliceTotals::default() },
        })
    }

    async fn keep(&self, receipt: ObjectId) -> Result<(), Failure> {
        self.with(|script| script.kept.push(receipt));
        Ok(())
    }
}

/// A running agent.
pub(super) struct Agent {
    pub(super) task: JoinHandle<Result<(), DaemonError>>,
    pub(super) stop: watch::Sender<bool>,
}

impl Agent {
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        within("the agent to stop", self.task).await.expect("it does not panic").expect("it stops in order");
    }
}

pub(super) struct Scene {
    folder: tempfile::TempDir,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) log: Log,
    pub(super) fleet: FleetId,
    pub(super) capturer: Arc<Scripted>,
    pub(super) passed_over: Arc<AtomicU64>,
    pub(super) recovery: age::Recipient,
    /// The hooks of agents that are started from here on.
    pub(super) hooks: HooksConfig,
    hellos: Subscription,
    notices: Subscription,
    statements: BTreeMap<&'static str, ObjectId>,
}

pub(super) fn agent_member(key: u8) -> Member {
    let sealing = age::Identity::generate(&mut OsEntropy).recipient();
    let role = Role::Agent { service: dns(), sealing };
    Member { key: signer(key).key_id(), name: "dns".parse().expect("name"), role }
}

pub(super) fn member(key: u8, role: Role) -> Member {
    Member { key: signer(key).key_id(), name: format!("m{key}").parse().expect("name"), role }
}

/// Root.
pub(super) const ROOT: u8 = 1;
/// Two coordinators.
pub(super) const ANNA: u8 = 2;
pub(super) const BERT: u8 = 3;
/// The agent.
pub(super) const AGENT: u8 = 4;

impl Scene {
    /// A founded fleet with coordinators, a keyset and, if wanted, the agent.
    pub(super) async fn new(enrolled: bool) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let share = folder.path().join("share");
        std::fs::create_dir(&share).expect("made");
        std::fs::create_dir(folder.path().join("state")).expect("made");
        let genesis = Genesis {
            name: "prod".parse().expect("name"),
            salt: [9; 32],
            share: Nonce::from_bytes([1; 16]),
            created: UnixMillis(0),
        };
        let store: Arc<dyn Store> = Arc::new(FileStore::open(share).await.expect("opens"));
        let log = found(store, &signer(ROOT), &genesis).await.expect("founded");
        let streams = Streams::new("prod", STATE, "muster.v1.prod.trigger.async").expect("valid");
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::new(streams, Limits::default()));
        let hellos = bus.subscribe("muster.v1.prod.hello.*", None).await.expect("listens");
        let notices = bus.subscribe("muster.v1.prod.notice.*", None).await.expect("listens");
        let recovery = age::Identity::generate(&mut OsEntropy).recipient();
        let fleet = log.state().fleet;
        let mut scene = Self {
            folder,
            bus,
            log,
            fleet,
            capturer: Scripted::new(),
            passed_over: Arc::default(),
            recovery: recovery.clone(),
            hooks: HooksConfig::default(),
            hellos,
            notices,
            statements: BTreeMap::new(),
        };
        let keys = vec![KeysetKey { recipient: recovery, label: "test".to_owned() }];
        scene.state(&Keyset { previous: None, keys, at: None }).await;
        let mut members = vec![member(ANNA, Role::Coordinator), member(BERT, Role::Coordinator)];
        if enrolled {
            members.push(agent_member(AGENT));
        }
        scene.admit(members).await;
        scene
    }

    pub(super) async fn admit(&mut self, members: Vec<Member>) {
        let previous = self.statements.get("roster").copied();
        let changes = members.into_iter().map(Change::Admit).collect();
        self.state(&Roster { previous, changes, at: None }).await;
    }

    pub(super) async fn revoke(&mut self, who: u8) {
        let previous = self.statements.get("roster").copied();
        self.state(&Roster { previous, changes: vec![Change::Revoke(key(who))], at: None }).await;
    }

    pub(super) async fn state<B: log::Body>(&mut self, body: &B) {
        let statement = log::seal_statement(&signer(ROOT), &self.fleet, body);
        self.statements.insert(B::KIND, ObjectId::of(&statement));
        self.log.append_statement::<B>(&signer(ROOT), statement).await.expect("appended");
    }

    /// A coordinator takes the lead in the log.
    pub(super) async fn lead(&mut self, who: u8) -> Leader {
        let epoch = self.log.state().epoch.map_or(0, |epoch| epoch.epoch) + 1;
        let body = Epoch { epoch, instance: Nonce::from_bytes([who; 16]), at: UnixMillis(0) };
        self.log.append(&signer(who), &body).await.expect("leads");
        Leader {
            who,
            epoch,
            revision: 0,
            ephemeral: Ephemeral::generate(&mut OsEntropy),
            turn: 0,
            cut: None,
            max_hold_millis: None,
            bandwidth: None,
        }
    }

    /// The leader opens a round in the log.
    pub(super) async fn open(&mut self, leader: &Leader, request: &str) -> RoundId {
        let round = RoundId::derive(&self.fleet, request);
        let open = Open {
            epoch: leader.epoch,
            round,
            number: self.log.state().last_round + 1,
            scope: Scope::Services(vec![dns()]),
            nonce: Nonce::from_bytes(random(&mut OsEntropy)),
            trigger: "command".to_owned(),
            deadline_millis: 60_000,
            cut: None,
            at: UnixMillis(0),
        };
        self.log.append(&signer(leader.who), &open).await.expect("opened");
        round
    }

    pub(super) fn open_round(&self, leader: &Leader, round: RoundId) -> OpenRound {
        let position = self.log.state().rounds.get(&round).expect("open").position;
        OpenRound {
            round,
            position,
            remaining_millis: 60_000,
            ephemeral: leader.ephemeral.public(),
            turn: leader.turn,
            cut: leader.cut,
        }
    }

    /// Publishes the next state document.
    pub(super) async fn publish(&self, leader: &mut Leader, rounds: &[RoundId]) {
        leader.revision += 1;
        self.publish_as(leader, leader.epoch, leader.revision, rounds).await;
    }

    pub(super) async fn publish_as(&self, leader: &Leader, epoch: u64, revision: u64, rounds: &[RoundId]) {
        let rounds = rounds.iter().map(|round| self.open_round(leader, *round)).collect();
        let document = StateDocument { epoch, revision, rounds };
        self.set(STATE, signer(leader.who).seal(&self.fleet, &document)).await;
    }

    pub(super) async fn order_attempt(&self, leader: &mut Leader, round: RoundId, attempt: u32) {
        leader.revision += 1;
        let retry =
            ServiceState { epoch: leader.epoch, revision: leader.revision, service: dns(), round, attempt };
        self.set(RETRY, signer(leader.who).seal(&self.fleet, &retry)).await;
    }

    pub(super) async fn set(&self, subject: &str, bytes: Vec<u8>) {
        self.bus.set_last_value(subject, Bytes::from(bytes)).await.expect("stored");
    }

    /// Starts the agent, as after a crash when it ran before.
    pub(super) fn start(&self) -> Agent {
        self.start_on(Arc::clone(self.log.store()))
    }

    pub(super) fn start_on(&self, store: Arc<dyn Store>) -> Agent {
        let identity = Arc::new(Identity::new(
            &"prod".parse().expect("name"),
            self.fleet,
            dns(),
            signer(AGENT),
            Nonce::from_bytes(random(&mut OsEntropy)),
        ));
        let memory = HeadMemory::at(&self.state_folder().join("head"));
        let head = memory.recall().expect("readable");
        let pin = Pin { root: Some(key(ROOT)), fleet: Some(identity.fleet), head };
        let daemon = Daemon::build(Parts {
            pace: pace(),
            bus: Arc::clone(&self.bus),
            reader: Reader::new(Arc::clone(&store), pin, memory),
            store,
            capturer: Arc::clone(&self.capturer),
            passed_over: Arc::clone(&self.passed_over),
            gate: crate::restore::Gate::default(),
            keeper: Arc::new(Keeper::new(self.hooks.clone(), dns(), &self.state_folder())),
            identity,
        });
        let (stop, stopping) = watch::channel(false);
        Agent { task: tokio::spawn(daemon.run(stopping)), stop }
    }

    pub(super) fn state_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    pub(super) fn share_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("share")
    }

    /// The agent's configuration, with its keys in files and a folder with one file as its source.
    pub(super) fn config(&self) -> Config {
        let folder = self.folder.path();
        let write = |name: &str, text: &str| {
            secret_file::create(&folder.join(name), text.as_bytes()).expect("written");
        };
        std::fs::create_dir(folder.join("data")).expect("made");
        std::fs::write(folder.join("data/zone"), b"example.org. A 192.0.2.1").expect("written");
        write("key", &pem::signing_key_to_pem(&signer(AGENT)));
        write("sealing", &age::Identity::generate(&mut OsEntropy).to_file_text("now"));
        write("chunk", &"ab".repeat(32));
        let (fleet, root) = (self.fleet, key(ROOT));
        let text = format!(
            "[fleet]\nname = \"prod\"\nid = \"{fleet}\"\nroot = \"{root}\"\n\
             [agent]\nservice = \"dns\"\nkey = \"key\"\nsealing_key = \"sealing\"\nchunk_key = \"chunk\"\n\
             state = \"state\"\n[share]\nurl = \"share\"\n[nats]\nurl = \"nats://127.0.0.1:1\"\n\
             [[source]]\nkind = \"files\"\npath = \"data\"\n"
        );
        let file = folder.join("dns.toml");
        std::fs::write(&file, text).expect("written");
        Config::load(&file).expect("a configuration")
    }

    pub(super) fn head_file(&self) -> String {
        std::fs::read_to_string(Path::new(&self.state_folder()).join("head")).expect("a head was remembered")
    }

    /// The next hello.
    pub(super) async fn hello(&mut self) -> (Hello, Message) {
        let message = within("a hello", self.hellos.next()).await.expect("the bus is open");
        (self.said_by_agent(&message), message)
    }

    /// The next notice.
    pub(super) async fn notice(&mut self) -> (Notice, Message) {
        let message = within("a notice", self.notices.next()).await.expect("the bus is open");
        (self.said_by_agent(&message), message)
    }

    /// The first hello or notice from here on that shows it; repetitions before it are passed over.
    pub(super) async fn hello_that(&mut self, shows: impl Fn(&Hello) -> bool) -> (Hello, Message) {
        loop {
            let (hello, message) = self.hello().await;
            if shows(&hello) {
                return (hello, message);
            }
        }
    }

    pub(super) async fn notice_that(&mut self, shows: impl Fn(&Notice) -> bool) -> (Notice, Message) {
        loop {
            let (notice, message) = self.notice().await;
            if shows(&notice) {
                return (notice, message);
            }
        }
    }

    fn said_by_agent<P: Payload>(&self, message: &Message) -> P {
        let (key, content) = open_as::<P>(&message.payload, &self.fleet).expect("signed");
        assert_eq!(key, signer(AGENT).key_id());
        content
    }

    /// The session that this hello offers `leader`.
    fn session(&self, leader: &Leader, hello: &Hello) -> Session {
        let transcript = Transcript {
            fleet: self.fleet,
            round: hello.round,
            epoch: hello.epoch,
            leader: signer(leader.who).key_id(),
            agent: signer(AGENT).key_id(),
            leader_ephemeral: leader.ephemeral.public(),
            agent_ephemeral: hello.ephemeral,
            nonce: hello.nonce,
        };
        Session::derive(Side::Leader, &leader.ephemeral, &transcript).expect("derives")
    }

    fn order(&self, leader: &Leader, round: RoundId, attempt: u32) -> Order {
        let secret = Zeroizing::new(CONFIDED.to_vec());
        let credentials = wire::encode(&Credentials::new(secret, &mut OsEntropy));
        Order {
            nonce: self.attempt_nonce(round, attempt),
            credentials: Some(ByteBuf::from(credentials)),
            max_hold_millis: leader.max_hold_millis,
            bandwidth: leader.bandwidth,
        }
    }

    /// The signed answer that a leader owes this hello.
    pub(super) fn welcome(&self, leader: &Leader, hello: &Hello, attempt: Option<u32>) -> Welcome {
        let order = attempt.map(|attempt| wire::encode(&self.order(leader, hello.round, attempt)));
        let sealed = order.map_or_else(Vec::new, |order| self.session(leader, hello).seal(&order));
        let (round, epoch, nonce) = (hello.round, hello.epoch, hello.nonce);
        Welcome { round, epoch, attempt, nonce, sealed: ByteBuf::from(sealed) }
    }

    pub(super) fn attempt_nonce(&self, round: RoundId, attempt: u32) -> Nonce {
        self.log.state().rounds.get(&round).expect("open").open.nonce.for_attempt(&dns(), attempt)
    }

    pub(super) async fn answer<P: Payload>(&self, who: u8, message: &Message, answer: &P) {
        let payload = Bytes::from(signer(who).seal(&self.fleet, answer));
        message.respond(Headers::new(), payload).await.expect("sent");
    }

    /// Takes the next hello for a round and welcomes it.
    pub(super) async fn greet(&mut self, leader: &Leader, round: RoundId) -> Hello {
        let (hello, message) = self.hello_that(|h| h.round == round && h.epoch == leader.epoch).await;
        let welcome = self.welcome(leader, &hello, Some(hello.attempt));
        self.answer(leader.who, &message, &welcome).await;
        hello
    }

    /// Takes the next hello for a round and welcomes it under the session that it offers.
    pub(super) async fn greet_sealed(&mut self, leader: &Leader, round: RoundId) -> Session {
        let (hello, message) = self.hello_that(|h| h.round == round && h.epoch == leader.epoch).await;
        assert!(hello.sealed, "it hears sealed messages");
        let mut session = self.session(leader, &hello);
        let ordered = Ordered { attempt: hello.attempt, order: self.order(leader, round, hello.attempt) };
        message.respond(Headers::new(), session.say(&ordered).into()).await.expect("sent");
        session
    }

    /// The next notice, which has to be sealed in this session.
    pub(super) async fn sealed_notice(&mut self, session: &mut Session) -> (Notice, Message) {
        let message = within("a notice", self.notices.next()).await.expect("the bus is open");
        let sealed = Sealed::read(&message.payload, Notice::MAX_LEN).expect("sealed, not signed");
        (session.hear(&sealed).expect("sealed in the session"), message)
    }

    pub(super) fn acknowledgement(&self, notice: &Notice, verdict: Verdict) -> Acknowledgement {
        let receipt = receipt(notice);
        Acknowledgement {
            round: notice.round,
            epoch: notice.epoch,
            attempt: notice.attempt,
            receipt,
            verdict,
        }
    }

    /// Waits until this many messages were passed over.
    pub(super) async fn passed_over(&self, count: u64) {
        let seen = || self.passed_over.load(Ordering::Relaxed);
        let reached = async {
            while seen() < count {
                tokio::task::yield_now().await;
            }
        };
        within(&format!("message {count} to be passed over"), reached).await;
        assert_eq!(seen(), count);
    }
}

/// The receipt that a notice names.
pub(super) fn receipt(notice: &Notice) -> Option<ObjectId> {
    match &notice.outcome {
        muster_protocol::message::NoticeOutcome::Stored { receipt, .. } => Some(*receipt),
        muster_protocol::message::NoticeOutcome::Failed { .. }
        | muster_protocol::message::NoticeOutcome::Quiesced
        | muster_protocol::message::NoticeOutcome::Snapped { .. } => None,
    }
}

/// A coordinator with an epoch.
pub(super) struct Leader {
    pub(super) who: u8,
    pub(super) epoch: u64,
    pub(super) revision: u64,
    pub(super) ephemeral: Ephemeral,
    /// What its documents and orders say of its rounds.
    pub(super) turn: u32,
    pub(super) cut: Option<CutOrder>,
    pub(super) max_hold_millis: Option<u64>,
    pub(super) bandwidth: Option<u64>,
}

pub(super) fn key(who: u8) -> KeyId {
    signer(who).key_id()
}

fn pace() -> Pace {
    let millis = Duration::from_millis;
    let retry =
        |first, longest| Retry::new(millis(first), millis(longest), Attempts::Unlimited).expect("valid");
    Pace {
        heartbeat: millis(20),
        progress: millis(20),
        poll: millis(200),
        hello: millis(500),
        notice: millis(500),
        resend: retry(20, 50),
        reread: retry(20, 100),
        wind_down: Duration::from_secs(5),
    }
}
