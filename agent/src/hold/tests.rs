//! Holds with real processes: hooks that hang, fail and shout, and kills of everybody at any moment.

mod killed;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::ids::RoundId;
use muster_protocol::units::HumanDuration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::config::HooksConfig;
use super::keeper::{HoldError, Keeper, Said};
use super::record::{Left, Record};

/// A test that waits longer has failed.
const LIMIT: Duration = Duration::from_secs(30);
const ROUND: RoundId = RoundId::from_bytes([7; 16]);

#[test]
#[ignore = "the watchdog of other tests, in a process of its own"]
fn is_a_watchdog() {
    if std::env::args().any(|word| word == super::COMMAND) {
        let _ = super::run_watchdog();
    }
}

/// A service in a folder: it is quiesced while the file `frozen` is there.
pub(super) struct Service {
    folder: tempfile::TempDir,
}

impl Service {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("temporary folder") }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.path("frozen").exists()
    }

    pub(super) fn record(&self) -> Record {
        Record::in_folder(self.folder.path())
    }

    /// Hooks of these shell scripts, which run in the folder.
    pub(super) fn hooks(&self, quiesce: &str, release: &str) -> HooksConfig {
        hooks(self.folder.path(), quiesce, release)
    }

    pub(super) fn keeper(&self, hooks: HooksConfig) -> Keeper {
        Keeper::new(hooks, "dns".parse().expect("a name"), self.folder.path())
    }

    fn hold(&self, hooks: HooksConfig) -> Running {
        Running::start(self.keeper(hooks), None)
    }

    async fn until_released(&self) {
        until("the release", || !self.is_frozen()).await;
    }
}

pub(super) fn hooks(folder: &Path, quiesce: &str, release: &str) -> HooksConfig {
    let argv = |script: &str| {
        let script = format!("cd '{}' && {{ {script}\n}}", folder.display());
        ["sh", "-c", &script].map(str::to_owned).to_vec()
    };
    let (timeout, max_hold) =
        (HumanDuration(Duration::from_secs(20)), HumanDuration(Duration::from_secs(600)));
    HooksConfig { quiesce: argv(quiesce), release: argv(release), timeout, max_hold }
}

pub(super) const FREEZE: &str = "touch frozen";
pub(super) const THAW: &str = "rm -f frozen";

pub(super) async fn until(what: &str, shows: impl Fn() -> bool) {
    let shown = async {
        while !shows() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, shown).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// A hold under way.
struct Running {
    release: oneshot::Sender<()>,
    said: mpsc::UnboundedReceiver<Said>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(keeper: Keeper, leader: Option<Duration>) -> Self {
        let (release, given_up) = oneshot::channel();
        let (out, said) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let limit = keeper.limit(leader);
            keeper.hold(ROUND, limit, given_up, |said| drop(out.send(said))).await;
        });
        Self { release, said, task }
    }

    async fn said(&mut self) -> Option<Said> {
        timeout(LIMIT, self.said.recv()).await.expect("something is said")
    }

    async fn quiesced(&mut self) {
        let said = self.said().await;
        assert!(matches!(said, Some(Said::Quiesced { .. })), "{said:?}");
    }

    async fn failed(mut self) -> HoldError {
        let said = self.said().await;
        let Some(Said::Failed(error)) = said else { panic!("{said:?}") };
        assert!(self.said().await.is_none(), "that is all");
        error
    }

    async fn lost(&mut self) {
        let said = self.said().await;
        assert!(matches!(said, Some(Said::Lost { .. })), "{said:?}");
    }

    async fn released(mut self) {
        let said = self.said().await;
        assert!(matches!(said, Some(Said::Released(Ok(())))), "{said:?}");
        assert!(self.said().await.is_none(), "that is all");
    }
}

fn kill(pid: &str, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a number")).expect("not zero");
    rustix::process::kill_process(pid, signal).expect("it lives");
}

fn lives(pid: &str) -> bool {
    // A process that is dead and not yet reaped has no command line (proc(5)).
    fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn a_service_is_quiesced_until_it_is_released() {
    let service = Service::new();
    let quiesce = "env > env; touch frozen; ls -l /proc/self/fd > fds";
    let mut hold = service.hold(service.hooks(quiesce, THAW));
    hold.quiesced().await;
    assert!(service.is_frozen());
    assert!(matches!(service.record().left(), Ok(Left::Hold(_))), "recorded while it is held");
    hold.release.send(()).expect("it waits");
    let said = timeout(LIMIT, hold.said.recv()).await.expect("something is said");
    assert!(matches!(said, Some(Said::Released(Ok(())))), "{said:?}");
    assert!(!service.is_frozen());
    assert_eq!(service.record().left().expect("reads"), Left::Nothing);
    hold.task.await.expect("no panic");

    let env = fs::read_to_string(service.path("env")).expect("written");
    let mut names: Vec<_> = env.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["LANG", "MUSTER_HOOK", "MUSTER_ROUND", "MUSTER_SERVICE", "PATH"]);
    let fds = fs::read_to_string(service.path("fds")).expect("written");
    assert!(!fds.contains("hold.lock") && !fds.contains("socket"), "nothing of ours is inherited: {fds}");
}

#[tokio::test]
async fn a_service_is_released_when_its_time_is_over() {
    let service = Service::new();
    let hooks = service.hooks(FREEZE, THAW);
    // The leader allows less than the agent does.
    let mut hold = Running::start(service.keeper(hooks), Some(Duration::from_millis(400)));
    hold.quiesced().await;
    hold.lost().await;
    hold.released().await;
    assert!(!service.is_frozen());
}

