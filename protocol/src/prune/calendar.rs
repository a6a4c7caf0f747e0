//! Hours, days, weeks, months and years: which rounds stand for the past.
//!
//! Spans are those of UTC, weeks begin on Mondays (ISO 8601), so that all readers of a log cut it alike. Of each service the newest
//! verified round of a span stands for it; the newest spans that have one are counted, however far they reach back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::ids::ServiceName;
use crate::time::UnixMillis;

/// A kind of span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday on.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Milliseconds of an hour and a day. UTC as computers count it has no leap seconds.
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// 1970-01-01 was a Thursday: days from the Monday before.
const FROM_MONDAY: i64 = 3;

impl Span {
    /// All kinds, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The setting that says how many are kept.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Hour => "retention.keep_hourly",
            Self::Day => "retention.keep_daily",
            Self::Week => "retention.keep_weekly",
            Self::Month => "retention.keep_monthly",
            Self::Year => "retention.keep_yearly",
        }
    }

    /// The number of the span that a time lies in: equal for equal spans, greater for later ones.
    fn number(self, at: UnixMillis) -> i64 {
        match self {
            Self::Hour => at.0.div_euclid(HOUR),
            Self::Day => at.0.div_euclid(DAY),
            Self::Week => (at.0.div_euclid(DAY) + FROM_MONDAY).div_euclid(7),
            Self::Month => {
                let (year, month) = year_and_month(at);
                year * 12 + month
            }
            Self::Year => year_and_month(at).0,
        }
    }
}

/// Of UTC. A time beyond the calendar's ten thousand years is at its end.
fn year_and_month(at: UnixMillis) -> (i64, i64) {
    let beyond = if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let date = Timestamp::from_millisecond(at.0).unwrap_or(beyond).to_zoned(TimeZone::UTC).date();
    (date.year().into(), date.month().into())
}

/// How many of each kind of span are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calendar([u32; 5]);

impl Calendar {
    /// What `keep` says of each kind.
    ///
    /// # Errors
    /// Those of `keep`.
    pub fn of<E>(mut keep: impl FnMut(Span) -> Result<u32, E>) -> Result<Self, E> {
        let mut calendar = Self::default();
        for span in Span::ALL {
            calendar.0[span as usize] = keep(span)?;
        }
        Ok(calendar)
    }

    /// How many of this kind.
    #[must_use]
    pub fn keep(&self, span: Span) -> u32 {
        self.0[span as usize]
    }
}

/// The spans that have a round to stand for them, while rounds are looked at from the newest on.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// Of each kind and service: the number of the last span that has one, and how many have.
    covered: BTreeMap<(Span, ServiceName), (i64, u32)>,
}

impl Spans {
    /// The first kind of span that needs this round for one of the services.
    pub(super) fn need<'s>(
        &self,
        keep: &Calendar,
        services: impl Iterator<Item = &'s ServiceName> + Clone,
        at: UnixMillis,
    ) -> Option<Span> {
        let needs = |span: Span, service: &ServiceName| match self.covered.get(&(span, service.clone())) {
            None => true,
            Some((last, count)) => *count < keep.keep(span) && *last != span.number(at),
        };
        let asked = Span::ALL.into_iter().filter(|span| keep.keep(*span) > 0);
        asked.into_iter().find(|span| services.clone().any(|service| needs(*span, service)))
    }

    /// A verified round of these services stands for its spans, where no newer one does.
    pub(super) fn cover(&mut self, services: &[ServiceName], at: UnixMillis) {
        for span in Span::ALL {
            let number = span.number(at);
            for service in services {
                let covered = self.covered.entry((span, service.clone())).or_insert((i64::MAX, 0));
                if covered.0 != number {
                    *covered = (number, covered.1.saturating_add(1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY, HOUR, Span};
    use crate::time::UnixMillis;

    /// 2026-11-29, a Sunday, at noon.
    const NOON: i64 = 1_795_953_600_000;

    #[test]
    fn spans_end_where_the_calendar_says() {
        let same = |span: Span, a: i64, b: i64| span.number(UnixMillis(a)) == span.number(UnixMillis(b));
        assert!(same(Span::Hour, NOON, NOON + HOUR - 1) && !same(Span::Hour, NOON - 1, NOON));
        assert!(same(Span::Day, NOON, NOON + 12 * HOUR - 1) && !same(Span::Day, NOON, NOON + 12 * HOUR));
        assert!(!same(Span::Week, NOON, NOON + DAY), "Monday begins another week");
        assert!(same(Span::Week, NOON, NOON - 6 * DAY) && !same(Span::Week, NOON, NOON - 7 * DAY));
        assert!(same(Span::Month, NOON, NOON + DAY) && !same(Span::Month, NOON, NOON + 2 * DAY), "December");
        assert!(same(Span::Year, NOON, NOON + 32 * DAY) && !same(Span::Year, NOON, NOON + 33 * DAY));
        assert!(!same(Span::Month, NOON, NOON + 365 * DAY), "the same month of another year");
        for span in Span::ALL {
            assert!(span.number(UnixMillis(-DAY * 400)) < span.number(UnixMillis(0)), "{span:?}");
            assert!(span.number(UnixMillis(i64::MAX)) > span.number(UnixMillis(NOON)), "{span:?}");
        }
    }
}
