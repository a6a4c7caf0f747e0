//! The cut: who holds, when the capture is announced, whose place is proved, and what breaks it.

use std::time::Duration;

use super::{Bench, RECRUIT, acknowledge, check, policy, receipt, service, welcome};
use crate::document::{CutAccount, ManifestSlice};
use crate::ids::Nonce;
use crate::log::OnBreak;
use crate::log::fixture::checked_slice;
use crate::message::{CutOrder, Verdict};
use crate::round::{CutPolicy, Deadline, Effect, Event, Phase, Policy, Start};
use crate::service_policy::{Expected, ServicePolicy};

const NONCE: Nonce = Nonce::from_bytes([7; 16]);
const BARRIER: u64 = 20_000;

fn cut_policy(on_break: OnBreak) -> Policy {
    let barrier = Duration::from_millis(BARRIER);
    Policy { cut: Some(CutPolicy { nonce: NONCE, barrier, on_break }), ..policy() }
}

fn gathering_with(on_break: OnBreak, services: &[(&str, ServicePolicy)]) -> Bench {
    let mut bench = Bench::with(Start::Fresh, services, cut_policy(on_break));
    assert_eq!(bench.effects(), [Effect::AppendOpen]);
    assert_eq!(bench.on(Event::Opened), [Effect::Publish]);
    assert_eq!((bench.machine.phase(), bench.machine.cut_order()), (&Phase::Gathering, Some(CutOrder::Hold)));
    bench
}

fn gathering(on_break: OnBreak, services: &[&str]) -> Bench {
    let services: Vec<_> = services.iter().map(|name| (*name, ServicePolicy::default())).collect();
    gathering_with(on_break, &services)
}

impl Bench {
    fn quiesced(&mut self, name: &str, attempt: u32) -> Vec<Effect> {
        self.on(Event::Quiesced { service: service(name), attempt })
    }

    fn snapped(&mut self, name: &str, attempt: u32) -> Vec<Effect> {
        self.on(Event::Snapped { service: service(name), attempt, nonce: NONCE })
    }

    fn holds(&mut self, name: &str) -> Vec<Effect> {
        assert_eq!(self.hello(name, 1), [welcome(name, Some(1))]);
        let mut effects = self.quiesced(name, 1);
        assert_eq!(effects.remove(0), acknowledge(name, 1, None, Verdict::Accepted));
        effects
    }

    /// The slice is there, in the cut or not.
    fn gives(&mut self, name: &str, attempt: u32, number: u8, cut: Option<Nonce>) -> Vec<Effect> {
        assert_eq!(self.stored(name, attempt, number), [check(name, number, attempt)]);
        let slice = ManifestSlice { cut, ..checked_slice(&service(name), receipt(number)) };
        let mut effects = self.on(Event::Checked {
            service: service(name),
            receipt: receipt(number),
            result: Ok(Box::new(slice)),
        });
        effects.remove(0);
        effects
    }
}

fn account(effects: &[Effect]) -> &CutAccount {
    let Some(Effect::WriteManifest { cut: Some(account), .. }) = effects.last() else {
        panic!("{effects:?}")
    };
    account
}

fn names(account: &CutAccount) -> Vec<&str> {
    account.members.iter().map(crate::ids::ServiceName::as_str).collect()
}

#[test]
fn the_capture_is_announced_when_everybody_holds_and_the_skew_is_measured() {
    let mut round = gathering(OnBreak::Break, &["dns", "web"]);
    assert_eq!(round.holds("dns"), []);
    round.now = 5_000;
    assert_eq!(round.holds("web"), [Effect::Publish]);
    let order = Some(CutOrder::Capture { nonce: NONCE });
    assert_eq!((round.machine.phase(), round.machine.cut_order()), (&Phase::Capturing, order));
    round.now = 5_100;
    assert_eq!(round.snapped("dns", 1), [acknowledge("dns", 1, None, Verdict::Accepted)]);
    round.now = 5_250;
    round.snapped("web", 1);
    // Said again, it is no later.
    round.now = 6_000;
    round.snapped("dns", 1);
    assert_eq!(round.gives("dns", 1, 1, Some(NONCE)), []);
    let effects = round.gives("web", 1, 2, Some(NONCE));
    let account = account(&effects);
    assert_eq!((names(account), account.skew_millis, &account.broken), (vec!["dns", "web"], 250, &None));
    assert!(account.outside.is_empty() && account.nonce == NONCE);
}

