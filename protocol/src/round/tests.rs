//! The effects of the round machine, event by event.

mod cut;
mod expected;

use std::time::Duration;

use crate::alert::Code;
use crate::document::{Absentee, ManifestSlice};
use crate::ids::{ObjectId, ServiceName};
use crate::log::Outcome;
use crate::log::fixture::checked_slice;
use crate::message::Verdict;
use crate::retry::{Attempts, Retry};
use crate::round::{
    CheckFailure, Deadline, Effect, Event, Failure, Machine, MemberPhase, Phase, Policy, Start,
};
use crate::service_policy::{Expected, ServicePolicy};
use crate::time::Time;

const RECRUIT: u64 = 30_000;
const OFFLINE: u64 = 45_000;
const DEADLINE: u64 = 1_000_000;
const SIZE: u64 = 300;

fn service(name: &str) -> ServiceName {
    name.parse().expect("a service name")
}

fn receipt(number: u8) -> ObjectId {
    ObjectId::from_bytes([number; 32])
}

fn failure(permanent: bool) -> Failure {
    Failure { code: Code::Agent03, reason: "source locked".to_owned(), permanent }
}

fn policy() -> Policy {
    let (first, longest) = (Duration::from_secs(2), Duration::from_secs(60));
    Policy {
        deadline: Duration::from_millis(DEADLINE),
        recruit: Duration::from_millis(RECRUIT),
        offline_after: Duration::from_millis(OFFLINE),
        retry: Retry::new(first, longest, Attempts::AtMost(3)).expect("a policy"),
        tier_wait: Duration::from_secs(120),
        cut: None,
    }
}

/// A machine and its clock.
struct Bench {
    machine: Machine,
    now: u64,
}

impl Bench {
    fn new(start: Start, services: &[&str]) -> Self {
        let services: Vec<_> = services.iter().map(|name| (*name, ServicePolicy::default())).collect();
        Self::with(start, &services, policy())
    }

    fn with(start: Start, services: &[(&str, ServicePolicy)], policy: Policy) -> Self {
        let services = services.iter().map(|(name, expected)| (service(name), expected.clone()));
        Self { machine: Machine::start(start, services, policy, 7, Time(0)), now: 0 }
    }

    /// A round whose `open` record is in the log.
    fn capturing(services: &[&str]) -> Self {
        let mut bench = Self::new(Start::Fresh, services);
        assert_eq!(bench.effects(), [Effect::AppendOpen]);
        assert_eq!(bench.on(Event::Opened), [Effect::Publish]);
        bench
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.machine.poll_effect()).map(plain).collect()
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        self.machine.handle(event, Time(self.now));
        self.effects()
    }

    /// Goes to the next deadline and lets it act.
    fn wait(&mut self) -> (Deadline, Vec<Effect>) {
        let (due, deadline) = self.machine.poll_timeout().expect("it waits for something");
        assert!(due.0 >= self.now, "{deadline:?} lies in the past");
        self.now = due.0;
        self.machine.handle_timeout(Time(self.now));
        (deadline, self.effects())
    }

    fn hello(&mut self, name: &str, attempt: u32) -> Vec<Effect> {
        self.on(Event::Hello { service: service(name), attempt })
    }

    fn stored(&mut self, name: &str, attempt: u32, number: u8) -> Vec<Effect> {
        self.on(Event::Stored {
            service: service(name),
            attempt,
            receipt: receipt(number),
            receipt_size: SIZE,
        })
    }

    fn failed(&mut self, name: &str, attempt: u32, permanent: bool) -> Vec<Effect> {
        self.on(Event::Failed { service: service(name), attempt, failure: failure(permanent) })
    }

    fn checked(&mut self, name: &str, number: u8, result: Result<(), CheckFailure>) -> Vec<Effect> {
        let result = result.map(|()| Box::new(checked_slice(&service(name), receipt(number))));
        self.on(Event::Checked { service: service(name), receipt: receipt(number), result })
    }

    /// Lets a service's slice count.
    fn settles(&mut self, name: &str, number: u8) -> Vec<Effect> {
        assert_eq!(self.hello(name, 1), [welcome(name, Some(1))]);
        assert_eq!(self.stored(name, 1, number), [check(name, number, 1)]);
        let mut effects = self.checked(name, number, Ok(()));
        assert_eq!(effects.remove(0), acknowledge(name, 1, Some(number), Verdict::Accepted));
        effects
    }
}

