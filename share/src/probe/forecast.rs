//! How much room the coming rounds need, judged by the past ones.

use muster_protocol::log::{RoundPhase, State};
use muster_protocol::time::UnixMillis;
use muster_protocol::units::total;

use crate::store::{Store, StoreError};
use crate::verify::Trouble;
use crate::verify::chain::read_manifest;

/// Newest rounds that are looked at.
const ROUNDS: usize = 16;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What past rounds say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Bytes that should be free: twice what the retained rounds, were each as large as the largest that was looked at,
    /// would add.
    pub need: u64,
    /// Bytes a day that the rounds after the first of those added.
    pub added_a_day: u64,
}

impl Forecast {
    /// Days until so many free bytes are used up; none where nothing is added.
    #[must_use]
    pub fn full_in_days(&self, free: u64) -> Option<u64> {
        free.checked_div(self.added_a_day)
    }

    fn of(retained: u64, rounds: &[(UnixMillis, u64)]) -> Option<Self> {
        let largest = rounds.iter().map(|(_, added)| *added).max()?;
        let first = rounds.iter().map(|(at, _)| at.0).min()?;
        let last = rounds.iter().map(|(at, _)| at.0).max()?;
        // What the first of them added came before the span that is looked at.
        let later = total(rounds.iter().filter(|(at, _)| at.0 > first).map(|(_, added)| *added));
        // What a first evening adds in minutes, it does not add in every minute from then on.
        let span = (i128::from(last) - i128::from(first)).max(i128::from(DAY_MILLIS));
        let added = i128::from(later) * i128::from(DAY_MILLIS) / span;
        let added_a_day = u64::try_from(added).unwrap_or(u64::MAX);
        Some(Self { need: largest.saturating_mul(retained).saturating_mul(2), added_a_day })
    }
}

/// What the newest committed rounds say; none before the first. A manifest that is damaged is passed over: `verify` tells.
///
/// # Errors
/// When the share fails.
pub async fn forecast(store: &dyn Store, state: &State) -> Result<Option<Forecast>, StoreError> {
    let committed: Vec<_> = state
        .rounds_by_number()
        .into_iter()
        .rev()
        .filter(|round| !round.swept && matches!(round.phase, RoundPhase::Committed { .. }))
        .collect();
    let mut rounds = Vec::new();
    for round in committed.iter().take(ROUNDS) {
        match read_manifest(store, state, round).await {
            Ok(manifest) => {
                let added = total(manifest.slices.iter().map(|slice| slice.totals.added_bytes));
                rounds.push((manifest.opened, added));
            }
            Err(Trouble::Store(error)) => return Err(error),
            Err(Trouble::Damaged(_)) => {}
        }
    }
    Ok(Forecast::of(committed.len() as u64, &rounds))
}

#[cfg(test)]
mod tests {
    use super::{DAY_MILLIS, Forecast};
    use muster_protocol::time::UnixMillis;

    #[test]
    fn days_come_from_what_later_rounds_added() {
        let at = |days: i64| UnixMillis(DAY_MILLIS * days);
        let forecast = Forecast::of(4, &[(at(3), 20), (at(2), 10), (at(1), 1000)]).expect("rounds");
        assert_eq!(forecast, Forecast { need: 8000, added_a_day: 15 });
        assert_eq!(forecast.full_in_days(150), Some(10));
        let one = Forecast::of(1, &[(at(1), 1000)]).expect("a round");
        assert_eq!((one.need, one.full_in_days(10)), (2000, None));
        let minutes: Vec<_> = (0..5).map(|n| (UnixMillis(60_000 * n), 10)).collect();
        let evening = Forecast::of(5, &minutes).expect("rounds");
        assert_eq!(evening.added_a_day, 40, "less than a day counts as one");
        assert_eq!(Forecast::of(0, &[]), None);
        let lies = Forecast::of(1, &[(at(3), u64::MAX), (at(2), u64::MAX), (at(1), 1)]).expect("rounds");
        assert_eq!((lies.need, lies.added_a_day), (u64::MAX, u64::MAX / 2));
    }
}
