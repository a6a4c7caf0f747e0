//! What the share loses is noticed, said, and uploaded again from the live source: FAULTS invariants 1 and 5, and "quarantine,
//! never delete".

use std::fs;
use std::path::PathBuf;

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::Value;

/// A fleet of two services that runs.
struct Scene {
    fleet: Fleet,
    data: tempfile::TempDir,
}

impl Scene {
    fn up() -> Self {
        let data = tempfile::TempDir::new().expect("folder");
        let services = ["a", "b"].map(|name| {
            let tree = data.path().join(name);
            tree::small(&tree, 1);
            fs::write(tree.join("large"), tree::noise(name.len() as u64, 300_000)).expect("written");
            format!("{name}=files:{}", text(&tree))
        });
        let mut fleet = Fleet::init(&services);
        fleet.up();
        Self { fleet, data }
    }

    /// One round, as the last line tells it.
    fn start(&self, services: &str) -> Value {
        let said = self.fleet.run(&["start", "--services", services, "--wait", "--json"]).with_code(0).out;
        serde_json::from_str(said.lines().last().expect("a line")).expect("JSON")
    }

    /// The packs of a service, the largest last.
    fn packs(&self, service: &str) -> Vec<PathBuf> {
        let mut packs = Vec::new();
        let folder = self.fleet.share().join("agents").join(service).join("packs");
        for shard in fs::read_dir(folder).expect("packs").flatten() {
            packs.extend(fs::read_dir(shard.path()).expect("a shard").flatten().map(|pack| pack.path()));
        }
        packs.sort_by_key(|pack| fs::metadata(pack).expect("a pack").len());
        packs
    }

    fn status(&self) -> Value {
        self.fleet.run(&["status", "--json"]).json()
    }

    fn verify_01(&self) -> Option<Value> {
        let said = self.fleet.run(&["alerts", "--json"]).with_code(0).json();
        let alerts = said["alerts"].as_array().expect("alerts").clone();
        alerts.into_iter().find(|alert| alert["code"] == "VERIFY-01")
    }

    fn compare(&self) {
        let into = self.fleet.path("recovered");
        let _ = fs::remove_dir_all(&into);
        let _ = self.fleet.recover(&into).with_code(0);
        for name in ["a", "b"] {
            tree::assert_same(&self.data.path().join(name), &into.join(name).join("files"));
        }
    }
}

/// Turns a bit in the middle of a file.
fn bend(pack: &PathBuf) {
    let mut bytes = fs::read(pack).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).expect("written");
}

#[test]
fn what_verify_finds_is_healed_by_the_next_round_and_prune_waits_for_it() {
    let scene = Scene::up();
    scene.start("a,b");
    let bent = scene.packs("a").pop().expect("a pack");
    bend(&bent);
    let without = scene.fleet.run(&["verify", "--heal", "--share", &text(&scene.fleet.share())]);
    assert!(without.code == 2 && without.err.contains("leave out --share"), "{}", without.err);
    let said = scene.fleet.run(&["verify", "--heal"]);
    assert!(
        said.code == 4 && said.out.contains("muster start --services a --wait"),
        "{}{}",
        said.out,
        said.err
    );
    wait_for("the quarantine", || (scene.status()["scrub"]["quarantine"]["a"]["objects"] == 1).then_some(()));
    let alert = wait_for("VERIFY-01", || scene.verify_01());
    assert_eq!((alert["subject"].as_str(), alert["severity"].as_str()), (Some("a"), Some("critical")));
    let screen = scene.fleet.run(&["status"]).out;
    assert!(screen.contains("QUARANTINE       1 object of a: its rounds are damaged"), "{screen}");
    assert!(screen.contains("RECOVERY-READY   no: a (VERIFY-01 rests on damaged objects)"), "{screen}");
    let listed = scene.fleet.run(&["rounds", "--json"]).with_code(0).json();
    assert_eq!((&listed["rounds"][0]["stored"], &listed["rounds"][0]["expected"]), (&2.into(), &2.into()));
    assert_eq!(listed["rounds"][0]["damaged"], serde_json::json!(["a"]), "{listed}");
    let listed = scene.fleet.run(&["rounds"]).out;
    assert!(listed.contains("verified, damaged") && listed.contains("2 of 2"), "{listed}");
    let shown = scene.fleet.run(&["show", "latest"]).with_code(0).out;
    assert!(shown.contains("a: VERIFY-01 it rests on 1 damaged object"), "{shown}");
    // Nothing goes that may be the last to hold what is damaged; another service's round changes nothing of that.
    scene.start("b");
    let frozen = scene.fleet.run(&["prune"]);
    assert_eq!(frozen.code, 7, "{}{}", frozen.out, frozen.err);
    assert!(
        frozen.err.contains("VERIFY-01: prune is frozen") && frozen.err.contains("--services a"),
        "{}",
        frozen.err
    );
    // Nothing changed at the source, and yet what is lost comes again.
    let round = scene.start("a");
    let added = round["services"][0]["added_bytes"].as_u64().expect("bytes");
    assert!(added > 250_000, "what the bent pack held is uploaded again: {round}");
    assert_eq!(round["state"], "verified");
    wait_for("the alert's end", || scene.verify_01().is_none().then_some(()));
    let screen = scene.fleet.run(&["status"]).out;
    assert!(screen.contains("RECOVERY-READY   yes") && screen.contains("is whole again"), "{screen}");
    assert!(bent.exists(), "it is kept as it is");
    let said = scene.fleet.run(&["verify"]).with_code(3);
    assert!(
        said.out.contains("round 1 stays damaged; the newest slice of every service is whole")
            && said.out.contains("nothing need be done")
            && !said.out.contains("prune nothing"),
        "{}",
        said.out
    );
    let listed = scene.fleet.run(&["rounds", "--json"]).json();
    let damaged: Vec<_> = listed["rounds"]
        .as_array()
        .expect("rounds")
        .iter()
        .filter(|r| r["damaged"] != serde_json::json!([]))
        .collect();
    assert!(damaged.len() == 1 && damaged[0]["number"] == 1, "{listed}");
    let _ = scene.fleet.run(&["prune"]).with_code(0);
    scene.start("a,b");
    scene.compare();
}

