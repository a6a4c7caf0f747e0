//! The effects of the slice machine, event by event.

mod hold;

use std::time::Duration;

use crate::alert::Code;
use crate::document::SliceTotals;
use crate::ids::{ObjectId, RoundId};
use crate::message::Verdict;
use crate::retry::{Attempts, Retry};
use crate::slice::{Deadline, Effect, Event, Machine, Phase, Policy, Reported};
use crate::time::Time;

const ROUND: RoundId = RoundId::from_bytes([1; 16]);
const OTHER: RoundId = RoundId::from_bytes([2; 16]);
const RECEIPT: ObjectId = ObjectId::from_bytes([3; 32]);

struct Bench(Machine);

impl Bench {
    fn new() -> Self {
        let (first, longest) = (Duration::from_secs(2), Duration::from_secs(8));
        let resend = Retry::new(first, longest, Attempts::Unlimited).expect("a policy");
        Self(Machine::start(Policy { resend, hooks: false }, 7))
    }

    /// An agent that captures for attempt 1 of epoch 1.
    fn capturing() -> Self {
        let mut agent = Self::new();
        assert_eq!(agent.order(1, 1), [hello(1, 1)]);
        assert_eq!(agent.welcomed(Some(1)), [Effect::Capture { round: ROUND }]);
        agent
    }

    /// An agent that tells the leader of its receipt for attempt 1.
    fn noticing() -> Self {
        let mut agent = Self::capturing();
        assert_eq!(agent.on(captured()), [receipt(1)]);
        assert_eq!(agent.on(written(1)), [notice(1, 1, stored())]);
        agent
    }

    fn at(&mut self, now: u64, event: Event) -> Vec<Effect> {
        self.0.handle(event, Time(now));
        self.effects()
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        self.at(0, event)
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.0.poll_effect()).collect()
    }

    fn order(&mut self, epoch: u64, attempt: u32) -> Vec<Effect> {
        self.on(Event::Order { epoch, round: ROUND, attempt, turn: 0, cut: None })
    }

    fn welcomed(&mut self, attempt: Option<u32>) -> Vec<Effect> {
        self.on(Event::Welcomed { round: ROUND, attempt })
    }

    fn answered(&mut self, attempt: u32, verdict: Verdict) -> Vec<Effect> {
        self.on(Event::Acknowledged { round: ROUND, attempt, verdict })
    }
}

fn hello(epoch: u64, attempt: u32) -> Effect {
    Effect::Hello { epoch, round: ROUND, attempt }
}

fn receipt(attempt: u32) -> Effect {
    Effect::WriteReceipt { round: ROUND, attempt, cut: None }
}

fn notice(epoch: u64, attempt: u32, reported: Reported) -> Effect {
    Effect::Notice { epoch, round: ROUND, attempt, reported }
}

fn captured() -> Event {
    Event::Captured { round: ROUND }
}

fn written(attempt: u32) -> Event {
    let totals = SliceTotals::default();
    Event::ReceiptWritten { round: ROUND, attempt, receipt: RECEIPT, receipt_size: 300, totals }
}

fn capture_failed(round: RoundId) -> Event {
    Event::CaptureFailed { round, code: Code::Agent03, reason: "source locked".to_owned(), permanent: false }
}

fn stored() -> Reported {
    Reported::Stored { receipt: RECEIPT, receipt_size: 300, totals: SliceTotals::default() }
}

fn failed() -> Reported {
    Reported::Failed { code: Code::Agent03, reason: "source locked".to_owned(), permanent: false }
}

fn refused() -> Verdict {
    Verdict::Refused { reason: "a pack is missing".to_owned() }
}

#[test]
fn a_slice_goes_its_way_and_is_kept() {
    let mut agent = Bench::noticing();
    assert_eq!(agent.answered(1, Verdict::Accepted), [Effect::Keep { round: ROUND, receipt: RECEIPT }]);
    assert_eq!(*agent.0.phase(), Phase::Settled(stored()));
    assert_eq!((agent.0.work(), agent.0.poll_timeout()), (None, None));
}

#[test]
fn the_same_order_twice_is_one() {
    let mut agent = Bench::new();
    assert_eq!(agent.order(1, 1), [hello(1, 1)]);
    for event in
        [None, Some(Event::Welcomed { round: ROUND, attempt: Some(1) }), Some(captured()), Some(written(1))]
    {
        if let Some(event) = event {
            assert_eq!(agent.on(event).len(), 1);
        }
        assert_eq!(agent.order(1, 1), []);
        assert_eq!(agent.order(0, 9), [], "a former leader's order");
    }
    agent.answered(1, Verdict::Accepted);
    assert_eq!(agent.order(1, 1), []);
}

#[test]
fn a_higher_attempt_while_capturing_greets_again_and_goes_on_with_what_it_has() {
    let mut agent = Bench::capturing();
    assert_eq!(agent.order(1, 2), [hello(1, 2)]);
    assert_eq!(agent.welcomed(Some(2)), []);
    assert_eq!(agent.on(captured()), [receipt(2)]);
    // Captured before the welcome comes: the receipt waits for it.
    let mut agent = Bench::capturing();
    agent.order(1, 2);
    assert_eq!(agent.on(captured()), []);
    assert_eq!(agent.welcomed(Some(3)), [receipt(3)]);
    assert_eq!(agent.on(written(2)), [], "the receipt of another attempt");
    assert_eq!(agent.on(written(3)), [notice(1, 3, stored())]);
}

