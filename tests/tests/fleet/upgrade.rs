//! A fleet of the former version is upgraded while it runs: coordinators first, then agent by agent, as docs/operations.md says.
//! `./x upgrade` builds the former version and runs this.

use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::Value;

/// Where the former version's programs lie.
fn former() -> PathBuf {
    PathBuf::from(std::env::var_os("MUSTER_FORMER").expect("MUSTER_FORMER: ./x upgrade runs this test"))
}

fn start(fleet: &Fleet) -> Value {
    let said = fleet.run(&["start", "--wait", "--json"]).with_code(0).out;
    serde_json::from_str(said.lines().last().expect("a line")).expect("JSON")
}

fn compare(fleet: &Fleet, data: &Path) {
    let into = fleet.path("recovered");
    let _ = fs::remove_dir_all(&into);
    let _ = fleet.recover(&into).with_code(0);
    for name in ["a", "b"] {
        tree::assert_same(&data.join(name), &into.join(name).join("files"));
    }
}

#[test]
#[ignore = "builds the former version first: ./x upgrade"]
fn former_a_fleet_is_upgraded_while_it_runs() {
    let data = tempfile::TempDir::new().expect("folder");
    let services = ["a", "b"].map(|name| {
        let tree = data.path().join(name);
        tree::small(&tree, 1);
        fs::write(tree.join("large"), tree::noise(name.len() as u64, 300_000)).expect("written");
        format!("{name}=files:{}", text(&tree))
    });
    let mut fleet = Fleet::init_by_former(&former(), &services);
    fleet.up();
    assert_eq!(start(&fleet)["state"], "verified");
    // The coordinator first, with the configuration and the rights on the bus that the former version wrote.
    fleet.kill_coordinator();
    fleet.upgrade();
    fleet.start_coordinator();
    let round = start(&fleet);
    assert_eq!((&round["state"], &round["outcome"]), (&"verified".into(), &"complete".into()), "{round}");
    compare(&fleet, data.path());
    // What the new version says in the log, an agent of the former one passes over.
    let packs = fleet.share().join("agents/a/packs");
    let shards = fs::read_dir(packs).expect("packs").flatten();
    let packs = shards.flat_map(|shard| fs::read_dir(shard.path()).expect("a shard").flatten());
    let pack = packs.map(|pack| pack.path()).max_by_key(|pack| fs::metadata(pack).expect("a pack").len());
    let pack = pack.expect("a pack");
    let mut bytes = fs::read(&pack).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).expect("written");
    assert_eq!(fleet.run(&["verify", "--heal"]).code, 4);
    let quarantined = |fleet: &Fleet| {
        let status = fleet.run(&["status", "--json"]).with_code(0).json();
        (status["scrub"]["quarantine"]["a"]["objects"] == 1).then_some(())
    };
    wait_for("the quarantine", || quarantined(&fleet));
    fs::write(data.path().join("b/new"), "of today").expect("written");
    let partial = fleet.run(&["start", "--wait"]);
    assert_eq!(
        partial.code, 3,
        "a rests on what is damaged, and does not know it: {}{}",
        partial.out, partial.err
    );
    // Agent by agent. Each new one heals its service.
    for service in ["a", "b"] {
        fleet.kill_agent(service);
        fleet.start_agent(service);
        let round = start(&fleet);
        assert_eq!((&round["state"], &round["outcome"]), (&"verified".into(), &"complete".into()), "{round}");
    }
    compare(&fleet, data.path());
    // A former operator still reads the share.
    let share = text(&fleet.share());
    let mut command = std::process::Command::new(former().join("muster"));
    let output = command.args(["rounds", "--share", &share, "--json"]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