#[test]
fn the_scrub_finds_by_itself_what_is_lost() {
    let scene = Scene::up();
    scene.start("a,b");
    let lost = scene.packs("b").pop().expect("a pack");
    fs::rename(&lost, scene.data.path().join("lost")).expect("taken away");
    let said = scene.fleet.run(&["config", "set", "scrub.within", "5s"]);
    assert!(said.code == 2 && said.err.contains("scrub.within must be off, or a duration"), "{}", said.err);
    let _ = scene.fleet.run(&["config", "set", "scrub.within", "1m"]).with_code(0);
    wait_for("the quarantine", || (scene.status()["scrub"]["quarantine"]["b"]["objects"] == 1).then_some(()));
    scene.start("b");
    wait_for("the alert's end", || scene.verify_01().is_none().then_some(()));
    scene.start("a,b");
    scene.compare();
    // The quarantined pack is brought back as it was: the next look finds it whole.
    fs::rename(scene.data.path().join("lost"), &lost).expect("brought back");
    let last = wait_for("a whole pass, and the end of the quarantine", || {
        let scrub = scene.status()["scrub"].clone();
        (scrub["last"].is_object() && scrub["quarantine"] == serde_json::json!({})).then_some(scrub)
    });
    assert_eq!((last["within_secs"].as_u64(), last["overdue"].as_bool()), (Some(60), Some(false)));
}

#[test]
fn nothing_is_written_to_an_empty_folder_in_the_shares_place() {
    let scene = Scene::up();
    scene.start("a,b");
    let (share, away) = (scene.fleet.share(), scene.data.path().join("away"));
    fs::rename(&share, &away).expect("unmounted");
    fs::create_dir(&share).expect("the folder of the mount");
    let said = scene.fleet.run(&["start", "--services", "a", "--json"]);
    assert!(!said.out.contains("\"opened\""), "{}", said.out);
    wait_for("SHARE-02", || {
        let said = scene.fleet.run(&["status", "--json"]);
        said.out.contains("SHARE-02").then_some(())
    });
    for name in ["log", "agents", "manifests"] {
        let there = fs::read_dir(share.join(name)).into_iter().flatten().flatten();
        let there: Vec<_> = there.map(|file| file.file_name()).collect();
        assert!(there.is_empty(), "{name} was written where no share is: {there:?}");
    }
    fs::remove_dir_all(&share).expect("removed");
    fs::rename(&away, &share).expect("mounted again");
    wait_for("the leader's answer", || (scene.fleet.run(&["status"]).code == 0).then_some(()));
    scene.start("a,b");
    assert!(scene.verify_01().is_none(), "nothing was concluded from what was not there");
    let _ = scene.fleet.run(&["verify"]).with_code(0);
    scene.compare();
}
