//! What the settings tell of the schedule (SCHED-01): nobody waits for rounds that do not begin.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::{About, Book, Code, Finding, Part};
use crate::schedule::{Plan, Standing, rfc3339};
use crate::time::UnixMillis;

/// What begins rounds besides the schedule: somebody's timer may send `start`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Begun {
    /// When the newest round began.
    pub newest: Option<UnixMillis>,
    /// The interval that is promised between verified rounds, if one is.
    pub promised: Option<Duration>,
}

impl Begun {
    /// Whether rounds begin as often as promised, whoever begins them. A clock that was ahead counts as now.
    fn keeps_up(self, now: UnixMillis) -> bool {
        let age = |newest: UnixMillis| {
            Duration::from_millis(u64::try_from(now.0.saturating_sub(newest.0)).unwrap_or(0))
        };
        self.newest.is_some_and(|newest| self.promised.is_none_or(|promised| age(newest) <= promised))
    }
}

/// Raises SCHED-01 while the fleet is disabled, or what is set is no schedule, or none is on although it was enabled and nobody else
/// begins rounds as often as promised; closes it when that is over. True if anything changed. A fleet that nobody enabled yet
/// promises nothing.
pub fn judge_schedule(
    book: &mut Book,
    clear: &BTreeMap<String, String>,
    begun: Begun,
    now: UnixMillis,
) -> bool {
    let about = About::Part(Part::Fleet);
    let before = book.clone();
    let cause = cause(clear, begun, now);
    // What is told is what holds now: another pause is another alert.
    if book.find(Code::Sched01, &about).is_some_and(|open| Some(&open.cause) != cause.as_ref()) {
        book.mended(Code::Sched01, &about, now);
    }
    if let Some(cause) = cause {
        book.raise(Finding::seen(Code::Sched01, about, cause), now);
    }
    *book != before
}

fn cause(clear: &BTreeMap<String, String>, begun: Begun, now: UnixMillis) -> Option<String> {
    let enabled = match Standing::of(clear, now) {
        Standing::Disabled { since, until, reason } => {
            let mut cause = "the fleet is disabled".to_owned();
            if let Some(since) = since.and_then(rfc3339) {
                cause.push_str(&format!(" since {since}"));
            }
            if let Some(until) = until.and_then(rfc3339) {
                cause.push_str(&format!(" until {until}"));
            }
            if let Some(reason) = reason {
                cause.push_str(&format!(": {reason}"));
            }
            return Some(cause);
        }
        Standing::Enabled { .. } => true,
        Standing::Never => false,
    };
    match Plan::of(clear) {
        Err(error) => Some(format!("no round begins by schedule: {error}")),
        Ok(None) if enabled && !begun.keeps_up(now) => Some(
            "the fleet is enabled, its schedule is off, and nobody else begins rounds as often as promised"
                .to_owned(),
        ),
        Ok(_) => None,
    }
}
