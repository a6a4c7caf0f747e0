//! Two kinds of time that must never be mixed: monotonic for deadlines, calendar time only for people.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A point on the caller's monotonic clock, in milliseconds since an origin of its choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// This point, later by `duration`; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Calendar time: milliseconds since 1970-01-01 UTC. Shown, recorded, never compared to decide anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// RFC 3339 in UTC, to the millisecond where it has any; none beyond the calendar.
    #[must_use]
    pub fn rfc3339(self) -> Option<String> {
        jiff::Timestamp::from_millisecond(self.0).ok().map(|at| at.to_string())
    }
}
