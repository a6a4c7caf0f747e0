//! The agent against a scripted coordinator, a real share in a folder and the bus in process.

mod belief;
mod hold;
mod scene;

use bytes::Bytes;
use muster_protocol::alert::Code;
use muster_protocol::document::Receipt;
use muster_protocol::envelope::open_as;
use muster_protocol::ids::{Nonce, ObjectId, ServiceName};
use muster_protocol::log::{End, Outcome, Prune};
use muster_protocol::message::{
    Heartbeat, NoticeOutcome, OpenRound, Progress, ServiceState, StateDocument, Verdict, Welcome,
};
use muster_protocol::time::UnixMillis;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::write_object_list;
use muster_share::store::{FileStore, Store};
use std::sync::Arc;

use tokio::sync::watch;

use super::{DaemonError, run, run_on};
use scene::{AGENT, ANNA, BERT, RETRY, STATE, Scene, agent_member, dns, key, receipt, signer, within};

#[tokio::test]
async fn a_round_goes_from_order_to_kept_receipt() {
    let mut scene = Scene::new(true).await;
    let mut beats = scene.bus.subscribe("muster.v1.prod.heartbeat.dns", None).await.expect("listens");
    let mut progress = scene.bus.subscribe("muster.v1.prod.progress.dns", None).await.expect("listens");
    scene.capturer.gate.send_replace(false);
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;

    let hello = scene.greet(&leader, round).await;
    assert_eq!((hello.attempt, hello.epoch, hello.service), (1, leader.epoch, dns()));
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    let message = within("progress", progress.next()).await.expect("open");
    let (_, told) = open_as::<Progress>(&message.payload, &scene.fleet).expect("signed");
    assert_eq!((told.round, told.attempt, told.done_bytes, told.added_bytes), (round, 1, 7, 5));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|beat: &Heartbeat| beat.round.is_none()) {
        let message = within("a heartbeat", beats.next()).await.expect("open");
        seen.push(open_as::<Heartbeat>(&message.payload, &scene.fleet).expect("signed").1);
    }
    assert!(
        seen.windows(2).all(|two| two[0].sequence < two[1].sequence && two[0].instance == two[1].instance)
    );
    assert_eq!(seen.last().and_then(|beat| beat.round), Some(round));
    scene.capturer.gate.send_replace(true);

    let (notice, message) = scene.notice().await;
    let receipt = receipt(&notice).expect("stored");
    assert_eq!((notice.round, notice.attempt, notice.epoch), (round, 1, leader.epoch));
    scene.answer(ANNA, &message, &scene.acknowledgement(&notice, Verdict::Accepted)).await;
    scene.capturer.until("the receipt to be kept", |script| script.kept == [receipt]).await;
    scene.capturer.with(|script| {
        assert_eq!(script.jobs.len(), 1);
        let (keyset, _) = scene.log.state().keyset().expect("there is one");
        assert_eq!((script.jobs[0].round, script.jobs[0].keyset), (round, keyset));
        assert_eq!(script.jobs[0].recipients, [scene.recovery.clone()]);
        assert_eq!(script.receipts, [(1, scene.attempt_nonce(round, 1), scene.log.head(), None)]);
    });
    assert_eq!(scene.head_file().trim(), scene.log.head().to_string());
    agent.stop().await;
}

