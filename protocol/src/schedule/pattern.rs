//! What the setting `schedule` says: a cron expression of five fields, or a time between two rounds.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::units::{HumanDuration, parse_duration};

/// The longest expression that is read, in bytes.
const MAX_LEN: usize = 200;
/// The shortest time between two slots. A round takes seconds at best.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// A clock that leapt forward longer ago than this has nothing to make up for. The widest leap so far was a day.
const LEAP_SEEN_SECS: i64 = 26 * 3_600;

/// Which slots there would be without exceptions and windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// So long apart, counted from 1970-01-01 00:00 UTC: always the same slots, whoever leads and whenever it was set.
    Every(Duration),
    /// Minute, hour, day of the month, month, day of the week. Where both days are given, either will do.
    Cron(Box<Cron>),
}

impl Pattern {
    /// That of a setting that is not `off`.
    ///
    /// # Errors
    /// What it must be, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        const MUST: &str = "must be off, every DURATION such as every 12h, or a cron expression of five fields such as 0 3 * * *";
        let text = text.trim();
        if text.len() > MAX_LEN {
            return Err(format!("is longer than {MAX_LEN} bytes"));
        }
        if let Some(every) = text.strip_prefix("every ") {
            let every = parse_duration(every).map_err(|error| format!("{MUST}: {error}"))?;
            if !(SHORTEST..=LONGEST).contains(&every) {
                let (shortest, longest) = (HumanDuration(SHORTEST), HumanDuration(LONGEST));
                return Err(format!("must lie between every {shortest} and every {longest}"));
            }
            return Ok(Self::Every(every));
        }
        if text.split_whitespace().count() != 5 {
            return Err(MUST.to_owned());
        }
        fields(text).map_err(|why| format!("{why}; it {MUST}"))?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| format!("{MUST}: {error}"))?;
        Ok(Self::Cron(Box::new(cron)))
    }

    /// The first slot after a moment; none: there never is another one.
    pub(super) fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(every) => {
                let every = i64::try_from(every.as_millis()).ok()?;
                let slots = after.as_millisecond().div_euclid(every).checked_add(1)?;
                Timestamp::from_millisecond(slots.checked_mul(every)?).ok()
            }
            Self::Cron(cron) => next(cron, zone, after),
        }
    }
}

/// Refuses what the parser would read as something that nobody means: names of days in the field of minutes, and steps that are
/// longer than their field.
fn fields(text: &str) -> Result<(), String> {
    let kinds = [("minute", 59, false), ("hour", 23, false), ("day of the month", 31, false)];
    let kinds = kinds.into_iter().chain([("month", 12, true), ("day of the week", 7, true)]);
    for (field, (name, longest, named)) in text.split_whitespace().zip(kinds) {
        if !named && field.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            return Err(format!("{field:?} is no {name}"));
        }
        let steps = field.split(',').filter_map(|part| part.split_once('/'));
        if let Some((_, step)) =
            steps.into_iter().find(|(_, step)| step.parse().is_ok_and(|step: u32| step > longest))
        {
            return Err(format!("a step of {step} is longer than the field of the {name}"));
        }
    }
    Ok(())
}

/// Slots are sought in civil time, and then placed on the time line: one that the clock leaps over in spring comes as much later
/// as the leap is long, and one that comes twice in autumn counts the first time.
fn next(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut civil = from(zone, after);
    let mut first: Option<(Timestamp, DateTime)> = None;
    let mut inclusive = true;
    loop {
        civil = match cron.find_next_occurrence(&civil, inclusive) {
            Ok(civil) => civil,
            // There is none, or the calendar ends.
            Err(_) => return first.map(|(at, _)| at),
        };
        inclusive = false;
        // What comes behind a leap and before the slot that it put off, comes before it.
        if let Some((at, shown)) = first
            && civil >= shown
        {
            return Some(at);
        }
        let placed = zone.to_ambiguous_timestamp(civil);
        let leapt = matches!(placed.offset(), AmbiguousOffset::Gap { .. });
        let at = placed.compatible().ok()?;
        if at <= after {
            continue;
        }
        if first.is_none_or(|(earlier, _)| at < earlier) {
            first = Some((at, zone.to_datetime(at)));
        }
        if !leapt {
            return first.map(|(at, _)| at);
        }
    }
}

/// The civil time from which to seek: what lies in a leap just before `after` may still be to come.
fn from(zone: &TimeZone, after: Timestamp) -> DateTime {
    let civil = whole_second(zone.to_datetime(after));
    // One at this very moment counts.
    let Ok(just_after) = after.checked_add(jiff::SignedDuration::from_nanos(1)) else { return civil };
    let Some(last) = zone.preceding(just_after).next() else { return civil };
    let at = last.timestamp();
    if after.as_second() - at.as_second() > LEAP_SEEN_SECS {
        return civil;
    }
    let Ok(before) = at.checked_sub(jiff::SignedDuration::from_secs(1)) else { return civil };
    let offset = zone.to_offset(before);
    if last.offset() > offset { civil.min(offset.to_datetime(at)) } else { civil }
}

fn whole_second(at: DateTime) -> DateTime {
    let time = at.time();
    let whole = Time::new(time.hour(), time.minute(), time.second(), 0).unwrap_or(time);
    at.date().to_datetime(whole)
}
