//! `muster restore`: an older round back into running services, and everybody who may not, cannot, or hears it all.

mod raw;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_protocol::age::{FileKey, Identity};
use muster_protocol::config::ShareConfig;
use muster_protocol::document::Manifest;
use muster_protocol::envelope::{Signer, open_as};
use muster_protocol::log::{Audit, Change, Member, Pin, Role, Roster, State, parse, seal_statement};
use muster_protocol::pem;
use muster_share::entropy::OsEntropy;
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
            let store = store::open(&ShareConfig::at(text(&self.fleet.share()))).await.expect("the share");
            let mut log = Log::open(store, Pin::default()).await.expect("the log");
            let previous = log.state().statements.get("roster").copied();
            let changes = vec![change(log.state())];
            let statement =
                seal_statement(&root, &log.state().fleet, &Roster { previous, changes, at: None });
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
