//! Free space by the hour, and its trend.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::UnixMillis;

/// Between two looks that are kept.
pub const EVERY: Duration = Duration::from_secs(3_600);
/// Looks that are kept: of 30 days.
pub const MOST_LOOKS: usize = 30 * 24;
/// The trend is that of so many of them, evenly taken: the pairs grow with the square.
const TAKEN: usize = 60;
/// Looks that span less tell nothing yet.
const LEAST_SPAN_MILLIS: i64 = DAY_MILLIS;
const EVERY_MILLIS: i64 = 3_600_000;
const DAY_MILLIS: i64 = 86_400_000;

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    at: UnixMillis,
    free: u64,
}

/// Looks at the free space of one share, the oldest first, each at least [`EVERY`] after the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Looks(VecDeque<Look>);

impl Looks {
    /// Whether it is time for another look.
    #[must_use]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        let past = |last: &Look| now.0.saturating_sub(last.at.0);
        // A last look of the future was made by a clock that was wrong.
        self.0.back().is_none_or(|last| past(last) < 0 || past(last) >= EVERY_MILLIS)
    }

    /// Keeps what was seen, if it is time. True if it was.
    pub fn take(&mut self, now: UnixMillis, free: u64) -> bool {
        if !self.is_due(now) {
            return false;
        }
        self.0.retain(|look| look.at.0 < now.0);
        self.0.push_back(Look { at: now, free });
        while self.0.len() > MOST_LOOKS {
            self.0.pop_front();
        }
        true
    }

    /// Bytes a day by which the free space shrinks, zero where it does not; none while the looks span less than a day.
    #[must_use]
    pub fn lost_a_day(&self) -> Option<u64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        if last.at.0.saturating_sub(first.at.0) < LEAST_SPAN_MILLIS {
            return None;
        }
        let step = self.0.len().div_ceil(TAKEN);
        // From the newest on, which always counts.
        let taken: Vec<&Look> = self.0.iter().rev().step_by(step).collect();
        let mut slopes: Vec<i128> = Vec::new();
        for (at, late) in taken.iter().enumerate() {
            for early in &taken[at + 1..] {
                let span = i128::from(late.at.0) - i128::from(early.at.0);
                let lost = i128::from(early.free) - i128::from(late.free);
                slopes.push(lost * i128::from(DAY_MILLIS) / span.max(1));
            }
        }
        let middle = slopes.len() / 2;
        let (_, median, _) = slopes.select_nth_unstable(middle);
        Some(u64::try_from((*median).max(0)).unwrap_or(u64::MAX))
    }
}
