//! `muster restore`: an older round back into running services, and everybody who may not, cannot, or hears it all.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use muster_agent::config::Config as AgentConfig;
use muster_bus::{Bus, BusError, Headers, NatsBus, NatsConfig, Streams};
use muster_protocol::age::{FileKey, Identity, Recipient};
use muster_protocol::alert::Code;
use muster_protocol::document::Manifest;
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, Nonce, ObjectId, RestoreId, RoundId, ServiceName};
use muster_protocol::log::{Audit, Change, Member, Pin, Role, Roster, State, parse, seal_statement};
use muster_protocol::message::{
    OfferVerdict, RestoreAsk, RestoreExisting, RestoreOffer, RestoreOrder, RestoreQuery, RestoreRefusal,
    RestoreState, RestoreStatus, RestoreTarget,
};
use muster_protocol::pem;
use muster_protocol::subject::{Subject, Subjects};
use muster_share::entropy::OsEntropy;
use muster_share::grant::Grant;
use muster_share::layout::ObjectPath;
use muster_share::log::Log;
use muster_share::sealed::key_of_header;
use muster_share::{secret_file, store};
use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Said, wait_for};
use muster_tests::tree;
use tokio::runtime::Runtime;

/// Three services, each of another kind, with a first round of what they were.
struct Scene {
    fleet: Fleet,
    data: tempfile::TempDir,
}

fn rows(path: &Path) -> (u32, String) {
    let db = rusqlite::Connection::open(path).expect("database");
    db.query_row("select count(*), max(text) from t", [], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows")
}

fn insert(path: &Path, word: &str, count: u32) {
    let mut db = rusqlite::Connection::open(path).expect("database");
    let all = db.transaction().expect("transaction");
    all.execute("create table if not exists t (id integer primary key, text text)", []).expect("table");
    for n in 0..count {
        all.execute("insert into t (text) values (?1)", [format!("{word} {n:06}")]).expect("row");
    }
    all.commit().expect("commit");
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success());
}

fn key_file(path: &Path, signer: &Signer) {
    secret_file::create(path, pem::signing_key_to_pem(signer).as_bytes()).expect("written");
}

/// Replaces text in an agent's configuration.
fn edit(fleet: &Fleet, service: &str, from: &str, to: &str) {
    let file = fleet.dir().join(format!("agents/{service}.toml"));
    let before = fs::read_to_string(&file).expect("a configuration");
    let after = before.replace(from, to);
    assert_ne!(before, after, "{from} is in {}", file.display());
    fs::write(&file, after).expect("written");
}

impl Scene {
    fn new() -> Self {
        let data = tempfile::TempDir::new().expect("folder");
        let at = |name: &str| text(&data.path().join(name));
        tree::rich(&data.path().join("tree"));
        insert(&data.path().join("orders.db"), "old", 5000);
        fs::create_dir(data.path().join("alone")).expect("folder");
        fs::write(data.path().join("alone/single.conf"), b"one = 1\n").expect("file");
        fs::write(data.path().join("numbers"), "1\n2\n3\n".repeat(50_000)).expect("file");
        let says = format!(
            r#"["sh","-c","touch {0}; while [ -e {1} ]; do sleep 0.05; done; cat {2}"]"#,
            at("begun"),
            at("hold"),
            at("numbers")
        );
        let fleet = Fleet::init(&[
            format!("config=files:{}", at("tree")),
            format!("orders=sqlite:{}", at("orders.db")),
            format!("numbers=command:{says}"),
            format!("single=files:{}", at("alone/single.conf")),
        ]);
        let scene = Self { fleet, data };
        let _ = scene.fleet.run(&["once", &text(&scene.fleet.dir())]).with_code(0);
        scene
    }

    /// What puts the numbers back: waits as long as `wait` is there.
    fn with_counterpart(self) -> Self {
        let at = |name: &str| text(&self.path(name));
        let script = format!(
            "touch {}; while [ -e {} ]; do sleep 0.05; done; cat > {}",
            at("putting"),
            at("wait"),
            at("numbers")
        );
        let argv = format!(r#"restore = ["sh", "-c", "{script}"]"#);
        edit(&self.fleet, "numbers", "restore = []", &argv);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    fn restore(&self, service: &str, more: &[&str]) -> Said {
        let kit = text(&self.fleet.kit());
        let args = ["restore", "1", "--service", service, "--kit", &kit];
        self.fleet.run(&[&args[..], more].concat())
    }

    /// The log, as it is now.
    fn log(&self) -> State {
        let mut state = State::new(Pin::default());
        while let Ok(slot) = fs::read(self.fleet.share().join(ObjectPath::LogRecord(state.next).to_string()))
        {
            state.replay(&slot).expect("an honest log");
        }
        state
    }

    /// Says something about members, signed by root.
    fn roster(&self, change: impl FnOnce(&State) -> Change) {
        let root =
            secret_file::read_signing_key(&self.fleet.path("kit-root").join("root.key")).expect("root");
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let store = store::open(&text(&self.fleet.share())).await.expect("the share");
            let mut log = Log::open(store, Pin::default()).await.expect("the log");
            let previous = log.state().statements.get("roster").copied();
            let changes = vec![change(log.state())];
            let statement = seal_statement(&root, &log.state().fleet, &Roster { previous, changes });
            log.append_statement::<Roster>(&root, statement).await.expect("appended");
        });
    }

