//! The machine by the effects that it emits.

use std::time::Duration;

use super::{Deadline, Effect, EpochView, Event, Lease, LeaseSeen, LogView, Machine, Phase, Policy, Stop};
use crate::ids::{KeyId, Nonce};
use crate::time::Time;

const LEASE: Duration = Duration::from_secs(20);
const TAKEOVER: Duration = Duration::from_secs(60);

fn key(number: u8) -> KeyId {
    KeyId::from_bytes([number; 32])
}

fn instance(number: u8) -> Nonce {
    Nonce::from_bytes([number; 16])
}

fn epoch(epoch: u64, holder: u8) -> EpochView {
    EpochView { epoch, holder: key(holder), instance: instance(holder), counts: true }
}

fn log(epoch: Option<EpochView>) -> LogView {
    LogView { epoch, settled: 0, member: true }
}

/// Coordinator 1, and what it wanted at its very start.
fn started() -> Machine {
    let policy = Policy { lease: LEASE, takeover: TAKEOVER, look: Duration::from_secs(2) };
    let mut machine = Machine::start(key(1), instance(1), policy, 7, Time(0));
    assert_eq!(effects(&mut machine), [Effect::ReadLog, Effect::ReadLease]);
    machine
}

fn effects(machine: &mut Machine) -> Vec<Effect> {
    std::iter::from_fn(|| machine.poll_effect()).collect()
}

/// Answers everything that it asks until `until`, as a world would in which nothing changes.
fn quiet(machine: &mut Machine, view: LogView, seen: Option<LeaseSeen>, until: Time) -> Vec<(Time, Effect)> {
    let mut done = Vec::new();
    while let Some((due, _)) = machine.poll_timeout().filter(|(due, _)| *due <= until) {
        machine.handle_timeout(due);
        while let Some(effect) = machine.poll_effect() {
            match effect {
                Effect::ReadLog => machine.handle(Event::LogRead { asked: due, log: view }, due),
                Effect::ReadLease => machine.handle(Event::LeaseRead { seen }, due),
                other @ (Effect::WriteLease { .. }
                | Effect::AppendEpoch { .. }
                | Effect::Lead { .. }
                | Effect::StepDown { .. }
                | Effect::Stop(_)) => done.push((due, other)),
            }
        }
        if !done.is_empty() {
            break;
        }
    }
    done
}

/// Coordinator 1 at the head of the log, since time 0.
fn leader() -> Machine {
    let mut machine = started();
    machine.handle(Event::LogRead { asked: Time(0), log: log(None) }, Time(0));
    machine.handle(Event::LeaseRead { seen: None }, Time(0));
    let lease = Lease::of(key(1), instance(1));
    assert_eq!(effects(&mut machine), [Effect::WriteLease { expected: None, lease }]);
    machine.handle(Event::LeaseWritten { asked: Time(0), revision: 1 }, Time(0));
    assert_eq!(effects(&mut machine), [Effect::ReadLog]);
    machine.handle(Event::LogRead { asked: Time(0), log: log(None) }, Time(0));
    assert_eq!(effects(&mut machine), [Effect::AppendEpoch { epoch: 1 }]);
    machine.handle(Event::EpochAppended, Time(0));
    let rewrite = Effect::WriteLease { expected: Some(1), lease };
    assert_eq!(effects(&mut machine), [Effect::Lead { epoch: 1 }, rewrite]);
    machine.handle(Event::LeaseWritten { asked: Time(0), revision: 2 }, Time(0));
    assert_eq!(effects(&mut machine), []);
    machine
}

#[test]
fn the_first_coordinator_leads_at_once_and_writes_its_lease_three_times_in_each() {
    let mut machine = leader();
    assert_eq!(machine.phase(), &Phase::Leader { epoch: 1 });
    assert_eq!(machine.trusted_until(), Some(Time(20_000)));
    let view = log(Some(epoch(1, 1)));
    let done = quiet(&mut machine, view, None, Time(10_000));
    let lease = Lease::of(key(1), instance(1));
    assert_eq!(done, [(Time(6_666), Effect::WriteLease { expected: Some(2), lease })]);
}

#[test]
fn a_lease_that_stands_still_is_given_up_after_a_whole_one_and_the_wait_for_a_takeover() {
    let mut machine = started();
    let view = log(Some(epoch(3, 2)));
    let held = Some(LeaseSeen { revision: 9, lease: Some(Lease::of(key(2), instance(2))) });
    machine.handle(Event::LogRead { asked: Time(0), log: view }, Time(0));
    machine.handle(Event::LeaseRead { seen: held }, Time(0));
    let done = quiet(&mut machine, view, held, Time(200_000));
    let lease = Lease::of(key(1), instance(1));
    assert_eq!(done, [(Time(60_000), Effect::WriteLease { expected: Some(9), lease })]);

    // One that is written again and again is never given up.
    let mut machine = started();
    machine.handle(Event::LogRead { asked: Time(0), log: view }, Time(0));
    for revision in 0..100 {
        let held = Some(LeaseSeen { revision, lease: Some(Lease::of(key(2), instance(2))) });
        let now = Time(revision * 7_000);
        machine.handle(Event::LeaseRead { seen: held }, now);
        assert_eq!(quiet(&mut machine, view, held, now.after(Duration::from_millis(6_900))), []);
    }
}

