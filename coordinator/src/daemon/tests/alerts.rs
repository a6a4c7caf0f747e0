//! Alerts of a leader on the embedded bus: what is seen, what is ignored, and who may say that it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_protocol::alert::{About, Alert, Code, Part};
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, Nonce, RoundId, ServiceName};
use muster_protocol::lead::Lease;
use muster_protocol::log::Role;
use muster_protocol::message::{
    Acknowledgement, Command, CommandReply, CommandState, Demand, Heartbeat, Hello, Notice, NoticeOutcome,
    Progress, Stage, Verdict,
};
use muster_protocol::subject::Subject;
use muster_protocol::time::UnixMillis;
use muster_protocol::wire;
use muster_share::store::faults::{Fault, Faulty, Op};
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::{DaemonError, Slots, run_on};
use super::{LIMIT, World};
use crate::alerts::{ALERTS_FILE, Alerts};
use crate::config::OverlapPolicy;
use crate::query::{Answer, Query};
use crate::scribe::unix_now;

fn agent() -> Signer {
    Signer::from_seed(&[20; 32])
}

fn only() -> ServiceName {
    "only".parse().expect("name")
}

fn beat(service: &str, sequence: u64) -> Heartbeat {
    let service = service.parse().expect("name");
    Heartbeat {
        service,
        instance: Nonce::from_bytes([1; 16]),
        sequence,
        version: "1".into(),
        round: None,
        at: None,
        leaving: false,
    }
}

impl World {
    async fn alerts(&self, closed: bool) -> Vec<Alert> {
        let (mut alerts, mut after) = (Vec::new(), None);
        loop {
            let ask = serde_json::to_vec(&Query::Alerts { closed, after }).expect("encodes");
            let subject = self.subjects.print(&Subject::Query);
            let answer = self.bus.request(&subject, Vec::new(), ask.into(), LIMIT).await.expect("answered");
            let Answer::Alerts(page) = serde_json::from_slice(&answer.payload).expect("an answer") else {
                panic!("another answer")
            };
            alerts.extend(page.alerts);
            after = page.next;
            if after.is_none() {
                return alerts;
            }
        }
    }

