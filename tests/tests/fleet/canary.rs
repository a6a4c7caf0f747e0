//! Secrets stay where they belong (invariant 13): a fleet whose every key is known runs rounds, one that fails, a restore
//! and a recovery, while everything that leaves a process is kept; then no key is in it in any spelling, no content of
//! what was backed up, and no name of a file outside the machine that has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use futures::StreamExt;
use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Said, wait_for};
use muster_tests::secrets::{Secrets, files};
use muster_tests::tree;
use tokio::runtime::Runtime;

/// In a file that is backed up.
const CONTENT: &str = "canary content d41c27: sings when it is read";
/// A part of the name of a file that is backed up.
const NAME: &str = "canary-name-7be09a-of-a-file";
/// In the environment of the agents, where a service manager may put secrets.
const VARIABLE: &str = "canary-variable-55f3e1-of-the-agent";

/// Bytes that left a process, by where they went.
type Heard = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

fn keep(heard: &Heard, place: String, bytes: &[u8]) {
    let mut heard = heard.lock().expect("not poisoned");
    let kept = heard.entry(place).or_default();
    // What a process was started with does not change: once is enough.
    if !kept.windows(bytes.len().max(1)).any(|window| window == bytes) {
        kept.extend_from_slice(bytes);
    }
}

/// Keeps everything that goes over NATS from now on: subjects, headers and payloads.
fn listen(fleet: &Fleet, heard: &Heard) -> Runtime {
    let runtime = Runtime::new().expect("a runtime");
    let mut all = runtime.block_on(async {
        let client = fleet.client().await;
        let all = client.subscribe(">").await.expect("subscribes");
        client.flush().await.expect("flushes");
        all
    });
    let heard = Arc::clone(heard);
    runtime.spawn(async move {
        while let Some(message) = all.next().await {
            let headers = format!("{:?}", message.headers);
            let said = [message.subject.as_bytes(), headers.as_bytes(), &message.payload].concat();
            heard.lock().expect("not poisoned").entry("NATS".to_owned()).or_default().extend(said);
        }
    });
    runtime
}