/// Without the story, which has a test of its own.
fn plain(mut effect: Effect) -> Effect {
    if let Effect::WriteManifest { slices, absent, .. } = &mut effect {
        for slice in slices {
            (slice.timing, slice.tries) = (None, Vec::new());
        }
        absent.iter_mut().for_each(|absent| absent.tries.clear());
    } else if let Effect::Reread { slices } = &mut effect {
        for slice in slices {
            (slice.timing, slice.tries) = (None, Vec::new());
        }
    } else if let Effect::AppendEnd { slices, absent, .. } = &mut effect {
        slices.clear();
        absent.clear();
    }
    effect
}

fn end(outcome: Outcome, reason: &str) -> Effect {
    let reason = reason.to_owned();
    Effect::AppendEnd { outcome, reason, slices: Vec::new(), absent: Vec::new(), cut: None }
}

fn welcome(name: &str, attempt: Option<u32>) -> Effect {
    Effect::Welcome { service: service(name), attempt }
}

fn check(name: &str, number: u8, attempt: u32) -> Effect {
    Effect::Check { service: service(name), receipt: receipt(number), receipt_size: SIZE, attempt }
}

fn acknowledge(name: &str, attempt: u32, number: Option<u8>, verdict: Verdict) -> Effect {
    Effect::Acknowledge { service: service(name), attempt, receipt: number.map(receipt), verdict }
}

fn retry(name: &str, attempt: u32) -> Effect {
    Effect::PublishRetry { service: service(name), attempt }
}

fn slice(name: &str, number: u8) -> ManifestSlice {
    ManifestSlice { attempts: 1, ..checked_slice(&service(name), receipt(number)) }
}

fn refused() -> CheckFailure {
    CheckFailure::Refused(failure(false))
}

#[test]
fn a_complete_round_has_its_effects_in_order() {
    let mut round = Bench::capturing(&["dns", "web"]);
    assert_eq!(round.settles("web", 2), []);
    let slices = vec![slice("dns", 1), slice("web", 2)];
    let (outcome, absent) = (Outcome::Complete, Vec::new());
    let written = Effect::WriteManifest { outcome, slices: slices.clone(), absent, cut: None };
    assert_eq!(round.settles("dns", 1), [written]);
    let (manifest, manifest_size) = (receipt(9), 500);
    let commit = Effect::AppendCommit { outcome, manifest, manifest_size };
    assert_eq!(round.on(Event::ManifestWritten { manifest, manifest_size }), [commit]);
    assert_eq!(round.on(Event::Committed), [Effect::Publish, Effect::Reread { slices }]);
    let (objects, bytes) = (4, 900);
    assert_eq!(round.on(Event::Reread { objects, bytes }), [Effect::AppendVerified { objects, bytes }]);
    assert_eq!(round.on(Event::VerifiedAppended), [Effect::Publish, Effect::Finished]);
    assert_eq!(*round.machine.phase(), Phase::Ended { outcome, verified: true });
    assert_eq!(round.machine.poll_timeout(), None);
}