#[tokio::test]
async fn a_late_agent_reads_what_was_published_before_it_came() {
    let mut scene = Scene::new(true).await;
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.order_attempt(&mut leader, round, 3).await;
    scene.publish(&mut leader, &[round]).await;
    let agent = scene.start();
    let (hello, _) = scene.hello_that(|hello| hello.attempt == 3).await;
    assert_eq!(hello.round, round);
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_slice_is_captured_again_when_a_retry_is_ordered() {
    let mut scene = Scene::new(true).await;
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    let (first, message) = scene.notice().await;
    let refused = Verdict::Refused { reason: "an object is missing".to_owned() };
    scene.answer(ANNA, &message, &scene.acknowledgement(&first, refused)).await;

    scene.order_attempt(&mut leader, round, 2).await;
    let hello = scene.greet(&leader, round).await;
    assert_eq!(hello.attempt, 2);
    let (second, message) = scene.notice_that(|notice| notice.attempt == 2).await;
    assert_ne!(receipt(&first), receipt(&second));
    scene.answer(ANNA, &message, &scene.acknowledgement(&second, Verdict::Accepted)).await;
    scene.capturer.until("the receipt", |script| script.kept == [receipt(&second).expect("stored")]).await;
    scene.capturer.with(|script| {
        assert_eq!(script.jobs.len(), 2);
        let nonces: Vec<_> = script.receipts.iter().map(|(attempt, nonce, ..)| (*attempt, *nonce)).collect();
        assert_eq!(nonces, [1, 2].map(|attempt| (attempt, scene.attempt_nonce(round, attempt))));
    });
    agent.stop().await;
}

#[tokio::test]
async fn a_failed_capture_is_told_with_its_reason() {
    let mut scene = Scene::new(true).await;
    scene.capturer.with(|script| script.fail = 1);
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    let (notice, _) = scene.notice().await;
    let reason = "scripted".to_owned();
    assert_eq!(notice.outcome, NoticeOutcome::Failed { code: Code::Agent03, reason, permanent: false });
    agent.stop().await;
}

#[tokio::test]
async fn documents_that_the_log_does_not_bear_out_are_passed_over() {
    let mut scene = Scene::new(true).await;
    let old = scene.lead(BERT).await;
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.capturer.gate.send_replace(false);
    let agent = scene.start();
    leader.revision = 5;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;

    // Each of these would end the capture if it were believed. The genuine one follows, so that nothing of them stays.
    let empty = |epoch, revision| StateDocument { epoch, revision, rounds: Vec::new() };
    let sealed = |who, document: &StateDocument| signer(who).seal(&scene.fleet, document);
    let mut forged = sealed(ANNA, &empty(leader.epoch, 90));
    *forged.last_mut().expect("long") ^= 1;
    let named = scene.open_round(&leader, round);
    let many: Vec<OpenRound> = (0..9).map(|_| named.clone()).collect();
    let cases = [
        b"garbage".to_vec(),
        forged,
        sealed(AGENT, &empty(leader.epoch, 91)),
        sealed(77, &empty(leader.epoch, 92)),
        sealed(BERT, &empty(leader.epoch, 93)),
        sealed(BERT, &empty(old.epoch, 94)),
        sealed(ANNA, &empty(leader.epoch, 4)),
        sealed(ANNA, &empty(leader.epoch, 6)),
        sealed(ANNA, &StateDocument { rounds: many, ..empty(leader.epoch, 95) }),
    ];
    let genuine = {
        let rounds = vec![scene.open_round(&leader, round)];
        sealed(ANNA, &StateDocument { epoch: leader.epoch, revision: leader.revision, rounds })
    };
    for (done, case) in cases.into_iter().enumerate() {
        scene.bus.publish(STATE, Vec::new(), Bytes::from(case)).await.expect("sent");
        scene.set(STATE, genuine.clone()).await;
        scene.passed_over(done as u64 + 1).await;
    }
    // Far ahead of the log: passed over as well, and read again for a while.
    scene.bus.publish(STATE, Vec::new(), Bytes::from(sealed(BERT, &empty(99, 1)))).await.expect("sent");
    scene.set(STATE, genuine).await;
    scene.passed_over(10).await;
    let retry = ServiceState {
        epoch: leader.epoch,
        revision: 50,
        service: "mail".parse::<ServiceName>().expect("name"),
        round,
        attempt: 2,
    };
    let payload = Bytes::from(signer(ANNA).seal(&scene.fleet, &retry));
    scene.bus.publish(RETRY, Vec::new(), payload).await.expect("sent");
    scene.passed_over(11).await;
    scene.capturer.with(|script| assert_eq!((script.jobs.len(), script.cancelled), (1, 0)));
    scene.capturer.gate.send_replace(true);
    let (notice, _) = scene.notice().await;
    assert_eq!((notice.round, notice.attempt), (round, 1));
    agent.stop().await;
}

#[tokio::test]
async fn answers_that_do_not_count_are_as_if_nobody_had_answered() {
    let mut scene = Scene::new(true).await;
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    let mut nonces = Vec::new();
    for case in 0..6 {
        let (hello, message) = scene.hello().await;
        nonces.push(hello.nonce);
        let right = scene.welcome(&leader, &hello, Some(1));
        let (who, wrong) = match case {
            0 => (ANNA, Welcome { nonce: Nonce::from_bytes([0; 16]), ..right }),
            1 => (BERT, right),
            2 => (ANNA, Welcome { epoch: 9, ..right }),
            3 => (ANNA, Welcome { attempt: Some(2), ..right }),
            4 => (ANNA, Welcome { sealed: serde_bytes::ByteBuf::from(vec![0; 40]), ..right }),
            _ => {
                let payload = Bytes::from_static(b"not signed at all");
                message.respond(Vec::new(), payload).await.expect("sent");
                continue;
            }
        };
        scene.answer(who, &message, &wrong).await;
    }
    scene.greet(&leader, round).await;
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 6, "every hello has a nonce of its own");
    scene.passed_over(6).await;

    for case in 0..4 {
        let (notice, message) = scene.notice().await;
        let right = scene.acknowledgement(&notice, Verdict::Accepted);
        let (who, wrong) = match case {
            0 => (BERT, right),
            1 => (ANNA, muster_protocol::message::Acknowledgement { attempt: 2, ..right }),
            2 => (ANNA, muster_protocol::message::Acknowledgement { receipt: None, ..right }),
            _ => (ANNA, muster_protocol::message::Acknowledgement { epoch: 7, ..right }),
        };
        scene.answer(who, &message, &wrong).await;
    }
    let (notice, message) = scene.notice().await;
    scene.passed_over(10).await;
    scene.capturer.with(|script| assert!(script.kept.is_empty() && script.jobs.len() == 1));
    scene.answer(ANNA, &message, &scene.acknowledgement(&notice, Verdict::Accepted)).await;
    scene.capturer.until("the receipt to be kept", |script| script.kept.len() == 1).await;
    agent.stop().await;
}