/// Looks at the arguments and environments of all processes of Muster again and again, until told to stop.
fn sample(heard: &Heard, fleet: &Fleet) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let (stop, heard, known) = (Arc::new(AtomicBool::new(false)), Arc::clone(heard), fleet.processes());
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            for process in fs::read_dir("/proc").expect("Linux").flatten() {
                let name = process.file_name().to_string_lossy().into_owned();
                let Ok(id) = name.parse::<u32>() else { continue };
                let called = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                if !known.contains(&id) && !called.starts_with("muster") {
                    continue;
                }
                for what in ["cmdline", "environ"] {
                    // The kernel shows the environment of such a process to root alone.
                    let Ok(bytes) = fs::read(process.path().join(what)) else { continue };
                    keep(&heard, format!("{what} of process {id} {}", called.trim()), &bytes);
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    (stop, thread)
}

/// Every place that was looked at, with what was found there.
fn leaks(fleet: &Fleet, heard: &Heard, never: &Secrets, names: &Secrets) -> Vec<String> {
    let keys = fleet.dir().join("keys");
    let mut leaks = Vec::new();
    let mut look = |place: &str, bytes: &[u8], own: bool| {
        leaks.extend(never.found_in(bytes).into_iter().map(|found| format!("{place}: {found}")));
        if !own {
            leaks.extend(names.found_in(bytes).into_iter().map(|found| format!("{place}: {found}")));
        }
    };
    for (place, bytes) in heard.lock().expect("not poisoned").iter() {
        look(place, bytes, false);
    }
    let logs = files(&fleet.path("")).into_iter().filter(|file| file.extension().is_some_and(|e| e == "log"));
    for file in files(&fleet.share()).into_iter().chain(logs) {
        look(&text(&file), &fs::read(&file).unwrap_or_default(), false);
        look("names on the share", text(&file).as_bytes(), false);
    }
    // An agent's own folder may know the names of its service's files (decision 9), and nothing else of them.
    for file in files(&fleet.dir()).iter().filter(|file| !file.starts_with(&keys)) {
        look(&text(file), &fs::read(file).unwrap_or_default(), true);
    }
    leaks.sort();
    leaks.dedup();
    leaks
}

fn said(heard: &Heard, what: &str, said: &Said) {
    keep(heard, format!("output of {what}"), said.out.as_bytes());
    keep(heard, format!("errors of {what}"), said.err.as_bytes());
}

struct Scene {
    fleet: Fleet,
    data: tempfile::TempDir,
    heard: Heard,
    never: Secrets,
    names: Secrets,
}

impl Scene {
    fn new() -> Self {
        let data = tempfile::TempDir::new().expect("folder");
        let at = |name: &str| data.path().join(name);
        tree::small(&at("tree"), 3);
        fs::write(at("tree").join(NAME), CONTENT.repeat(3)).expect("file");
        fs::write(at("dump"), CONTENT).expect("file");
        let script = format!(
            "env >> {}; [ ! -e {} ] || {{ echo broken >&2; exit 9; }}; cat {}",
            text(&at("environment")),
            text(&at("broken")),
            text(&at("dump"))
        );
        let command = serde_json::to_string(&["sh", "-c", &script]).expect("JSON");
        let mut fleet =
            Fleet::init(&[format!("config=files:{}", text(&at("tree"))), format!("dump=command:{command}")]);
        fleet.set("MUSTER_SECRET", VARIABLE);
        fleet.set("CREDENTIALS_DIRECTORY", &text(&at("credentials")));
        let (mut never, mut names) = (Secrets::default(), Secrets::default());
        let known: usize =
            [fleet.dir(), fleet.kit(), fleet.root()].iter().map(|folder| never.keys_below(folder)).sum();
        // Coordinator, operator, recovery and root key; of each agent three.
        assert!(known >= 4 + 2 * 3, "only {known} private keys were found");
        never.text("content", CONTENT);
        names.text("file name", NAME);
        Self { fleet, data, heard: Heard::default(), never, names }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    fn run(&self, what: &str, args: &[&str], code: i32) {
        let done = self.fleet.run(args).with_code(code);
        said(&self.heard, what, &done);
    }

    fn leaks(&self) -> Vec<String> {
        leaks(&self.fleet, &self.heard, &self.never, &self.names)
    }
}

#[test]
fn no_secret_leaves_its_place() {
    let mut scene = Scene::new();
    scene.fleet.open_the_bus();
    scene.fleet.up();
    let _listening = listen(&scene.fleet, &scene.heard);
    let (stop, sampling) = sample(&scene.heard, &scene.fleet);
    scene.run("a round", &["start", "--wait"], 0);
    fs::write(scene.path("broken"), b"").expect("file");
    scene.run("a round that fails in part", &["start", "--wait"], 3);
    let kit = text(&scene.fleet.kit());
    let restore = ["restore", "1", "--service", "config", "--existing", "replace", "--kit", &kit];
    scene.run("a restore", &restore, 0);
    scene.run("a proof", &["key", "prove", "--kit", &kit], 0);
    scene.run("a verification", &["verify", "--kit", &kit], 0);
    scene.run("status", &["status", "--json"], 0);
    let (share, out) = (text(&scene.fleet.share()), text(&scene.path("out")));
    let recover = ["recover", "--share", &share, "--kit", &kit, "--round", "1", "--into", &out];
    scene.run("a recovery", &recover, 0);
    assert_eq!(fs::read_to_string(scene.path("out/dump/command/output")).expect("the dump"), CONTENT);
    // Errors repeat what they object to; not what a key file holds.
    let recovery = scene.fleet.kit().join("recovery.key");
    scene.run(
        "a key of another kind",
        &["enroll", "x", "--root", &text(&recovery), "--source", "files:/x"],
        5,
    );
    stop.store(true, Ordering::Relaxed);
    sampling.join().expect("the sampler ends");
    assert_eq!(scene.leaks(), Vec::<String>::new());

    // What a source's command was told: named variables, and nothing of the agent's.
    let told = fs::read_to_string(scene.path("environment")).expect("the command wrote it");
    let names: Vec<_> = told.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for expected in ["PATH", "LANG"] {
        assert!(names.contains(&expected), "{told}");
    }
    let leaked = names.iter().find(|name| name.starts_with("MUSTER") || name.starts_with("CREDENTIALS"));
    assert_eq!(leaked, None, "{told}");
    assert!(!told.contains(VARIABLE) && scene.never.found_in(told.as_bytes()).is_empty(), "{told}");
    // It was all really there to be seen.
    let heard = scene.heard.lock().expect("not poisoned").clone();
    assert!(heard["NATS"].windows(12).any(|part| part == b"restore-orde"), "the bus was heard");
    let of = |id: u32, what: &str| heard.contains_key(&format!("{what} of process {id} muster-agent"));
    let seen = scene.fleet.processes().into_iter().filter(|id| of(*id, "cmdline")).count();
    assert_eq!(seen, 2, "both agents were looked at: {:?}", heard.keys());
    drop(heard);
    every_place_is_looked_at(&scene);
}

/// A key that is planted is found, wherever that is.
fn every_place_is_looked_at(scene: &Scene) {
    let key = fs::read_to_string(scene.fleet.dir().join("keys/coordinator.key")).expect("a key");
    let share = scene.fleet.share().join("lists/planted");
    let places = [
        (scene.fleet.path("coordinator.log"), key.clone()),
        (scene.fleet.dir().join("state/planted"), key.clone()),
        (share, format!("name {NAME}")),
    ];
    for (place, planted) in places {
        let before = fs::read(&place).unwrap_or_default();
        fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        fs::write(&place, [&before[..], planted.as_bytes()].concat()).expect("planted");
        assert!(!scene.leaks().is_empty(), "{} is not looked at", place.display());
        fs::write(&place, before).expect("mended");
    }
    assert!(scene.leaks().is_empty());
    // On the bus.
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = scene.fleet.client().await;
        client.publish("muster.v1.test.progress.config", key.clone().into()).await.expect("sent");
        client.flush().await.expect("flushed");
    });
    wait_for("the planted key is heard", || (!scene.leaks().is_empty()).then_some(()));
    // In the arguments of a process.
    let heard = Heard::default();
    let (stop, sampling) = sample(&heard, &scene.fleet);
    let seen = || {
        let _ = scene.fleet.run(&["rounds", "--share", &key]);
        (!leaks_of(&heard, &scene.never).is_empty()).then_some(())
    };
    wait_for("the planted argument is seen", seen);
    stop.store(true, Ordering::Relaxed);
    sampling.join().expect("the sampler ends");
}