    /// Waits until this code is open, or is not.
    pub(super) async fn wait_for_alert(&self, code: Code, open: bool) -> Vec<Alert> {
        let found = async {
            loop {
                let mut alerts = self.alerts(false).await;
                alerts.retain(|alert| alert.code == code);
                if alerts.is_empty() != open {
                    return alerts;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("{code}: open is not {open}"))
    }

    async fn say(&self, subject: &Subject, payload: Vec<u8>) {
        let subject = self.subjects.print(subject);
        self.bus.publish(&subject, Vec::new(), payload.into()).await.expect("published");
    }

    async fn command(&self, signer: &Signer, alert: String) -> Option<CommandReply> {
        let nonce = Nonce::from_bytes([5; 16]);
        let sealed =
            signer.seal(&self.fleet, &Command { nonce, demand: Demand::Acknowledge { alert }, token: None });
        self.send_command(sealed).await
    }

    async fn send_command(&self, sealed: Vec<u8>) -> Option<CommandReply> {
        let subject = self.subjects.print(&Subject::Command);
        let wait = Duration::from_secs(2);
        let answer = self.bus.request(&subject, Vec::new(), sealed.into(), wait).await.ok()?;
        open_as(&answer.payload, &self.fleet).ok().map(|(_, reply)| reply)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_agent_is_one_alert_through_restarts_until_it_is_heard() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    let before = world.wait_for_alert(Code::Agent01, true).await;
    stop.send_replace(true);
    one.await.expect("ends");

    std::fs::remove_file(a.path().join("key")).expect("written anew by start");
    let (stop, again) = world.start(11, &a);
    world.wait_for_leader("one").await;
    assert_eq!(world.wait_for_alert(Code::Agent01, true).await, before, "the same one, told once");
    world.say(&Subject::Heartbeat(only()), agent().seal(&world.fleet, &beat("only", 1))).await;
    // It falls silent again at once, so that only the history says for sure that it was closed.
    let closed = async {
        let of_it = |alert: &Alert| alert.code == Code::Agent01 && alert.closed.is_some();
        while !world.alerts(true).await.iter().any(of_it) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, closed).await.expect("it closes");
    stop.send_replace(true);
    again.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_none_of_ours_is_counted_by_reason_and_told() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    let on = || Subject::Heartbeat(only());
    let sealed = |signer: &Signer, beat: &Heartbeat| signer.seal(&world.fleet, beat);
    let payload = wire::encode(&beat("only", 9));
    let version_2 = agent().seal_raw(Heartbeat::DOMAIN, Heartbeat::TYPE, 2, &world.fleet, &payload);
    let mut forged = sealed(&agent(), &beat("only", 9));
    *forged.last_mut().expect("bytes") ^= 1;
    let heard = sealed(&agent(), &beat("only", 1));
    for (reason, payload) in [
        ("noise", vec![7; 16_000]),
        ("signature", forged),
        ("fleet", agent().seal(&FleetId::from_bytes([9; 32]), &beat("only", 9))),
        ("version", version_2),
        ("stranger", sealed(&Signer::from_seed(&[66; 32]), &beat("only", 9))),
        ("subject", sealed(&agent(), &beat("other", 9))),
    ] {
        world.say(&on(), payload).await;
        let counted = async {
            while world.leader().await.is_none_or(|view| view.ignored.get(reason) != Some(&1)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, counted).await.unwrap_or_else(|_| panic!("{reason} is not counted"));
    }
    world.wait_for_alert(Code::Agent05, true).await;
    world.say(&on(), heard.clone()).await;
    world.say(&on(), heard).await;
    world.wait_for_alert(Code::Agent05, false).await;
    let told = world.wait_for_alert(Code::Key03, true).await;
    let subjects: Vec<_> = told.iter().map(|alert| alert.about.to_string()).collect();
    assert!(subjects.contains(&"only".to_owned()), "{subjects:?}");
    assert_eq!(subjects.iter().filter(|subject| subject.starts_with("key ")).count(), 2, "{subjects:?}");
    let view = world.leader().await.expect("it leads");
    assert_eq!((view.ignored.get("replay"), view.ignored_messages), (Some(&1), 7), "{view:?}");
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_an_agent_is_refused_to_strangers_and_a_hello_to_another_epoch() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    let stranger = Signer::from_seed(&[66; 32]);
    let round = RoundId::from_bytes([7; 16]);
    let hello = |epoch| Hello {
        service: only(),
        round,
        epoch,
        attempt: 1,
        nonce: Nonce::from_bytes([2; 16]),
        ephemeral: [3; 32],
        version: "1".into(),
        sealed: false,
    };
    let notice = Notice { service: only(), round, epoch: 1, attempt: 1, outcome: NoticeOutcome::Quiesced };
    let progress = Progress {
        service: only(),
        round,
        attempt: 1,
        stage: Stage::Capturing,
        done_bytes: 1,
        expected_bytes: None,
        added_bytes: 0,
    };
    let payload = wire::encode(&beat("only", 1));
    let version_2 = stranger.seal_raw(Heartbeat::DOMAIN, Heartbeat::TYPE, 2, &world.fleet, &payload);
    let cases = [
        ("stranger", 1, Subject::Hello(only()), stranger.seal(&world.fleet, &hello(1))),
        ("stranger", 2, Subject::Notice(only()), stranger.seal(&world.fleet, &notice)),
        ("stranger", 3, Subject::Progress(only()), stranger.seal(&world.fleet, &progress)),
        ("stranger", 4, Subject::Heartbeat(only()), version_2),
        ("epoch", 1, Subject::Hello(only()), agent().seal(&world.fleet, &hello(9))),
    ];
    for (reason, times, subject, payload) in cases {
        let told = world.subjects.print(&subject);
        // Nobody answers, which is what is hoped for.
        let wait = Duration::from_millis(200);
        let answer = world.bus.request(&told, Vec::new(), payload.into(), wait).await;
        assert!(answer.is_err(), "{told} was answered");
        let counted = async {
            while world.leader().await.is_none_or(|view| view.ignored.get(reason) != Some(&times)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, counted)
            .await
            .unwrap_or_else(|_| panic!("{told}: not counted as {reason}"));
    }
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_an_attempt_failed_which_nobody_ordered_is_counted_and_changes_nothing() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    let subject = world.subjects.print(&Subject::Trigger);
    let asked = world.bus.request(&subject, Vec::new(), r#"{"request":"x"}"#.into(), LIMIT).await;
    assert!(asked.expect("answered").payload.starts_with(b"{\"round\""));
    let round = RoundId::derive(&world.fleet, "x");
    let outcome = NoticeOutcome::Failed { code: Code::Agent03, reason: "made up".into(), permanent: true };
    let notice = Notice { service: only(), round, epoch: 1, attempt: 9, outcome };
    let (notice, subject) =
        (agent().seal(&world.fleet, &notice), world.subjects.print(&Subject::Notice(only())));
    let answer = world.bus.request(&subject, Vec::new(), notice.into(), LIMIT).await.expect("answered");
    let answer = open_as::<Acknowledgement>(&answer.payload, &world.fleet).expect("signed").1;
    assert_eq!((answer.attempt, answer.verdict), (9, Verdict::Over));
    let view = world.leader().await.expect("leads");
    assert_eq!(view.ignored.get("attempt"), Some(&1), "{view:?}");
    assert_eq!(world.log().await.state().open_rounds().len(), 1, "the round goes on");
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_acknowledges_and_the_same_words_again_say_nothing() {
    let (operator, viewer) = (Signer::from_seed(&[30; 32]), Signer::from_seed(&[31; 32]));
    let world = World::with(&[(&operator, "ada", Role::Operator), (&viewer, "vic", Role::Viewer)]).await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    let refused = world.command(&viewer, "0123456789@0".into()).await.expect("told why");
    assert_eq!(refused.state, CommandState::Refused);
    assert_eq!(world.command(&agent(), "0123456789@0".into()).await.map(|r| r.state), Some(refused.state));
    assert_eq!(world.command(&Signer::from_seed(&[66; 32]), String::new()).await, None, "nobody's command");
    let told = world.wait_for_alert(Code::Sec01, true).await;
    let alert = told.into_iter().find(|alert| alert.about.to_string().contains(&viewer.key_id().short()));
    let reference = alert.expect("of the viewer").reference();

    let demand = Demand::Acknowledge { alert: reference.to_string() };
    let recorded =
        operator.seal(&world.fleet, &Command { nonce: Nonce::from_bytes([6; 16]), demand, token: None });
    let done = world.send_command(recorded.clone()).await.expect("answered");
    assert_eq!(done.state, CommandState::Done, "{}", done.reason);
    let history = world.alerts(true).await;
    let closed = history.iter().find(|alert| alert.reference() == reference).expect("in the history");
    assert_eq!(closed.acknowledged.as_ref().map(|seen| seen.by.as_str()), Some("ada"));
    assert!(closed.closed.is_some(), "an event is over when somebody knows");

    world.command(&viewer, "0123456789@0".into()).await.expect("told why");
    let opened_anew = async {
        let anew = |alert: &Alert| alert.id() == reference.id && alert.since != reference.since;
        while !world.alerts(false).await.iter().any(anew) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, opened_anew).await.expect("it opens anew");
    let again = world.send_command(recorded).await.expect("answered");
    assert_eq!(again.state, CommandState::Nothing, "{}", again.reason);
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_takes_no_record_is_told_until_it_takes_one() {
    for (fault, code) in [(Fault::Full, Code::Share05), (Fault::Refused, Code::Share04)] {
        let mut world = World::new().await;
        let failing = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&failing);
        world.store = Arc::new(Faulty::new(Arc::clone(&world.store), move |call| {
            let record = call.op == Op::Put && call.path.starts_with("log/");
            if record && fails.load(Ordering::Relaxed) { fault.clone() } else { Fault::None }
        }));
        let a = TempDir::new().expect("folder");
        let (stop, one) = world.start(11, &a);
        world.wait_for_leader("one").await;
        failing.store(true, Ordering::Relaxed);
        world.say(&Subject::Trigger, b"{}".to_vec()).await;
        world.wait_for_alert(code, true).await;
        failing.store(false, Ordering::Relaxed);
        world.wait_for_alert(code, false).await;
        stop.send_replace(true);
        one.await.expect("ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_gave_a_round_no_answer_is_no_alert_once_it_is_heard() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let mut config = world.config(11, a.path());
    config.round.offline_after.0 = Duration::from_secs(10);
    config.round.recruit.0 = Duration::from_millis(50);
    config.round.attempts = 1;
    let (stop, one) = world.start_as(config);
    world.wait_for_leader("one").await;
    world.say(&Subject::Trigger, b"{}".to_vec()).await;
    let told = world.wait_for_alert(Code::Agent01, true).await;
    assert_eq!((told[0].round, told[0].seen), (Some(1), false), "by the round alone: {told:?}");
    // As an agent does, again and again: the first may come before the leader has heard that its round's end is written.
    let beats = async {
        for count in 1.. {
            world.say(&Subject::Heartbeat(only()), agent().seal(&world.fleet, &beat("only", count))).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = beats => {}
        _ = world.wait_for_alert(Code::Agent01, false) => {}
    }
    assert!(world.alerts(false).await.iter().any(|alert| alert.code == Code::Round01), "the round lacks it");
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_in_doubt_says_of_nobody_that_it_is_silent() {
    let mut world = World::new().await;
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    world.store = Arc::new(Faulty::new(Arc::clone(&world.store), move |call| {
        let log = call.path.starts_with("log");
        if log && is_away.load(Ordering::Relaxed) { Fault::Unreachable } else { Fault::None }
    }));
    let a = TempDir::new().expect("folder");
    let mut config = world.config(11, a.path());
    config.round.offline_after.0 = Duration::from_secs(2);
    let (stop, one) = world.start_as(config);
    world.wait_for_leader("one").await;
    world.say(&Subject::Heartbeat(only()), agent().seal(&world.fleet, &beat("only", 1))).await;
    away.store(true, Ordering::Relaxed);
    // Past the time after which silence counts; without log and lease the lead was in doubt before.
    let other = Lease::of(agent().key_id(), Nonce::from_bytes([8; 16]));
    for _ in 0..60 {
        let held = world.bus.lease().await.expect("the bus is there").map(|lease| lease.revision);
        world.bus.swap_lease(held, other.print().into()).await.expect("the bus is there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let back = unix_now();
    away.store(false, Ordering::Relaxed);
    let told = world.wait_for_alert(Code::Agent01, true).await;
    assert!(told[0].since > back, "only once it hears again, and hears nothing: {told:?}");
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_clock_is_wrong_is_told_until_it_is_right() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    let says = async |sequence: u64, minutes: i64| {
        let at = Some(UnixMillis(unix_now().0 + minutes * 60_000));
        let beat = Heartbeat { at, ..beat("only", sequence) };
        world.say(&Subject::Heartbeat(only()), agent().seal(&world.fleet, &beat)).await;
    };
    says(1, 2).await;
    says(2, -7).await;
    let told = world.wait_for_alert(Code::Agent06, true).await;
    assert!(
        told[0].cause.starts_with("its clock is ") && told[0].cause.ends_with(" behind the leader's"),
        "{told:?}"
    );
    says(3, 2).await;
    world.wait_for_alert(Code::Agent06, false).await;
    says(4, 9).await;
    world.wait_for_alert(Code::Agent06, true).await;
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_skipped_is_told_until_somebody_knows() {
    let operator = Signer::from_seed(&[30; 32]);
    let world = World::with(&[(&operator, "ada", Role::Operator)]).await;
    let a = TempDir::new().expect("folder");
    let mut config = world.config(11, a.path());
    config.round.overlap = OverlapPolicy::Skip;
    let (stop, one) = world.start_as(config);
    world.wait_for_leader("one").await;
    world.say(&Subject::Trigger, b"{}".to_vec()).await;
    world.say(&Subject::Trigger, b"{}".to_vec()).await;
    let told = world.wait_for_alert(Code::Round03, true).await;
    let known = world.command(&operator, told[0].reference().to_string()).await.expect("answered");
    assert_eq!(known.state, CommandState::Done, "{}", known.reason);
    world.wait_for_alert(Code::Round03, false).await;
    stop.send_replace(true);
    one.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_cannot_believe_the_log_keeps_that_until_it_leads_again() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    stop.send_replace(true);
    one.await.expect("ends");
    let head = world.log().await.head().number;
    let record = world.folder.path().join(format!("log/{head:010}"));
    let kept = std::fs::read(&record).expect("the newest record");
    std::fs::remove_file(&record).expect("removed");

    std::fs::remove_file(a.path().join("key")).expect("written anew");
    let mut config = world.config(11, a.path());
    let channel = serde_json::json!({ "name": "ops", "kind": "nats" });
    config.notify = vec![serde_json::from_value(channel).expect("a channel")];
    let mut heard = world.bus.subscribe(&world.subjects.print(&Subject::Alert), None).await.expect("heard");
    let (_stop, stopped) = watch::channel(false);
    let ended = run_on(config, world.bus.clone(), world.store.clone(), Slots::Follow, stopped).await;
    assert!(matches!(ended, Err(DaemonError::Log(_))), "{ended:?}");
    let told = Alerts::open(a.path().join(ALERTS_FILE), world.fleet);
    let about = About::Part(Part::Coordinator);
    assert!(told.read(|book| book.find(Code::Share08, &about).is_some()), "it is in the file");
    // Nobody leads, and yet people have heard of it: before the process ended.
    let message = tokio::time::timeout(Duration::from_secs(1), heard.next()).await.expect("at once");
    let message: serde_json::Value =
        serde_json::from_slice(&message.expect("a message").payload).expect("JSON");
    assert_eq!(
        (&message["alerts"][0]["code"], &message["alerts"][0]["event"]),
        (&"SHARE-08".into(), &"opened".into())
    );

    std::fs::write(&record, kept).expect("put back");
    std::fs::remove_file(a.path().join("key")).expect("written anew");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    world.wait_for_alert(Code::Share08, false).await;
    let history = world.alerts(true).await;
    assert!(history.iter().any(|alert| alert.code == Code::Share08 && alert.closed.is_some()), "{history:?}");
    stop.send_replace(true);
    one.await.expect("ends");
}