#[tokio::test]
async fn under_a_session_nothing_is_signed_until_it_goes_unanswered() {
    let mut scene = Scene::new(true).await;
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    let mut session = scene.greet_sealed(&leader, round).await;
    let (notice, message) = scene.sealed_notice(&mut session).await;
    assert_eq!((notice.round, notice.attempt), (round, 1));
    // What somebody else seals, or the leader said before, is no answer; then it is signed.
    let answer = scene.acknowledgement(&notice, Verdict::Accepted);
    let mut other = session.say(&answer);
    let last = other.len() - 1;
    other[last] ^= 1;
    message.respond(Vec::new(), other.into()).await.expect("sent");
    let (notice, message) = scene.notice().await;
    scene.passed_over(1).await;
    scene.answer(ANNA, &message, &scene.acknowledgement(&notice, Verdict::Accepted)).await;
    scene.capturer.until("the receipt to be kept", |script| script.kept.len() == 1).await;

    // The next round has a session of its own, and a whole conversation under it.
    let ended = End {
        epoch: leader.epoch,
        round,
        outcome: Outcome::Cancelled,
        reason: String::new(),
        at: UnixMillis(0),
        account: None,
    };
    scene.log.append(&signer(ANNA), &ended).await.expect("ended");
    let next = scene.open(&leader, "two").await;
    scene.publish(&mut leader, &[next]).await;
    let mut session = scene.greet_sealed(&leader, next).await;
    let (notice, message) = scene.sealed_notice(&mut session).await;
    let answer = session.say(&scene.acknowledgement(&notice, Verdict::Accepted));
    message.respond(Vec::new(), answer.into()).await.expect("sent");
    scene.capturer.until("the other receipt to be kept", |script| script.kept.len() == 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_was_killed_completes_the_same_round() {
    let mut scene = Scene::new(true).await;
    scene.capturer.gate.send_replace(false);
    let killed = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    killed.task.abort();
    assert!(killed.task.await.expect_err("aborted").is_cancelled());

    scene.capturer.gate.send_replace(true);
    let agent = scene.start();
    let hello = scene.greet(&leader, round).await;
    assert_eq!(hello.attempt, 1);
    let (notice, message) = scene.notice().await;
    scene.answer(ANNA, &message, &scene.acknowledgement(&notice, Verdict::Accepted)).await;
    scene.capturer.until("the receipt to be kept", |script| script.kept.len() == 1).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_new_leader_is_told_again_what_the_old_one_knew() {
    let mut scene = Scene::new(true).await;
    let agent = scene.start();
    let mut anna = scene.lead(ANNA).await;
    let round = scene.open(&anna, "one").await;
    scene.publish(&mut anna, &[round]).await;
    scene.greet(&anna, round).await;
    let (first, message) = scene.notice().await;
    scene.answer(ANNA, &message, &scene.acknowledgement(&first, Verdict::Accepted)).await;
    scene.capturer.until("the receipt to be kept", |script| script.kept.len() == 1).await;

    let mut bert = scene.lead(BERT).await;
    scene.publish(&mut bert, &[round]).await;
    let (second, message) = scene.notice_that(|notice| notice.epoch == bert.epoch).await;
    assert_eq!((receipt(&first), first.attempt), (receipt(&second), second.attempt));
    // The old leader's answer is nobody's now.
    scene.answer(ANNA, &message, &scene.acknowledgement(&second, Verdict::Accepted)).await;
    let (second, message) = scene.notice_that(|notice| notice.epoch == bert.epoch).await;
    scene.answer(BERT, &message, &scene.acknowledgement(&second, Verdict::Accepted)).await;
    scene.capturer.until("the receipt to be kept again", |script| script.kept.len() == 2).await;
    scene.capturer.with(|script| assert_eq!(script.jobs.len(), 1, "nothing is captured twice"));
    agent.stop().await;
}

#[tokio::test]
async fn a_capture_that_is_wanted_no_more_is_cancelled() {
    let mut scene = Scene::new(true).await;
    scene.capturer.gate.send_replace(false);
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let first = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[first]).await;
    scene.greet(&leader, first).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    scene.publish(&mut leader, &[]).await;
    scene.capturer.until("the capture to be cancelled", |script| script.cancelled == 1).await;

    // The next round is captured, and ends by the log alone: its leader publishes nothing any more.
    let end = |round, epoch| End {
        epoch,
        round,
        outcome: Outcome::Cancelled,
        reason: String::new(),
        at: UnixMillis(0),
        account: None,
    };
    scene.log.append(&signer(ANNA), &end(first, leader.epoch)).await.expect("ended");
    let second = scene.open(&leader, "two").await;
    scene.publish(&mut leader, &[second]).await;
    scene.greet(&leader, second).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 2).await;
    let bert = scene.lead(BERT).await;
    scene.log.append(&signer(BERT), &end(second, bert.epoch)).await.expect("ended");
    scene.capturer.until("the capture to be cancelled", |script| script.cancelled == 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn stopping_cancels_the_capture() {
    let mut scene = Scene::new(true).await;
    scene.capturer.gate.send_replace(false);
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    agent.stop().await;
    scene.capturer.with(|script| assert_eq!(script.cancelled, 1));
    assert!(scene.bus.last_value(STATE).await.is_ok(), "the bus is the caller's and stays open");
}

#[tokio::test]
async fn an_agent_outside_the_roster_waits_until_it_is_admitted() {
    let mut scene = Scene::new(false).await;
    let agent = scene.start();
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    scene.admit(vec![agent_member(AGENT)]).await;
    scene.greet(&leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    // Another key takes the service over: what this one does counts no longer.
    scene.capturer.gate.send_replace(false);
    scene.admit(vec![agent_member(50)]).await;
    assert!(scene.log.state().role(&key(AGENT)).is_none());
    agent.stop().await;
}

#[tokio::test]
async fn a_share_that_comes_late_is_waited_for() {
    let mut scene = Scene::new(true).await;
    let (there, away) = (scene.share_folder(), scene.share_folder().with_extension("away"));
    std::fs::create_dir(&away).expect("made");
    let late: Arc<dyn Store> = Arc::new(FileStore::open(away.clone()).await.expect("opens"));
    let agent = scene.start_on(late);
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    for name in ["log", "FORMAT"] {
        std::fs::rename(there.join(name), away.join(name)).expect("moved");
    }
    scene.greet(&leader, round).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_is_being_deleted_is_not_relied_on() {
    let mut scene = Scene::new(true).await;
    let mut leader = scene.lead(ANNA).await;
    let (own, other) = (ObjectId::of(b"own"), ObjectId::of(b"other"));
    let paths = [
        ObjectPath::Pack { service: dns(), id: own },
        ObjectPath::Pack { service: "mail".parse().expect("name"), id: other },
    ];
    let list = Bytes::from(write_object_list(paths).expect("short"));
    let id = ObjectId::of(&list);
    let prune = Prune { epoch: leader.epoch, rounds: Vec::new(), list: id, at: None };
    scene.log.append(&signer(ANNA), &prune).await.expect("marked");
    let round = scene.open(&leader, "one").await;
    let agent = scene.start();
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    // The list is not there: rather no slice than one that is about to lose its objects.
    let (notice, message) = scene.notice().await;
    assert!(matches!(notice.outcome, NoticeOutcome::Failed { code: Code::Verify01, .. }), "{notice:?}");
    scene.answer(ANNA, &message, &scene.acknowledgement(&notice, Verdict::Accepted)).await;

    scene.log.store().put_new(&ObjectPath::List(id), list).await.expect("written");
    scene.order_attempt(&mut leader, round, 2).await;
    scene.greet(&leader, round).await;
    scene.capturer.until("the capture", |script| script.jobs.len() == 1).await;
    scene.capturer.with(|script| assert_eq!(Vec::from_iter(script.jobs[0].refused.clone()), [own]));
    agent.stop().await;
}

#[tokio::test]
async fn a_bus_that_closes_ends_the_agent() {
    let scene = Scene::new(true).await;
    let agent = scene.start();
    scene.bus.close().await.expect("closes");
    let ended = within("the agent to end", agent.task).await.expect("no panic");
    assert!(matches!(ended, Err(DaemonError::BusClosed | DaemonError::Bus { .. })), "{ended:?}");
}

#[tokio::test]
async fn the_real_engine_writes_a_receipt_that_the_leader_can_check() {
    let mut scene = Scene::new(true).await;
    let config = scene.config();
    let (stop, stopping) = watch::channel(false);
    let store = Arc::clone(scene.log.store());
    let agent = tokio::spawn(run_on(config.clone(), Arc::clone(&scene.bus), store, stopping.clone()));
    let mut leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    scene.publish(&mut leader, &[round]).await;
    scene.greet(&leader, round).await;
    let (notice, message) = scene.notice().await;
    let id = receipt(&notice).unwrap_or_else(|| panic!("{notice:?}"));
    let path = ObjectPath::Slice { service: dns(), round, id, part: SlicePart::Receipt };
    let bytes = scene.log.store().get(&path, 64 * 1024).await.expect("on the share");
    let (signed_by, stored) = open_as::<Receipt>(&bytes, &scene.fleet).expect("signed");
    assert_eq!((signed_by, stored.round, stored.attempt), (key(AGENT), round, 1));
    assert_eq!((stored.nonce, stored.head), (scene.attempt_nonce(round, 1), scene.log.head()));
    assert_eq!((stored.totals.source_bytes, stored.totals.gaps), (24, 0));
    scene.answer(ANNA, &message, &scene.acknowledgement(&notice, Verdict::Accepted)).await;
    let second = run_on(config, Arc::clone(&scene.bus), Arc::clone(scene.log.store()), stopping).await;
    assert!(matches!(second, Err(DaemonError::Locked { .. })), "{second:?}");
    stop.send_replace(true);
    within("the agent to stop", agent).await.expect("no panic").expect("in order");
}

#[tokio::test]
async fn waiting_for_an_absent_server_ends_when_told() {
    let scene = Scene::new(true).await;
    let (stop, stopping) = watch::channel(false);
    let agent = tokio::spawn(run(scene.config(), stopping));
    stop.send_replace(true);
    within("the agent to stop", agent).await.expect("no panic").expect("in order");
}
