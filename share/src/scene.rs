//! A fleet of two services on a share in a temporary folder, for tests. Its objects are small and unsealed: neither prune nor
//! copy opens any.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::age::Identity;
use muster_protocol::config::ShareConfig;
use muster_protocol::document::{Manifest, ManifestSlice, ObjectRef, Receipt, SliceStatus, SliceTotals};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{
    Accept, Body, Change, Commit, Config, End, EndAccount, Epoch, Found, Genesis, Head, Hold, Keyset,
    KeysetKey, Member, Open, Outcome, Pin, Quarantine, Role, Roster, Scope, Verified, seal_statement,
};
use muster_protocol::time::UnixMillis;

use crate::entropy::OsEntropy;
use crate::layout::{ObjectPath, Prefix, SlicePart};
use crate::lists::{ListedPack, PackList};
use crate::log::{Log, found};
use crate::prune::{PruneError, Report, prune};
use crate::store::{self, Listed, Store};
use crate::verify::{Ledger, Progress, verify};

pub(crate) const HOUR: i64 = 3_600_000;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn signer(number: u8) -> Signer {
    Signer::from_seed(&[number; 32])
}

const ROOT: u8 = 1;
const COORDINATOR: u8 = 2;
const ADMIN: u8 = 5;
pub(crate) const PRUNER: u8 = 6;

const TOTALS: SliceTotals =
    SliceTotals { source_bytes: 1, stored_bytes: 1, added_bytes: 1, entries: 1, gaps: 0 };

/// A service's packs in one round, by name: the name is what tells them apart.
pub(crate) type Packs<'a> = (&'a str, &'a [&'a str]);

pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) log: Log,
    /// Calendar time, as everybody's clock has it.
    pub(crate) now: i64,
    /// What the slices from here on say of themselves.
    pub(crate) totals: SliceTotals,
    agents: BTreeMap<ServiceName, Signer>,
    salt: u64,
}

impl Scene {
    /// Keeps the newest `keep_last` and at least one verified round, with a grace of an hour.
    pub(crate) async fn new(keep_last: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("a share");
        let genesis = Genesis {
            name: "test".parse().expect("a name"),
            salt: [2; 32],
            share: Nonce::from_bytes([3; 16]),
            created: UnixMillis(0),
        };
        let log = found(store.clone(), &signer(ROOT), &genesis).await.expect("founded");
        let agents = [("dns", 8), ("web", 9)].map(|(name, key)| (service(name), signer(key))).into();
        let mut scene = Self { folder, store, log, now: 1_000 * DAY, totals: TOTALS, agents, salt: 0 };
        let recipient = || Identity::generate(&mut OsEntropy).recipient();
        let keys = vec![KeysetKey { recipient: recipient(), label: "2026".to_owned() }];
        scene.says(ROOT, &Keyset { previous: None, keys, at: None }).await;
        let member = |number: u8, name: &str, role| {
            Change::Admit(Member { key: signer(number).key_id(), name: name.parse().expect("a name"), role })
        };
        let agent = |name: &str| Role::Agent { service: service(name), sealing: recipient() };
        let changes = vec![
            member(COORDINATOR, "coordinator", Role::Coordinator),
            member(ADMIN, "admin", Role::Admin),
            member(PRUNER, "pruner", Role::Pruner),
            member(8, "dns", agent("dns")),
            member(9, "web", agent("web")),
        ];
        scene.says(ROOT, &Roster { previous: None, changes, at: None }).await;
        let epoch = Epoch { epoch: 1, instance: Nonce::from_bytes([1; 16]), at: UnixMillis(0) };
        scene.log.append(&signer(COORDINATOR), &epoch).await.expect("appended");
        scene.retain(&[("keep_last", &keep_last.to_string())], None).await;
        scene
    }

    /// The retention from here on; what is not named keeps nothing, or waits an hour.
    pub(crate) async fn retain(&mut self, settings: &[(&str, &str)], sealed: Option<ObjectId>) {
        let mut clear: BTreeMap<String, String> =
            [("keep_days", "0"), ("min_verified", "1"), ("grace", "1h"), ("keep_last", "0")]
                .iter()
                .chain(settings)
                .map(|(key, value)| (format!("retention.{key}"), (*value).to_owned()))
                .collect();
        clear.insert("interval".to_owned(), "24h".to_owned());
        let previous = self.log.state().statements.get(Config::KIND).copied();
        self.says(ADMIN, &Config { previous, clear, sealed, at: None }).await;
    }

    async fn says<B: Body>(&mut self, who: u8, body: &B) {
        let statement = seal_statement(&signer(who), &self.log.state().fleet, body);
        self.log.append_statement::<B>(&signer(who), statement).await.expect("appended");
    }

    pub(crate) async fn hold(&mut self, number: u64, keep: bool) {
        let previous = self.log.state().statements.get(Hold::KIND).copied();
        let round = self.id(number);
        self.says(ADMIN, &Hold { previous, round, keep, reason: None, at: None }).await;
    }

