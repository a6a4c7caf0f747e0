//! SIGKILL of agent and coordinator at each call by which they change the share or their own folders:
//! `strace` kills them as they enter the n-th such call of a thread, before it has an effect. FAULTS
//! invariants 1, 2, 3, 7, 8, 16.
//!
//! Whatever is half done by then stays as it is: an object that is empty or torn, a temporary, a folder that
//! is not durable. The same round must go on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use muster_tests::fleet::text;
use muster_tests::process::{have, wait_for};

use super::scene::{FILES, Scene};

/// Where a victim ends.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// As a thread enters a call that changes something for the `nth` time.
    Call { call: &'static str, nth: u32 },
    /// While it makes something new durable at this [`place`].
    Writing(&'static str),
}

impl Step {
    /// The words before a program's own that let `strace` end it there, or be slow enough to be ended. It is our
    /// child, not `strace`'s.
    fn wrapper(self, trace: &Path) -> Vec<String> {
        // Not with --seccomp-bpf: strace 6.1 then kills at the first call or never.
        let words = ["strace", "-D", "-f", "-qq", "-y", "-o"].map(str::to_owned);
        let (call, inject) = match self {
            Self::Call { call, nth } => (call, format!("inject={call}:signal=SIGKILL:when={nth}")),
            Self::Writing(_) => ("fsync", format!("inject=fsync:delay_enter={SLOW_MICROS}")),
        };
        words
            .into_iter()
            .chain([text(trace), "-e".into(), format!("trace={call}"), "-e".into(), inject])
            .collect()
    }
}

/// How long each `fsync` waits in [`Step::Writing`]: what was written is seen and its writer ended meanwhile.
const SLOW_MICROS: u32 = 400_000;

/// How often a step is tried, and how long whoever traces may take to say where its victim ended.
const TRIES: u32 = 5;
const MOMENT: Duration = Duration::from_secs(5);

/// What a file of the share is: its folder, and its kind of object.
fn place(path: &str) -> String {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    // The name of a temporary is random.
    let extension = if extension.starts_with("tmp-") { "" } else { extension };
    let folder = ["packs", "slices", "log", "lists", "manifests", "agents"];
    let folder =
        folder.into_iter().find(|folder| path.split('/').any(|part| part == *folder)).unwrap_or("share");
    if extension.is_empty() { folder.to_owned() } else { format!("{folder} {extension}") }
}

/// What the calls were about in which a victim ended: for each thread the last one in a trace, where it never
/// returned.
fn ended_at(trace: &Path, share: &Path) -> BTreeSet<String> {
    let trace = String::from_utf8_lossy(&fs::read(trace).unwrap_or_default()).into_owned();
    let mut last = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        // `4711 fsync(13</path>) = ?`, or `4711 fsync(13</path> <unfinished ...>` some lines before. A call that
        // is resumed has returned, unless it says `= ?`.
        if call.contains('(') && !call.contains("resumed>") {
            last.insert(thread, call);
        } else if call.contains("resumed>") && !call.ends_with("= ?") {
            last.remove(thread);
        }
    }
    last.into_values()
        .filter(|call| call.ends_with("= ?") || call.ends_with("<unfinished ...>"))
        .map(|call| match call.split_once(&text(share)) {
            Some((_, path)) => {
                place(&path.chars().take_while(|c| !matches!(c, '>' | '"')).collect::<String>())
            }
            None => "elsewhere".to_owned(),
        })
        .collect()
}

/// Every file of a share.
fn files(share: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![share.to_owned()];
    while let Some(folder) = folders.pop() {
        // What is listed may be gone already: a temporary.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                found.insert(entry.path());
            }
        }
    }
    found
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

