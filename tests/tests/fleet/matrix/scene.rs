//! The fleet that the faults meet, and what must be true of it afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::audit;
use muster_tests::fleet::{Fleet, text};
use muster_tests::gate::Gate;
use muster_tests::process::Running;
use muster_tests::tree;
use tempfile::TempDir;

/// The service of files that is in every scene.
pub(super) const FILES: &str = "tree";
/// The service whose capture waits, in scenes that have a gate.
pub(super) const GATED: &str = "slow";

/// A fleet whose service [`FILES`] has something new in each round.
pub(super) struct Scene {
    pub(super) fleet: Fleet,
    /// Before [`GATED`].
    pub(super) gate: Gate,
    data: TempDir,
    rounds: u64,
}

impl Scene {
    /// One service.
    pub(super) fn new() -> Self {
        Self::of(init_on(None), |_, _| Vec::new())
    }

    /// Two, of which one waits at a gate: what happens before it opens happens in mid-round.
    pub(super) fn gated() -> Self {
        Self::gated_on(None)
    }

    /// The same with its share at this path, if one is given.
    pub(super) fn gated_on(share: Option<&Path>) -> Self {
        Self::of(init_on(share), gated_service)
    }

    /// The same with its share at this address.
    pub(super) fn gated_at(url: &str, credentials: &str) -> Self {
        Self::of(|services| Fleet::init_at(url, credentials, services), gated_service)
    }

    /// One service, quiesced by a hook for as long as [`Scene::is_held`].
    pub(super) fn held() -> Self {
        let scene = Self::new();
        let held = text(&scene.data.path().join("held"));
        let file = scene.fleet.dir().join(format!("agents/{FILES}.toml"));
        let config = fs::read_to_string(&file).expect("a configuration");
        let hooked = config
            .replace("\nquiesce = []\n", &format!("\nquiesce = [\"touch\", \"{held}\"]\n"))
            .replace("\nrelease = []\n", &format!("\nrelease = [\"rm\", \"-f\", \"{held}\"]\n"));
        assert_ne!(config, hooked, "init writes every key");
        fs::write(&file, hooked).expect("written");
        scene
    }

    /// Whether its service is quiesced now.
    pub(super) fn is_held(&self) -> bool {
        self.data.path().join("held").exists()
    }

    fn of(init: impl FnOnce(&[String]) -> Fleet, more: impl FnOnce(&TempDir, &Gate) -> Vec<String>) -> Self {
        let data = TempDir::new().expect("folder");
        let gate = Gate::at(data.path().join("gate"));
        tree::small(&data.path().join("tree"), 3);
        let mut services = vec![format!("{FILES}=files:{}", text(&data.path().join("tree")))];
        services.extend(more(&data, &gate));
        let fleet = init(&services);
        Self { fleet, gate, data, rounds: 0 }
    }

    /// The tree that [`FILES`] backs up.
    pub(super) fn tree(&self) -> PathBuf {
        self.data.path().join("tree")
    }

    /// Makes something new and asks for a round of it, to its end; [`Scene::finish`] asks for the same one.
    pub(super) fn begin(&mut self) -> Running {
        self.next();
        self.fleet.spawn(&["start", "--request", &self.request(), "--wait"], "start.log")
    }

    /// The same, not followed any further.
    pub(super) fn open(&mut self) {
        self.next();
        let _ = self.fleet.run(&["start", "--request", &self.request()]).with_code(0);
    }

    fn next(&mut self) {
        self.rounds += 1;
        let new = tree::noise(1_000 + self.rounds, 300_000);
        fs::write(self.tree().join(format!("new-{}", self.rounds)), new).expect("file");
    }

    /// The round that was begun last ends complete, whoever asked for it.
    pub(super) fn finish(&self) {
        let _ = self.fleet.run(&["start", "--request", &self.request(), "--wait"]).with_code(0);
    }

    /// One round from its beginning to its end, without a fault.
    pub(super) fn round(&mut self) {
        drop(self.begin());
        self.finish();
    }

    fn request(&self) -> String {
        format!("request-{}", self.rounds)
    }

    /// The number of the round that was begun last.
    pub(super) fn number(&self) -> u64 {
        self.rounds
    }

    /// One commit for each round that was begun, one log, whole objects, the same bytes back: invariants 1,
    /// 2, 7, 8.
    pub(super) fn is_sound(&self) {
        assert_eq!(self.fleet.rounds().len() as u64, self.rounds, "the same request is the same round");
        assert_eq!(audit::commits(&self.fleet) as u64, self.rounds);
        audit::one_log(&self.fleet);
        let (tree, file) = (self.tree(), self.data.path().join("file"));
        let (in_tree, in_file) = (format!("{FILES}/files"), format!("{GATED}/command/output"));
        let mut originals = vec![(in_tree.as_str(), tree.as_path())];
        if file.exists() {
            originals.push((&in_file, &file));
        }
        audit::recovers(&self.fleet, &originals);
    }
}

fn init_on(share: Option<&Path>) -> impl FnOnce(&[String]) -> Fleet {
    move |services| match share {
        Some(share) => Fleet::init_on(share, services),
        None => Fleet::init(services),
    }
}

fn gated_service(data: &TempDir, gate: &Gate) -> Vec<String> {
    let file = data.path().join("file");
    fs::write(&file, tree::noise(5, 600_000)).expect("file");
    vec![format!("{GATED}={}", gate.source(&file))]
}
