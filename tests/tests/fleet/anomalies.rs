//! Data that somebody encrypts: the rounds before it stay until an operator has looked. ROUND-06, by real rounds.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::fleet::{Fleet, text};
use serde_json::Value;

const FILES: u64 = 12;
const FILE_LEN: usize = 2 << 20;

/// Orders as texts, which compress as such things do.
fn plain(folder: &Path) {
    for file in 0..FILES {
        let (mut orders, mut state) = (String::new(), file + 1);
        while orders.len() < FILE_LEN {
            state = next(state);
            writeln!(orders, "order {state:016x} of customer {}: 3 boxes, to be delivered", state % 997)
                .expect("written");
        }
        fs::write(folder.join(format!("orders-{file}")), orders).expect("written");
    }
}

/// The same files with bytes that nothing compresses.
fn encrypt(folder: &Path) {
    for file in 0..FILES {
        let (mut bytes, mut state) = (Vec::new(), 1_000 + file);
        while bytes.len() < FILE_LEN {
            state = next(state);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        fs::write(folder.join(format!("orders-{file}")), bytes).expect("written");
    }
}

/// xorshift64.
fn next(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

struct Scene {
    fleet: Fleet,
    _data: tempfile::TempDir,
    source: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let data = tempfile::TempDir::new().expect("folder");
        let source = data.path().join("orders");
        fs::create_dir(&source).expect("folder");
        plain(&source);
        let fleet = Fleet::init(&[format!("orders=files:{}", text(&source))]);
        Self { fleet, _data: data, source }
    }

    fn round(&self, number: u64) {
        fs::write(self.source.join("last"), format!("round {number}")).expect("written");
        let said = self.fleet.run(&["once", &text(&self.fleet.dir()), "--json"]).with_code(0).json();
        assert_eq!((said["number"].as_u64(), said["state"].as_str()), (Some(number), Some("verified")));
    }

    fn alert(&self) -> Option<Value> {
        let all = self.fleet.run(&["alerts", "--json"]).with_code(0).json();
        let mut all = all["alerts"].as_array().expect("alerts").clone();
        all.retain(|alert| alert["code"] == "ROUND-06");
        all.pop()
    }
}

#[test]
fn encrypted_data_freezes_prune_until_an_operator_accepts_it() {
    let scene = Scene::new();
    for number in 1..=7 {
        scene.round(number);
    }
    for (key, value) in [("keep_days", "0"), ("min_verified", "6"), ("keep_last", "6"), ("grace", "0s")] {
        let _ = scene.fleet.run(&["config", "set", &format!("retention.{key}"), value]).with_code(0);
    }
    let marked = scene.fleet.run(&["prune", "--json"]).with_code(0).json();
    assert_eq!(marked["marked"]["rounds"][0]["number"], 1);
    assert_eq!(scene.alert(), None);
    let nothing = scene.fleet.run(&["alerts", "accept", "orders", "--reason", "x"]).with_code(7);
    assert!(nothing.err.contains("nothing is odd about orders now"), "{}", nothing.err);

    encrypt(&scene.source);
    scene.round(8);
    let alert = scene.alert().expect("told");
    assert_eq!((&alert["subject"], &alert["severity"]), (&"orders".into(), &"error".into()));
    let cause = alert["cause"].as_str().expect("a cause");
    assert!(cause.starts_with("round 8: ") && cause.contains(" of its data is new, usually "), "{cause}");
    assert!(cause.contains("so does encrypted data") && cause.ends_with("; prune is frozen"), "{cause}");
    assert!(alert["steps"].to_string().contains("muster alerts accept orders --reason"), "{alert}");

    // The mark of before is not swept, and nothing is marked; a quiet round proves nothing.
    scene.round(9);
    for args in [&["prune"][..], &["prune", "--dry-run"]] {
        let said = scene.fleet.run(args).with_code(7);
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains("ROUND-06 orders: round 8: "), "{all}");
        assert!(all.contains("muster alerts accept orders --reason TEXT"), "{all}");
    }
    let dry = scene.fleet.run(&["prune", "--dry-run", "--json"]).with_code(7).json();
    assert_eq!((&dry["next"], &dry["frozen"][0]["code"]), (&"frozen".into(), &"ROUND-06".into()));
    assert!(scene.fleet.rounds().iter().all(|round| round["swept"] == false), "every round is there");

    let _ = scene.fleet.run(&["alerts", "accept", "orders", "--reason", " "]).with_code(2);
    let said = scene
        .fleet
        .run(&["alerts", "accept", "orders", "--reason", "the disk is encrypted now"])
        .with_code(0);
    assert!(said.out.contains("orders: accepted up to round 9: the disk is encrypted now"), "{}", said.out);
    assert_eq!(scene.alert(), None);
    let audit = scene.fleet.run(&["audit"]).with_code(0).out;
    assert!(audit.contains("accepted what orders is like in round 9"), "{audit}");
    let swept = scene.fleet.run(&["prune", "--json"]).with_code(0).json();
    assert_eq!(swept["swept"][0]["rounds"][0], 1);
}
