//! Seeded: whatever the rounds were and whatever the clocks said, what must stay does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Ages, Calendar, Chooser, Kept, Span, Terms, Verdict};
use crate::ids::{RoundId, ServiceName};
use crate::log::fixture::{commit, end, key, open, round, service, verified};
use crate::log::{HoldState, Pin, RoundPhase, RoundState, State};
use crate::seeds::{Rng, each_seed};
use crate::time::UnixMillis;

const SERVICES: [&str; 4] = ["dns", "web", "mail", "vault"];
const HOUR: i64 = 3_600_000;
const YEARS: i64 = 10 * 366 * 24 * HOUR;

/// A history: its log, which services have a slice in which round, when rounds really began, and the time now.
struct History {
    state: State,
    slices: BTreeMap<RoundId, Vec<ServiceName>>,
    truth: BTreeMap<RoundId, i64>,
    now: i64,
    /// Times that a clock began to be wrong, or was set right.
    leaps: u32,
}

fn history(rng: &mut Rng, interval: i64) -> History {
    let mut state = State::new(Pin::default());
    let (mut slices, mut truth) = (BTreeMap::new(), BTreeMap::new());
    let (mut now, mut off, mut leaps) = (100 * YEARS, 0, 0);
    for number in 1..=rng.below(60) {
        now += i64::try_from(rng.below(u64::try_from(interval).expect("positive"))).expect("small");
        if rng.percent(20) {
            let leap =
                [0, YEARS, -YEARS, 5 * HOUR, -30 * HOUR][usize::try_from(rng.below(5)).expect("small")];
            leaps += u32::from(leap != off);
            off = leap;
        }
        let id = u8::try_from(number).expect("few");
        let mut opening = open(1, id, number, &SERVICES);
        opening.at = UnixMillis(now + off);
        let ended = rng.below(10);
        let phase = match ended {
            0 => RoundPhase::Open,
            1 => RoundPhase::Ended(end(1, id)),
            _ => RoundPhase::Committed {
                commit: commit(1, id),
                position: number * 10 + 1,
                verified: rng.percent(70).then(|| verified(1, id)),
            },
        };
        let hold = rng.percent(5).then(|| HoldState { by: key(4), position: number * 10 + 5, reason: None });
        let swept = ended > 1 && hold.is_none() && rng.percent(10);
        let with = SERVICES.iter().filter(|_| rng.percent(60)).map(|name| service(name)).collect();
        slices.insert(round(id), with);
        truth.insert(round(id), now);
        state.rounds.insert(
            round(id),
            RoundState { open: opening, position: number * 10, resumed: Vec::new(), phase, hold, swept },
        );
    }
    History { state, slices, truth, now: now + HOUR, leaps }
}

fn verdicts(
    history: &History,
    terms: Terms,
    now: i64,
    damaged: &BTreeSet<RoundId>,
) -> BTreeMap<RoundId, Verdict> {
    let mut chooser = Chooser::new(&history.state, terms, UnixMillis(now));
    let mut verdicts = BTreeMap::new();
    for round in chooser.order() {
        let id = round.open.round;
        let services = (!damaged.contains(&id)).then(|| history.slices[&id].as_slice());
        verdicts.insert(id, chooser.judge(round, services, &[]));
    }
    verdicts
}

/// Mostly of no span.
fn calendar(rng: &mut Rng) -> Calendar {
    let small = |rng: &mut Rng| u32::try_from(rng.below(12)).expect("small").saturating_sub(6);
    Calendar::of(|_| Ok::<_, ()>(small(rng))).expect("numbers")
}

fn terms(rng: &mut Rng, interval: Duration) -> Terms {
    let small = |rng: &mut Rng, most| u32::try_from(rng.below(most)).expect("small");
    Terms {
        keep_last: small(rng, 4),
        keep_days: small(rng, 10),
        calendar: calendar(rng),
        min_verified: 1 + small(rng, 5),
        interval,
        grace: Duration::ZERO,
    }
}

