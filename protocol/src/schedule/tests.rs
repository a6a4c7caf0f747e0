//! Slots through the year, and a clock that does what clocks do.

use std::collections::BTreeMap;

use super::{Due, Follower, Plan, Standing, moment, until};
use crate::ids::{FleetId, RoundId};
use crate::time::UnixMillis;

const FLEET: FleetId = FleetId::from_bytes([7; 32]);
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn plan(pairs: &[(&str, &str)]) -> Plan {
    let clear: BTreeMap<_, _> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Plan::of(&clear).expect("a plan").expect("it is on")
}

fn at(text: &str) -> UnixMillis {
    moment(text, "UTC").expect("a moment")
}

fn shown(slot: UnixMillis) -> String {
    super::rfc3339(slot).expect("in the calendar")
}

/// The slots from one moment to another.
fn slots(plan: &Plan, from: &str, to: &str) -> Vec<String> {
    let (mut slots, to) = (Vec::new(), at(to));
    let mut from = UnixMillis(at(from).0 - 1);
    while let Some(slot) = plan.next(from).filter(|slot| *slot < to) {
        slots.push(shown(slot));
        from = slot;
    }
    slots
}

#[test]
fn a_slot_that_the_clock_leaps_over_runs_once_and_one_that_comes_twice_runs_once() {
    let berlin = |schedule| plan(&[("schedule", schedule), ("schedule.zone", "Europe/Berlin")]);
    // 2026-03-29: 02:00 is followed by 03:00. 2026-10-25: 03:00 is followed by 02:00.
    let daily = berlin("30 2 * * *");
    assert_eq!(
        slots(&daily, "2026-03-28T12:00:00Z", "2026-03-31T12:00:00Z"),
        ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"]
    );
    assert_eq!(
        slots(&daily, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    let often = berlin("*/30 1-3 * * *");
    assert_eq!(
        slots(&often, "2026-03-28T23:00:00Z", "2026-03-29T12:00:00Z"),
        ["2026-03-29T00:00:00Z", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
        "what is put off falls on slots that are there"
    );
    assert_eq!(
        slots(&often, "2026-10-24T22:00:00Z", "2026-10-25T12:00:00Z"),
        [
            "2026-10-24T23:00:00Z",
            "2026-10-24T23:30:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T02:00:00Z",
            "2026-10-25T02:30:00Z"
        ]
    );
    // Lord Howe leaps half an hour, at 02:00: what lies in the leap comes after what lies behind it.
    let howe = plan(&[("schedule", "15,30 2 * * *"), ("schedule.zone", "Australia/Lord_Howe")]);
    assert_eq!(
        slots(&howe, "2026-10-03T14:00:00Z", "2026-10-03T18:00:00Z"),
        ["2026-10-03T15:30:00Z", "2026-10-03T15:45:00Z"]
    );
}

#[test]
fn every_so_long_has_the_same_slots_for_everybody() {
    let plan = plan(&[("schedule", "every 12h"), ("schedule.zone", "Europe/Berlin")]);
    assert_eq!(
        slots(&plan, "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"),
        ["2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z"]
    );
    assert_eq!(plan.next(UnixMillis(-1)), Some(UnixMillis(0)));
    assert_eq!(plan.next(UnixMillis(0)), Some(UnixMillis(12 * HOUR)));
    assert_eq!(plan.next(UnixMillis(i64::MAX)), None, "there is no such time");
}

#[test]
fn exceptions_and_windows_are_those_of_the_zone() {
    let plan = plan(&[
        ("schedule", "0 */6 * * *"),
        ("schedule.zone", "Europe/Berlin"),
        ("schedule.except", "2026-12-24..2026-12-25,2026-12-27"),
        ("schedule.windows", "mon-fri 08:00-18:00, sat 23:00-01:00"),
    ]);
    // Berlin is an hour ahead. 2026-12-23 is a Wednesday, 26th a Saturday.
    assert_eq!(
        slots(&plan, "2026-12-22T23:00:00Z", "2026-12-28T23:00:00Z"),
        [
            "2026-12-22T23:00:00Z",
            "2026-12-23T05:00:00Z",
            "2026-12-23T17:00:00Z",
            "2026-12-25T23:00:00Z",
            "2026-12-26T05:00:00Z",
            "2026-12-26T11:00:00Z",
            "2026-12-26T17:00:00Z",
            "2026-12-27T23:00:00Z",
            "2026-12-28T05:00:00Z",
            "2026-12-28T17:00:00Z"
        ]
    );
    let nights = self::plan(&[("schedule", "30 0 * * *"), ("schedule.windows", "sat 23:00-01:00")]);
    assert_eq!(
        slots(&nights, "2026-12-26T00:00:00Z", "2026-12-29T00:00:00Z"),
        ["2026-12-26T00:30:00Z", "2026-12-28T00:30:00Z"],
        "a window that began on Saturday goes on past midnight"
    );
    let leap = self::plan(&[("schedule", "0 0 29 2 *"), ("schedule.except", "2028-02-29")]);
    assert_eq!(leap.next(at("2026-01-01T00:00:00Z")).map(shown).as_deref(), Some("2032-02-29T00:00:00Z"));
}

#[test]
fn a_year_has_every_slot_once() {
    let zoned = plan(&[("schedule", "0 * * * *"), ("schedule.zone", "America/New_York")]);
    let year = slots(&zoned, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    assert_eq!(year.len(), 365 * 24 - 1, "the hour that comes twice counts once");
    let plan = plan(&[("schedule", "0 * * * *")]);
    let (mut follower, mut due) = (Follower::default(), 0);
    let (mut now, end) = (at("2026-01-01T00:00:30Z"), at("2027-01-01T00:00:00Z"));
    while now < end {
        due += usize::from(follower.tick(&plan, &FLEET, None, now).is_some());
        now.0 += MINUTE;
    }
    assert_eq!(due, 365 * 24 - 1, "the first slot had passed, and the last one lies ahead");
}

#[test]
fn jitter_is_the_same_for_everybody_and_spreads_fleets() {
    let plan = plan(&[("schedule", "0 3 * * *"), ("schedule.jitter", "30m")]);
    let slot = at("2026-11-29T03:00:00Z");
    let of = |fleet: u8| plan.due(&FleetId::from_bytes([fleet; 32]), slot);
    assert_eq!(of(1), of(1));
    let spread: std::collections::BTreeSet<_> = (0..50).map(of).collect();
    assert!(spread.len() > 45, "{spread:?}");
    assert!(spread.iter().all(|due| (0..30 * MINUTE).contains(&(due.0 - slot.0))));
    let next = plan.next_due(&FLEET, slot).expect("there is one");
    assert_eq!(plan.next_due(&FLEET, UnixMillis(next.0 - 1)), Some(next));
    assert!(plan.next_due(&FLEET, next) > Some(next));
    // Before its moment it is not due, and then once.
    let mut follower = Follower::default();
    let due = plan.due(&FLEET, slot);
    assert_eq!(follower.tick(&plan, &FLEET, None, UnixMillis(slot.0 - 1)), None);
    assert_eq!(follower.tick(&plan, &FLEET, None, UnixMillis(due.0 - 1)), None);
    assert_eq!(follower.tick(&plan, &FLEET, None, due), Some(Due { slot, missed: false }));
    assert_eq!(follower.tick(&plan, &FLEET, None, UnixMillis(due.0 + 1)), None);
}

#[test]
fn a_slot_names_its_round_and_no_request_does() {
    let slot = at("2026-11-29T03:00:00Z");
    assert_eq!(RoundId::of_slot(&FLEET, slot), RoundId::of_slot(&FLEET, slot));
    assert_ne!(RoundId::of_slot(&FLEET, slot), RoundId::of_slot(&FLEET, UnixMillis(slot.0 + MINUTE)));
    assert_ne!(RoundId::of_slot(&FLEET, slot), RoundId::of_slot(&FleetId::from_bytes([8; 32]), slot));
    let text = String::from_utf8_lossy(&slot.0.to_be_bytes()).into_owned();
    assert_ne!(RoundId::of_slot(&FLEET, slot), RoundId::derive(&FLEET, &text));
}

/// What a leader that has just begun, at `now`, finds due.
fn found(missed: &str, since: Option<&str>, now: &str) -> Option<(String, bool)> {
    let plan = plan(&[("schedule", "0 3 * * *"), ("schedule.missed", missed)]);
    let due = Follower::default().tick(&plan, &FLEET, since.map(at), at(now));
    due.map(|due| (shown(due.slot), due.missed))
}

#[test]
fn what_passed_while_nobody_led_runs_once_or_not_at_all() {
    let slot = || "2026-11-29T03:00:00Z".to_owned();
    let since = Some("2026-01-01T00:00:00Z");
    assert_eq!(found("run-once", since, "2026-11-29T20:00:00Z"), Some((slot(), true)));
    assert_eq!(found("skip", since, "2026-11-29T20:00:00Z"), None);
    assert_eq!(found("skip", since, "2026-11-29T03:00:20Z"), Some((slot(), false)), "a leader changed");
    assert_eq!(found("run-once", Some("2026-11-29T03:10:00Z"), "2026-11-29T20:00:00Z"), None, "set after it");
    assert_eq!(found("run-once", None, "2026-11-29T20:00:00Z"), None, "nobody knows since when it counts");
    // The admin's clock was years ahead: nothing is owed, and nothing stands still.
    let plan = plan(&[("schedule", "0 3 * * *")]);
    let mut follower = Follower::default();
    let ahead = Some(at("2036-01-01T00:00:00Z"));
    assert_eq!(follower.tick(&plan, &FLEET, ahead, at("2026-11-29T02:59:00Z")), None);
    assert!(follower.tick(&plan, &FLEET, ahead, at("2026-11-29T03:00:00Z")).is_some());
    let weekly = self::plan(&[("schedule", "0 3 1 * *")]);
    let old = Follower::default().tick(&weekly, &FLEET, since.map(at), at("2026-11-29T03:00:00Z"));
    assert_eq!(old, None, "older than a week");
}

#[test]
fn a_clock_that_jumps_makes_no_storm_and_nothing_twice() {
    let plan = plan(&[("schedule", "0 * * * *")]);
    let mut follower = Follower::default();
    let start = at("2026-11-29T02:59:59Z");
    let mut rounds = BTreeMap::<RoundId, usize>::new();
    let mut begun = 0;
    let mut tick = |now: UnixMillis| {
        if let Some(due) = follower.tick(&plan, &FLEET, None, now) {
            begun += 1;
            *rounds.entry(RoundId::of_slot(&FLEET, due.slot)).or_default() += 1;
        }
    };
    for second in 0..10 {
        tick(UnixMillis(start.0 + second * 1_000));
    }
    let ten_years = 3_652 * DAY;
    for jump in [ten_years, 0, -ten_years, 0, ten_years, 0] {
        for second in 10..20 {
            tick(UnixMillis(start.0 + jump + second * 1_000));
        }
    }
    assert!(begun <= 6, "one slot for each time that the clock lands somewhere: {begun}");
    assert!(rounds.len() <= 3, "and the same slot is the same round: {rounds:?}");
    // Back on time, the next slot comes as if nothing had been.
    assert_eq!(
        follower.tick(&plan, &FLEET, None, at("2026-11-29T04:00:00Z")),
        Some(Due { slot: at("2026-11-29T04:00:00Z"), missed: false })
    );
}

#[test]
fn a_clock_that_is_adjusted_by_seconds_repeats_nothing() {
    let plan = plan(&[("schedule", "0 * * * *")]);
    let mut follower = Follower::default();
    let slot = at("2026-11-29T03:00:00Z");
    assert_eq!(follower.tick(&plan, &FLEET, None, UnixMillis(slot.0 - 5_000)), None);
    assert!(follower.tick(&plan, &FLEET, None, UnixMillis(slot.0 + 10)).is_some());
    for millis in [-2_000, -1_000, 0, 1_000] {
        assert_eq!(follower.tick(&plan, &FLEET, None, UnixMillis(slot.0 + millis)), None);
    }
}

#[test]
fn what_passes_without_a_plan_is_never_made_up_for() {
    let plan = plan(&[("schedule", "0 * * * *")]);
    let mut follower = Follower::default();
    let since = Some(at("2026-01-01T00:00:00Z"));
    follower.pass(at("2026-11-29T03:30:00Z"));
    assert_eq!(follower.tick(&plan, &FLEET, since, at("2026-11-29T03:30:01Z")), None);
    // Another plan begins to count where the old one stood.
    let other = self::plan(&[("schedule", "15 * * * *")]);
    follower.replan();
    assert_eq!(follower.tick(&other, &FLEET, since, at("2026-11-29T03:30:02Z")), None);
    assert!(follower.tick(&other, &FLEET, since, at("2026-11-29T04:15:00Z")).is_some());
}

#[test]
fn disabled_means_that_somebody_said_so_and_ends_by_itself() {
    let of = |pairs: &[(&str, &str)], now: &str| {
        let clear = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Standing::of(&clear, at(now))
    };
    let now = "2026-11-29T12:00:00Z";
    assert_eq!(of(&[], now), Standing::Never);
    assert_eq!(of(&[("schedule", "off")], now).refusal(), None, "off is no schedule, and no more");
    assert_eq!(of(&[("enabled", "yes")], now), Standing::Enabled { paused_until: None });
    let paused = [
        ("enabled", "no"),
        ("disabled.since", "2026-11-29T10:00:00Z"),
        ("disabled.until", "2026-11-29T14:00:00Z"),
        ("disabled.reason", "move"),
    ];
    let said = of(&paused, now).refusal().expect("refused");
    assert!(said.contains("until 2026-11-29T14:00:00Z (move)") && said.contains("--force"), "{said}");
    let over = Standing::Enabled { paused_until: Some(at("2026-11-29T14:00:00Z")) };
    assert_eq!(of(&paused, "2026-11-29T14:00:00Z"), over);
    let without_end = [("enabled", "no"), ("disabled.until", "none"), ("disabled.reason", "none")];
    assert_eq!(
        of(&without_end, "9999-01-01T00:00:00Z"),
        Standing::Disabled { since: None, until: None, reason: None }
    );
}

#[test]
fn people_write_moments_in_their_zone() {
    let now = at("2026-11-29T12:00:00Z");
    for (text, expected) in [
        ("4h", "2026-11-29T16:00:00Z"),
        ("2026-12-01", "2026-11-30T23:00:00Z"),
        ("2026-12-01 08:00", "2026-12-01T07:00:00Z"),
        ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z"),
        ("2026-12-01T08:00:00+02:00", "2026-12-01T06:00:00Z"),
    ] {
        assert_eq!(until(text, "Europe/Berlin", now).map(shown).as_deref(), Ok(expected), "{text}");
    }
    for (text, part) in
        [("2026-11-01", "must lie ahead"), ("0s", "must lie ahead"), ("soon", "or a duration")]
    {
        assert!(until(text, "UTC", now).is_err_and(|error| error.contains(part)), "{text}");
    }
}
