//! A fleet that has something to tell: a service whose capture fails, one that is slow, one that is neither, and two coordinators.

use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use muster_tests::telemetry::Wired;
use muster_tests::tree;
use serde_json::Value;
use tempfile::TempDir;

/// The services, sorted.
pub(super) const SERVICES: [&str; 3] = ["config", "flaky", "slow"];

/// The fleet, not started.
pub(super) struct Scene {
    pub(super) wired: Wired,
    data: TempDir,
}

impl Scene {
    /// With its telemetry to this collector.
    pub(super) fn new(coordinators: u8, collector: Option<&str>) -> Self {
        let data = TempDir::with_prefix("muster-told-").expect("a folder");
        let at = |name: &str| data.path().join(name);
        tree::small(&at("config"), 1);
        fs::create_dir(at("slow")).expect("a folder");
        fs::write(at("slow").join("large"), tree::noise(7, 3 << 20)).expect("written");
        let broken = text(&at("broken"));
        // As often as the file has lines it fails.
        let script = format!(
            "if test -s '{broken}'; then sed -i 1d '{broken}'; echo 'the disk is on fire' >&2; exit 3; fi; seq 1 100000"
        );
        let flaky = serde_json::to_string(&["sh", "-c", &script]).expect("JSON");
        let services = [
            format!("config=files:{}", text(&at("config"))),
            format!("flaky=command:{flaky}"),
            format!("slow=files:{}", text(&at("slow"))),
        ];
        let fleet = Fleet::init_with_coordinators(coordinators, &services);
        limit(&fleet.dir().join("agents/slow.toml"));
        Self { wired: Wired::new(fleet, collector), data }
    }

    pub(super) fn fleet(&mut self) -> &mut Fleet {
        &mut self.wired.fleet
    }

    /// The next captures of `flaky` fail.
    pub(super) fn break_flaky(&self, times: usize) {
        fs::write(self.data.path().join("broken"), "x\n".repeat(times)).expect("written");
    }

    /// Something new for `config`.
    pub(super) fn change(&self, number: u64) {
        let file = self.data.path().join("config").join(format!("new-{number}"));
        fs::write(file, tree::noise(number, 200_000)).expect("written");
    }

    /// Starts everything, and waits until somebody leads.
    pub(super) fn up(&mut self) {
        self.wired.fleet.up();
        self.wait_for_leader();
    }

    pub(super) fn wait_for_leader(&self) {
        wait_for("the leader answers", || {
            let status: Value =
                serde_json::from_str(&self.wired.fleet.run(&["status", "--json"]).out).ok()?;
            (status["leader"] != Value::Null).then_some(())
        });
    }

    /// A round of everything, which ends with this code.
    pub(super) fn round(&self, code: i32) {
        let _ = self.wired.fleet.run(&["start", "--wait"]).with_code(code);
    }

    /// The id of the round of this number.
    pub(super) fn id(&self, number: u64) -> String {
        let rounds = self.wired.fleet.rounds();
        let round = rounds.iter().find(|round| round["number"] == number).expect("a round");
        let id = round["round"].as_str().or_else(|| round["id"].as_str());
        id.unwrap_or_else(|| panic!("no id in {round}")).to_owned()
    }

    /// Adds a channel to every coordinator.
    pub(super) fn channel(&self, url: &str) {
        for entry in fs::read_dir(self.wired.fleet.dir()).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("coordinator") && name.ends_with(".toml") {
                let channel = format!(
                    "\n[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"{url}\"\nretry_first = \"100ms\"\nretry_longest = \"400ms\"\n"
                );
                let before = fs::read_to_string(entry.path()).expect("a configuration");
                fs::write(entry.path(), before + &channel).expect("written");
            }
        }
    }

    /// The largest pack of a service.
    pub(super) fn pack(&self, service: &str) -> PathBuf {
        let folder = self.wired.fleet.share().join("agents").join(service).join("packs");
        let shards = fs::read_dir(folder).expect("packs").flatten();
        let packs = shards.flat_map(|shard| fs::read_dir(shard.path()).expect("a shard").flatten());
        let packs = packs.map(|pack| pack.path());
        packs.max_by_key(|pack| fs::metadata(pack).map_or(0, |meta| meta.len())).expect("a pack")
    }
}

/// A megabyte a second.
fn limit(file: &Path) {
    let before = fs::read_to_string(file).expect("a configuration");
    let after = before.replace("bandwidth = \"0B\"", "bandwidth = \"1MiB\"");
    assert_ne!(before, after, "init writes every key");
    fs::write(file, after).expect("written");
}