#[test]
fn an_absent_agent_is_asked_again_and_given_up() {
    let mut round = Bench::capturing(&["dns", "web"]);
    assert_eq!(round.settles("web", 2), []);
    for attempt in 2..=3 {
        assert_eq!(round.wait(), (Deadline::Recruit(service("dns")), vec![]));
        let asked = round.now;
        assert_eq!(round.wait(), (Deadline::Backoff(service("dns")), vec![retry("dns", attempt)]));
        let full = 1_000 << (attempt - 1);
        assert!((full / 2..=full).contains(&(round.now - asked)), "attempt {attempt}: {}", round.now - asked);
    }
    let (deadline, effects) = round.wait();
    assert_eq!(deadline, Deadline::Recruit(service("dns")));
    let reason = "no hello within 30 s".to_owned();
    let absent = vec![Absentee {
        service: service("dns"),
        attempts: 3,
        code: Code::Agent01,
        reason,
        excuse: None,
        tries: vec![],
    }];
    let slices = vec![slice("web", 2)];
    assert_eq!(effects, [Effect::WriteManifest { outcome: Outcome::Partial, slices, absent, cut: None }]);
    assert_eq!(round.hello("dns", 1), [welcome("dns", None)]);
}

#[test]
fn failures_are_tried_again_unless_permanent() {
    let mut round = Bench::capturing(&["dns", "web"]);
    round.hello("dns", 1);
    assert_eq!(round.failed("dns", 1, false), [acknowledge("dns", 1, None, Verdict::Accepted)]);
    assert_eq!(round.wait(), (Deadline::Backoff(service("dns")), vec![retry("dns", 2)]));
    round.hello("web", 1);
    assert_eq!(round.failed("web", 1, true), [acknowledge("web", 1, None, Verdict::Accepted)]);
    let web = round.machine.members().find(|m| *m.service == service("web")).map(|m| m.phase.clone());
    assert_eq!(web, Some(MemberPhase::Absent(failure(true))));
    assert_eq!(round.hello("dns", 2), [welcome("dns", Some(2))]);
    let effects = round.failed("dns", 2, true);
    let end = end(Outcome::Failed, "dns: AGENT-03 source locked");
    assert_eq!(effects, [acknowledge("dns", 2, None, Verdict::Accepted), end]);
    assert_eq!(round.on(Event::EndAppended), [Effect::Publish, Effect::Finished]);
}

#[test]
fn a_late_failure_repeats_the_order_for_the_attempt_that_is_wanted() {
    let mut round = Bench::capturing(&["dns"]);
    assert_eq!(round.hello("dns", 2), [welcome("dns", Some(2))]);
    let noted = acknowledge("dns", 1, None, Verdict::Accepted);
    assert_eq!(round.failed("dns", 1, false), [noted, retry("dns", 2)]);
}

#[test]
fn what_a_check_refuses_is_made_again_and_never_checked_twice() {
    let mut round = Bench::capturing(&["dns"]);
    round.hello("dns", 1);
    round.stored("dns", 1, 1);
    let no = || Verdict::Refused { reason: "source locked".to_owned() };
    assert_eq!(round.checked("dns", 1, Err(refused())), [acknowledge("dns", 1, Some(1), no())]);
    // The answer was lost: its notice comes again, and costs no attempt.
    for _ in 0..5 {
        assert_eq!(round.stored("dns", 1, 1), [acknowledge("dns", 1, Some(1), no())]);
    }
    assert_eq!(round.wait(), (Deadline::Backoff(service("dns")), vec![retry("dns", 2)]));
    assert_eq!(round.stored("dns", 2, 2), [check("dns", 2, 2)]);
    assert_eq!(round.checked("dns", 2, Ok(())).len(), 2);
}

#[test]
fn a_share_that_does_not_answer_costs_no_attempt() {
    let mut round = Bench::capturing(&["dns"]);
    round.hello("dns", 2);
    // The receipt of an attempt before the one that is wanted counts as well, and keeps its number.
    assert_eq!(round.stored("dns", 1, 1), [check("dns", 1, 1)]);
    for _ in 0..10 {
        let unavailable = CheckFailure::Unavailable { reason: "share unreachable".to_owned() };
        assert_eq!(round.checked("dns", 1, Err(unavailable)), []);
        assert_eq!(round.wait(), (Deadline::Recheck(service("dns")), vec![check("dns", 1, 1)]));
    }
    assert_eq!(round.checked("dns", 1, Ok(()))[0], acknowledge("dns", 1, Some(1), Verdict::Accepted));
}