fn leaks_of(heard: &Heard, never: &Secrets) -> Vec<String> {
    heard.lock().expect("not poisoned").values().flat_map(|bytes| never.found_in(bytes)).collect()
}

/// A daemon leaves no image of its memory: neither a core dump, nor to another process of its user.
#[test]
fn daemons_leave_no_core_dump() {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 1);
    let mut fleet = Fleet::init(&[format!("config=files:{}", text(&data.path().join("tree")))]);
    fleet.open_the_bus();
    fleet.up();
    let up = Path::new("/proc");
    for id in fleet.processes().into_iter().skip(1) {
        let read = |what: &str| fs::read_to_string(up.join(id.to_string()).join(what)).expect("it runs");
        wait_for("the limit is set", || {
            let limits = read("limits");
            let core = limits.lines().find(|line| line.starts_with("Max core file size"))?;
            let words: Vec<_> = core.split_whitespace().collect();
            (words[4..6] == ["0", "0"]).then_some(())
        });
    }
    // The same of the command itself, which holds the recovery key: its hidden daemon is the same executable.
    let config = text(&fleet.dir().join("coordinator-9.toml"));
    fs::copy(fleet.dir().join("coordinator.toml"), &config).expect("copied");
    fleet.kill_coordinator();
    let command = fleet.spawn(&["daemon", "coordinator", "--config", &config], "command.log");
    wait_for("the limit is set", || {
        let limits = fs::read_to_string(up.join(command.id().to_string()).join("limits")).ok()?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"))?;
        (core.split_whitespace().collect::<Vec<_>>()[4..6] == ["0", "0"]).then_some(())
    });
}