#[tokio::test]
async fn a_hook_that_hangs_is_killed_with_its_children() {
    let service = Service::new();
    let hang = "touch frozen; trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 1; done' & \
                while :; do sleep 1; done";
    let hooks =
        HooksConfig { timeout: HumanDuration(Duration::from_millis(500)), ..service.hooks(hang, THAW) };
    let error = service.hold(hooks).failed().await;
    assert!(error.to_string().contains("did not end within 500 ms and was killed"), "{error}");
    assert!(!error.is_permanent() && error.code() == Code::Agent03 && !service.is_frozen());
    let child = fs::read_to_string(service.path("child")).expect("written");
    until("the child's end", || !lives(&child)).await;
}

#[tokio::test]
async fn a_hook_that_is_slower_than_the_longest_hold_is_killed() {
    let service = Service::new();
    let hold = Running::start(
        service.keeper(service.hooks("touch frozen; exec sleep 600", THAW)),
        Some(Duration::from_millis(300)),
    );
    let error = hold.failed().await;
    assert!(error.to_string().contains("before max_hold was over"), "{error}");
    assert!(!service.is_frozen());
}

#[tokio::test]
async fn what_a_hook_says_is_told_and_cut() {
    let service = Service::new();
    let shout = "head -c 1048576 /dev/zero | tr '\\0' x; echo no lock to be had >&2; exit 3";
    let error = service.hold(service.hooks(shout, THAW)).failed().await;
    let text = error.to_string();
    assert!(text.contains("exit status: 3") && text.ends_with("no lock to be had"), "{text}");
    assert!(text.len() < 5_000 && !error.is_permanent());
}

#[tokio::test]
async fn a_hook_that_is_missing_is_a_matter_for_people() {
    let service = Service::new();
    let quiesce = vec!["/nowhere/to-be-found".to_owned()];
    let error = service.hold(HooksConfig { quiesce, ..service.hooks(FREEZE, THAW) }).failed().await;
    assert!(error.to_string().contains("\"/nowhere/to-be-found\" could not be started"), "{error}");
    assert!(error.is_permanent());
    assert_eq!(service.record().left().expect("reads"), Left::Nothing);
}

#[tokio::test]
async fn what_a_hook_leaves_running_lives_on() {
    let service = Service::new();
    let quiesce = "touch frozen; sleep 600 & echo $! > locker";
    let mut hold = service.hold(service.hooks(quiesce, "kill $(cat locker); rm -f frozen"));
    hold.quiesced().await;
    let locker = fs::read_to_string(service.path("locker")).expect("written");
    // A lock may live in a process. While that becomes another program it has no command line.
    until("the locker", || lives(&locker)).await;
    drop(hold.release);
    service.until_released().await;
    until("the end of the locker", || !lives(&locker)).await;
    hold.task.await.expect("no panic");
}

#[tokio::test]
async fn a_hold_that_is_given_up_while_it_begins_is_released() {
    let service = Service::new();
    let mut hold = service.hold(service.hooks("touch frozen; exec sleep 600", THAW));
    until("the hook", || service.is_frozen()).await;
    hold.release.send(()).expect("it waits");
    let said = timeout(LIMIT, hold.said.recv()).await.expect("something is said");
    assert!(matches!(said, Some(Said::Released(Ok(())))), "{said:?}");
    assert!(!service.is_frozen());
}

#[tokio::test]
async fn a_release_that_fails_is_tried_again_and_told() {
    let service = Service::new();
    let release = "echo x >> tries; test -e allowed && rm -f frozen";
    let hooks = service.hooks(FREEZE, release);
    let mut hold = service.hold(hooks.clone());
    hold.quiesced().await;
    hold.release.send(()).expect("it waits");
    let said = timeout(LIMIT, hold.said.recv()).await.expect("something is said");
    let Some(Said::Released(Err(error))) = said else { panic!("{said:?}") };
    assert!(error.to_string().starts_with("the service may still be quiesced: "), "{error}");
    assert_eq!(fs::read_to_string(service.path("tries")).expect("written").lines().count(), 4);

    // It is not forgotten: before the next hold the service is released.
    fs::write(service.path("allowed"), b"").expect("written");
    service.keeper(hooks).settle().await.expect("released");
    assert!(!service.is_frozen());
    assert_eq!(service.record().left().expect("reads"), Left::Nothing);
}

#[tokio::test]
async fn a_second_hold_waits_for_the_first() {
    let service = Service::new();
    let hooks = service.hooks("mkdir frozen", "sleep 0.2; rmdir frozen 2> /dev/null || true");
    let keeper = std::sync::Arc::new(service.keeper(hooks));
    let hold = |given_up, out: mpsc::UnboundedSender<Said>| {
        let keeper = std::sync::Arc::clone(&keeper);
        async move { keeper.hold(ROUND, LIMIT, given_up, |said| drop(out.send(said))).await }
    };
    let (out, mut said) = mpsc::unbounded_channel();
    let (release, given_up) = oneshot::channel();
    let first = tokio::spawn(hold(given_up, out.clone()));
    assert!(matches!(said.recv().await, Some(Said::Quiesced { .. })));
    let (again, given_up) = oneshot::channel();
    drop(release);
    let second = tokio::spawn(hold(given_up, out));
    // `mkdir` would fail if the first were not released.
    assert!(matches!(said.recv().await, Some(Said::Released(Ok(())))));
    assert!(matches!(said.recv().await, Some(Said::Quiesced { .. })));
    drop(again);
    assert!(matches!(said.recv().await, Some(Said::Released(Ok(())))));
    first.await.expect("no panic");
    second.await.expect("no panic");
}