#[test]
fn a_silent_agent_is_lost_and_one_that_works_is_not() {
    let mut round = Bench::capturing(&["dns"]);
    round.hello("dns", 1);
    for _ in 0..5 {
        round.now += OFFLINE - 1;
        round.machine.handle_timeout(Time(round.now));
        assert_eq!(round.on(Event::Seen { service: service("dns") }), []);
    }
    let seen = round.now;
    while round.machine.members().any(|m| *m.phase == MemberPhase::Working) {
        assert_eq!(round.wait(), (Deadline::Silence(service("dns")), vec![]));
    }
    assert_eq!(round.now, seen + OFFLINE);
    let member = round.machine.members().next().expect("one");
    let MemberPhase::BackingOff { failure } = member.phase else { panic!("{:?}", member.phase) };
    assert_eq!((failure.code, member.attempt), (Code::Agent02, 2));
    // It was only unheard: the slice that it brings counts.
    assert_eq!(round.stored("dns", 1, 1), [check("dns", 1, 1)]);
}

#[test]
fn the_deadline_commits_what_is_there_and_names_the_stage_of_the_rest() {
    let mut round = Bench::capturing(&["dns", "log", "mail", "web"]);
    assert_eq!(round.settles("web", 4), []);
    round.now = DEADLINE - 10;
    round.hello("dns", 1);
    round.hello("log", 1);
    round.stored("log", 1, 2);
    round.hello("mail", 1);
    round.failed("mail", 1, false);
    while round.machine.wants_slices() {
        round.on(Event::Seen { service: service("dns") });
        let (due, _) = round.machine.poll_timeout().expect("it waits");
        assert!(due.0 <= DEADLINE, "the round's own deadline is never late");
        round.now = round.now.max(due.0);
        round.machine.handle_timeout(Time(round.now));
    }
    assert_eq!(round.now, DEADLINE);
    let effects = round.effects();
    let Some(Effect::WriteManifest { outcome: Outcome::Partial, slices, absent, .. }) = effects.last() else {
        panic!("{effects:?}")
    };
    assert_eq!(*slices, [slice("web", 4)]);
    let told: Vec<_> = absent.iter().map(|a| (a.service.as_str(), a.code, a.reason.clone())).collect();
    let heard = "last heard of 10 ms before";
    let late = format!("retrying, attempt 2, {heard}; attempt 1 failed: AGENT-03 source locked");
    let expected = [
        ("dns", format!("capturing, attempt 1, {heard}")),
        ("log", format!("checking, attempt 1, {heard}")),
        ("mail", late),
    ];
    let expected =
        expected.map(|(name, stage)| (name, Code::Round02, format!("deadline passed while {stage}")));
    assert_eq!(told, expected);
    assert_eq!(round.checked("log", 2, Ok(())), []);
    assert_eq!(round.stored("dns", 1, 1), [acknowledge("dns", 1, Some(1), Verdict::Over)]);
}

#[test]
fn an_open_record_that_never_lands_ends_the_round() {
    let mut round = Bench::new(Start::Fresh, &["dns"]);
    round.effects();
    round.now = DEADLINE;
    let (deadline, effects) = round.wait();
    assert_eq!(deadline, Deadline::Round);
    assert!(matches!(&effects[..], [Effect::AppendEnd { outcome: Outcome::Failed, .. }]), "{effects:?}");
    let mut empty = Bench::new(Start::Fresh, &[]);
    empty.effects();
    let effects = empty.on(Event::Opened);
    assert!(matches!(&effects[1..], [Effect::AppendEnd { outcome: Outcome::Failed, .. }]), "{effects:?}");
}

