//! What is expected of each service: tiers, optional and passing ones, deadlines and attempts of their own; and the story.

use std::time::Duration;

use super::{Bench, DEADLINE, RECRUIT, acknowledge, check, failure, policy, receipt, service, welcome};
use crate::alert::Code;
use crate::document::{Excuse, Timing};
use crate::log::Outcome;
use crate::message::{Stage, Verdict};
use crate::round::{Deadline, Effect, Event, MemberPhase, Start};
use crate::service_policy::{Expected, ServicePolicy};

fn tier(tier: u8) -> ServicePolicy {
    ServicePolicy { tier, ..ServicePolicy::default() }
}

fn optional() -> ServicePolicy {
    ServicePolicy { required: false, ..ServicePolicy::default() }
}

fn passing() -> ServicePolicy {
    ServicePolicy { expected: Expected::WhilePresent, ..ServicePolicy::default() }
}

fn capturing(services: &[(&str, ServicePolicy)]) -> Bench {
    let mut bench = Bench::with(Start::Fresh, services, policy());
    assert_eq!(bench.effects(), [Effect::AppendOpen]);
    assert_eq!(bench.on(Event::Opened), [Effect::Publish]);
    bench
}

fn word(bench: &Bench, name: &str) -> &'static str {
    bench.machine.member(&service(name)).map_or("none", |member| member.phase.word())
}

#[test]
fn the_next_tier_begins_when_everybody_before_it_was_through_one_attempt() {
    let mut round = capturing(&[("db", tier(1)), ("dns", tier(1)), ("log", tier(3)), ("web", tier(7))]);
    assert_eq!(
        [word(&round, "db"), word(&round, "log"), word(&round, "web")],
        ["waiting", "queued", "queued"]
    );
    // An agent of a later tier is told that nothing is wanted yet, and asks again when the turn has grown.
    assert_eq!(round.hello("log", 1), [welcome("log", None)]);
    let turn = round.machine.turn();
    assert_eq!(round.settles("db", 1), []);
    assert_eq!(round.hello("dns", 1), [welcome("dns", Some(1))]);
    // A first attempt that failed holds nobody up.
    let noted = acknowledge("dns", 1, None, Verdict::Accepted);
    assert_eq!(round.failed("dns", 1, false), [noted, Effect::Publish]);
    assert!(round.machine.turn() > turn);
    assert_eq!(
        [word(&round, "dns"), word(&round, "log"), word(&round, "web")],
        ["retrying", "waiting", "queued"]
    );
    assert_eq!(round.settles("log", 2), [Effect::Publish]);
    assert_eq!(word(&round, "web"), "waiting");
}

#[test]
fn a_tier_that_hangs_holds_the_next_one_up_for_its_wait_and_no_longer() {
    let mut round = capturing(&[("dns", tier(1)), ("web", tier(2))]);
    round.hello("dns", 1);
    while word(&round, "web") == "queued" {
        let (due, _) = round.machine.poll_timeout().expect("it waits");
        round.now = due.0;
        // It works, and says so just before it would be missed.
        round.machine.handle(Event::Seen { service: service("dns") }, crate::time::Time(due.0));
        round.machine.handle_timeout(crate::time::Time(due.0));
    }
    assert_eq!(round.now, u64::try_from(policy().tier_wait.as_millis()).expect("short"));
    assert_eq!(word(&round, "dns"), "capturing");
}

#[test]
fn a_slice_that_is_found_before_its_tier_begins_counts() {
    let mut round = Bench::with(Start::Resume, &[("dns", tier(1)), ("web", tier(2))], policy());
    round.effects();
    assert_eq!(round.stored("web", 2, 3), [check("web", 3, 2)]);
    round.checked("web", 3, Ok(()));
    assert_eq!(word(&round, "web"), "stored");
    let effects = round.settles("dns", 1);
    assert!(matches!(effects[..], [Effect::WriteManifest { outcome: Outcome::Complete, .. }]), "{effects:?}");
}

