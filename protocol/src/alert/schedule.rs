//! What the settings tell of the schedule (SCHED-01): nobody waits for rounds that do not begin.

use std::collections::BTreeMap;

use crate::alert::{About, Book, Code, Finding, Part};
use crate::schedule::{Plan, Standing, rfc3339};
use crate::time::UnixMillis;

/// Raises SCHED-01 while the fleet is disabled, or no schedule is on although it was enabled, or what is set is none; closes it
/// when that is over. True if anything changed. A fleet that nobody enabled yet promises nothing.
pub fn judge_schedule(book: &mut Book, clear: &BTreeMap<String, String>, now: UnixMillis) -> bool {
    let about = About::Part(Part::Fleet);
    let before = book.clone();
    let cause = cause(clear, now);
    // What is told is what holds now: another pause is another alert.
    if book.find(Code::Sched01, &about).is_some_and(|open| Some(&open.cause) != cause.as_ref()) {
        book.mended(Code::Sched01, &about, now);
    }
    if let Some(cause) = cause {
        book.raise(Finding::seen(Code::Sched01, about, cause), now);
    }
    *book != before
}

fn cause(clear: &BTreeMap<String, String>, now: UnixMillis) -> Option<String> {
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
        Ok(None) if enabled => Some("the fleet is enabled, and its schedule is off".to_owned()),
        Ok(_) => None,
    }
}
