//! Whether the fleet is enabled: what its admins said last of it, in the settings that only `muster enable` and `muster disable`
//! write.
//!
//! A fleet of which nothing was said yet may be tested as long as one likes: rounds are started by hand, and no schedule is
//! promised. *Disabled* means that somebody said so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};

use super::plan::zone;
use crate::settings;
use crate::time::UnixMillis;
use crate::units::parse_duration;

/// `never` after `init`, then `yes` or `no`.
pub const ENABLED: &str = "enabled";
/// Since when it is disabled, or `none`.
pub const DISABLED_SINCE: &str = "disabled.since";
/// Until when it is disabled: then it is enabled again. Or `none`.
pub const DISABLED_UNTIL: &str = "disabled.until";
/// Why, for people; `none` where nobody said it.
pub const DISABLED_REASON: &str = "disabled.reason";

/// Whether rounds may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody said anything yet.
    Never,
    /// It is enabled.
    Enabled {
        /// The end of a pause that is over: nothing before it is owed.
        paused_until: Option<UnixMillis>,
    },
    /// It is disabled: no round begins unless it is forced.
    Disabled {
        /// Since when, by the clock of whoever said it.
        since: Option<UnixMillis>,
        /// Until when; none: until somebody enables it.
        until: Option<UnixMillis>,
        /// Why.
        reason: Option<String>,
    },
}

impl Standing {
    /// What these settings say at `now`. An end that cannot be read is none.
    #[must_use]
    pub fn of(clear: &BTreeMap<String, String>, now: UnixMillis) -> Self {
        let value = |key: &str| {
            let set = clear.get(key).map(String::as_str).or_else(|| settings::default_of(key));
            set.filter(|text| *text != super::NONE)
        };
        let time = |key: &str| value(key).and_then(|text| moment(text, "UTC").ok());
        match value(ENABLED) {
            Some("no") => match time(DISABLED_UNTIL) {
                Some(until) if until <= now => Self::Enabled { paused_until: Some(until) },
                until => Self::Disabled {
                    since: time(DISABLED_SINCE),
                    until,
                    reason: value(DISABLED_REASON).map(str::to_owned),
                },
            },
            Some("yes") => Self::Enabled { paused_until: None },
            Some(_) | None => Self::Never,
        }
    }

    /// Why a request is refused now; none: it is not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Never | Self::Enabled { .. } => None,
            Self::Disabled { until, reason, .. } => {
                let mut said = "the fleet is disabled".to_owned();
                if let Some(until) = until.and_then(rfc3339) {
                    said.push_str(&format!(" until {until}"));
                }
                if let Some(reason) = reason {
                    said.push_str(&format!(" ({reason})"));
                }
                said.push_str("; muster enable, or muster start --force for this one round");
                Some(said)
            }
        }
    }
}

/// A moment as settings and people write it: RFC 3339 with its offset, or a date, or a date and a time of the zone of this IANA name;
/// `now` and a duration from it is the caller's matter.
///
/// # Errors
/// What it must be, in words.
pub fn moment(text: &str, zone_name: &str) -> Result<UnixMillis, String> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(UnixMillis(at.as_millisecond()));
    }
    let civil = text
        .parse::<Date>()
        .ok()
        .filter(|_| !text.contains(':'))
        .map(|day| day.to_datetime(Time::midnight()))
        .or_else(|| text.parse::<DateTime>().ok());
    let must = || "must be a moment such as 2026-12-01T08:00:00Z, 2026-12-01 08:00 or 2026-12-01".to_owned();
    let at =
        zone(zone_name)?.to_ambiguous_timestamp(civil.ok_or_else(must)?).compatible().map_err(|_| must())?;
    Ok(UnixMillis(at.as_millisecond()))
}

/// A moment that lies a duration after `now`, or at a moment of its own.
///
/// # Errors
/// What it must be, in words; also when it lies not ahead.
pub fn until(text: &str, zone_name: &str, now: UnixMillis) -> Result<UnixMillis, String> {
    let at = match parse_duration(text) {
        Ok(duration) => {
            UnixMillis(now.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
        }
        Err(_) => moment(text, zone_name).map_err(|must| format!("{must}; or a duration such as 4h"))?,
    };
    if at <= now {
        return Err("must lie ahead".to_owned());
    }
    if rfc3339(at).is_none() {
        return Err("lies beyond the calendar".to_owned());
    }
    Ok(at)
}

/// A moment as settings keep it: RFC 3339 in UTC, in whole seconds.
#[must_use]
pub fn rfc3339(at: UnixMillis) -> Option<String> {
    Timestamp::from_second(at.0.div_euclid(1_000)).ok().map(|at| at.to_string())
}