    /// An operator accepts what a service is like.
    pub(crate) async fn accept(&mut self, number: u64, name: &str) {
        let previous = self.log.state().statements.get(Accept::KIND).copied();
        let round = self.id(number);
        self.says(ADMIN, &Accept { previous, service: service(name), round, reason: None, at: None }).await;
    }

    /// The service leaves the roster.
    pub(crate) async fn revoke(&mut self, name: &str) {
        let previous = self.log.state().statements.get(Roster::KIND).copied();
        let changes = vec![Change::Revoke(self.agents[&service(name)].key_id())];
        self.says(ROOT, &Roster { previous, changes, at: None }).await;
    }

    /// The round of a number.
    pub(crate) fn id(&self, number: u64) -> RoundId {
        let rounds = self.log.state().rounds_by_number();
        rounds.iter().find(|round| round.open.number == number).expect("a round").open.round
    }

    /// Writes an object and gives its name.
    pub(crate) async fn put(&self, bytes: Vec<u8>, path: impl Fn(ObjectId) -> ObjectPath) -> ObjectPath {
        let path = path(ObjectId::of(&bytes));
        match self.store.put_new(&path, Bytes::from(bytes)).await {
            Ok(()) | Err(store::StoreError::AlreadyExists { .. }) => path,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Uploads a pack.
    pub(crate) async fn upload(&self, name: &str, pack: &str) -> ObjectPath {
        self.put(pack.as_bytes().to_vec(), |id| ObjectPath::Pack { service: service(name), id }).await
    }

    /// Opens a round over these services, and gives its number.
    pub(crate) async fn open(&mut self, services: &[&str]) -> u64 {
        let number = self.log.state().last_round + 1;
        let mut id = [7; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let open = Open {
            epoch: 1,
            round: RoundId::from_bytes(id),
            number,
            scope: Scope::Services(services.iter().map(|name| service(name)).collect()),
            nonce: Nonce::from_bytes(id),
            trigger: "test".to_owned(),
            deadline_millis: 60_000,
            at: UnixMillis(self.now),
            cut: None,
        };
        self.log.append(&signer(COORDINATOR), &open).await.expect("opened");
        number
    }

    /// A slice of an open round: packs, lists, receipt.
    pub(crate) async fn slice(&mut self, number: u64, (name, packs): Packs<'_>) -> ManifestSlice {
        let round = self.id(number);
        let service = service(name);
        let mut listed = Vec::new();
        for (number, pack) in (0..).zip(packs) {
            self.upload(name, pack).await;
            listed.push(ListedPack { number, id: ObjectId::of(pack.as_bytes()), size: pack.len() as u64 });
        }
        let list = PackList { packs: listed }.encode(&mut OsEntropy).expect("short");
        let packs = self.part(round, &service, SlicePart::Packs, list).await;
        self.salt += 1;
        let unique = |what: &str| format!("{what} {}", self.salt).into_bytes();
        let index = self.part(round, &service, SlicePart::Index, unique("index")).await;
        let chunks = self.part(round, &service, SlicePart::Chunks, unique("chunks")).await;
        let open = &self.log.state().rounds[&round].open;
        let totals = self.totals;
        let receipt = Receipt {
            service: service.clone(),
            round,
            attempt: 1,
            nonce: open.nonce.for_attempt(&service, 1),
            keyset: 1,
            head: Head { number: 0, hash: ObjectId::of(b"") },
            index,
            chunks: vec![chunks],
            packs: vec![packs],
            new_packs: 1,
            status: SliceStatus::Whole,
            totals,
            previous: None,
            cut: None,
        };
        let agent = &self.agents[&service];
        let bytes = agent.seal(&self.log.state().fleet, &receipt);
        let agent = agent.key_id();
        let ObjectRef { id, size, .. } = self.part(round, &service, SlicePart::Receipt, bytes).await;
        ManifestSlice {
            service,
            agent,
            attempts: 1,
            receipt: id,
            receipt_size: size,
            status: SliceStatus::Whole,
            totals,
            cut: None,
            timing: None,
            tries: Vec::new(),
        }
    }

    async fn part(&self, round: RoundId, name: &ServiceName, part: SlicePart, bytes: Vec<u8>) -> ObjectRef {
        let size = bytes.len() as u64;
        let path = |id| ObjectPath::Slice { service: name.clone(), round, id, part };
        let path = self.put(bytes, path).await;
        ObjectRef { round, id: *path.id().expect("named by its hash"), size }
    }

    /// Commits a round with these slices.
    pub(crate) async fn commit(&mut self, number: u64, mut slices: Vec<ManifestSlice>, is_verified: bool) {
        let (round, fleet) = (self.id(number), self.log.state().fleet);
        slices.sort_by(|a, b| a.service.cmp(&b.service));
        let manifest = Manifest {
            round,
            number,
            epoch: 1,
            keyset: 1,
            opened: UnixMillis(self.now),
            assembled: UnixMillis(self.now),
            trigger: "test".to_owned(),
            outcome: Outcome::Complete,
            slices,
            absent: Vec::new(),
            cut: None,
        };
        let bytes = signer(COORDINATOR).seal(&fleet, &manifest);
        let manifest_size = bytes.len() as u64;
        let path = self.put(bytes, ObjectPath::Manifest).await;
        let commit = Commit {
            epoch: 1,
            round,
            manifest: *path.id().expect("a hash"),
            manifest_size,
            outcome: Outcome::Complete,
            at: UnixMillis(self.now),
        };
        self.log.append(&signer(COORDINATOR), &commit).await.expect("committed");
        if is_verified {
            let verified = Verified { epoch: 1, round, objects: 1, bytes: 1, at: UnixMillis(self.now) };
            self.log.append(&signer(COORDINATOR), &verified).await.expect("verified");
        }
    }

    pub(crate) async fn end(&mut self, number: u64) {
        let (round, reason) = (self.id(number), "test".to_owned());
        let account = self.put(format!("account of {number}").into_bytes(), ObjectPath::Manifest).await;
        let account = account.id().map(|object| EndAccount { object: *object, size: 12 });
        let end =
            End { epoch: 1, round, outcome: Outcome::Failed, reason, at: UnixMillis(self.now), account };
        self.log.append(&signer(COORDINATOR), &end).await.expect("ended");
    }

    /// A whole verified round with these packs, half a day after the last one.
    pub(crate) async fn round(&mut self, services: &[Packs<'_>]) -> u64 {
        self.now += DAY / 2;
        let names: Vec<&str> = services.iter().map(|(name, _)| *name).collect();
        let number = self.open(&names).await;
        let mut slices = Vec::new();
        for packs in services {
            slices.push(self.slice(number, *packs).await);
        }
        self.commit(number, slices, true).await;
        number
    }

    /// The leader says that these packs are not what they should be.
    pub(crate) async fn quarantine(&mut self, name: &str, packs: &[&str]) {
        let quarantine = Quarantine {
            epoch: 1,
            service: service(name),
            add: packs.iter().map(|pack| ObjectId::of(pack.as_bytes())).collect(),
            found: Found::Bytes,
            lift: Vec::new(),
            at: UnixMillis(self.now),
        };
        self.log.append(&signer(COORDINATOR), &quarantine).await.expect("in quarantine");
    }

    /// One run of the pruner.
    pub(crate) async fn prune(&mut self) -> Result<Report, PruneError> {
        prune(&mut self.log, &signer(PRUNER), UnixMillis(self.now)).await
    }

    /// One run over another view of the share, with a log of its own.
    pub(crate) async fn prune_through(&self, store: Arc<dyn Store>) -> Result<Report, PruneError> {
        let mut log = Log::open(store, Pin::default()).await?;
        prune(&mut log, &signer(PRUNER), UnixMillis(self.now)).await
    }

    /// Both passes, two hours apart.
    pub(crate) async fn prune_twice(&mut self) -> Report {
        let first = self.prune().await.expect("marks");
        assert!(first.swept.is_empty(), "{first:?}");
        self.now += 2 * HOUR;
        self.prune().await.expect("sweeps")
    }

    /// Everything on the share but the log, by path and length.
    pub(crate) async fn tree(&self) -> BTreeMap<ObjectPath, u64> {
        let lines: Vec<_> = self.store.list(&Prefix::Everything).collect().await;
        let objects = lines.into_iter().filter_map(|line| match line.expect("listed") {
            Listed::Object { path, size } => path.id().is_some().then_some((path, size)),
            Listed::Foreign { .. } => None,
        });
        objects.collect()
    }

    /// The names of a service's packs that are there.
    pub(crate) async fn packs(&self, name: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for path in self.tree().await.into_keys() {
            if matches!(&path, ObjectPath::Pack { service, .. } if service.as_str() == name) {
                let bytes = self.store.get(&path, 1_000).await.expect("read");
                names.insert(String::from_utf8(bytes.to_vec()).expect("a name"));
            }
        }
        names
    }

    /// What is wrong with the rounds that can be recovered.
    pub(crate) async fn damage(&self) -> Vec<String> {
        let mut log = Log::open(self.store.clone(), Pin::default()).await.expect("a log");
        log.refresh().await.expect("read");
        let ledger =
            Ledger { state: log.state().clone(), damaged: Vec::new(), broken: false, above: Vec::new() };
        let report = verify(&self.store, &ledger, None, None, &Progress::default()).await.expect("verified");
        report.damaged.iter().map(|found| found.damage.to_string()).collect()
    }

    /// Numbers of the rounds that can be recovered.
    pub(crate) fn recoverable(&self) -> Vec<u64> {
        let rounds = self.log.state().rounds_by_number().into_iter();
        rounds.filter(|round| round.is_recoverable()).map(|round| round.open.number).collect()
    }
}

pub(crate) fn service(name: &str) -> ServiceName {
    name.parse().expect("a service name")
}

/// A set of names.
pub(crate) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
