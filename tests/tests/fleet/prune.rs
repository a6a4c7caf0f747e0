//! Rounds that the signed retention keeps no longer leave the share, and nothing else does. FAULTS invariants 5, 6, 18.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Said, binaries, wait_for};
use muster_tests::tree;
use serde_json::Value;

/// Every file below a folder, by path and content.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for item in fs::read_dir(folder).expect("listed").flatten() {
        let path = item.path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("read"));
        }
    }
    found
}

/// A service of files whose content is another in each round.
struct Scene {
    fleet: Fleet,
    data: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let data = tempfile::TempDir::new().expect("folder");
        tree::small(&data.path().join("tree"), 1);
        let fleet = Fleet::init(&[format!("config=files:{}", text(&data.path().join("tree")))]);
        Self { fleet, data }
    }

    fn source(&self) -> PathBuf {
        self.data.path().join("tree")
    }

    /// One round, and what was backed up in it.
    fn round(&self, number: u64) {
        tree::small(&self.source(), 100 * number);
        let said = self.fleet.run(&["once", &text(&self.fleet.dir()), "--json"]).with_code(0).json();
        assert_eq!((said["number"].as_u64(), said["state"].as_str()), (Some(number), Some("verified")));
        let copy = self.data.path().join(format!("as of {number}"));
        let status = Command::new("cp").arg("-a").arg(self.source()).arg(&copy).status().expect("cp runs");
        assert!(status.success(), "copied");
    }

    fn set(&self, key: &str, value: &str) {
        let _ = self.fleet.run(&["config", "set", key, value]).with_code(0);
    }

    /// Keeps this many rounds, and deletes what was marked without a pause.
    fn keep(&self, rounds: &str) {
        self.set("retention.keep_days", "0");
        self.set("retention.min_verified", "1");
        self.set("retention.keep_last", rounds);
        self.set("retention.grace", "0s");
    }

    fn prune(&self) -> Value {
        self.fleet.run(&["prune", "--json"]).with_code(0).json()
    }

    /// Recovers a round and compares it with what was backed up.
    fn compare(&self, number: u64) {
        let into = self.fleet.path(&format!("recovered {number}"));
        let _ = fs::remove_dir_all(&into);
        let _ = self.recover(number, &into).with_code(0);
        tree::assert_same(&self.data.path().join(format!("as of {number}")), &into.join("config/files"));
    }

    fn recover(&self, number: u64, into: &Path) -> Said {
        let (share, kit, into) = (text(&self.fleet.share()), text(&self.fleet.kit()), text(into));
        let number = number.to_string();
        self.fleet.run(&["recover", "--share", &share, "--kit", &kit, "--round", &number, "--into", &into])
    }

    fn verify(&self) {
        let _ = self.fleet.run(&["verify", "--kit", &text(&self.fleet.kit())]).with_code(0);
    }

    /// Numbers of the rounds that were not pruned.
    fn left(&self) -> Vec<u64> {
        let mut left: Vec<u64> = self
            .fleet
            .rounds()
            .iter()
            .filter(|round| round["swept"] == false)
            .filter_map(|round| round["number"].as_u64())
            .collect();
        left.sort_unstable();
        left
    }
}

fn numbers(rounds: &Value) -> Vec<u64> {
    let number = |round: &Value| round.as_u64().or_else(|| round["number"].as_u64());
    rounds.as_array().expect("rounds").iter().filter_map(number).collect()
}