#[test]
fn a_new_leader_hears_of_it_again() {
    let mut agent = Bench::noticing();
    agent.answered(1, Verdict::Accepted);
    assert_eq!(agent.order(2, 1), [notice(2, 1, stored())]);
    assert_eq!(agent.order(3, 1), [notice(3, 1, stored())]);
    let mut agent = Bench::capturing();
    assert_eq!(agent.order(2, 1), [hello(2, 1)]);
}

#[test]
fn without_an_order_everything_is_dropped() {
    for mut agent in [Bench::capturing(), Bench::noticing()] {
        assert_eq!(agent.on(Event::NoOrder), [Effect::Drop { round: ROUND }]);
        assert_eq!(agent.on(Event::NoOrder), []);
        for stale in
            [captured(), capture_failed(ROUND), written(1), Event::NoticeUnanswered, Event::HelloUnanswered]
        {
            assert_eq!(agent.on(stale), []);
        }
        assert_eq!(agent.answered(1, Verdict::Accepted), []);
        assert_eq!((agent.0.phase(), agent.0.poll_timeout()), (&Phase::Idle, None));
    }
    let mut agent = Bench::capturing();
    let effects = agent.on(Event::Order { epoch: 1, round: OTHER, attempt: 1, turn: 0, cut: None });
    assert_eq!(
        effects,
        [Effect::Drop { round: ROUND }, Effect::Hello { epoch: 1, round: OTHER, attempt: 1 }]
    );
    assert_eq!(agent.on(captured()), []);
}

#[test]
fn what_nobody_answers_is_said_again_later_and_later() {
    let mut greeting = Bench::new();
    greeting.order(1, 1);
    let noticing = Bench::noticing();
    let cases = [
        (greeting, Event::HelloUnanswered, Deadline::Hello, hello(1, 1)),
        (noticing, Event::NoticeUnanswered, Deadline::Notice, notice(1, 1, stored())),
    ];
    for (mut agent, unanswered, deadline, again) in cases {
        let mut now = 100;
        for most in [2_000, 4_000, 8_000, 8_000] {
            assert_eq!(agent.at(now, unanswered.clone()), []);
            let (due, why) = agent.0.poll_timeout().expect("it waits");
            assert!(why == deadline && (most / 2..=most).contains(&(due.0 - now)), "{why:?} {due:?}");
            agent.0.handle_timeout(Time(due.0 - 1));
            assert_eq!(agent.effects(), []);
            agent.0.handle_timeout(due);
            assert_eq!(agent.effects(), std::slice::from_ref(&again));
            now = due.0;
        }
    }
}

#[test]
fn what_was_refused_is_captured_anew() {
    let mut agent = Bench::noticing();
    assert_eq!(agent.answered(1, refused()), []);
    assert_eq!(agent.order(1, 2), [hello(1, 2)]);
    assert_eq!(agent.welcomed(Some(2)), [Effect::Capture { round: ROUND }]);
    // What was only unheard is not.
    let mut agent = Bench::noticing();
    assert_eq!(agent.order(1, 2), [hello(1, 2)]);
    assert_eq!(agent.welcomed(Some(2)), [receipt(2)]);
}

#[test]
fn a_failure_is_told_and_tried_again_by_order() {
    let mut agent = Bench::capturing();
    assert_eq!(agent.on(capture_failed(ROUND)), [notice(1, 1, failed())]);
    assert_eq!(agent.on(capture_failed(ROUND)), []);
    assert_eq!(agent.answered(1, Verdict::Accepted), []);
    assert_eq!(agent.order(1, 2), [hello(1, 2)]);
    assert_eq!(agent.welcomed(Some(2)), [Effect::Capture { round: ROUND }]);
    assert_eq!(agent.on(captured()), [receipt(2)]);
    // A receipt that cannot be written is a failure as well.
    assert_eq!(agent.on(capture_failed(ROUND)), [notice(1, 2, failed())]);
}

#[test]
fn who_is_not_wanted_waits_for_an_order_that_is_new() {
    let mut agent = Bench::new();
    agent.order(1, 3);
    assert_eq!(agent.order(2, 1), [hello(2, 3)]);
    assert_eq!(agent.welcomed(None), []);
    assert_eq!((agent.0.work(), agent.order(2, 1)), (None, vec![]));
    // The new leader's retry order has a lower or the same number as the former one's, and counts.
    assert_eq!(agent.order(2, 3), [hello(2, 3)]);
    agent.welcomed(None);
    assert_eq!(agent.order(2, 3), []);
    assert_eq!(agent.order(3, 1), [hello(3, 3)]);
}

#[test]
fn stale_events_change_nothing() {
    let mut agent = Bench::capturing();
    assert_eq!(agent.welcomed(Some(1)), []);
    assert_eq!(agent.on(Event::HelloUnanswered), []);
    assert_eq!(agent.on(capture_failed(OTHER)), []);
    assert_eq!(agent.on(Event::Captured { round: OTHER }), []);
    assert_eq!(agent.on(written(1)), []);
    agent.on(captured());
    assert_eq!(agent.on(captured()), []);
    agent.on(written(1));
    assert_eq!(agent.answered(2, Verdict::Accepted), []);
    assert_eq!(agent.on(Event::Acknowledged { round: OTHER, attempt: 1, verdict: refused() }), []);
    assert_eq!(agent.answered(1, Verdict::Over), []);
    assert_eq!(agent.answered(1, Verdict::Accepted), []);
    assert_eq!(*agent.0.phase(), Phase::Settled(stored()));
}