#[test]
fn a_required_service_that_misses_the_barrier_breaks_it_or_stays_outside() {
    for on_break in [OnBreak::Break, OnBreak::GoOn] {
        let mut round = gathering(on_break, &["dns", "web"]);
        round.holds("dns");
        let effects = loop {
            let (deadline, effects) = round.wait();
            if deadline == Deadline::Barrier {
                break effects;
            }
        };
        assert_eq!((round.now, effects), (BARRIER, vec![Effect::Publish]));
        let goes_on = on_break == OnBreak::GoOn;
        assert_eq!(round.machine.cut_order().is_some(), goes_on);
        round.snapped("dns", 1);
        round.gives("dns", 1, 1, goes_on.then_some(NONCE));
        round.hello("web", 1);
        // Who came too late has no place, whatever it says.
        assert_eq!(round.quiesced("web", 1), [acknowledge("web", 1, None, Verdict::Over)]);
        round.snapped("web", 1);
        let effects = round.gives("web", 1, 2, Some(NONCE));
        let account = account(&effects);
        let broken = account.broken.as_deref();
        if goes_on {
            assert_eq!((names(account), broken), (vec!["dns"], None));
            assert_eq!(account.outside[0].reason, "it did not hold when the cut was announced");
        } else {
            let why = "web lost its place: it was waiting when the capture was announced";
            assert_eq!((names(account), broken), (vec![], Some(why)));
        }
    }
}

#[test]
fn a_failure_while_gathering_breaks_it_at_once_and_nobody_is_kept_holding() {
    let mut round = gathering(OnBreak::Break, &["dns", "web"]);
    round.holds("dns");
    round.hello("web", 1);
    let effects = round.failed("web", 1, false);
    assert_eq!(effects, [acknowledge("web", 1, None, Verdict::Accepted), Effect::Publish]);
    assert_eq!((round.machine.phase(), round.machine.cut_order()), (&Phase::Capturing, None));
    assert_eq!(round.machine.cut_broken(), Some("web lost its place: AGENT-03 source locked"));
}

#[test]
fn an_agent_that_began_anew_after_the_announcement_is_outside() {
    let mut round = gathering(OnBreak::Break, &["dns", "web"]);
    round.holds("dns");
    round.holds("web");
    round.snapped("dns", 1);
    round.gives("dns", 1, 1, Some(NONCE));
    // It forgot that it held: its slice carries no nonce, and it never says that it held to the end.
    assert_eq!(round.hello("web", 1), [welcome("web", Some(1))]);
    let effects = round.gives("web", 1, 2, None);
    let account = account(&effects);
    let why = "web is outside: it began anew, and was held for another time";
    assert_eq!((names(account), account.broken.as_deref()), (vec!["dns"], Some(why)));
}

#[test]
fn a_second_attempt_cannot_be_in_the_cut() {
    let mut round = gathering(OnBreak::GoOn, &["dns", "web"]);
    round.holds("dns");
    round.holds("web");
    round.snapped("dns", 1);
    round.snapped("web", 1);
    round.gives("dns", 1, 1, Some(NONCE));
    round.failed("web", 1, false);
    while round.machine.member(&service("web")).is_some_and(|m| m.phase.word() == "retrying") {
        round.wait();
    }
    round.hello("web", 2);
    let effects = round.gives("web", 2, 2, None);
    let account = account(&effects);
    assert_eq!((names(account), account.broken.as_deref()), (vec!["dns"], None));
    assert_eq!(account.outside[0].reason, "it began anew, and was held for another time");
}