#[test]
fn rounds_beyond_the_retention_go_in_two_passes_and_the_kept_ones_recover() {
    let scene = Scene::new();
    for number in 1..=4 {
        scene.round(number);
    }
    let first = scene.prune()["marked"].clone();
    assert_eq!(numbers(&first["rounds"]), [0; 0], "the retention of a new fleet keeps all of them");
    assert_eq!(first["objects"], first["configurations"]["objects"], "only what was superseded goes");
    scene.set("retention.grace", "0s");
    assert_eq!(scene.prune()["marked"], Value::Null);
    scene.keep("2");
    scene.set("retention.grace", "24h");
    let before = everything(&scene.fleet.share());
    let dry = scene.fleet.run(&["prune", "--dry-run", "--json"]).with_code(0).json();
    assert_eq!((dry["next"].as_str(), numbers(&dry["would"]["rounds"])), (Some("mark"), vec![1, 2]));
    assert_eq!(everything(&scene.fleet.share()), before, "a dry run changes nothing");

    let marked = scene.fleet.run(&["prune"]).with_code(0).out;
    assert!(marked.contains("marked") && marked.contains("rounds 1–2") && marked.contains("→"), "{marked}");
    let after = everything(&scene.fleet.share());
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "pass one deletes nothing");
    let waits = scene.fleet.run(&["prune"]).with_code(0).out;
    assert!(waits.contains("its grace ends in"), "{waits}");
    scene.compare(1);

    scene.set("retention.grace", "0s");
    let swept = scene.prune();
    assert_eq!(numbers(&swept["swept"][0]["rounds"]), [1, 2]);
    assert!(swept["swept"][0]["objects"].as_u64() > Some(6), "{swept}");
    assert_eq!(scene.left(), [3, 4]);
    assert!(everything(&scene.fleet.share()).len() < before.len());
    let gone = scene.recover(1, &scene.fleet.path("gone")).with_code(2);
    assert!(gone.err.contains("pruned"), "{}", gone.err);
    let show = scene.fleet.run(&["show", "1"]).with_code(0).out;
    assert!(show.contains("it was pruned"), "{show}");
    let listed = scene.fleet.run(&["rounds"]).with_code(0).out;
    assert!(listed.contains("pruned"), "{listed}");
    let alerts = scene.fleet.run(&["alerts", "--json"]).with_code(0).json();
    let codes: Vec<_> = alerts["alerts"].as_array().expect("alerts").iter().map(|a| &a["code"]).collect();
    assert!(alerts["bus"] == false && !codes.contains(&&"VERIFY-02".into()), "{alerts}");
    scene.verify();
    scene.compare(3);
    scene.compare(4);
    let done = scene.prune();
    assert_eq!((&done["marked"], done["swept"].as_array().map(Vec::len)), (&Value::Null, Some(0)), "{done}");
    // The fleet goes on: the next round uses what is left.
    scene.round(5);
    scene.compare(5);
}

#[test]
fn held_rounds_stay_until_they_are_let_go() {
    let scene = Scene::new();
    for number in 1..=4 {
        scene.round(number);
    }
    scene.keep("1");
    let held = scene.fleet.run(&["hold", "1", "--reason", "the auditors want it"]).with_code(0).out;
    assert!(held.contains("the auditors want it"), "{held}");
    let again = scene.fleet.run(&["hold", "1", "--reason", "the auditors want it", "--json"]).with_code(0);
    assert_eq!(again.json()["head"], Value::Null, "it is held already");
    let _ = scene.fleet.run(&["hold", "1", "--reason", " "]).with_code(2);
    let show = scene.fleet.run(&["show", "1", "--json"]).with_code(0).json();
    assert_eq!(
        (&show["held"], show["hold_reason"].as_str()),
        (&Value::Bool(true), Some("the auditors want it"))
    );
    assert_eq!(numbers(&scene.prune()["marked"]["rounds"]), [2, 3]);
    // Between the passes.
    let _ = scene.fleet.run(&["hold", "3", "--reason", "wait"]).with_code(0);
    assert_eq!(numbers(&scene.prune()["swept"][0]["rounds"]), [2]);
    assert_eq!(scene.left(), [1, 3, 4]);
    for number in [1, 3, 4] {
        scene.compare(number);
    }
    scene.verify();
    let _ = scene.fleet.run(&["unhold", "1"]).with_code(0);
    let _ = scene.fleet.run(&["unhold", "3"]).with_code(0);
    let _ = scene.prune();
    let _ = scene.prune();
    assert_eq!(scene.left(), [4]);
    let refused = scene.fleet.run(&["hold", "1", "--reason", "too late"]).with_code(7);
    assert!(refused.err.contains("pruned"), "{}", refused.err);
    scene.verify();
    scene.compare(4);
}

