//! What the log tells of prunes and of the rounds that retention counts: SHARE-09 and RET-01. A pruner is a process of its own,
//! often on another machine, and its failure is seen by what it does not write.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::{About, Book, Code, Finding, Part};
use crate::ids::ServiceName;
use crate::log::{RoundState, Scope, State};
use crate::prune::Terms;
use crate::time::UnixMillis;
use crate::units::format_duration;

const SHARE: About = About::Part(Part::Share);
const FLEET: About = About::Part(Part::Fleet);
/// Services that a cause names.
const NAMED: usize = 5;

/// Raises SHARE-09 while a prune that began does not go on: its mark's grace, or its sweep, is older than two promised intervals.
/// Nobody who never prunes is told. `frozen`: prune rightly stands still. True if anything changed.
pub fn judge_prune(book: &mut Book, state: &State, terms: &Terms, frozen: bool, now: UnixMillis) -> bool {
    let before = book.clone();
    let cause =
        if frozen { None } else { unfinished(state, now, terms).or_else(|| unswept(state, now, terms)) };
    match cause {
        Some(cause) => {
            book.raise(Finding::seen(Code::Share09, SHARE, cause), now);
        }
        None => {
            book.mended(Code::Share09, &SHARE, now);
        }
    }
    *book != before
}

/// A sweep has no time of its own: it is at least as old as the first round that was opened behind it.
fn unfinished(state: &State, now: UnixMillis, terms: &Terms) -> Option<String> {
    let (sweep, _) = state.sweeps.iter().find(|(_, (_, done))| !done)?;
    let behind = state.rounds.values().filter(|round| round.position > *sweep);
    let since = behind.min_by_key(|round| round.position)?.open.at;
    let late = since_then(since, now).filter(|late| *late > patience(terms))?;
    let late = format_duration(late);
    Some(format!("the sweep of log record {sweep} began more than {late} ago, and nobody ended it"))
}

fn unswept(state: &State, now: UnixMillis, terms: &Terms) -> Option<String> {
    let oldest_open = state.open_rounds().iter().map(|round| round.position).min().unwrap_or(u64::MAX);
    // The newest that nothing keeps waiting: one that a lost slot left behind is superseded by it.
    let (mark, prune) = state.prunes.iter().rev().find(|(mark, _)| **mark < oldest_open)?;
    let late = since_then(prune.at?, now)?.checked_sub(terms.grace).filter(|late| *late > patience(terms))?;
    let late = format_duration(late);
    Some(format!("what log record {mark} marked could go {late} ago, and no prune came since"))
}

/// A pruner runs once a day, or as often as rounds are promised.
fn patience(terms: &Terms) -> Duration {
    terms.interval.saturating_mul(2)
}

fn since_then(then: UnixMillis, now: UnixMillis) -> Option<Duration> {
    u64::try_from(now.0.saturating_sub(then.0) / 1_000).ok().map(Duration::from_secs)
}

/// Raises RET-01 while services have enough rounds and too few verified ones for `retention.min_verified`: as long as that is so
/// nothing old goes, and what goes on being stored is proven by nothing. The newest round counts on neither side: it may be about
/// to be verified. True if anything changed.
pub fn judge_retention(book: &mut Book, state: &State, terms: &Terms, now: UnixMillis) -> bool {
    let before = book.clone();
    let mut rounds = state.rounds_by_number();
    rounds.retain(|round| round.is_recoverable());
    rounds.pop();
    let min = usize::try_from(terms.min_verified).unwrap_or(usize::MAX);
    let (everywhere, of) = counts(&rounds);
    let count = |service: &ServiceName| of.get(service).copied().unwrap_or_default().and(everywhere);
    let counted = state.services().into_iter().map(|service| (count(&service), service));
    let is_short = |count: &Count| count.all >= min && count.verified < min;
    let short: Vec<_> = counted
        .filter(|(count, _)| is_short(count))
        .map(|(count, service)| (service, count.verified))
        .collect();
    // Other figures are another cause.
    let cause = cause(&short, terms.min_verified);
    if book.find(Code::Ret01, &FLEET).is_some_and(|open| Some(&open.cause) != cause.as_ref()) {
        book.mended(Code::Ret01, &FLEET, now);
    }
    if let Some(cause) = cause {
        book.raise(Finding::seen(Code::Ret01, FLEET, cause), now);
    }
    *book != before
}

fn cause(short: &[(ServiceName, usize)], min: u32) -> Option<String> {
    let fewest = short.iter().map(|(_, verified)| *verified).min()?;
    let mut names: Vec<String> = short.iter().take(NAMED).map(|(service, _)| service.to_string()).collect();
    if short.len() > NAMED {
        names.push(format!("{} more", short.len() - NAMED));
    }
    let names = names.join(", ");
    Some(format!(
        "only {fewest} rounds are verified of the {min} that must be kept, of {names}: nothing old goes"
    ))
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: usize,
    verified: usize,
}

impl Count {
    fn add(&mut self, round: &RoundState) {
        self.all += 1;
        self.verified += usize::from(round.is_verified());
    }

