//! How old rounds are, by a clock that need not be right.
//!
//! The order of the log is certain; the coordinators' times in it are only claims. So no round counts as later than any
//! round behind it, and between two rounds no more than the promised interval may pass. A clock that leaps ten years
//! ahead and back makes nothing older; one that stays ahead makes everything older by one interval at most, once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::RoundId;
use crate::log::State;
use crate::time::UnixMillis;

/// The age of every round.
#[derive(Debug, Clone)]
pub struct Ages {
    ages: BTreeMap<RoundId, Duration>,
    /// The newest round's age, and the time that it claims.
    newest: (Duration, UnixMillis),
}

impl Ages {
    /// The ages at `now`, which is a claim as well. `interval`: the most that may pass between two rounds.
    #[must_use]
    pub fn of(state: &State, now: UnixMillis, interval: Duration) -> Self {
        let (mut ages, mut newest) = (BTreeMap::new(), None);
        let (mut age, mut later) = (Duration::ZERO, now.0);
        for round in state.rounds_by_number().iter().rev() {
            let at = round.open.at.0.min(later);
            age = age.saturating_add(Duration::from_millis(later.abs_diff(at)).min(interval));
            ages.insert(round.open.round, age);
            newest.get_or_insert((age, round.open.at));
            later = at;
        }
        Self { ages, newest: newest.unwrap_or((Duration::ZERO, now)) }
    }

    /// When a round was, for the calendar: as long before the newest one as their ages differ, whose word is taken for its own time.
    /// So it changes neither with `now` nor with a clock that was wrong once.
    #[must_use]
    pub fn when(&self, round: &RoundId) -> UnixMillis {
        let (newest, at) = self.newest;
        let before = u64::try_from(self.get(round).saturating_sub(newest).as_millis()).unwrap_or(u64::MAX);
        UnixMillis(at.0.saturating_sub_unsigned(before))
    }

    /// A round's age; zero for one that the log does not have.
    #[must_use]
    pub fn get(&self, round: &RoundId) -> Duration {
        self.ages.get(round).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Ages;
    use crate::log::fixture::{FIRST, Fleet, end, open, round};
    use crate::time::UnixMillis;
    use std::time::Duration;

    const HOUR: i64 = 3_600_000;
    const YEARS: i64 = 10 * 366 * 24 * HOUR;

    fn ages(opened: &[i64], now: i64) -> Vec<u64> {
        let mut fleet = Fleet::found();
        for (id, at) in (1u8..).zip(opened) {
            let mut open = open(1, id, u64::from(id), &["dns"]);
            open.at = UnixMillis(*at);
            fleet.says(FIRST, &open);
            fleet.says(FIRST, &end(1, id));
        }
        let ages = Ages::of(&fleet.state, UnixMillis(now), Duration::from_secs(24 * 3_600));
        let count = u8::try_from(opened.len()).expect("few");
        (1..=count).map(|id| ages.get(&round(id)).as_secs() / 3_600).collect()
    }

    #[test]
    fn with_a_right_clock_ages_are_right_and_a_pause_counts_as_one_interval() {
        assert_eq!(ages(&[0, 12 * HOUR, 24 * HOUR], 30 * HOUR), [30, 18, 6]);
        assert_eq!(ages(&[0, HOUR, 1000 * HOUR], 2000 * HOUR), [49, 48, 24]);
        assert_eq!(ages(&[], 0), [0; 0]);
    }

    #[test]
    fn a_leaping_clock_makes_nothing_old() {
        // The pruner's own clock.
        assert_eq!(ages(&[0, 12 * HOUR], 12 * HOUR + YEARS), [36, 24]);
        assert_eq!(ages(&[0, 12 * HOUR], 12 * HOUR - YEARS), [0, 0]);
        // A coordinator's, in one round.
        assert_eq!(ages(&[0, 12 * HOUR + YEARS, 24 * HOUR], 30 * HOUR), [30, 6, 6]);
        assert_eq!(ages(&[0, 12 * HOUR - YEARS, 24 * HOUR], 30 * HOUR), [30, 30, 6]);
        // Two coordinators whose clocks are two days apart take turns, an hour between rounds.
        let turns: Vec<i64> = (0..8).map(|n| n * HOUR + (n % 2) * 48 * HOUR).collect();
        assert_eq!(ages(&turns, 8 * HOUR)[0], 8);
        assert_eq!(ages(&turns, 56 * HOUR)[0], 31, "its own clock is ahead: one interval");
        // It is set ahead for good.
        assert_eq!(ages(&[0, HOUR + YEARS, 2 * HOUR + YEARS], 3 * HOUR + YEARS), [26, 2, 1]);
    }
}