#[test]
fn nobody_but_the_pruner_deletes() {
    let scene = Scene::new();
    scene.round(1);
    scene.round(2);
    scene.keep("1");
    let before = everything(&scene.fleet.share());
    let operator = text(&scene.fleet.dir().join("keys/operator.key"));
    let refused = scene.fleet.run(&["prune", "--key", &operator]).with_code(7);
    assert!(refused.err.contains("SEC-01") && refused.err.contains("no pruner's"), "{}", refused.err);
    let _ = scene.fleet.run(&["prune", "--key", &text(&scene.fleet.path("nowhere"))]).with_code(5);
    let _ = scene.fleet.run(&["revoke", "pruner", "--root", &text(&scene.fleet.root())]).with_code(0);
    let revoked = scene.fleet.run(&["prune"]).with_code(7);
    assert!(revoked.err.contains("--role pruner"), "{}", revoked.err);
    let after = everything(&scene.fleet.share());
    assert!(before.keys().all(|path| after.contains_key(path)));
    // A new one, elsewhere: its folder alone is enough.
    let into = scene.fleet.path("pruner-2");
    let (root, place) = (text(&scene.fleet.root()), text(&into));
    let args = ["enroll", "pruner-2", "--role", "pruner", "--root", &root, "--into", &place];
    let _ = scene.fleet.run(&args).with_code(0);
    let config = text(&into.join("operator.toml"));
    for _ in 0..2 {
        let _ = scene.fleet.run(&["prune", "--config", &config]).with_code(0);
    }
    assert_eq!(scene.left(), [2]);
    scene.compare(2);
}

#[test]
fn what_stays_and_is_damaged_is_named_and_nothing_is_deleted() {
    let scene = Scene::new();
    for number in 1..=3 {
        scene.round(number);
    }
    scene.keep("1");
    let kept = everything(&scene.fleet.share());
    scene.round(4);
    let newest: Vec<PathBuf> =
        everything(&scene.fleet.share()).into_keys().filter(|path| !kept.contains_key(path)).collect();
    let objects = newest.iter().filter(|path| {
        let below = path.strip_prefix(scene.fleet.share()).expect("of the share");
        below.starts_with("agents") || below.starts_with("manifests")
    });
    let mut tried = 0;
    for object in objects {
        tried += 1;
        let bytes = fs::read(object).expect("read");
        let name = text(object.strip_prefix(scene.fleet.share()).expect("of the share"));
        for cut in [false, true] {
            fs::remove_file(object).expect("removed");
            if cut {
                fs::write(object, &bytes[..bytes.len() / 2]).expect("written");
            }
            let before = everything(&scene.fleet.share());
            for args in [vec!["prune"], vec!["prune", "--dry-run"]] {
                let said = scene.fleet.run(&args).with_code(4);
                assert!(said.err.contains(&name) && said.err.contains("VERIFY-01"), "{name}: {}", said.err);
                assert!(said.err.contains("Nothing was deleted"), "{}", said.err);
            }
            assert_eq!(everything(&scene.fleet.share()), before);
            fs::write(object, &bytes).expect("mended");
        }
    }
    assert!(tried >= 6, "{newest:?}");
    let _ = scene.prune();
    let _ = scene.prune();
    assert_eq!(scene.left(), [4]);
    scene.compare(4);
}

/// A copy of a folder, in the place of what is there.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "copied");
}