#[test]
fn silence_while_the_bus_is_away_counts_for_nothing() {
    let mut machine = started();
    let view = log(Some(epoch(3, 2)));
    let held = Some(LeaseSeen { revision: 9, lease: Some(Lease::of(key(2), instance(2))) });
    machine.handle(Event::LogRead { asked: Time(0), log: view }, Time(0));
    machine.handle(Event::LeaseRead { seen: held }, Time(0));
    machine.handle_timeout(Time(7_000));
    assert_eq!(effects(&mut machine), [Effect::ReadLog, Effect::ReadLease]);
    machine.handle(Event::LogRead { asked: Time(7_000), log: view }, Time(7_000));
    machine.handle(Event::LeaseUnknown, Time(80_000));
    // It is back, and the lease looks as before: it is watched for a whole lease again.
    let done = {
        machine.handle_timeout(Time(90_000));
        let asked = effects(&mut machine);
        assert!(asked.contains(&Effect::ReadLease), "{asked:?}");
        machine.handle(Event::LogRead { asked: Time(90_000), log: view }, Time(90_000));
        machine.handle(Event::LeaseRead { seen: held }, Time(90_000));
        quiet(&mut machine, view, held, Time(200_000))
    };
    assert!(done[0].0 >= Time(110_000), "{done:?}");
}

#[test]
fn a_holder_that_starts_again_goes_on_at_once_and_one_that_ended_well_is_not_waited_for() {
    let mut machine = started();
    let mut former = epoch(3, 1);
    former.instance = instance(99);
    let held = Some(LeaseSeen { revision: 9, lease: Some(Lease::of(key(1), instance(99))) });
    machine.handle(Event::LogRead { asked: Time(5), log: log(Some(former)) }, Time(5));
    machine.handle(Event::LeaseRead { seen: held }, Time(5));
    let lease = Lease::of(key(1), instance(1));
    assert_eq!(effects(&mut machine), [Effect::WriteLease { expected: Some(9), lease }]);

    let mut machine = started();
    let view = log(Some(epoch(3, 2)));
    machine.handle(Event::LogRead { asked: Time(0), log: view }, Time(0));
    let given = Some(LeaseSeen { revision: 9, lease: Some(Lease::of(key(2), instance(2)).given_back()) });
    let held = Some(LeaseSeen { revision: 8, lease: Some(Lease::of(key(2), instance(2))) });
    machine.handle(Event::LeaseRead { seen: held }, Time(0));
    assert_eq!(quiet(&mut machine, view, held, Time(19_000)), []);
    let done = quiet(&mut machine, view, given, Time(70_000));
    assert_eq!(done, [(Time(60_000), Effect::WriteLease { expected: Some(9), lease })]);
}

#[test]
fn a_candidate_that_meets_a_foreign_epoch_appends_nothing() {
    let mut machine = started();
    machine.handle(Event::LogRead { asked: Time(0), log: log(None) }, Time(0));
    machine.handle(Event::LeaseRead { seen: None }, Time(0));
    machine.handle(Event::LeaseWritten { asked: Time(0), revision: 1 }, Time(0));
    let _ = effects(&mut machine);
    machine.handle(Event::LogRead { asked: Time(1), log: log(Some(epoch(1, 2))) }, Time(1));
    assert_eq!(machine.phase(), &Phase::Follower);
    assert_eq!(effects(&mut machine), []);

    // What was read before the lease was ours is read again.
    let mut machine = started();
    machine.handle(Event::LogRead { asked: Time(0), log: log(None) }, Time(0));
    machine.handle(Event::LeaseRead { seen: None }, Time(0));
    let _ = effects(&mut machine);
    machine.handle_timeout(Time(2_000));
    assert_eq!(effects(&mut machine), [Effect::ReadLog]);
    machine.handle(Event::LeaseWritten { asked: Time(2_010), revision: 1 }, Time(2_020));
    machine.handle(Event::LogRead { asked: Time(2_000), log: log(None) }, Time(2_030));
    assert_eq!(effects(&mut machine), [Effect::ReadLog]);
    machine.handle(Event::LogRead { asked: Time(2_030), log: log(None) }, Time(2_040));
    assert_eq!(effects(&mut machine), [Effect::AppendEpoch { epoch: 1 }]);
}