#[test]
fn a_round_is_cancelled_until_its_commit_is_under_way() {
    let cancel = || Event::Cancel { reason: "by an operator".to_owned() };
    let end = end(Outcome::Cancelled, "by an operator");
    let mut opening = Bench::new(Start::Fresh, &["dns"]);
    opening.effects();
    assert_eq!(opening.on(cancel()), std::slice::from_ref(&end));
    let mut round = Bench::capturing(&["dns"]);
    round.hello("dns", 1);
    round.stored("dns", 1, 1);
    assert_eq!(round.on(cancel()), [end]);
    // The check that was under way changes nothing any more, whatever it finds.
    for result in [Ok(()), Err(refused()), Err(CheckFailure::Unavailable { reason: String::new() })] {
        assert_eq!(round.checked("dns", 1, result), []);
    }
    assert_eq!(round.machine.poll_timeout(), None);
    assert_eq!(round.on(Event::EndAppended), [Effect::Publish, Effect::Finished]);
    let mut late = Bench::capturing(&["dns"]);
    late.settles("dns", 1);
    late.on(Event::ManifestWritten { manifest: receipt(9), manifest_size: 5 });
    assert_eq!(late.on(cancel()), []);
}

#[test]
fn stages_that_fail_are_asked_for_again() {
    let mut round = Bench::new(Start::Fresh, &["dns"]);
    let mut asked = round.effects();
    let answers = [
        Event::Opened,
        Event::ManifestWritten { manifest: receipt(9), manifest_size: 5 },
        Event::Committed,
        Event::Reread { objects: 1, bytes: 1 },
        Event::VerifiedAppended,
    ];
    for answer in answers {
        for _ in 0..3 {
            assert_eq!(round.on(Event::StageFailed { reason: "share unreachable".to_owned() }), []);
            assert_eq!(round.wait(), (Deadline::Stage, asked[asked.len() - 1..].to_vec()));
        }
        asked = round.on(answer);
        if round.machine.wants_slices() {
            asked = round.settles("dns", 1);
        }
    }
    assert_eq!(*round.machine.phase(), Phase::Ended { outcome: Outcome::Complete, verified: true });
}

#[test]
fn duplicates_and_late_events_change_nothing() {
    let mut round = Bench::capturing(&["dns", "web"]);
    assert_eq!(round.on(Event::Opened), []);
    round.hello("dns", 1);
    assert_eq!(round.hello("dns", 1), [welcome("dns", Some(1))]);
    round.stored("dns", 1, 1);
    assert_eq!(round.stored("dns", 1, 1), []);
    assert_eq!(round.checked("dns", 2, Ok(())), []);
    assert_eq!(round.checked("dns", 1, Ok(())).len(), 1);
    assert_eq!(round.checked("dns", 1, Err(refused())), []);
    assert_eq!(round.stored("dns", 1, 1), [acknowledge("dns", 1, Some(1), Verdict::Accepted)]);
    assert_eq!(round.stored("dns", 1, 2), [acknowledge("dns", 1, Some(2), Verdict::Over)]);
    assert_eq!(round.failed("dns", 1, true), [acknowledge("dns", 1, None, Verdict::Accepted)]);
    assert_eq!(round.hello("dns", 1), [welcome("dns", None)]);
    assert_eq!(round.hello("nobody", 1), []);
    for early in [
        Event::Committed,
        Event::VerifiedAppended,
        Event::EndAppended,
        Event::Reread { objects: 0, bytes: 0 },
    ] {
        assert_eq!(round.on(early), []);
    }
    let stage = Event::StageFailed { reason: String::new() };
    assert_eq!(round.on(stage), []);
    assert!(round.machine.wants_slices());
}

#[test]
fn no_attempt_number_of_an_agent_breaks_anything() {
    let mut round = Bench::capturing(&["dns", "web"]);
    assert_eq!(round.hello("dns", u32::MAX), [welcome("dns", Some(1))]);
    round.failed("dns", u32::MAX, true);
    round.failed("dns", 1, false);
    let dns = round.machine.members().next().map(|m| m.phase.clone());
    assert_eq!(dns, Some(MemberPhase::BackingOff { failure: failure(false) }));
}