#[test]
fn what_must_stay_does_whatever_the_clocks_say() {
    let mut kept = BTreeSet::new();
    let mut gone = 0u32;
    each_seed(2_000, |seed| {
        let mut rng = Rng(seed);
        let interval = 24 * HOUR;
        let limit = Duration::from_secs(24 * 3_600);
        let history = history(&mut rng, interval);
        let terms = terms(&mut rng, limit);
        let wrong = [0, YEARS, -YEARS][usize::try_from(rng.below(3)).expect("small")];
        let damaged: BTreeSet<RoundId> = history.slices.keys().copied().filter(|_| rng.percent(3)).collect();
        let verdicts = verdicts(&history, terms, history.now + wrong, &damaged);
        let usable = |state: &&RoundState| !damaged.contains(&state.open.round);
        for name in SERVICES.map(service) {
            // The newest verified rounds of every service, oldest last.
            let newest = history.state.rounds_by_number().into_iter().rev().filter(usable).filter(|round| {
                round.word() == "verified"
                    && !round.swept
                    && history.slices[&round.open.round].contains(&name)
            });
            let enough = usize::try_from(terms.min_verified.max(terms.keep_last)).expect("small");
            for round in newest.take(enough) {
                let verdict = verdicts[&round.open.round];
                assert!(matches!(verdict, Verdict::Stays(_)), "round {} of {name}", round.open.number);
            }
        }
        if history.leaps == 0 && wrong == 0 {
            spans_are_covered(&history, &terms, &damaged, &verdicts);
        }
        for round in history.state.rounds.values() {
            let id = round.open.round;
            let verdict = verdicts[&id];
            match verdict {
                Verdict::Goes => {
                    gone += 1;
                    assert!(round.is_recoverable() && round.hold.is_none());
                    // By the true time: a clock ages a round by one interval for each time that it leapt, at most.
                    let old = u64::try_from(history.now - history.truth[&id]).expect("past");
                    let leaps = limit * (history.leaps + u32::from(wrong != 0));
                    let oldest = Duration::from_millis(old) + leaps;
                    assert!(terms.keep_days == 0 || oldest > terms.keep_for(), "round {}", round.open.number);
                }
                Verdict::Empty => assert!(!round.is_recoverable() && round.word() != "open"),
                Verdict::Stays(why) => {
                    kept.insert(why);
                    assert_eq!(why == Kept::Open, round.word() == "open");
                }
            }
        }
    });
    if std::env::var_os("MUSTER_SEED").is_none() {
        assert_eq!(kept.len(), 10, "every reason was seen: {kept:?}");
        assert!(gone > 1_000, "{gone} rounds went");
    }
}

/// Of every service, the newest verified round of each of the newest days that have one stays, and so on.
fn spans_are_covered(
    history: &History,
    terms: &Terms,
    damaged: &BTreeSet<RoundId>,
    verdicts: &BTreeMap<RoundId, Verdict>,
) {
    let day = |at: i64| at.div_euclid(24 * HOUR);
    for name in SERVICES.map(service) {
        let mut days = BTreeMap::new();
        for round in history.state.rounds_by_number() {
            let id = round.open.round;
            let counts = round.word() == "verified" && !round.swept && !damaged.contains(&id);
            if counts && history.slices[&id].contains(&name) {
                days.insert(day(round.open.at.0), id);
            }
        }
        let keep = usize::try_from(terms.calendar.keep(Span::Day)).expect("small");
        for (_, id) in days.iter().rev().take(keep) {
            assert!(matches!(verdicts[id], Verdict::Stays(_)), "{id} stands for a day of {name}");
        }
    }
}

#[test]
fn with_right_clocks_ages_are_right() {
    each_seed(500, |seed| {
        let mut rng = Rng(seed);
        let history = history(&mut rng, 24 * HOUR);
        if history.leaps > 0 {
            return;
        }
        let ages = Ages::of(&history.state, UnixMillis(history.now), Duration::from_secs(24 * 3_600));
        for (id, at) in &history.truth {
            let age = Duration::from_millis(u64::try_from(history.now - at).expect("past"));
            assert_eq!(ages.get(id), age, "{id}");
        }
    });
}

#[test]
fn the_terms_of_more_keep_more() {
    each_seed(500, |seed| {
        let mut rng = Rng(seed);
        let history = history(&mut rng, 24 * HOUR);
        let terms = terms(&mut rng, Duration::from_secs(24 * 3_600));
        let more = Terms {
            keep_last: terms.keep_last + 1,
            keep_days: terms.keep_days + 1,
            min_verified: terms.min_verified + 1,
            calendar: Calendar::of(|span| Ok::<_, ()>(terms.calendar.keep(span) + 1)).expect("numbers"),
            ..terms
        };
        let none = BTreeSet::new();
        let (less, more) =
            (verdicts(&history, terms, history.now, &none), verdicts(&history, more, history.now, &none));
        for (id, verdict) in more {
            assert!(verdict != Verdict::Goes || less[&id] == Verdict::Goes, "{id}");
        }
    });
}