#[test]
fn a_candidate_that_slept_longer_than_its_lease_after_the_claim_appends_nothing() {
    let read_at = |now| {
        let mut machine = started();
        machine.handle(Event::LogRead { asked: Time(0), log: log(None) }, Time(0));
        machine.handle(Event::LeaseRead { seen: None }, Time(0));
        machine.handle(Event::LeaseWritten { asked: Time(0), revision: 1 }, Time(0));
        let _ = effects(&mut machine);
        machine.handle(Event::LogRead { asked: Time(1), log: log(None) }, now);
        let appends = effects(&mut machine).contains(&Effect::AppendEpoch { epoch: 1 });
        (appends, machine.phase().clone())
    };
    let in_time = Phase::Appending { epoch: 1, since: Time(19_999) };
    assert_eq!(read_at(Time(19_999)), (true, in_time));
    assert_eq!(read_at(Time(20_000)), (false, Phase::Follower));
}

#[test]
fn an_append_that_got_through_although_it_failed_leads_and_a_lost_one_is_tried_again() {
    let append = || {
        let mut machine = started();
        machine.handle(Event::LogRead { asked: Time(0), log: log(None) }, Time(0));
        machine.handle(Event::LeaseRead { seen: None }, Time(0));
        machine.handle(Event::LeaseWritten { asked: Time(0), revision: 1 }, Time(0));
        let _ = effects(&mut machine);
        machine.handle(Event::LogRead { asked: Time(0), log: log(None) }, Time(0));
        assert_eq!(effects(&mut machine), [Effect::AppendEpoch { epoch: 1 }]);
        machine
    };
    let mut machine = append();
    machine.handle(Event::EpochFailed, Time(10));
    assert_eq!(effects(&mut machine), [Effect::ReadLog]);
    machine.handle(Event::LogRead { asked: Time(10), log: log(Some(epoch(1, 1))) }, Time(11));
    assert_eq!(effects(&mut machine)[0], Effect::Lead { epoch: 1 });

    let mut machine = append();
    machine.handle(Event::EpochLost, Time(10));
    assert_eq!(effects(&mut machine), [Effect::ReadLog]);
    machine.handle(Event::LogRead { asked: Time(10), log: log(None) }, Time(11));
    assert_eq!(effects(&mut machine), [Effect::AppendEpoch { epoch: 1 }]);
}

#[test]
fn a_leader_steps_down_at_a_foreign_epoch_and_follows() {
    let mut machine = leader();
    machine.handle(Event::LogRead { asked: Time(1), log: log(Some(epoch(2, 2))) }, Time(1));
    assert_eq!(effects(&mut machine), [Effect::StepDown { epoch: 2 }]);
    assert_eq!((machine.phase(), machine.trusted_until()), (&Phase::Follower, None));
}

#[test]
fn a_leader_that_slept_longer_than_its_lease_may_do_nothing_before_it_has_read_the_log() {
    let mut machine = leader();
    let woken = Time(50_000);
    // Answers that were on their way when it fell asleep prove nothing.
    machine.handle(Event::LeaseWritten { asked: Time(100), revision: 3 }, woken);
    assert!(machine.trusted_until().is_some_and(|until| until < woken));
    machine.handle_timeout(woken);
    assert!(effects(&mut machine).contains(&Effect::ReadLog));
    let mut followed = leader();
    machine.handle(Event::LogRead { asked: woken, log: log(Some(epoch(1, 1))) }, woken);
    assert_eq!(machine.trusted_until(), Some(woken.after(LEASE)));

    followed.handle_timeout(woken);
    let _ = effects(&mut followed);
    followed.handle(Event::LogRead { asked: woken, log: log(Some(epoch(2, 2))) }, woken);
    assert_eq!(effects(&mut followed), [Effect::StepDown { epoch: 2 }]);
}

#[test]
fn a_leader_whose_lease_is_gone_reads_the_log_and_takes_back_only_a_free_one() {
    let mut machine = leader();
    machine.handle_timeout(Time(6_700));
    let _ = effects(&mut machine);
    machine.handle(Event::LogRead { asked: Time(6_700), log: log(Some(epoch(1, 1))) }, Time(6_700));
    machine.handle(Event::LeaseLost, Time(6_710));
    assert_eq!(effects(&mut machine), [Effect::ReadLease, Effect::ReadLog]);
    machine.handle(Event::LogRead { asked: Time(6_710), log: log(Some(epoch(1, 1))) }, Time(6_720));
    // A candidate has it: not fought for. It expires like any other.
    let held = Some(LeaseSeen { revision: 4, lease: Some(Lease::of(key(2), instance(2))) });
    machine.handle(Event::LeaseRead { seen: held }, Time(6_720));
    let done = quiet(&mut machine, log(Some(epoch(1, 1))), held, Time(90_000));
    assert!(done[0].0 >= Time(26_720), "{done:?}");

    let mut machine = leader();
    machine.handle_timeout(Time(6_700));
    let _ = effects(&mut machine);
    machine.handle(Event::LeaseLost, Time(6_710));
    machine.handle(Event::LeaseRead { seen: None }, Time(6_720));
    let done = quiet(&mut machine, log(Some(epoch(1, 1))), None, Time(9_000));
    assert!(
        matches!(done[0], (at, Effect::WriteLease { expected: None, .. }) if at < Time(8_000)),
        "{done:?}"
    );
}