#[test]
fn the_cut_waits_for_nobody_that_it_can_do_without() {
    let optional = ServicePolicy { required: false, ..ServicePolicy::default() };
    let passing = ServicePolicy { expected: Expected::WhilePresent, ..ServicePolicy::default() };
    let services = [("dns", ServicePolicy::default()), ("lab", optional), ("pda", passing)];
    let mut round = gathering_with(OnBreak::Break, &services);
    assert_eq!(round.holds("dns"), [Effect::Publish]);
    // Unless it is there: then it is needed like any other.
    let mut round = gathering_with(OnBreak::Break, &services);
    round.hello("pda", 1);
    assert_eq!(round.holds("dns"), []);
    assert_eq!(round.quiesced("pda", 1).last(), Some(&Effect::Publish));
}

#[test]
fn tiers_begin_together() {
    let late = ServicePolicy { tier: 9, ..ServicePolicy::default() };
    let mut round = gathering_with(OnBreak::Break, &[("dns", ServicePolicy::default()), ("web", late)]);
    assert_eq!(round.hello("web", 1), [welcome("web", Some(1))]);
    assert_eq!(round.holds("dns"), []);
}

#[test]
fn another_leader_finds_the_cut_broken() {
    let services = [("dns", ServicePolicy::default())];
    let mut round = Bench::with(Start::Resume, &services, cut_policy(OnBreak::Break));
    assert_eq!(round.effects(), [Effect::Publish, Effect::FindReceipts]);
    assert_eq!((round.machine.phase(), round.machine.cut_order()), (&Phase::Capturing, None));
    let effects = {
        round.hello("dns", 1);
        round.gives("dns", 1, 1, Some(NONCE))
    };
    let broken = account(&effects).broken.as_deref();
    assert_eq!(broken, Some("another coordinator took the lead before it was made"));
}

#[test]
fn a_place_is_not_given_by_a_standing_of_another_attempt_or_nonce() {
    let mut round = gathering(OnBreak::Break, &["dns", "web"]);
    round.hello("dns", 1);
    assert_eq!(round.quiesced("dns", 2), [acknowledge("dns", 2, None, Verdict::Over)]);
    round.quiesced("dns", 1);
    round.holds("web");
    let other = Nonce::from_bytes([8; 16]);
    round.on(Event::Snapped { service: service("dns"), attempt: 1, nonce: other });
    round.snapped("web", 1);
    round.gives("web", 1, 2, Some(NONCE));
    let effects = round.gives("dns", 1, 1, Some(NONCE));
    assert_eq!(names(account(&effects)), ["web"]);
    assert!(round.now < RECRUIT);
}

/// An agent may hear of the announcement late, and hold again by then: that hold began too late.
#[test]
fn whoever_begins_anew_after_the_announcement_has_no_place() {
    for restarted in [true, false] {
        let mut round = gathering(OnBreak::Break, &["dns", "web"]);
        round.holds("dns");
        assert_eq!(round.holds("web"), [Effect::Publish]);
        round.snapped("web", 1);
        assert_eq!(round.gives("web", 1, 1, Some(NONCE)), []);
        let attempt = if restarted {
            // It says hello for the attempt that it was at.
            assert_eq!(round.hello("dns", 1), [welcome("dns", Some(1))]);
            1
        } else {
            // It was silent, and is asked again.
            while round.wait().0 != Deadline::Backoff(service("dns")) {}
            assert_eq!(round.hello("dns", 2), [welcome("dns", Some(2))]);
            2
        };
        let over = acknowledge("dns", attempt, None, Verdict::Over);
        assert_eq!(round.quiesced("dns", attempt), [over]);
        round.snapped("dns", attempt);
        let effects = round.gives("dns", attempt, 2, Some(NONCE));
        let account = account(&effects);
        assert_eq!(names(account), ["web"]);
        assert_eq!(account.outside[0].reason, "it began anew, and was held for another time");
        assert!(account.broken.as_ref().is_some_and(|why| why.contains("dns is outside")), "{account:?}");
    }
}

#[test]
fn an_agent_that_begins_anew_before_the_announcement_says_again_that_it_holds() {
    let mut round = gathering(OnBreak::Break, &["dns", "web"]);
    round.holds("dns");
    assert_eq!(round.hello("dns", 1), [welcome("dns", Some(1))]);
    assert_eq!(round.holds("web"), [], "dns is waited for again");
    let held = acknowledge("dns", 1, None, Verdict::Accepted);
    assert_eq!(round.quiesced("dns", 1), [held, Effect::Publish]);
}
