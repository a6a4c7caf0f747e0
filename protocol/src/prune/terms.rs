//! The terms of retention, as the operators signed them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::calendar::Calendar;
use crate::settings::{self, SettingError};
use crate::units::parse_duration;

/// What is kept, and for how long. A round stays if any one of them keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The newest verified rounds of every service that stay.
    pub keep_last: u32,
    /// Rounds of at most this age stay, in whole days.
    pub keep_days: u32,
    /// Hours, days, weeks, months and years of every service for which a verified round stays.
    pub calendar: Calendar,
    /// The newest verified rounds of every service that stay whatever else is said; at least one.
    pub min_verified: u32,
    /// A verified round is promised in each: the longest time that may pass unseen between two rounds (see
    /// [`Ages`](super::Ages)).
    pub interval: Duration,
    /// Between marking and deleting: time to hold a round, or to end a recovery that reads it.
    pub grace: Duration,
}

impl Terms {
    /// The terms in the clear part of a `config` record; a setting that is not there has its default.
    ///
    /// # Errors
    /// When a value is none of its setting's: then nothing may be pruned.
    pub fn of(clear: &BTreeMap<String, String>) -> Result<Self, SettingError> {
        let defaults = settings::defaults();
        let value = |key: &str| {
            let text = clear.get(key).or(defaults.get(key)).cloned().unwrap_or_default();
            settings::check(key, &text).map(|()| text)
        };
        // A checked value parses; a default that would not is caught by the settings' own test.
        let number = |key: &str| value(key).map(|text| text.parse().unwrap_or(u32::MAX));
        let duration = |key: &str| value(key).map(|text| parse_duration(&text).unwrap_or(Duration::MAX));
        Ok(Self {
            keep_last: number("retention.keep_last")?,
            keep_days: number("retention.keep_days")?,
            calendar: Calendar::of(|span| number(span.setting()))?,
            min_verified: number("retention.min_verified")?,
            interval: duration("interval")?,
            grace: duration("retention.grace")?,
        })
    }

    /// The age up to which rounds stay.
    #[must_use]
    pub fn keep_for(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_days) * 86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::{Calendar, Terms};
    use std::time::Duration;

    #[test]
    fn what_is_not_set_has_its_default_and_what_is_wrong_stops_everything() {
        let day = Duration::from_secs(86_400);
        let terms = Terms::of(&[("retention.keep_last".to_owned(), "3".to_owned())].into()).expect("valid");
        let calendar = Calendar::default();
        assert_eq!(
            terms,
            Terms { keep_last: 3, keep_days: 7, calendar, min_verified: 7, interval: day, grace: day }
        );
        assert_eq!(terms.keep_for(), day * 7);
        for (key, value) in
            [("retention.min_verified", "0"), ("retention.keep_days", "week"), ("retention.grace", "1")]
        {
            Terms::of(&[(key.to_owned(), value.to_owned())].into()).expect_err(key);
        }
    }
}
