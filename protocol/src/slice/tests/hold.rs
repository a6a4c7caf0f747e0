//! Quiescing, the hold, and a place in the cut: every way out of it releases the service.

use std::time::Duration;

use super::{Bench, OTHER, ROUND, capture_failed, captured, failed, hello, notice, refused, stored, written};
use crate::alert::Code;
use crate::ids::Nonce;
use crate::message::{CutOrder, Verdict};
use crate::retry::{Attempts, Retry};
use crate::slice::{Deadline, Effect, Event, Machine, Phase, Policy, Reported, Standing};

const NONCE: Nonce = Nonce::from_bytes([7; 16]);
const RELEASE: Effect = Effect::Release { round: ROUND };
const CAPTURE: Effect = Effect::Capture { round: ROUND };

impl Bench {
    fn with_hooks() -> Self {
        let (first, longest) = (Duration::from_secs(2), Duration::from_secs(8));
        let resend = Retry::new(first, longest, Attempts::Unlimited).expect("a policy");
        Self(Machine::start(Policy { resend, hooks: true }, 7))
    }

    fn cut(&mut self, cut: Option<CutOrder>) -> Vec<Effect> {
        self.on(Event::Order { epoch: 1, round: ROUND, attempt: 1, turn: 0, cut })
    }

    fn quiesced(&mut self) -> Vec<Effect> {
        self.on(Event::Quiesced { round: ROUND })
    }

    /// An agent whose service is held for the cut.
    fn holding() -> Self {
        let mut agent = Self::with_hooks();
        assert_eq!(agent.cut(Some(CutOrder::Hold)), [hello(1, 1)]);
        assert_eq!(agent.welcomed(Some(1)), [Effect::Quiesce { round: ROUND }]);
        assert_eq!(agent.quiesced(), [tell(Standing::Quiesced)]);
        assert_eq!(*agent.0.phase(), Phase::Holding);
        agent
    }

    /// The same, capturing since the announcement.
    fn in_the_cut() -> Self {
        let mut agent = Self::holding();
        assert_eq!(agent.cut(Some(CutOrder::Capture { nonce: NONCE })), [CAPTURE]);
        agent
    }
}

fn tell(standing: Standing) -> Effect {
    Effect::Tell { epoch: 1, round: ROUND, attempt: 1, standing }
}

fn noted() -> Event {
    Event::StandingNoted { round: ROUND, attempt: 1 }
}

fn read() -> Event {
    Event::Read { round: ROUND }
}

fn receipt(cut: Option<Nonce>) -> Effect {
    Effect::WriteReceipt { round: ROUND, attempt: 1, cut }
}

#[test]
fn a_service_with_hooks_is_held_while_it_is_read_and_not_longer() {
    let mut agent = Bench::with_hooks();
    agent.order(1, 1);
    assert_eq!(agent.welcomed(Some(1)), [Effect::Quiesce { round: ROUND }]);
    assert_eq!(agent.quiesced(), [CAPTURE]);
    assert_eq!(agent.on(read()), [RELEASE]);
    assert_eq!(agent.on(captured()), [receipt(None)]);
    assert_eq!(agent.on(written(1)), [notice(1, 1, stored())]);
}

#[test]
fn a_place_in_the_cut_is_told_before_the_receipt_says_so() {
    let mut agent = Bench::in_the_cut();
    assert_eq!(agent.on(read()), [RELEASE, tell(Standing::Snapped { nonce: NONCE })]);
    assert_eq!(agent.on(captured()), []);
    assert_eq!(agent.on(noted()), [receipt(Some(NONCE))]);
    assert_eq!(agent.on(written(1)), [notice(1, 1, stored())]);
}

#[test]
fn what_nobody_notes_is_told_again() {
    let mut agent = Bench::holding();
    agent.on(Event::StandingUnanswered);
    let (due, deadline) = agent.0.poll_timeout().expect("it is told again");
    assert_eq!(deadline, Deadline::Standing);
    agent.0.handle_timeout(due);
    assert_eq!(agent.effects(), [tell(Standing::Quiesced)]);
    agent.on(noted());
    agent.on(Event::StandingUnanswered);
    assert_eq!(agent.0.poll_timeout(), None);
}

#[test]
fn who_comes_after_the_announcement_has_no_place() {
    let mut agent = Bench::with_hooks();
    agent.cut(Some(CutOrder::Capture { nonce: NONCE }));
    agent.welcomed(Some(1));
    assert_eq!(agent.quiesced(), [CAPTURE]);
    assert_eq!(agent.on(read()), [RELEASE]);
    assert_eq!(agent.on(captured()), [receipt(None)]);
}

#[test]
fn a_broken_cut_frees_those_who_wait_to_capture_by_themselves() {
    let mut agent = Bench::holding();
    assert_eq!(agent.cut(None), [CAPTURE]);
    agent.on(read());
    assert_eq!(agent.on(captured()), [receipt(None)]);
    // Broken while it captures: its place is gone, the slice counts.
    let mut agent = Bench::in_the_cut();
    agent.cut(None);
    assert_eq!(agent.on(read()), [RELEASE]);
    assert_eq!(agent.on(captured()), [receipt(None)]);
}

