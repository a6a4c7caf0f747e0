//! The cut and holds, as the leader sees them: real hooks, a scripted capturer.

use std::path::PathBuf;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::envelope::open_as;
use muster_protocol::ids::{Nonce, RoundId};
use muster_protocol::message::{CutOrder, Notice, NoticeOutcome, Progress, Stage, Verdict};
use muster_protocol::units::HumanDuration;

use super::scene::{ANNA, Leader, Scene, Scripted, receipt, within};
use crate::hold::HooksConfig;

const NONCE: Nonce = Nonce::from_bytes([8; 16]);

/// Hooks of a service that is quiesced while the file `frozen` is there.
fn hooked(scene: &mut Scene, quiesce: &str) {
    let folder = scene.state_folder();
    let argv = |script: &str| {
        ["sh", "-c", &format!("cd '{}' && {{ {script}; }}", folder.display())].map(str::to_owned).to_vec()
    };
    scene.hooks = HooksConfig {
        quiesce: argv(quiesce),
        release: argv("rm -f frozen"),
        timeout: HumanDuration(Duration::from_secs(20)),
        max_hold: HumanDuration(Duration::from_secs(600)),
    };
}

fn frozen(scene: &Scene) -> PathBuf {
    scene.state_folder().join("frozen")
}

async fn until(what: &str, shows: impl Fn() -> bool) {
    within(what, async {
        while !shows() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The next notice, answered.
async fn taken(scene: &mut Scene, shows: impl Fn(&Notice) -> bool) -> Notice {
    let (notice, message) = scene.notice_that(shows).await;
    scene.answer(ANNA, &message, &scene.acknowledgement(&notice, Verdict::Accepted)).await;
    notice
}

/// A round with a cut, whose agent was welcomed.
async fn cut(scene: &mut Scene, leader: &mut Leader) -> RoundId {
    leader.cut = Some(CutOrder::Hold);
    let round = scene.open(leader, "one").await;
    scene.publish(leader, &[round]).await;
    scene.greet(leader, round).await;
    round
}

async fn announce(scene: &Scene, leader: &mut Leader, round: RoundId) {
    leader.cut = Some(CutOrder::Capture { nonce: NONCE });
    scene.publish(leader, &[round]).await;
}

#[tokio::test]
async fn a_service_has_a_place_in_the_cut_when_it_holds_until_all_is_read() {
    let mut scene = Scene::new(true).await;
    hooked(&mut scene, "touch frozen");
    let mut progress = scene.bus.subscribe("muster.v1.prod.progress.dns", None).await.expect("listens");
    scene.capturer.gate.send_replace(false);
    scene.capturer.read.send_replace(false);
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = cut(&mut scene, &mut leader).await;
    let held = taken(&mut scene, |_| true).await;
    assert_eq!((held.outcome, held.attempt), (NoticeOutcome::Quiesced, 1));
    assert!(frozen(&scene).exists());
    let message = within("progress", progress.next()).await.expect("open");
    let (_, told) = open_as::<Progress>(&message.payload, &scene.fleet).expect("signed");
    assert_eq!((told.round, told.stage), (round, Stage::Holding));
    scene
        .capturer
        .with(|script| assert!(script.jobs.is_empty(), "nothing is captured before the announcement"));

    announce(&scene, &mut leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    assert!(frozen(&scene).exists());
    scene.capturer.read.send_replace(true);
    let snapped = taken(&mut scene, |notice| notice.outcome != NoticeOutcome::Quiesced).await;
    assert_eq!(snapped.outcome, NoticeOutcome::Snapped { nonce: NONCE });
    until("the release", || !frozen(&scene).exists()).await;
    // Released while the last packs are still under way.
    scene.capturer.with(|script| assert!(script.receipts.is_empty()));
    scene.capturer.gate.send_replace(true);
    let stored = taken(&mut scene, |notice| receipt(notice).is_some()).await;
    assert_eq!(stored.attempt, 1);
    scene.capturer.with(|script| assert_eq!(script.receipts[0].3, Some(NONCE)));
    agent.stop().await;
}

#[tokio::test]
async fn a_service_that_was_released_before_all_is_read_has_neither_place_nor_slice() {
    let mut scene = Scene::new(true).await;
    hooked(&mut scene, "touch frozen");
    scene.capturer.read.send_replace(false);
    scene.capturer.gate.send_replace(false);
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    // Less than the agent allows.
    leader.max_hold_millis = Some(1_500);
    let round = cut(&mut scene, &mut leader).await;
    taken(&mut scene, |notice| notice.outcome == NoticeOutcome::Quiesced).await;
    announce(&scene, &mut leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    until("the release", || !frozen(&scene).exists()).await;
    let failed = taken(&mut scene, |notice| notice.outcome != NoticeOutcome::Quiesced).await;
    let NoticeOutcome::Failed { code: Code::Agent03, reason, permanent: false } = failed.outcome else {
        panic!("{failed:?}")
    };
    assert!(reason.contains("before everything was read: max_hold is over"), "{reason}");
    scene.capturer.until("the end of the capture", |script| script.cancelled == 1).await;

    // The next attempt is quick enough. Its slice counts by itself, outside the cut.
    scene.capturer.read.send_replace(true);
    scene.capturer.gate.send_replace(true);
    scene.order_attempt(&mut leader, round, 2).await;
    scene.greet(&leader, round).await;
    let stored = taken(&mut scene, |_| true).await;
    assert_eq!((receipt(&stored).is_some(), stored.attempt), (true, 2), "{stored:?}");
    scene.capturer.with(|script| assert_eq!(script.receipts[0].3, None));
    agent.stop().await;
}

/// A hold whose time runs out while nobody looks: the agent's only thread sleeps, so that what `then` opens is heard
/// before the watchdog's word. Returns what the leader is told.
async fn overslept(leader_cuts: bool, then: impl Fn(&Scripted)) -> Notice {
    const HOLD: Duration = Duration::from_millis(1_500);
    let mut scene = Scene::new(true).await;
    hooked(&mut scene, "touch frozen");
    scene.capturer.read.send_replace(false);
    scene.capturer.gate.send_replace(false);
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    leader.max_hold_millis = Some(HOLD.as_millis() as u64);
    if leader_cuts {
        let round = cut(&mut scene, &mut leader).await;
        taken(&mut scene, |notice| notice.outcome == NoticeOutcome::Quiesced).await;
        announce(&scene, &mut leader, round).await;
    } else {
        let round = scene.open(&leader, "one").await;
        scene.publish(&mut leader, &[round]).await;
        scene.greet(&leader, round).await;
    }
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    std::thread::sleep(HOLD);
    then(&scene.capturer);
    let told = taken(&mut scene, |notice| notice.outcome != NoticeOutcome::Quiesced).await;
    agent.stop().await;
    told
}

/// That everything was read, and that the slice is captured, each count only within the hold's time.
#[tokio::test]
async fn what_was_read_after_the_hold_was_over_does_not_count_though_nobody_said_so_yet() {
    let read = overslept(true, |capturer| assert!(!capturer.read.send_replace(true))).await;
    let captured = overslept(false, |capturer| assert!(!capturer.gate.send_replace(true))).await;
    for told in [read, captured] {
        let NoticeOutcome::Failed { code: Code::Agent03, reason, permanent: false } = told.outcome else {
            panic!("{told:?}")
        };
        assert!(reason.contains("before everything was read: max_hold is over"), "{reason}");
    }
}

#[tokio::test]
async fn a_hold_that_ends_before_the_announcement_is_begun_anew_outside_the_cut() {
    let mut scene = Scene::new(true).await;
    hooked(&mut scene, "echo x >> holds; touch frozen");
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    leader.max_hold_millis = Some(1_000);
    let round = cut(&mut scene, &mut leader).await;
    taken(&mut scene, |notice| notice.outcome == NoticeOutcome::Quiesced).await;
    until("the release", || !frozen(&scene).exists()).await;
    announce(&scene, &mut leader, round).await;
    let stored = taken(&mut scene, |notice| notice.outcome != NoticeOutcome::Quiesced).await;
    assert!(receipt(&stored).is_some(), "{stored:?}");
    scene.capturer.with(|script| assert_eq!(script.receipts[0].3, None));
    let holds = std::fs::read_to_string(scene.state_folder().join("holds")).expect("written");
    assert_eq!(holds.lines().count(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_service_without_hooks_may_be_in_the_cut() {
    let mut scene = Scene::new(true).await;
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = cut(&mut scene, &mut leader).await;
    taken(&mut scene, |notice| notice.outcome == NoticeOutcome::Quiesced).await;
    announce(&scene, &mut leader, round).await;
    let snapped = taken(&mut scene, |notice| notice.outcome != NoticeOutcome::Quiesced).await;
    assert_eq!(snapped.outcome, NoticeOutcome::Snapped { nonce: NONCE });
    taken(&mut scene, |notice| receipt(notice).is_some()).await;
    scene.capturer.with(|script| assert_eq!(script.receipts[0].3, Some(NONCE)));
    agent.stop().await;
}

#[tokio::test]
async fn without_a_cut_the_service_is_held_while_it_is_read() {
    let mut scene = Scene::new(true).await;
    hooked(&mut scene, "touch frozen");
    scene.capturer.read.send_replace(false);
    scene.capturer.gate.send_replace(false);
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    leader.bandwidth = Some(4096);
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    scene.capturer.with(|script| assert_eq!(script.jobs[0].bandwidth, Some(4096)));
    assert!(frozen(&scene).exists());
    scene.capturer.read.send_replace(true);
    until("the release", || !frozen(&scene).exists()).await;
    scene.capturer.gate.send_replace(true);
    let stored = taken(&mut scene, |_| true).await;
    assert!(receipt(&stored).is_some(), "{stored:?}");
    scene.capturer.with(|script| assert_eq!(script.receipts[0].3, None));
    agent.stop().await;
}

#[tokio::test]
async fn a_hook_that_fails_is_told_and_tried_again_by_order() {
    let mut scene = Scene::new(true).await;
    hooked(&mut scene, "test -e ready && touch frozen || { echo no lock >&2; exit 3; }");
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    let notice = taken(&mut scene, |_| true).await;
    let NoticeOutcome::Failed { code, reason, permanent } = notice.outcome else { panic!("{notice:?}") };
    assert!(
        (code, permanent) == (Code::Agent03, false) && reason.ends_with("exit status: 3: no lock"),
        "{reason}"
    );
    scene.capturer.with(|script| assert!(script.jobs.is_empty(), "nothing is captured that is not quiesced"));

    std::fs::write(scene.state_folder().join("ready"), b"").expect("written");
    scene.order_attempt(&mut leader, round, 2).await;
    scene.greet(&leader, round).await;
    let stored = taken(&mut scene, |_| true).await;
    assert!(receipt(&stored).is_some(), "{stored:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_round_that_ends_and_an_agent_that_stops_release_the_service() {
    let mut scene = Scene::new(true).await;
    hooked(&mut scene, "touch frozen");
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = cut(&mut scene, &mut leader).await;
    taken(&mut scene, |notice| notice.outcome == NoticeOutcome::Quiesced).await;
    scene.publish(&mut leader, &[]).await;
    until("the release", || !frozen(&scene).exists()).await;

    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    taken(&mut scene, |notice| notice.outcome == NoticeOutcome::Quiesced).await;
    assert!(frozen(&scene).exists());
    agent.stop().await;
    assert!(!frozen(&scene).exists(), "an agent ends only when its service is released");
}

#[tokio::test]
async fn an_agent_that_dies_while_it_holds_leaves_its_service_to_the_watchdog() {
    let mut scene = Scene::new(true).await;
    hooked(&mut scene, "touch frozen");
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    cut(&mut scene, &mut leader).await;
    taken(&mut scene, |notice| notice.outcome == NoticeOutcome::Quiesced).await;
    agent.task.abort();
    until("the release", || !frozen(&scene).exists()).await;
}

#[tokio::test]
async fn who_was_not_wanted_asks_again_when_further_services_may_begin() {
    let mut scene = Scene::new(true).await;
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    let (hello, message) = scene.hello().await;
    let welcome = scene.welcome(&leader, &hello, None);
    scene.answer(ANNA, &message, &welcome).await;
    leader.turn = 1;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    agent.stop().await;
}
