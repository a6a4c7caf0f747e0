//! SIGKILL of agent and coordinator at each call by which they change the share or their own folders:
//! `strace` kills them as they enter the n-th such call of a thread, before it has an effect. FAULTS
//! invariants 1, 2, 3, 7, 8, 16.
//!
//! Whatever is half done by then stays as it is: an object that is empty or torn, a temporary, a folder that
//! is not durable. The same round must go on from there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use muster_tests::fleet::text;
use muster_tests::process::{have, wait_for};

use super::scene::{FILES, Scene};

/// A call that changes something, and the how many-th of a thread is its last.
#[derive(Debug, Clone, Copy)]
struct Step {
    call: &'static str,
    nth: u32,
}

impl Step {
    /// The words before a program's own that let `strace` end it there. It is our child, not `strace`'s.
    fn wrapper(self, trace: &Path) -> Vec<String> {
        let Self { call, nth } = self;
        // Not with --seccomp-bpf: strace 6.1 then kills at the first call or never.
        let words = ["strace", "-D", "-f", "-qq", "-y", "-o"].map(str::to_owned);
        let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
        words
            .into_iter()
            .chain([text(trace), "-e".into(), format!("trace={call}"), "-e".into(), inject])
            .collect()
    }
}

/// What the killed call was about: the last one in a trace that never returned.
fn place(trace: &Path, share: &Path) -> String {
    let trace = String::from_utf8_lossy(&fs::read(trace).unwrap_or_default()).into_owned();
    let ended = trace.lines().rev().find(|line| line.ends_with("= ?")).unwrap_or_default();
    let thread = ended.split_whitespace().next().unwrap_or_default();
    // `4711 fsync(13</path>) = ?`, or `4711 fsync(13</path> <unfinished ...>` some lines before.
    let mut own = trace.lines().rev().filter(|line| line.split_whitespace().next() == Some(thread));
    let line = own.find(|line| line.contains('(') && !line.contains("resumed>")).unwrap_or_default();
    let on_share = line.split_once(&text(share)).map(|(_, rest)| rest);
    let Some(path) = on_share else { return "elsewhere".to_owned() };
    let path: String = path.chars().take_while(|c| !matches!(c, '>' | '"')).collect();
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    // The name of a temporary is random.
    let extension = if extension.starts_with("tmp-") { "" } else { extension };
    let folder = ["packs", "slices", "log", "lists", "manifests", "agents"];
    let folder = folder.into_iter().find(|folder| path.contains(folder)).unwrap_or("share");
    if extension.is_empty() { folder.to_owned() } else { format!("{folder} {extension}") }
}

/// Which of the two is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Coordinator,
}

impl Victim {
    fn kill(self, scene: &mut Scene) {
        match self {
            Self::Agent => scene.fleet.kill_agent(FILES),
            Self::Coordinator => scene.fleet.kill_coordinator(),
        }
    }

    fn start_under(self, scene: &mut Scene, wrapper: &[String]) {
        match self {
            Self::Agent => scene.fleet.start_agent_under(wrapper, FILES),
            Self::Coordinator => scene.fleet.start_coordinator_under(wrapper),
        }
    }

    fn is_running(self, scene: &mut Scene) -> bool {
        match self {
            Self::Agent => scene.fleet.agent(FILES).is_running(),
            Self::Coordinator => scene.fleet.coordinator().is_running(),
        }
    }
}

/// One round for each step, in which the victim is killed there and started again; the places where it died.
/// Calls are counted for each thread, so the same number is not always the same call, and the highest may
/// never come.
fn die_at(victim: Victim, steps: impl IntoIterator<Item = Step>) -> BTreeSet<String> {
    let mut scene = Scene::new();
    scene.fleet.up();
    scene.round();
    let (mut places, mut deaths, mut rounds) = (BTreeSet::new(), 0, 0);
    for (number, step) in steps.into_iter().enumerate() {
        let trace = scene.fleet.path(&format!("trace-{number}"));
        victim.kill(&mut scene);
        victim.start_under(&mut scene, &step.wrapper(&trace));
        let mut starter = scene.begin();
        let died = wait_for(&format!("{step:?} is reached, or the round has ended"), || {
            let died = !victim.is_running(&mut scene);
            (died || !starter.is_running()).then_some(died)
        });
        rounds += 1;
        if died {
            deaths += 1;
            places.insert(place(&trace, &scene.fleet.share()));
        }
        victim.kill(&mut scene);
        victim.start_under(&mut scene, &[]);
        scene.finish();
        scene.is_sound();
    }
    assert!(2 * deaths > rounds, "it died in {deaths} of {rounds} rounds: the steps are too far out");
    places
}

fn steps(calls: &'static [(&'static str, &'static [u32])]) -> impl Iterator<Item = Step> {
    calls.iter().flat_map(|(call, nths)| nths.iter().map(|nth| Step { call, nth: *nth }))
}

/// Calls by which an agent changes things, and those of a coordinator.
const AGENT: &str = "fsync,fdatasync,pwrite64,mkdir,rename";
const COORDINATOR: &str = "fsync,linkat,unlink,mkdir,rename";

#[test]
fn an_agent_killed_at_any_step_leaves_a_round_that_goes_on() {
    if !have("strace") {
        return;
    }
    let places = die_at(
        Victim::Agent,
        steps(&[(AGENT, &[2, 5, 9, 14, 20]), ("fsync", &[1, 2, 3, 4, 6]), ("write", &[3, 6, 9, 12])]),
    );
    assert!(places.iter().any(|place| place != "elsewhere"), "it died on the share: {places:?}");
}

#[test]
fn a_coordinator_killed_at_any_step_leaves_a_round_that_is_committed_once() {
    if !have("strace") {
        return;
    }
    let places = die_at(
        Victim::Coordinator,
        steps(&[
            (COORDINATOR, &[1, 4, 7, 10, 13]),
            ("linkat", &[1, 2, 3]),
            ("unlink", &[1, 2]),
            ("write", &[2, 4, 7, 11]),
        ]),
    );
    assert!(places.contains("log"), "it died at the log: {places:?}");
}

/// `./x long`: every step, until one is further than a round goes.
#[test]
#[ignore = "takes a quarter of an hour: ./x long"]
fn every_step() {
    let every = |call: &'static str, last| (1..=last).map(move |nth| Step { call, nth });
    let agent = every(AGENT, 40).chain(every("fsync", 12)).chain(every("write", 25));
    let places = die_at(Victim::Agent, agent);
    for place in ["packs age", "slices packs", "slices index", "slices receipt"] {
        assert!(places.contains(place), "no agent died at {place}: {places:?}");
    }
    let coordinator = every(COORDINATOR, 20).chain(every("linkat", 6)).chain(every("write", 30));
    let places = die_at(Victim::Coordinator, coordinator);
    for place in ["log", "manifests"] {
        assert!(places.contains(place), "no coordinator died at {place}: {places:?}");
    }
}