/// One round for each step, in which the victim is killed there and started again.
/// Calls are counted for each thread, so the same number is not always the same call, and the highest may
/// never come; each place of `writing` is met for sure.
fn die_at(victim: Victim, steps: impl IntoIterator<Item = Step>, writing: &[&'static str]) {
    let mut scene = Scene::new();
    scene.fleet.up();
    scene.round();
    let share = scene.fleet.share();
    let (mut deaths, mut rounds) = (0, 0);
    let steps = steps.into_iter().chain(writing.iter().map(|place| Step::Writing(place)));
    for (number, step) in steps.enumerate() {
        // On a busy machine its writer may be further before it is ended: then it is tried again.
        let met = (0..TRIES).any(|again| {
            let trace = scene.fleet.path(&format!("trace-{number}-{again}"));
            victim.kill(&mut scene);
            let before = files(&share);
            victim.start_under(&mut scene, &step.wrapper(&trace));
            let mut starter = scene.begin();
            let died = wait_for(&format!("{step:?} is reached, or the round has ended"), || {
                let is_there = match step {
                    Step::Call { .. } => !victim.is_running(&mut scene),
                    Step::Writing(wanted) => {
                        files(&share).difference(&before).any(|file| place(&in_share(file, &share)) == wanted)
                    }
                };
                (is_there || !starter.is_running()).then_some(is_there)
            });
            victim.kill(&mut scene);
            let met = match step {
                Step::Call { .. } => {
                    rounds += 1;
                    deaths += u32::from(died);
                    true
                }
                Step::Writing(wanted) => {
                    assert!(died, "nothing was written at {wanted}");
                    // Whoever traces says so a moment later.
                    let (began, is_it) = (Instant::now(), || ended_at(&trace, &share).contains(wanted));
                    while !is_it() && began.elapsed() < MOMENT {
                        sleep(Duration::from_millis(50));
                    }
                    is_it()
                }
            };
            victim.start_under(&mut scene, &[]);
            scene.finish();
            scene.is_sound();
            met
        });
        assert!(met, "{step:?}: it was never ended there");
    }
    assert!(2 * deaths > rounds, "it died in {deaths} of {rounds} rounds: the steps are too far out");
}

fn in_share(file: &Path, share: &Path) -> String {
    text(file.strip_prefix(share).unwrap_or(file))
}

fn steps(calls: &'static [(&'static str, &'static [u32])]) -> impl Iterator<Item = Step> {
    calls.iter().flat_map(|(call, nths)| nths.iter().map(|nth| Step::Call { call, nth: *nth }))
}

/// Calls by which an agent changes the share, and those of a coordinator. The agent's own state is another matter: so many
/// of its calls are about that one that the others would hardly be met.
const AGENT: &str = "fsync,mkdir,rename";
const STATE: &str = "fdatasync,pwrite64";
/// What each of the two writes in a round, all of it met by a kill.
const AGENT_WRITES: [&str; 5] =
    ["packs age", "slices packs", "slices chunks", "slices index", "slices receipt"];
const COORDINATOR_WRITES: [&str; 2] = ["log", "manifests"];
const COORDINATOR: &str = "fsync,linkat,unlink,mkdir,rename";

#[test]
fn an_agent_killed_at_any_step_leaves_a_round_that_goes_on() {
    if !have("strace") {
        return;
    }
    let chosen = steps(&[
        (AGENT, &[3, 5, 8, 11]),
        (STATE, &[2, 7, 14]),
        ("fsync", &[1, 2, 4, 6]),
        ("write", &[3, 6, 9, 12]),
    ]);
    die_at(Victim::Agent, chosen, &AGENT_WRITES);
}

#[test]
fn a_coordinator_killed_at_any_step_leaves_a_round_that_is_committed_once() {
    if !have("strace") {
        return;
    }
    let chosen = steps(&[
        (COORDINATOR, &[1, 4, 7, 10, 13]),
        ("linkat", &[1, 2, 3]),
        ("unlink", &[1, 2]),
        ("write", &[2, 4, 7, 11]),
    ]);
    die_at(Victim::Coordinator, chosen, &COORDINATOR_WRITES);
}

/// `./x long`: every step, until one is further than a round goes.
#[test]
#[ignore = "takes minutes: ./x long"]
fn every_step() {
    let every = |call: &'static str, last| (1..=last).map(move |nth| Step::Call { call, nth });
    let agent = every(AGENT, 30).chain(every(STATE, 30)).chain(every("fsync", 12)).chain(every("write", 25));
    die_at(Victim::Agent, agent, &AGENT_WRITES);
    let coordinator = every(COORDINATOR, 20).chain(every("linkat", 6)).chain(every("write", 30));
    die_at(Victim::Coordinator, coordinator, &COORDINATOR_WRITES);
}