    fn and(self, other: Self) -> Self {
        Self { all: self.all + other.all, verified: self.verified + other.verified }
    }
}

/// Rounds of all services, and of each that was named: by their scopes, for no manifest is read here.
fn counts<'a>(rounds: &[&'a RoundState]) -> (Count, BTreeMap<&'a ServiceName, Count>) {
    let (mut everywhere, mut of) = (Count::default(), BTreeMap::<_, Count>::new());
    for round in rounds {
        match &round.open.scope {
            Scope::All => everywhere.add(round),
            Scope::Services(services) => {
                services.iter().for_each(|service| of.entry(service).or_default().add(round));
            }
        }
    }
    (everywhere, of)
}

#[cfg(test)]
mod tests {
    use super::{judge_prune, judge_retention};
    use crate::alert::{Book, Code};
    use crate::ids::ObjectId;
    use crate::log::fixture::{FIRST, Fleet, PRUNER, commit, end, open, round, verified};
    use crate::log::{Prune, Pruned, Sweep};
    use crate::prune::Terms;
    use crate::time::UnixMillis;

    const HOUR: i64 = 3_600_000;

    fn terms(min_verified: u32) -> Terms {
        let clear = [("retention.min_verified".to_owned(), min_verified.to_string())];
        Terms::of(&clear.into()).expect("terms")
    }

    fn codes(book: &Book) -> Vec<Code> {
        book.open().map(|alert| alert.code).collect()
    }

    #[test]
    fn a_prune_that_does_not_go_on_is_told_until_it_does() {
        let mut fleet = Fleet::found();
        let mut book = Book::default();
        let mut judge = |fleet: &Fleet, hour: i64, frozen| {
            judge_prune(&mut book, &fleet.state, &terms(1), frozen, UnixMillis(hour * HOUR));
            codes(&book)
        };
        fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
        fleet.says(FIRST, &commit(1, 1));
        let (rounds, list) = (vec![round(1)], ObjectId::of(b"list"));
        fleet.says(PRUNER, &Prune { epoch: 1, rounds: rounds.clone(), list, at: Some(UnixMillis(0)) });
        // A day of grace, and two promised intervals.
        assert_eq!(judge(&fleet, 72, false), []);
        assert_eq!(judge(&fleet, 73, false), [Code::Share09]);
        assert_eq!(judge(&fleet, 74, true), [], "it is frozen, and that is told by itself");
        assert_eq!(judge(&fleet, 75, false), [Code::Share09]);
        fleet.says(PRUNER, &Sweep { rounds, list });
        let sweep = fleet.state.head.number;
        assert_eq!(judge(&fleet, 76, false), [], "it went on");
        let mut later = open(1, 2, 2, &["dns"]);
        later.at = UnixMillis(80 * HOUR);
        fleet.says(FIRST, &later);
        fleet.says(FIRST, &end(1, 2));
        assert_eq!(judge(&fleet, 128, false), []);
        assert_eq!(judge(&fleet, 129, false), [Code::Share09]);
        fleet.says(PRUNER, &Pruned { sweep });
        assert_eq!(judge(&fleet, 130, false), []);
        assert_eq!(judge(&fleet, -5, false), [], "a clock that was put back tells nothing");
    }

    #[test]
    fn a_mark_that_waits_for_an_open_round_is_no_failure() {
        let mut fleet = Fleet::found();
        fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
        fleet.says(FIRST, &commit(1, 1));
        fleet.says(FIRST, &open(1, 2, 2, &["dns"]));
        let prune =
            Prune { epoch: 1, rounds: vec![round(1)], list: ObjectId::of(b"list"), at: Some(UnixMillis(0)) };
        fleet.says(PRUNER, &prune);
        let mut book = Book::default();
        assert!(!judge_prune(&mut book, &fleet.state, &terms(1), false, UnixMillis(1_000 * HOUR)));
    }

    #[test]
    fn too_few_verified_rounds_are_told_until_there_are_enough() {
        let mut fleet = Fleet::found();
        let mut book = Book::default();
        let mut judge = |fleet: &Fleet| {
            judge_retention(&mut book, &fleet.state, &terms(3), UnixMillis(0));
            book.find(Code::Ret01, &super::FLEET).map(|alert| alert.cause.clone())
        };
        for id in 1..=6 {
            fleet.says(FIRST, &open(1, id, u64::from(id), &["dns"]));
            fleet.says(FIRST, &commit(1, id));
            if id <= 2 {
                fleet.says(FIRST, &verified(1, id));
            }
            let told = judge(&fleet);
            assert_eq!(
                told.is_some(),
                id >= 4,
                "round {id}: the first three, but for the newest, may yet be verified"
            );
        }
        let told = judge(&fleet).expect("told");
        assert_eq!(told, "only 2 rounds are verified of the 3 that must be kept, of dns: nothing old goes");
        fleet.says(FIRST, &verified(1, 4));
        assert_eq!(judge(&fleet), None);
    }
}