    fn operator(&self) -> Signer {
        secret_file::read_signing_key(&self.fleet.dir().join("keys/operator.key"))
            .expect("the operator's key")
    }

    /// The manifest of the first round.
    fn manifest(&self) -> Manifest {
        let state = self.log();
        let round = state.rounds.values().find(|round| round.open.number == 1).expect("round 1");
        let path = ObjectPath::Manifest(round.commit().expect("committed").manifest);
        let bytes = fs::read(self.fleet.share().join(path.to_string())).expect("the manifest");
        open_as::<Manifest>(&bytes, &state.fleet).expect("signed").1
    }

    /// The packs of a service on the share.
    fn packs(&self, service: &str) -> Vec<PathBuf> {
        files(&self.fleet.share().join(format!("agents/{service}/packs")))
    }

    /// The file keys of everything that a service sealed.
    fn file_keys(&self, service: &str) -> BTreeMap<PathBuf, FileKey> {
        let keys = secret_file::read_identities(&self.fleet.kit().join("recovery.key")).expect("the kit");
        let key = |path: PathBuf| {
            let bytes = fs::read(&path).expect("an object");
            key_of_header(&bytes, &keys).ok().map(|(_, key)| (path, key))
        };
        files(&self.fleet.share().join(format!("agents/{service}"))).into_iter().filter_map(key).collect()
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn an_older_round_comes_back_into_services_of_each_kind_and_the_next_round_is_right() {
    let mut scene = Scene::new().with_counterpart();
    let (tree, before) = (scene.path("tree"), scene.path("before"));
    copy(&tree, &before);
    let numbers = fs::read(scene.path("numbers")).expect("numbers");
    scene.fleet.up();
    fs::write(tree.join("one"), b"changed").expect("file");
    fs::remove_file(tree.join("sub/two")).expect("removed");
    fs::set_permissions(tree.join("sub"), fs::Permissions::from_mode(0o711)).expect("mode");
    fs::write(tree.join("mine"), b"not of the backup").expect("file");
    insert(&scene.path("orders.db"), "young", 100);
    fs::write(scene.path("numbers"), b"4\n").expect("file");
    let _ = scene.fleet.run(&["start", "--wait"]).with_code(0);

    // Without a word about what is there, nothing is touched.
    let said = scene.restore("config", &[]).with_code(7);
    assert!(said.err.contains("is there already") && said.err.contains("--existing"), "{}", said.err);
    assert_eq!(fs::read(tree.join("one")).expect("file"), b"changed");

    let said = scene.restore("config", &["--existing", "replace", "--json"]).with_code(0).json();
    assert_eq!((&said["schema"], &said["state"]), (&"muster.restore/1".into(), &"restored".into()), "{said}");
    assert_eq!(
        fs::read(tree.join("mine")).expect("what the backup does not have stays"),
        b"not of the backup"
    );
    fs::remove_file(tree.join("mine")).expect("removed");
    assert!(Command::new("touch").arg("-r").arg(&before).arg(&tree).status().expect("touch").success());
    tree::assert_same(&before, &tree);

    // Another process has the database open, and sees what it was.
    let open = rusqlite::Connection::open(scene.path("orders.db")).expect("database");
    let count = || open.query_row("select count(*) from t", [], |row| row.get::<_, u32>(0)).expect("count");
    assert_eq!(count(), 5100);
    let _ = scene.restore("orders", &[]).with_code(7);
    let said = scene.restore("orders", &["--existing", "replace", "--json"]).with_code(0).json();
    assert_eq!(said["dumps"], 1, "{said}");
    assert_eq!(count(), 5000);
    assert_eq!(rows(&scene.path("orders.db")), (5000, "old 004999".to_owned()));

    let _ = scene.restore("numbers", &[]).with_code(0);
    assert!(fs::read(scene.path("numbers")).expect("numbers") == numbers);

    // What the agent remembers of files is not what was restored.
    let _ = scene.fleet.run(&["start", "--wait"]).with_code(0);
    let out = scene.fleet.path("out");
    let _ = scene.fleet.recover(&out).with_code(0);
    tree::assert_same(&tree, &out.join("config/files"));
    assert_eq!(rows(&out.join("orders/sqlite/orders.db")), (5000, "old 004999".to_owned()));
    assert!(fs::read(out.join("numbers/command/output")).expect("the dump") == numbers);

    // Who did it stands in the log.
    let audits: Vec<Audit> = (0..scene.log().next)
        .filter_map(|number| {
            fs::read(scene.fleet.share().join(ObjectPath::LogRecord(number).to_string())).ok()
        })
        .filter_map(|slot| parse(&slot).ok().filter(|record| record.kind == "audit")?.body().ok())
        .collect();
    let who = scene.operator().key_id();
    assert!(
        audits
            .iter()
            .any(|audit| audit.who == who && audit.what.starts_with("restore of orders from round 1"))
    );
    let _ = scene.fleet.run(&["restore", "--service", "numbers", "--follow"]).with_code(0);
}

#[test]
fn a_part_an_absent_service_and_another_folder() {
    let mut scene = Scene::new();
    let (tree, before) = (scene.path("tree"), scene.path("before"));
    copy(&tree, &before);
    scene.fleet.up();
    fs::write(tree.join("one"), b"changed").expect("file");
    fs::remove_file(tree.join("sub/two")).expect("removed");
    let said =
        scene.restore("config", &["--path", "files/sub/two", "--existing", "keep", "--json"]).with_code(0);
    assert_eq!(said.json()["files"], 1, "{}", said.out);
    assert_eq!(fs::read(tree.join("sub/two")).expect("back"), fs::read(before.join("sub/two")).expect("it"));
    assert_eq!(fs::read(tree.join("one")).expect("kept"), b"changed");
    // The grant holds the keys of what is needed and no more.
    let grants = files(&scene.fleet.share().join("grants"));
    assert_eq!(grants.len(), 1);
    let _ = scene.restore("config", &["--path", "no/such/thing"]).with_code(2);

    let out = scene.fleet.path("elsewhere");
    let _ = scene.restore("config", &["--into", &text(&out)]).with_code(0);
    tree::assert_same(&before, &out.join("config/files"));
    let _ = scene.restore("config", &["--into", &text(&out)]).with_code(7);
    let _ = scene.restore("config", &["--into", &text(&scene.fleet.share())]).with_code(7);
    let _ = scene.restore("config", &["--into", "relative"]).with_code(2);

    // Everything gone: as it was, with nothing to be said about what is there.
    fs::remove_dir_all(&tree).expect("removed");
    fs::remove_file(scene.path("orders.db")).expect("removed");
    let _ = scene.restore("config", &[]).with_code(0);
    tree::assert_same(&before, &tree);
    let _ = scene.restore("orders", &[]).with_code(0);
    assert_eq!(rows(&scene.path("orders.db")), (5000, "old 004999".to_owned()));

    // A source that is one file: its folder is nobody's.
    let alone = scene.path("alone");
    fs::remove_file(alone.join("single.conf")).expect("removed");
    fs::write(alone.join("neighbour"), b"stays").expect("file");
    fs::set_permissions(&alone, fs::Permissions::from_mode(0o751)).expect("mode");
    let _ = scene.restore("single", &[]).with_code(0);
    assert_eq!(fs::read(alone.join("single.conf")).expect("file"), b"one = 1\n");
    assert_eq!(fs::read(alone.join("neighbour")).expect("file"), b"stays");
    assert_eq!(fs::metadata(&alone).expect("folder").permissions().mode() & 0o7777, 0o751);

    // Nobody told the agent how to put the numbers back.
    let said = scene.restore("numbers", &[]).with_code(7);
    assert!(said.err.contains("restore = ["), "{}", said.err);
}

#[test]
fn who_may_not_restore_is_refused_and_nothing_changes() {
    let mut scene = Scene::new();
    scene.fleet.up();
    let one = scene.path("tree/one");
    fs::write(&one, b"changed").expect("file");
    let replace = ["--existing", "replace"];

    // A kit of somebody else, and none of the right one's keys.
    let other = scene.path("other kit");
    copy(&scene.fleet.kit(), &other);
    let key = Identity::generate(&mut OsEntropy).to_file_text("2026-01-01T00:00:00Z");
    fs::write(other.join("recovery.key"), key.as_bytes()).expect("written");
    let kit = text(&other);
    let said = scene.fleet.run(&["restore", "1", "--service", "config", "--kit", &kit]).with_code(5);
    assert!(said.err.contains("does not open"), "{}", said.err);

    // No agent.
    scene.fleet.kill_agent("config");
    let said = scene.restore("config", &replace).with_code(6);
    assert!(said.err.contains("AGENT-01") && said.err.contains("→"), "{}", said.err);
    scene.fleet.start_agent("config");

    // A viewer.
    let viewer = Signer::from_seed(&[9; 32]);
    let file = scene.path("viewer.key");
    key_file(&file, &viewer);
    let key = viewer.key_id();
    scene.roster(|_| {
        Change::Admit(Member { key, name: "looker".parse().expect("a name"), role: Role::Viewer })
    });
    scene.fleet.set("MUSTER_OPERATOR_KEY", &text(&file));
    let said = scene.restore("config", &replace).with_code(7);
    assert!(said.err.contains("SEC-01") && said.err.contains("no operator's"), "{}", said.err);
    // Somebody whom nobody knows.
    let stranger = scene.path("stranger.key");
    key_file(&stranger, &Signer::from_seed(&[8; 32]));
    scene.fleet.set("MUSTER_OPERATOR_KEY", &text(&stranger));
    let said = scene.restore("config", &replace).with_code(7);
    assert!(said.err.contains("SEC-01") && said.err.contains("nobody's"), "{}", said.err);
    // An operator who was revoked.
    scene.fleet.set("MUSTER_OPERATOR_KEY", &text(&scene.fleet.dir().join("keys/operator.key")));
    scene.roster(|_| Change::Revoke(scene.operator().key_id()));
    let said = scene.restore("config", &replace).with_code(7);
    assert!(said.err.contains("SEC-01") && said.err.contains("revoked"), "{}", said.err);

    assert_eq!(fs::read(&one).expect("file"), b"changed");
    assert!(files(&scene.fleet.share().join("grants")).is_empty(), "nobody was given a key");
}

#[test]
fn a_header_of_another_service_or_a_changed_one_is_not_granted() {
    let mut scene = Scene::new();
    scene.fleet.up();
    // The longest of each: a header is read at once with the bytes behind it.
    let longest = |service| {
        let packs = scene.packs(service).into_iter();
        packs.max_by_key(|pack| fs::metadata(pack).expect("a pack").len()).expect("a pack")
    };
    let pack = longest("config");
    let honest = fs::read(&pack).expect("a pack");
    let foreign = fs::read(longest("orders")).expect("a pack");
    fs::write(&pack, &foreign).expect("written");
    let said = scene.restore("config", &["--existing", "replace"]).with_code(4);
    assert!(said.err.contains("KEY-03") && said.err.contains("orders"), "{}", said.err);

    let needle = b"-> muster-context 1 ";
    let at = honest.windows(needle.len()).position(|window| window == needle).expect("the context");
    let mut changed = honest.clone();
    changed[at + needle.len()] ^= 1;
    fs::write(&pack, &changed).expect("written");
    let said = scene.restore("config", &["--existing", "replace"]).with_code(4);
    assert!(said.err.contains("KEY-03"), "{}", said.err);
    assert!(files(&scene.fleet.share().join("grants")).is_empty());
    fs::write(&pack, &honest).expect("written");
    let _ = scene.restore("config", &["--existing", "replace"]).with_code(0);
}

#[test]
fn a_restore_and_a_capture_never_run_together() {
    let mut scene = Scene::new().with_counterpart();
    scene.fleet.up();
    fs::remove_file(scene.path("begun")).expect("round 1 made it");
    fs::write(scene.path("hold"), b"").expect("file");
    let mut round = scene.fleet.spawn(&["start", "--services", "numbers", "--wait"], "start.log");
    wait_for("the capture begins", || scene.path("begun").exists().then_some(()));
    let said = scene.restore("numbers", &[]).with_code(7);
    assert!(said.err.contains("capturing a slice"), "{}", said.err);
    fs::remove_file(scene.path("hold")).expect("removed");
    assert!(round.wait().success());

    fs::write(scene.path("wait"), b"").expect("file");
    let kit = text(&scene.fleet.kit());
    let args = ["restore", "1", "--service", "numbers", "--kit", &kit];
    let mut restore = scene.fleet.spawn(&args, "restore.log");
    wait_for("the restore puts the dump back", || scene.path("putting").exists().then_some(()));
    let said = scene.restore("numbers", &[]).with_code(7);
    assert!(said.err.contains("is restoring"), "{}", said.err);
    fs::remove_file(scene.path("begun")).expect("round 2 made it");
    let mut round = scene.fleet.spawn(&["start", "--services", "numbers", "--wait"], "start.log");
    let log = scene.fleet.path("agent-numbers.log");
    wait_for("the agent puts the capture off", || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        said.contains("the agent is restoring this service").then_some(())
    });
    assert!(!scene.path("begun").exists(), "nothing was captured");
    fs::remove_file(scene.path("wait")).expect("removed");
    assert!(restore.wait().success());
    let _ = round.wait();
}

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