#[test]
fn a_pruner_killed_at_any_moment_leaves_every_kept_round_whole() {
    let scene = Scene::new();
    for number in 1..=4 {
        scene.round(number);
    }
    scene.keep("1");
    let share = scene.fleet.share();
    let state = scene.fleet.dir().join("state");
    let (kept_share, kept_state) = (scene.fleet.path("share as it was"), scene.fleet.path("state as it was"));
    for pass in [1, 2] {
        copy(&share, &kept_share);
        copy(&state, &kept_state);
        let (mut after, mut ended) = (Duration::ZERO, 0);
        while ended < 3 {
            copy(&kept_share, &share);
            copy(&kept_state, &state);
            let mut pruner = Command::new(binaries().join("muster"))
                .arg("prune")
                .env("MUSTER_CONFIG", scene.fleet.dir().join("operator.toml"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            std::thread::sleep(after);
            // It may have ended before: then nothing is killed.
            let over = pruner.try_wait().expect("asked").is_some();
            pruner.kill().expect("killed");
            let _ = pruner.wait().expect("ended");
            ended += u32::from(over);
            let here = format!("pass {pass}, killed after {after:?}");
            let said = scene.fleet.run(&["verify"]);
            assert_eq!(said.code, 0, "{here}:\n{}\n{}", said.out, said.err);
            for _ in 0..3 {
                let _ = scene.prune();
            }
            assert_eq!(scene.left(), [4], "{here}");
            let said = scene.fleet.run(&["verify"]);
            assert_eq!(said.code, 0, "{here}, gone on:\n{}\n{}", said.out, said.err);
            after += Duration::from_millis(4).max(after / 8);
        }
        scene.compare(4);
        copy(&kept_share, &share);
        copy(&kept_state, &state);
        if pass == 1 {
            assert_eq!(numbers(&scene.prune()["marked"]["rounds"]), [1, 2, 3]);
        }
    }
}

#[test]
fn a_prune_in_the_middle_of_a_round_leaves_the_round_alone() {
    let data = tempfile::TempDir::new().expect("folder");
    let (file, gate) = (data.path().join("file"), data.path().join("gate"));
    // Two packs and a half, then it waits.
    let script = format!(
        "cat '{0}'; touch '{1}.waiting'; while [ ! -e '{1}' ]; do sleep 0.02; done; echo end",
        text(&file),
        text(&gate)
    );
    let argv = serde_json::to_string(&["sh", "-c", &script]).expect("JSON");
    let mut fleet = Fleet::init(&[format!("slow=command:{argv}")]);
    fleet.set("MUSTER_ROUND_OFFLINE_AFTER", "10m");
    fleet.up();
    fs::write(&gate, b"").expect("gate");
    let mut content = Vec::new();
    for number in 1..=3u64 {
        content = tree::noise(number, 3_000_000);
        fs::write(&file, &content).expect("file");
        let _ = fleet.run(&["start", "--wait"]).with_code(0);
    }
    for (key, value) in [("keep_days", "0"), ("min_verified", "1"), ("keep_last", "1"), ("grace", "0s")] {
        let _ = fleet.run(&["config", "set", &format!("retention.{key}"), value]).with_code(0);
    }
    let packs = |fleet: &Fleet| everything(&fleet.share().join("agents/slow/packs")).len();
    let before = packs(&fleet);
    fs::remove_file(&gate).expect("closed");
    let _ = fs::remove_file(format!("{}.waiting", text(&gate)));
    content.extend(tree::noise(9, 30_000_000));
    fs::write(&file, &content).expect("file");
    let _ = fleet.run(&["start"]).with_code(0);
    wait_for("packs of the open round are on the share", || (packs(&fleet) > before).then_some(()));
    let agent = *fleet.processes().last().expect("the agent runs");
    let signal = |name: &str| {
        let status = Command::new("kill").args(["-s", name]).arg(agent.to_string()).status().expect("kill");
        assert!(status.success(), "{name}");
    };
    signal("STOP");
    let prune = || fleet.run(&["prune", "--json"]).with_code(0).json();
    let marked = prune();
    assert_eq!(numbers(&marked["marked"]["rounds"]), [1, 2]);
    assert!(marked["marked"]["in_use"]["objects"].as_u64() > Some(0), "{marked}");
    assert_eq!(prune()["waits"]["round"], 4, "it was open when the mark was made");
    signal("CONT");
    fs::write(&gate, b"").expect("gate");
    let round = fleet.wait_for_round(4, &["verified"]);
    assert_eq!(round["outcome"], "complete");
    assert_eq!(numbers(&prune()["swept"][0]["rounds"]), [1, 2]);
    let _ = fleet.run(&["verify", "--kit", &text(&fleet.kit())]).with_code(0);
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    content.extend(b"end\n");
    assert!(fs::read(out.join("slow/command/output")).expect("the dump") == content, "it is another");
}