#[test]
fn a_resumed_round_takes_what_it_finds() {
    let mut round = Bench::new(Start::Resume, &["dns"]);
    assert_eq!(round.effects(), [Effect::Publish, Effect::FindReceipts]);
    assert_eq!(round.stored("dns", 1, 1), [check("dns", 1, 1)]);
    assert_eq!(round.stored("dns", 2, 2), [check("dns", 2, 2)]);
    assert_eq!(round.checked("dns", 1, Err(refused())), []);
    assert_eq!(round.checked("dns", 2, Ok(())).len(), 2);
    let slices = vec![slice("dns", 1)];
    let machine = Machine::verify(Outcome::Complete, slices.clone(), policy(), 7, Time(0));
    let mut committed = Bench { machine, now: 0 };
    assert_eq!(committed.effects(), [Effect::Publish, Effect::Reread { slices }]);
    assert_eq!(committed.machine.poll_timeout(), None);
    let damage = Event::RereadFailed { reason: "a pack is damaged".to_owned() };
    assert_eq!(committed.on(damage), [Effect::Publish, Effect::Finished]);
}

fn disowned(permanent: bool) -> Failure {
    Failure { code: Code::Key03, reason: "its agent was revoked by log record 9".to_owned(), permanent }
}

fn absent(name: &str, attempts: u32) -> Absentee {
    let Failure { code, reason, .. } = disowned(true);
    Absentee { service: service(name), attempts, code, reason, excuse: None, tries: vec![] }
}

#[test]
fn what_a_revoked_agent_gave_does_not_count() {
    let (outcome, slices) = (Outcome::Partial, vec![slice("web", 2)]);
    let partial = Effect::WriteManifest { outcome, slices, absent: vec![absent("dns", 1)], cut: None };
    let gone = || Event::Disowned { service: service("dns"), failure: disowned(true) };

    // At work, and with its slice stored already while another is still waited for.
    for stored in [false, true] {
        let mut round = Bench::capturing(&["dns", "web"]);
        if stored {
            assert_eq!(round.settles("dns", 1), []);
        } else {
            assert_eq!(round.hello("dns", 1), [welcome("dns", Some(1))]);
        }
        assert_eq!(round.on(gone()), []);
        assert_eq!(round.on(gone()), [], "twice is once");
        assert_eq!(round.settles("web", 2), std::slice::from_ref(&partial));
    }

    // The manifest with its slice is being written, or committed.
    for committing in [false, true] {
        let mut round = Bench::capturing(&["dns", "web"]);
        assert_eq!(round.settles("dns", 1), []);
        assert_eq!(round.settles("web", 2).len(), 1);
        let written = || Event::ManifestWritten { manifest: receipt(9), manifest_size: 500 };
        if committing {
            assert_eq!(round.on(written()).len(), 1);
            assert_eq!(round.on(gone()), std::slice::from_ref(&partial));
        } else {
            // The answer to the first manifest must not be taken for that to the second.
            assert_eq!(round.on(gone()), []);
            assert_eq!(round.on(written()), std::slice::from_ref(&partial));
        }
        let (outcome, manifest) = (Outcome::Partial, receipt(9));
        assert_eq!(round.on(written()), [Effect::AppendCommit { outcome, manifest, manifest_size: 500 }]);
    }

    // The manifest with its slice, the only one, could not be written.
    let mut round = Bench::capturing(&["dns"]);
    assert_eq!(round.settles("dns", 1).len(), 1);
    assert_eq!(round.on(gone()), []);
    let failed = Event::StageFailed { reason: "share full".to_owned() };
    assert!(matches!(round.on(failed)[..], [Effect::AppendEnd { outcome: Outcome::Failed, .. }]));

    // Committed: it counts by the position of the commit.
    let mut round = Bench::capturing(&["dns"]);
    assert_eq!(round.settles("dns", 1).len(), 1);
    assert_eq!(round.on(Event::ManifestWritten { manifest: receipt(9), manifest_size: 500 }).len(), 1);
    assert_eq!(round.on(Event::Committed).len(), 2);
    assert_eq!(round.on(gone()), []);
    assert_eq!(*round.machine.phase(), Phase::Verifying { outcome: Outcome::Complete });

    // Before the round's record is in the log; and nobody else is there.
    let mut round = Bench::new(Start::Fresh, &["dns"]);
    assert_eq!(round.effects(), [Effect::AppendOpen]);
    assert_eq!(round.on(gone()), []);
    let end = end(Outcome::Failed, "dns: KEY-03 its agent was revoked by log record 9");
    assert_eq!(round.on(Event::Opened), [Effect::Publish, end]);
    assert_eq!(round.on(Event::EndAppended), [Effect::Publish, Effect::Finished]);
    assert_eq!(round.machine.poll_timeout(), None);
}