#[test]
fn takeovers_without_an_ended_round_double_the_wait() {
    let mut machine = started();
    let lease = |holder| LeaseSeen {
        revision: 1,
        lease: Some(Lease::of(key(holder), instance(holder)).given_back()),
    };
    let at = |n: u64| Time(n * 1_000);
    machine.handle(Event::LogRead { asked: at(0), log: log(Some(epoch(1, 2))) }, at(0));
    machine.handle(Event::LeaseRead { seen: Some(lease(2)) }, at(0));
    machine.handle(Event::LogRead { asked: at(1), log: log(Some(epoch(2, 3))) }, at(1));
    machine.handle(Event::LogRead { asked: at(2), log: log(Some(epoch(3, 2))) }, at(2));
    let done = quiet(&mut machine, log(Some(epoch(3, 2))), Some(lease(2)), at(1_000));
    assert_eq!(done[0].0, at(2 + 240), "{done:?}");

    let mut machine = started();
    machine.handle(Event::LogRead { asked: at(0), log: log(Some(epoch(1, 2))) }, at(0));
    machine.handle(Event::LeaseRead { seen: Some(lease(2)) }, at(0));
    let ended = LogView { settled: 1, ..log(Some(epoch(2, 3))) };
    machine.handle(Event::LogRead { asked: at(1), log: ended }, at(1));
    let done = quiet(&mut machine, ended, Some(lease(2)), at(1_000));
    assert_eq!(done[0].0, at(61), "{done:?}");
}

#[test]
fn a_broken_log_or_a_revoked_key_stops_it_for_good() {
    let revoked = LogView { member: false, ..log(Some(epoch(1, 1))) };
    let broken = Event::LogBroken { reason: "forked".into() };
    let ends = [
        (broken, Stop::Broken { reason: "forked".into() }),
        (Event::LogRead { asked: Time(1), log: revoked }, Stop::Revoked),
    ];
    for (event, why) in ends {
        let mut machine = leader();
        machine.handle_timeout(Time(6_700));
        machine.handle(event, Time(6_701));
        // What it was about to do is not done.
        assert_eq!(effects(&mut machine), [Effect::Stop(why)]);
        assert_eq!(
            (machine.poll_timeout(), machine.trusted_until(), machine.last_word()),
            (None, None, None)
        );
        let fine = Event::LogRead { asked: Time(7_000), log: log(Some(epoch(1, 1))) };
        for event in [fine, Event::LeaseRead { seen: None }, Event::EpochAppended, Event::Reconnected] {
            machine.handle(event, Time(99_000));
            machine.handle_timeout(Time(99_000));
            assert_eq!(effects(&mut machine), []);
        }
    }
}

#[test]
fn a_leader_that_ends_well_gives_its_lease_back() {
    let machine = leader();
    let lease = Lease::of(key(1), instance(1)).given_back();
    assert_eq!(machine.last_word(), Some((2, lease)));
    assert_eq!(machine.poll_timeout(), Some((Time(2_000), Deadline::Look)));
}

#[test]
fn a_share_that_fails_at_once_is_not_asked_again_at_once() {
    let mut machine = started();
    machine.handle(Event::LogRead { asked: Time(0), log: log(None) }, Time(0));
    machine.handle(Event::LeaseUnknown, Time(0));
    let (mut now, mut asked) = (Time(0), 0);
    // The bus is away, and now the share is as well.
    while now < Time(100_000) {
        while let Some(effect) = machine.poll_effect() {
            asked += 1;
            assert!(asked < 1_000, "it goes round in circles at {now:?}");
            match effect {
                Effect::ReadLog => machine.handle(Event::LogUnread, now),
                Effect::ReadLease => machine.handle(Event::LeaseUnknown, now),
                other @ (Effect::WriteLease { .. }
                | Effect::AppendEpoch { .. }
                | Effect::Lead { .. }
                | Effect::StepDown { .. }
                | Effect::Stop(_)) => panic!("{other:?} with nothing known"),
            }
        }
        now = machine.poll_timeout().expect("it goes on").0.max(now);
        machine.handle_timeout(now);
    }
}
