//! Slots become rounds, once: what passed while nobody led, whoever leads then, and what a disabled fleet does.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::envelope::open_as;
use muster_protocol::ids::Nonce;
use muster_protocol::log::{Body, Config as Settings, Open, Role, seal_statement};
use muster_protocol::message::{Command, CommandReply, Demand, Trigger, TriggerReply, TriggerState};
use muster_protocol::subject::Subject;
use muster_protocol::time::UnixMillis;
use tempfile::TempDir;

use super::{LIMIT, World, coordinator};
use crate::scribe::unix_now;

/// Long enough for the clock to be looked at again and again.
const LOOKS: Duration = Duration::from_millis(2_500);
/// In milliseconds.
const DAYS: i64 = 86_400_000;

impl World {
    /// The root says these settings, `ago` milliseconds ago.
    async fn set(&self, settings: &[(&str, &str)], ago: i64) {
        let mut log = self.log().await;
        let clear: BTreeMap<_, _> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let previous = log.state().statements.get(Settings::KIND).copied();
        let at = Some(UnixMillis(unix_now().0 - ago));
        let said = seal_statement(&self.root, &self.fleet, &Settings { previous, clear, sealed: None, at });
        log.append_statement::<Settings>(&self.root, said).await.expect("said");
    }

    async fn opened(&self) -> Vec<Open> {
        let log = self.log().await;
        log.state().rounds_by_number().into_iter().map(|round| round.open.clone()).collect()
    }

    async fn wait_for_rounds(&self, count: usize) -> Vec<Open> {
        let found = async {
            loop {
                let opened = self.opened().await;
                if opened.len() >= count {
                    return opened;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, found).await.expect("the round is opened in time")
    }

    async fn demand(&self, demand: Demand) -> CommandReply {
        let command = Command { nonce: Nonce::from_bytes([6; 16]), demand, token: None };
        let sealed = coordinator(30).seal(&self.fleet, &command);
        let subject = self.subjects.print(&Subject::Command);
        let answer = self.bus.request(&subject, Vec::new(), sealed.into(), LIMIT).await.expect("answered");
        open_as::<CommandReply>(&answer.payload, &self.fleet).expect("a reply").1
    }

    async fn trigger(&self, request: &str) -> TriggerReply {
        let trigger = Trigger { request: Some(request.to_owned()), ..Trigger::default() };
        let subject = self.subjects.print(&Subject::Trigger);
        let payload = serde_json::to_vec(&trigger).expect("JSON");
        let answer = self.bus.request(&subject, Vec::new(), payload.into(), LIMIT).await.expect("answered");
        serde_json::from_slice(&answer.payload).expect("a reply")
    }
}

async fn with_operator() -> World {
    World::with(&[(&coordinator(30), "olga", Role::Operator)]).await
}

/// A slot a day, about as far behind as ahead: none comes while a test runs.
fn far_off() -> String {
    let hour = (unix_now().0.rem_euclid(DAYS) / 3_600_000 + 12) % 24;
    format!("30 {hour} * * *")
}

fn start(request: &str, force: bool) -> Demand {
    Demand::Start { services: None, labels: None, request: request.to_owned(), reason: None, force }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passed_while_nobody_led_is_made_up_for_once_whoever_leads() {
    let world = World::new().await;
    world.set(&[("schedule", &far_off())], 3 * DAYS).await;
    let (a, b) = (TempDir::new().expect("folder"), TempDir::new().expect("folder"));
    // Nobody answers, so that the round is soon over: what keeps another from beginning is the slot alone.
    let brief = |number, state: &TempDir| {
        let mut config = world.config(number, state.path());
        config.round.deadline.0 = Duration::from_secs(1);
        config.round.recruit.0 = Duration::from_millis(200);
        config
    };
    let (stop_one, one) = world.start_as(brief(11, &a));
    let first = world.wait_for_rounds(1).await;
    let trigger = &first[0].trigger;
    assert!(
        trigger.starts_with("schedule, slot ") && trigger.ends_with("missed and made up for"),
        "{trigger}"
    );
    let over = async {
        while !world.log().await.state().open_rounds().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, over).await.expect("the round ends");
    stop_one.send_replace(true);
    one.await.expect("ends");
    let (stop_two, two) = world.start_as(brief(12, &b));
    world.wait_for_leader("two").await;
    tokio::time::sleep(LOOKS).await;
    assert_eq!(world.opened().await, first, "the slot has its round");
    stop_two.send_replace(true);
    two.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_owes_begins_no_round() {
    let schedule = far_off();
    let every = ("schedule", schedule.as_str());
    for (settings, ago) in [
        (vec![every], 0),
        (vec![every, ("schedule.missed", "skip")], 3 * DAYS),
        (vec![every, ("enabled", "no")], 3 * DAYS),
        (vec![("schedule", "off")], 3 * DAYS),
    ] {
        let world = World::new().await;
        world.set(&settings, ago).await;
        let state = TempDir::new().expect("folder");
        let (stop, running) = world.start(11, &state);
        world.wait_for_leader("one").await;
        tokio::time::sleep(LOOKS).await;
        assert_eq!(world.opened().await, [], "{settings:?}, {ago}");
        stop.send_replace(true);
        running.await.expect("ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_fleet_takes_only_what_an_operator_forces_and_follows_at_once() {
    let world = with_operator().await;
    world.set(&[("enabled", "no"), ("disabled.reason", "a move")], 0).await;
    let state = TempDir::new().expect("folder");
    let (stop, running) = world.start(11, &state);
    world.wait_for_leader("one").await;
    world.wait_for_alert(Code::Sched01, true).await;
    let refused = world.trigger("x").await;
    assert_eq!(refused.state, TriggerState::Refused);
    assert!(refused.reason.as_ref().is_some_and(|reason| reason.contains("(a move)")), "{refused:?}");
    let refused = world.demand(start("y", false)).await.started.expect("told");
    assert_eq!(refused.state, TriggerState::Refused);
    let forced = world.demand(start("y", true)).await.started.expect("told");
    assert_eq!((forced.state, forced.number), (TriggerState::Opened, Some(1)));
    assert_eq!(world.opened().await[0].trigger, "command of olga, forced");
    let known = world.trigger("y").await;
    assert_eq!(known.state, TriggerState::Running, "what is a round already is told");
    // Without a restart.
    world.set(&[("enabled", "yes"), ("schedule", &far_off())], 0).await;
    let queued = world.demand(start("z", false)).await.started.expect("told");
    assert_eq!(queued.state, TriggerState::Queued, "{queued:?}");
    world.wait_for_alert(Code::Sched01, false).await;
    stop.send_replace(true);
    running.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_anybody_sends_take_no_place_of_a_signed_one() {
    let world = with_operator().await;
    let state = TempDir::new().expect("folder");
    let (stop, running) = world.start(11, &state);
    world.wait_for_leader("one").await;
    assert_eq!(world.trigger("first").await.state, TriggerState::Opened);
    for number in 0..64 {
        assert_eq!(world.trigger(&format!("flood-{number}")).await.state, TriggerState::Queued, "{number}");
    }
    assert_eq!(world.trigger("one more").await.state, TriggerState::Refused);
    let signed = world.demand(start("signed", false)).await.started.expect("told");
    assert_eq!(signed.state, TriggerState::Queued);
    stop.send_replace(true);
    running.await.expect("ends");
}
