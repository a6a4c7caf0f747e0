//! `muster drill`: a round is recovered into a folder that is deleted again, and what came of it is signed into the log.

use std::fs;
use std::path::Path;

use muster_tests::fleet::{Fleet, text};
use muster_tests::tree;
use serde_json::Value;

/// Some pack of the share.
fn pack(share: &Path, service: &str) -> std::path::PathBuf {
    let shelf = fs::read_dir(share.join(format!("agents/{service}/packs"))).expect("packs").next();
    let shelf = shelf.expect("a shelf").expect("readable").path();
    fs::read_dir(shelf).expect("a shelf").next().expect("a pack").expect("readable").path()
}

fn told(status: &Value) -> bool {
    status["alerts"].as_array().expect("alerts").iter().any(|alert| alert["code"] == "DRILL-01")
}

#[test]
fn a_drill_recovers_everything_leaves_nothing_and_is_noted() {
    let data = tempfile::TempDir::new().expect("folder");
    let source = data.path().join("tree");
    tree::small(&source, 3);
    let services = ["dns", "mail"].map(|name| format!("{name}=files:{}", text(&source)));
    let fleet = Fleet::init(&services);
    let kit = text(&fleet.kit());
    let status = || fleet.run(&["status", "--json"]).with_code(0).json();
    let early = fleet.run(&["drill", "--kit", &kit]);
    let early = early.with_code(1);
    assert!(early.err.contains("no committed round") && early.err.contains("muster start"), "{}", early.err);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let before = status();
    assert_eq!(before["drill"]["last"], Value::Null);
    assert!(before["alerts"].to_string().contains("unproven"), "{}", before["alerts"]);

    let into = data.path().join("into");
    let at = text(&into);
    let drilled = fleet.run(&["drill", "--kit", &kit, "--into", &at, "--json"]).with_code(0).json();
    assert_eq!((&drilled["schema"], &drilled["outcome"]), (&"muster.drill/1".into(), &"passed".into()));
    assert_eq!((&drilled["number"], &drilled["whole"]), (&1.into(), &true.into()));
    assert_eq!(drilled["services"].as_array().map(Vec::len), Some(2));
    assert!(drilled["files"].as_u64().is_some_and(|files| files > 0), "{drilled}");
    assert!(!into.exists(), "nothing is left");
    let after = status();
    assert_eq!(after["drill"]["last"]["number"], 1);
    assert_eq!(after["recovery_ready"], true);
    assert!(!after["alerts"].to_string().contains("unproven"), "the kit's key opened it");
    let said = fleet.run(&["status"]).with_code(0).out;
    assert!(said.contains(", drill passed ") && said.contains(" ago in "), "{said}");
    let audit = fleet.run(&["audit"]).with_code(0).out;
    assert!(audit.contains("drilled the recovery from round 1: passed"), "{audit}");

    // A folder that was there stays, with all that was in it.
    fs::create_dir(&into).expect("made");
    fs::write(into.join("precious"), "mine").expect("written");
    let names =
        || fs::read_dir(&into).expect("a folder").flatten().map(|item| item.path()).collect::<Vec<_>>();
    let some = fleet.run(&["drill", "1", "--kit", &kit, "--into", &at, "--service", "dns", "--json"]);
    let some = some.with_code(0).json();
    assert_eq!((&some["whole"], some["services"].as_array().map(Vec::len)), (&false.into(), Some(1)));
    assert_eq!(names(), [into.join("precious")]);
    assert_eq!(
        status()["drill"]["last"]["at"],
        after["drill"]["last"]["at"],
        "it says nothing about the whole"
    );

    // What is to be kept is what was captured, in a folder that is told; the next drill tells of it, too.
    let kept = fleet.run(&["drill", "--kit", &kit, "--into", &at, "--keep", "--json"]).with_code(0).json();
    let kept = std::path::PathBuf::from(kept["into"].as_str().expect("a folder"));
    assert_eq!(kept.parent(), Some(into.as_path()));
    tree::assert_same(&source, &kept.join("mail/files"));
    let next = fleet.run(&["drill", "--kit", &kit, "--into", &at]).with_code(0);
    assert!(next.err.contains(&format!("{} holds what another drill recovered", kept.display())), "{next:?}");
    assert_eq!(names().len(), 2, "{:?}", names());

    // A round of some services is none of the fleet: the newest one that has all is drilled, and the other only when it is named.
    let _ = fleet.run(&["once", &text(&fleet.dir()), "--services", "dns"]).with_code(0);
    let again = fleet.run(&["drill", "--kit", &kit, "--json"]).with_code(0).json();
    assert_eq!((&again["number"], &again["whole"]), (&1.into(), &true.into()));
    let part = fleet.run(&["drill", "2", "--kit", &kit, "--json"]).with_code(3).json();
    assert_eq!((&part["whole"], &part["missing"][0]), (&false.into(), &"mail".into()));
    assert_eq!(status()["drill"]["last"]["number"], 1);

    // A share by its address may be a copy: nothing is noted.
    let head = || fleet.run(&["rounds", "--json"]).with_code(0).json()["head"].clone();
    let noted = head();
    let said = fleet.run(&["drill", "--kit", &kit, "--share", &text(&fleet.share())]).with_code(0);
    assert!(said.out.contains("not noted"), "{}", said.out);
    // Another fleet's kit is no drill that failed.
    let other = Fleet::init(&[format!("dns=files:{}", text(&source))]);
    let _ = fleet.run(&["drill", "--kit", &text(&other.kit())]).with_code(5);
    assert_eq!(head(), noted);
}

#[test]
fn a_drill_that_fails_takes_the_fleets_readiness_until_one_passes() {
    let data = tempfile::TempDir::new().expect("folder");
    let source = data.path().join("tree");
    tree::small(&source, 3);
    let fleet = Fleet::init(&[format!("dns=files:{}", text(&source))]);
    let kit = text(&fleet.kit());
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let status = || fleet.run(&["status", "--json"]).with_code(0).json();
    assert_eq!(status()["recovery_ready"], true);
    let pack = pack(&fleet.share(), "dns");
    let whole = fs::read(&pack).expect("a pack");
    let mut torn = whole.clone();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    fs::write(&pack, &torn).expect("written");
    let failed = fleet.run(&["drill", "--kit", &kit]).with_code(4);
    assert!(failed.out.contains("DRILL-01: the drill of round 1 failed"), "{}", failed.out);
    assert!(failed.out.contains("muster verify --heal --kit"), "{}", failed.out);
    let after = status();
    assert_eq!(
        (&after["recovery_ready"], &after["drill"]["last"]["outcome"]),
        (&false.into(), &"failed".into())
    );
    assert!(after["reasons"].to_string().contains("the drill of round 1 failed"), "{}", after["reasons"]);
    assert!(told(&after), "{}", after["alerts"]);
    fs::write(&pack, &whole).expect("written");
    let _ = fleet.run(&["drill", "--kit", &kit]).with_code(0);
    let mended = status();
    assert_eq!(mended["recovery_ready"], true);
    assert!(!told(&mended), "{}", mended["alerts"]);
}