#[test]
fn a_hold_that_ends_too_early_costs_the_place_and_not_the_slice() {
    let mut agent = Bench::in_the_cut();
    assert_eq!(agent.on(Event::HoldLost { round: ROUND }), []);
    assert_eq!(agent.on(read()), []);
    assert_eq!(agent.on(captured()), [receipt(None)]);
    // Lost before the announcement: it is quiesced again, outside the cut.
    let mut agent = Bench::holding();
    agent.on(Event::HoldLost { round: ROUND });
    assert_eq!(agent.cut(Some(CutOrder::Capture { nonce: NONCE })), [Effect::Quiesce { round: ROUND }]);
    assert_eq!(agent.quiesced(), [CAPTURE]);
    agent.on(read());
    assert_eq!(agent.on(captured()), [receipt(None)]);
}

#[test]
fn a_quiesce_that_fails_is_reported_and_the_next_attempt_quiesces_again() {
    let mut agent = Bench::with_hooks();
    agent.order(1, 1);
    agent.welcomed(Some(1));
    let (code, reason) = (Code::Agent03, "source locked".to_owned());
    let failing = Event::QuiesceFailed { round: ROUND, code, reason, permanent: false };
    assert_eq!(agent.on(failing.clone()), [notice(1, 1, failed())]);
    assert_eq!(agent.on(failing), []);
    agent.answered(1, Verdict::Accepted);
    assert_eq!(agent.order(1, 2), [hello(1, 2)]);
    assert_eq!(agent.welcomed(Some(2)), [Effect::Quiesce { round: ROUND }]);
}

#[test]
fn every_way_out_releases_the_service() {
    let no_order = || Event::NoOrder;
    let other = || Event::Order { epoch: 1, round: OTHER, attempt: 1, turn: 0, cut: None };
    let mut quiescing = Bench::with_hooks();
    quiescing.order(1, 1);
    quiescing.welcomed(Some(1));
    for (mut agent, event) in [
        (quiescing, no_order()),
        (Bench::holding(), no_order()),
        (Bench::holding(), other()),
        (Bench::in_the_cut(), no_order()),
        (Bench::in_the_cut(), other()),
        (Bench::in_the_cut(), capture_failed(ROUND)),
    ] {
        let effects = agent.on(event.clone());
        assert_eq!(effects.first(), Some(&RELEASE), "{event:?}: {effects:?}");
        // What its hooks still report changes nothing, and releases nothing twice.
        let late = agent.quiesced();
        assert!(!late.contains(&CAPTURE), "{event:?}: {late:?}");
    }
    // Not wanted any more, by the answer to a hello of a higher attempt.
    let mut agent = Bench::holding();
    agent.order(1, 2);
    assert_eq!(agent.welcomed(None), [RELEASE]);
}

#[test]
fn a_second_attempt_after_a_refusal_is_outside_the_cut() {
    let mut agent = Bench::in_the_cut();
    agent.on(read());
    agent.on(noted());
    agent.on(captured());
    agent.on(written(1));
    agent.answered(1, refused());
    let again = Event::Order {
        epoch: 1,
        round: ROUND,
        attempt: 2,
        turn: 0,
        cut: Some(CutOrder::Capture { nonce: NONCE }),
    };
    assert_eq!(agent.on(again), [hello(1, 2)]);
    assert_eq!(agent.welcomed(Some(2)), [Effect::Quiesce { round: ROUND }]);
    assert_eq!(agent.quiesced(), [CAPTURE]);
    agent.on(read());
    assert_eq!(agent.on(captured()), [Effect::WriteReceipt { round: ROUND, attempt: 2, cut: None }]);
    assert!(matches!(agent.0.phase(), Phase::Receipting));
}

#[test]
fn without_hooks_there_is_nothing_to_hold_and_the_place_is_kept_all_the_same() {
    let mut agent = Bench::new();
    agent.cut(Some(CutOrder::Hold));
    assert_eq!(agent.welcomed(Some(1)), [tell(Standing::Quiesced)]);
    assert_eq!(agent.cut(Some(CutOrder::Capture { nonce: NONCE })), [CAPTURE]);
    assert_eq!(agent.on(read()), [tell(Standing::Snapped { nonce: NONCE })]);
    agent.on(noted());
    assert_eq!(agent.on(captured()), [receipt(Some(NONCE))]);
}

#[test]
fn who_was_not_wanted_asks_again_when_the_turn_has_grown() {
    let mut agent = Bench::new();
    let order = |turn| Event::Order { epoch: 1, round: ROUND, attempt: 1, turn, cut: None };
    assert_eq!(agent.on(order(0)), [hello(1, 1)]);
    assert_eq!(agent.welcomed(None), []);
    assert_eq!(agent.on(order(0)), []);
    assert_eq!(agent.on(order(1)), [hello(1, 1)]);
    assert_eq!(agent.welcomed(Some(1)), [CAPTURE]);
    let failed: Reported = failed();
    assert_eq!(agent.on(capture_failed(ROUND)), [notice(1, 1, failed)]);
}