#[test]
fn what_is_said_while_the_manifest_is_written_changes_nothing_in_it() {
    let policy_of = |present_only| ServicePolicy {
        expected: if present_only { Expected::WhilePresent } else { Expected::Always },
        ..ServicePolicy::default()
    };
    let services = [(service("dns"), policy_of(false)), (service("web"), policy_of(true))];
    let machine = Machine::start(Start::Fresh, services, policy(), 7, Time(0));
    let mut round = Bench { machine, now: 0 };
    round.on(Event::Opened);
    round.effects();
    assert_eq!(round.settles("dns", 1), []);
    let (deadline, written) = round.wait();
    assert_eq!(deadline, Deadline::Recruit(service("web")));
    assert!(matches!(written[..], [Effect::WriteManifest { outcome: Outcome::Complete, .. }]));
    // It is there after all, and says so in every way: too late.
    assert_eq!(round.hello("web", 1), [welcome("web", None)]);
    assert_eq!(round.stored("web", 1, 2), [acknowledge("web", 1, Some(2), Verdict::Over)]);
    assert_eq!(round.failed("web", 1, true), [acknowledge("web", 1, None, Verdict::Accepted)]);
    let (outcome, manifest) = (Outcome::Complete, receipt(9));
    assert_eq!(
        round.on(Event::ManifestWritten { manifest, manifest_size: 500 }),
        [Effect::AppendCommit { outcome, manifest, manifest_size: 500 }]
    );
}

#[test]
fn a_new_agent_of_the_service_is_asked_in_the_same_round() {
    let mut round = Bench::capturing(&["dns"]);
    assert_eq!(round.hello("dns", 1), [welcome("dns", Some(1))]);
    let replaced = Event::Disowned { service: service("dns"), failure: disowned(false) };
    assert_eq!(round.on(replaced), []);
    assert_eq!(round.wait(), (Deadline::Backoff(service("dns")), vec![retry("dns", 2)]));
    assert_eq!(round.hello("dns", 2), [welcome("dns", Some(2))]);
    assert_eq!(round.stored("dns", 2, 1), [check("dns", 1, 2)]);
    assert_eq!(round.checked("dns", 1, Ok(())).len(), 2);
}

#[test]
fn an_agent_that_claims_an_attempt_beyond_all_uses_none_up() {
    let mut round = Bench::capturing(&["dns"]);
    assert_eq!(round.hello("dns", 77), [welcome("dns", Some(1))]);
    assert_eq!(round.stored("dns", 77, 1), [check("dns", 1, 77)]);
    round.checked("dns", 1, Err(refused()));
    assert_eq!(round.wait(), (Deadline::Backoff(service("dns")), vec![retry("dns", 2)]));
    assert_eq!(round.hello("dns", u32::MAX), [welcome("dns", Some(2))]);
    // It did not fail either: the attempt that is wanted is asked for again.
    let refused = [acknowledge("dns", u32::MAX, None, Verdict::Over), retry("dns", 2)];
    assert_eq!(round.failed("dns", u32::MAX, true), refused);
    round.failed("dns", 2, false);
    assert_eq!(round.wait(), (Deadline::Backoff(service("dns")), vec![retry("dns", 3)]));
}
