//! Kills: of the agent at any moment, of its process group, of the watchdog, of both.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::oneshot;

use super::super::hook::{Hook, Kind};
use super::super::keeper::Said;
use super::super::record::Left;
use super::{FREEZE, Keeper, LIMIT, ROUND, Running, Service, THAW, hooks, kill, lives, until};
use crate::hold::HoldError;

const FOLDER: &str = "MUSTER_TEST_HOLD";

/// Takes a while, so that a kill may come before, between and after.
const SLOW_FREEZE: &str = "echo $PPID > watchdog; sleep 0.05; touch frozen; sleep 0.05; touch done";

#[tokio::test]
#[ignore = "other tests run it in a process of its own, and kill it"]
async fn is_an_agent() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let keeper = Keeper::new(hooks(folder, SLOW_FREEZE, THAW), "dns".parse().expect("a name"), folder);
    let (_release, given_up) = oneshot::channel();
    let limit = keeper.limit(None);
    keeper.hold(ROUND, limit, given_up, |_: Said| ()).await;
}

fn agent(service: &Service) -> Child {
    let test = ["--exact", "hold::tests::killed::is_an_agent", "--ignored", "--test-threads", "1", "--quiet"];
    Command::new("/proc/self/exe")
        .args(test)
        .env(FOLDER, service.folder.path())
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

/// Kills the agent with its process group, as one does who wants to be sure.
fn kill_agent(mut agent: Child) {
    let group = Pid::from_raw(i32::try_from(agent.id()).expect("small")).expect("not zero");
    kill_process_group(group, Signal::KILL).expect("it lives");
    agent.wait().expect("reaped");
}

#[tokio::test]
async fn an_agent_that_is_killed_while_it_holds_leaves_nothing_quiesced() {
    let service = Service::new();
    let agent = agent(&service);
    until("the quiesced service", || service.path("done").exists()).await;
    kill_agent(agent);
    // Its limit is ten minutes away: it is the agent's end that releases.
    service.until_released().await;
    assert!(matches!(service.record().left(), Ok(Left::Hold(_))), "nobody was left to remove the record");
    service.keeper(service.hooks(FREEZE, THAW)).settle().await.expect("released");
    assert_eq!(service.record().left().expect("reads"), Left::Nothing);
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_moment_leaves_nothing_quiesced() {
    let mut frozen = 0;
    for step in 0..24 {
        let service = Service::new();
        let agent = agent(&service);
        tokio::time::sleep(Duration::from_millis(step * 20)).await;
        frozen += u32::from(service.is_frozen());
        kill_agent(agent);
        // What the next agent does before anything else.
        service.keeper(service.hooks(FREEZE, THAW)).settle().await.expect("released");
        assert!(!service.is_frozen(), "killed after step {step}");
        // Nothing of the former life comes back later.
        // A hook that was killed too early has not written all of it.
        let watchdog = fs::read_to_string(service.path("watchdog")).ok().filter(|id| id.ends_with('\n'));
        if let Some(watchdog) = watchdog {
            until("the watchdog's end", || !lives(&watchdog)).await;
            assert!(!service.is_frozen(), "killed after step {step}");
        }
    }
    assert!(frozen > 0, "some kills must come while the service is quiesced");
}

#[tokio::test]
async fn a_watchdog_that_is_killed_while_it_holds_is_noticed() {
    let service = Service::new();
    let mut hold = service.hold(service.hooks("echo $PPID > watchdog; touch frozen", THAW));
    hold.quiesced().await;
    kill(&fs::read_to_string(service.path("watchdog")).expect("written"), Signal::KILL);
    hold.lost().await;
    hold.released().await;
    assert!(!service.is_frozen());
    assert_eq!(service.record().left().expect("reads"), Left::Nothing);
}

#[tokio::test]
async fn a_watchdog_that_is_killed_while_its_hook_runs_takes_it_along() {
    let service = Service::new();
    let quiesce = "touch frozen; echo $$ > hook; echo $PPID > watchdog; touch ready; exec sleep 600";
    let hold = service.hold(service.hooks(quiesce, THAW));
    until("the hook", || service.path("ready").exists()).await;
    let (hook, watchdog) = (service.path("hook"), service.path("watchdog"));
    kill(&fs::read_to_string(watchdog).expect("written"), Signal::KILL);
    let error = hold.failed().await;
    assert!(matches!(error, HoldError::Watchdog { what: "died", release: None }), "{error}");
    assert!(!service.is_frozen());
    let hook = fs::read_to_string(hook).expect("written");
    until("the hook's end", || !lives(&hook)).await;
}

#[tokio::test]
async fn a_watchdog_heeds_no_polite_signal() {
    let service = Service::new();
    let mut hold = service.hold(service.hooks("echo $PPID > watchdog; touch frozen", THAW));
    hold.quiesced().await;
    let watchdog = fs::read_to_string(service.path("watchdog")).expect("written");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        kill(&watchdog, signal);
    }
    hold.release.send(()).expect("it waits");
    let said = tokio::time::timeout(LIMIT, hold.said.recv()).await.expect("something is said");
    assert!(matches!(said, Some(Said::Released(Ok(())))), "{said:?}");
    assert!(!service.is_frozen());
}

#[tokio::test]
async fn a_watchdog_that_does_not_answer_fails_the_hold() {
    let service = Service::new();
    let mut keeper = service.keeper(service.hooks(FREEZE, "rm -f frozen; touch released"));
    keeper.run_instead(&["sleep", "600"]);
    let error = Running::start(keeper, None).failed().await;
    assert!(error.to_string().contains("did not confirm that it is armed"), "{error}");
    assert!(service.path("released").exists() && !service.is_frozen());
}

#[tokio::test]
async fn what_a_machine_that_lost_power_left_is_released() {
    let service = Service::new();
    let env = Vec::new();
    let argv = service.hooks(FREEZE, "rm -f frozen; touch recorded").release;
    service.record().begin(&Hook { kind: Kind::Release, argv, env, limit_millis: 20_000 }).expect("recorded");
    fs::write(service.path("frozen"), b"").expect("written");
    // The hooks may be others by now: what was recorded counts.
    let mut hold = service.hold(service.hooks("test ! -e frozen && touch frozen", THAW));
    hold.quiesced().await;
    assert!(service.path("recorded").exists());
    drop(hold.release);
    service.until_released().await;
    hold.task.await.expect("no panic");
}