#[test]
fn who_is_optional_or_away_leaves_the_round_complete() {
    let mut round = capturing(&[("dns", ServicePolicy::default()), ("lab", optional()), ("pda", passing())]);
    assert_eq!(round.settles("dns", 1), []);
    round.hello("lab", 1);
    round.failed("lab", 1, true);
    // One that is expected while it is present is asked once.
    round.now = RECRUIT;
    let (deadline, effects) = round.wait();
    assert_eq!((deadline, round.now), (Deadline::Recruit(service("pda")), RECRUIT));
    let [Effect::WriteManifest { outcome, absent, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*outcome, Outcome::Complete);
    let told: Vec<_> = absent.iter().map(|a| (a.service.as_str(), a.code, a.excuse)).collect();
    let expected =
        [("lab", Code::Agent03, Some(Excuse::Optional)), ("pda", Code::Agent01, Some(Excuse::NotPresent))];
    assert_eq!(told, expected);
}

#[test]
fn who_was_present_and_then_failed_is_missed() {
    let mut round = capturing(&[("dns", ServicePolicy::default()), ("pda", passing())]);
    round.settles("dns", 1);
    round.hello("pda", 1);
    let effects = round.failed("pda", 1, true);
    let manifest = effects.last();
    assert!(matches!(manifest, Some(Effect::WriteManifest { outcome: Outcome::Partial, .. })), "{effects:?}");
}

#[test]
fn a_round_of_nobody_present_is_skipped_and_one_that_failed_says_why() {
    let mut round = capturing(&[("pda", passing())]);
    let (_, effects) = round.wait();
    assert!(matches!(&effects[..], [Effect::AppendEnd { outcome: Outcome::Skipped, .. }]), "{effects:?}");
    let mut round = capturing(&[("lab", optional()), ("pda", passing())]);
    round.hello("lab", 1);
    round.failed("lab", 1, true);
    let (_, effects) = round.wait();
    let [Effect::AppendEnd { outcome: Outcome::Failed, reason, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(reason, "lab: AGENT-03 source locked");
}

#[test]
fn a_service_has_attempts_and_a_deadline_of_its_own() {
    let once = ServicePolicy { attempts: Some(1), ..ServicePolicy::default() };
    let short = ServicePolicy { deadline: Some(Duration::from_secs(60)), ..ServicePolicy::default() };
    let mut round = capturing(&[("dns", once), ("web", short)]);
    round.hello("dns", 1);
    round.failed("dns", 1, false);
    assert_eq!(word(&round, "dns"), "absent");
    round.hello("web", 1);
    for now in [30_000, 59_990] {
        round.now = now;
        round.on(Event::AtWork { service: service("web"), stage: Stage::Holding });
        round.machine.handle_timeout(crate::time::Time(now));
    }
    let absent = loop {
        let (deadline, effects) = round.wait();
        if let Some(Effect::AppendEnd { reason, .. }) = effects.into_iter().next() {
            assert_eq!(deadline, Deadline::Service(service("web")));
            break reason;
        }
    };
    assert_eq!(round.now, 60_000);
    assert_eq!(absent, "dns: AGENT-03 source locked");
    let web = round.machine.member(&service("web")).and_then(|member| member.phase.failure().cloned());
    let reason = "its own deadline of 1 min passed while holding, attempt 1, last heard of 10 ms before";
    assert_eq!(web.map(|failure| (failure.code, failure.reason)), Some((Code::Round02, reason.to_owned())));
}

#[test]
fn a_check_that_runs_when_the_services_deadline_passes_is_let_finish() {
    let short = ServicePolicy { deadline: Some(Duration::from_secs(60)), ..ServicePolicy::default() };
    let mut round = capturing(&[("web", short)]);
    round.now = 59_999;
    round.hello("web", 1);
    round.stored("web", 1, 1);
    round.wait();
    assert!(round.now >= 60_000 && word(&round, "web") == "checking");
    let effects = round.checked("web", 1, Ok(()));
    assert!(matches!(effects[1], Effect::WriteManifest { outcome: Outcome::Complete, .. }), "{effects:?}");
}

#[test]
fn the_manifest_tells_when_and_what_failed_before() {
    let mut round = capturing(&[("dns", ServicePolicy::default()), ("web", ServicePolicy::default())]);
    round.now = 100;
    round.hello("dns", 1);
    round.now = 200;
    round.failed("dns", 1, false);
    while word(&round, "dns") == "retrying" {
        round.wait();
    }
    let again = round.now;
    round.hello("dns", 2);
    round.now = again + 300;
    round.stored("dns", 2, 1);
    round.now = again + 400;
    round.checked("dns", 1, Ok(()));
    round.hello("web", 1);
    round.machine.handle(
        Event::Failed { service: service("web"), attempt: 1, failure: failure(true) },
        crate::time::Time(again + 500),
    );
    // Not through `effects`, which leaves the story out.
    let effects: Vec<_> = std::iter::from_fn(|| round.machine.poll_effect()).collect();
    let Some(Effect::WriteManifest { slices, absent, .. }) = effects.last() else { panic!("{effects:?}") };
    let timing = Timing {
        greeted_millis: 100,
        quiesced_millis: None,
        noticed_millis: again + 300,
        checked_millis: again + 400,
    };
    assert_eq!((slices[0].receipt, slices[0].attempts, slices[0].timing), (receipt(1), 2, Some(timing)));
    let tries: Vec<_> =
        slices[0].tries.iter().map(|t| (t.attempt, t.after_millis, t.code, t.reason.as_str())).collect();
    assert_eq!(tries, [(1, 200, Code::Agent03, "source locked")]);
    let tries: Vec<_> = absent[0].tries.iter().map(|t| (t.attempt, t.after_millis)).collect();
    assert_eq!(tries, [(1, again + 500)]);
}

#[test]
fn a_cancelled_round_tells_of_everybody() {
    let mut round = capturing(&[("dns", ServicePolicy::default()), ("web", tier(7))]);
    round.hello("dns", 1);
    round.machine.handle(Event::Cancel { reason: "cancelled".to_owned() }, crate::time::Time(5));
    let effects: Vec<_> = std::iter::from_fn(|| round.machine.poll_effect()).collect();
    let Some(Effect::AppendEnd { absent, .. }) = effects.last() else { panic!("{effects:?}") };
    let told: Vec<_> = absent.iter().map(|a| (a.service.as_str(), a.reason.as_str())).collect();
    let expected =
        [("dns", "the round ended while it was capturing"), ("web", "the round ended while it was queued")];
    assert_eq!(told, expected);
    assert!(matches!(round.machine.member(&service("web")).map(|m| m.phase), Some(MemberPhase::Queued)));
    assert!(round.now < DEADLINE);
}
