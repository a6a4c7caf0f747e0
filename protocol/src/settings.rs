//! The fleet-wide settings: the clear part of the `config` record, by key, as `muster config` shows and sets them.
//!
//! Values are texts, so that a later version adds keys and an earlier one passes over them.

use std::collections::BTreeMap;

use crate::schedule::{
    DISABLED_REASON, DISABLED_SINCE, DISABLED_UNTIL, ENABLED, Exceptions, Missed, NONE, OFF, Pattern, Plan,
    ScheduleError, Windows, moment, zone,
};
use crate::service_policy::{self, RULE_PREFIX, RuleError};
use crate::token;
use crate::units::{HumanDuration, parse_size};

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A duration of at least a minute and at most ten years.
    Duration,
    /// A duration of at most ten years; none at all is one, too.
    Grace,
    /// A number in these bounds.
    Number(u32, u32),
    /// `off`, or what [`Pattern`] reads.
    Schedule,
    /// A zone of the IANA database.
    Zone,
    /// What becomes of slots that passed.
    Missed,
    /// Dates, or `none`.
    Except,
    /// Spans of the week, or `none`.
    Windows,
    /// `never`, `yes` or `no`.
    Enabled,
    /// A moment, or `none`.
    Moment,
    /// A line of text, or `none`.
    Text,
    /// `off`, or a duration of at least a minute and at most ten years.
    Within,
    /// Bytes, at least 64 KiB.
    Rate,
}

/// Ten years, in seconds.
const LONGEST_SECS: u64 = 10 * 366 * 86_400;
/// The slowest that anything is read, in bytes a second.
const LEAST_RATE: u64 = 64 * 1024;
/// The longest line of text, in bytes.
pub const MAX_TEXT_LEN: usize = 400;

struct Setting {
    key: &'static str,
    default: &'static str,
    shape: Shape,
    what: &'static str,
}

const fn setting(key: &'static str, default: &'static str, shape: Shape, what: &'static str) -> Setting {
    Setting { key, default, shape, what }
}

/// How many spans of the calendar are covered.
const fn kept_for(key: &'static str, what: &'static str) -> Setting {
    setting(key, "0", Shape::Number(0, 100_000), what)
}

/// The setting that says how many days before it is full a share is told of.
pub const SHARE_DAYS: &str = "share_days";

/// The setting that says how often a whole round is recovered in a drill.
pub const DRILL_WITHIN: &str = "drill.within";
/// The setting that promises how long a recovery of everything takes at most.
pub const RECOVERY_TIME: &str = "recovery_time";

/// All of them, sorted by key.
const SETTINGS: [Setting; 25] = [
    setting(DISABLED_REASON, NONE, Shape::Text, "why it is disabled"),
    setting(DISABLED_SINCE, NONE, Shape::Moment, "since when it is disabled"),
    setting(DISABLED_UNTIL, NONE, Shape::Moment, "when it is enabled again by itself"),
    setting(DRILL_WITHIN, "90d", Shape::Within, "a whole round is recovered in a drill in each"),
    setting(ENABLED, "never", Shape::Enabled, "whether rounds may begin: never said, yes, or no"),
    setting("interval", "24h", Shape::Duration, "a verified round is promised in each"),
    setting(RECOVERY_TIME, OFF, Shape::Within, "a whole round is promised to be recovered in"),
    setting("retention.grace", "24h", Shape::Grace, "between marking for deletion and deleting"),
    kept_for("retention.keep_daily", "newest days for which the newest verified round is kept"),
    setting("retention.keep_days", "7", Shape::Number(0, 36_500), "days that rounds are kept"),
    kept_for("retention.keep_hourly", "newest hours for which the newest verified round is kept"),
    setting("retention.keep_last", "0", Shape::Number(0, 100_000), "newest rounds that are kept"),
    kept_for("retention.keep_monthly", "newest months for which the newest verified round is kept"),
    kept_for("retention.keep_weekly", "newest weeks for which the newest verified round is kept"),
    kept_for("retention.keep_yearly", "newest years for which the newest verified round is kept"),
    setting("retention.min_verified", "7", Shape::Number(1, 100_000), "verified rounds that are always kept"),
    setting("schedule", OFF, Shape::Schedule, "when rounds begin by themselves"),
    setting("schedule.except", NONE, Shape::Except, "dates on which none does"),
    setting("schedule.jitter", "0s", Shape::Grace, "how much later than its slot a round may begin"),
    setting(
        "schedule.missed",
        "run-once",
        Shape::Missed,
        "what becomes of slots that passed while nobody led",
    ),
    setting("schedule.windows", NONE, Shape::Windows, "spans of the week in which no slot lies"),
    setting("schedule.zone", "UTC", Shape::Zone, "the zone of the schedule's calendar"),
    setting("scrub.bandwidth", "64MiB", Shape::Rate, "bytes a second that the scrub reads at most"),
    setting("scrub.within", "30d", Shape::Within, "every stored object is read again in each"),
    setting(
        SHARE_DAYS,
        "14",
        Shape::Number(0, 3_650),
        "days until the share is full from which on it is told",
    ),
];

/// Those that only `muster enable` and `muster disable` write.
const MANAGED: [&str; 4] = [DISABLED_REASON, DISABLED_SINCE, DISABLED_UNTIL, ENABLED];

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No such key.
    #[error("there is no setting {key:?}; there are {}, service.PATTERN", keys().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// What was given, cut to 64 characters.
        key: String,
    },
    /// The value is none of this key's.
    #[error("{key} {must}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it must be.
        must: String,
    },
    /// A rule for services cannot be used.
    #[error("{key}: {why}")]
    Rule {
        /// The key, cut to 64 characters.
        key: String,
        /// Why.
        #[source]
        why: RuleError,
    },
    /// A token is none.
    #[error("{key} {must}")]
    Token {
        /// The key, cut to 64 characters.
        key: String,
        /// What it must be.
        must: String,
    },
    /// The settings of the schedule are each fine, and no schedule together.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// The keys that anybody sets, sorted.
pub fn keys() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.key).filter(|key| !is_managed(key))
}

/// Whether only commands of their own write it: `muster enable` and `muster disable`, `muster token`.
#[must_use]
pub fn is_managed(key: &str) -> bool {
    MANAGED.contains(&key) || key.starts_with(token::PREFIX)
}

/// What holds where nobody set it.
#[must_use]
pub fn default_of(key: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|setting| setting.key == key).map(|setting| setting.default)
}

/// What a key is for, in a few words.
#[must_use]
pub fn what(key: &str) -> Option<&'static str> {
    if key.starts_with(RULE_PREFIX) {
        return Some("what is expected of these services");
    }
    if key.starts_with(token::PREFIX) {
        return Some("who may use the HTTP API");
    }
    SETTINGS.iter().find(|setting| setting.key == key).map(|setting| setting.what)
}

/// The settings of a new fleet.
#[must_use]
pub fn defaults() -> BTreeMap<String, String> {
    let own = SETTINGS.iter().filter(|setting| !is_managed(setting.key));
    own.map(|setting| (setting.key.to_owned(), setting.default.to_owned())).collect()
}

/// Whether `value` may stand for `key`.
///
/// # Errors
/// When there is no such key, or the value is none of its.
pub fn check(key: &str, value: &str) -> Result<(), SettingError> {
    if key.starts_with(RULE_PREFIX) {
        return service_policy::check(key, value)
            .map_err(|why| SettingError::Rule { key: key.chars().take(64).collect(), why });
    }
    if key.starts_with(token::PREFIX) {
        return token::check(key, value)
            .map_err(|must| SettingError::Token { key: key.chars().take(64).collect(), must });
    }
    let setting = SETTINGS
        .iter()
        .find(|setting| setting.key == key)
        .ok_or_else(|| SettingError::Unknown { key: key.chars().take(64).collect() })?;
    let must = match setting.shape {
        Shape::Duration => match value.parse::<HumanDuration>() {
            Ok(duration) if (60..=LONGEST_SECS).contains(&duration.0.as_secs()) => return Ok(()),
            Ok(_) | Err(_) => "must be a duration from a minute to ten years, such as 24h".to_owned(),
        },
        Shape::Grace => match value.parse::<HumanDuration>() {
            Ok(duration) if duration.0.as_secs() <= LONGEST_SECS => return Ok(()),
            Ok(_) | Err(_) => "must be a duration of at most ten years, such as 24h".to_owned(),
        },
        Shape::Number(least, most) => match value.parse::<u32>() {
            Ok(number) if (least..=most).contains(&number) => return Ok(()),
            Ok(_) | Err(_) => format!("must be a number from {least} to {most}"),
        },
        Shape::Schedule if value == OFF => return Ok(()),
        Shape::Schedule => match Pattern::parse(value) {
            Ok(_) => return Ok(()),
            Err(must) => must,
        },
        Shape::Zone => match zone(value) {
            Ok(_) => return Ok(()),
            Err(must) => must,
        },
        Shape::Missed => match Missed::parse(value) {
            Ok(_) => return Ok(()),
            Err(must) => must,
        },
        Shape::Except => match Exceptions::parse(value) {
            Ok(_) => return Ok(()),
            Err(must) => must,
        },
        Shape::Windows => match Windows::parse(value) {
            Ok(_) => return Ok(()),
            Err(must) => must,
        },
        Shape::Enabled if ["never", "yes", "no"].contains(&value) => return Ok(()),
        Shape::Enabled => "must be never, yes or no".to_owned(),
        Shape::Moment if value == NONE || moment(value, "UTC").is_ok() => return Ok(()),
        Shape::Moment => "must be none, or a moment such as 2026-12-01T08:00:00Z".to_owned(),
        Shape::Within if value == OFF => return Ok(()),
        Shape::Within => match value.parse::<HumanDuration>() {
            Ok(duration) if (60..=LONGEST_SECS).contains(&duration.0.as_secs()) => return Ok(()),
            Ok(_) | Err(_) => "must be off, or a duration from a minute to ten years, such as 30d".to_owned(),
        },
        Shape::Rate => match parse_size(value) {
            Ok(bytes) if bytes >= LEAST_RATE => return Ok(()),
            Ok(_) | Err(_) => "must be a size of at least 64KiB, such as 64MiB".to_owned(),
        },
        Shape::Text if (1..=MAX_TEXT_LEN).contains(&value.len()) && !value.chars().any(char::is_control) => {
            return Ok(());
        }
        Shape::Text => format!("must be one line of 1 to {MAX_TEXT_LEN} bytes"),
    };
    Err(SettingError::Value { key: setting.key, must })
}

/// Whether these settings hold together: each by itself, and the schedule as a whole. A key that this version does not know is a
/// later version's matter.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_all(clear: &BTreeMap<String, String>) -> Result<(), SettingError> {
    for (key, value) in clear {
        match check(key, value) {
            Err(SettingError::Unknown { .. }) | Ok(()) => {}
            Err(
                error @ (SettingError::Value { .. }
                | SettingError::Rule { .. }
                | SettingError::Token { .. }
                | SettingError::Schedule(_)),
            ) => {
                return Err(error);
            }
        }
    }
    Plan::of(clear)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check, check_all, default_of, defaults, is_managed, keys, what};
    use crate::schedule::ENABLED;

    #[test]
    fn defaults_are_valid_and_keys_sorted() {
        assert!(keys().is_sorted());
        for (key, value) in defaults() {
            assert_eq!(check(&key, &value), Ok(()), "{key}");
            assert!(what(&key).is_some());
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could() {
        for (key, value, part) in [
            ("interval", "1s", "interval must be a duration from a minute"),
            ("interval", "5000000000d", "to ten years"),
            ("interval", "soon", "such as 24h"),
            ("retention.grace", "24", "of at most ten years"),
            ("retention.keep_days", "-1", "must be a number from 0 to 36500"),
            ("retention.min_verified", "0", "must be a number from 1 to"),
            (
                "retention",
                "1",
                "there are drill.within, interval, recovery_time, retention.grace, retention.keep_daily",
            ),
            ("recovery_time", "soon", "recovery_time must be off, or a duration from a minute"),
            ("drill.within", "1s", "such as 30d"),
            ("schedule", "0 3 * *", "a cron expression of five fields such as"),
            ("schedule", "61 3 * * *", "a cron expression of five fields such as"),
            ("schedule", "MON * * * *", "\"MON\" is no minute; it must be off, every DURATION"),
            ("schedule", "0 fri * * *", "\"fri\" is no hour"),
            ("schedule", "*/61 * * * *", "a step of 61 is longer than the field of the minute"),
            ("schedule", "every 5s", "must lie between every 1m and every 366d"),
            ("schedule", "@daily", "must be off, every DURATION"),
            ("schedule.zone", "Berlin", "such as Europe/Berlin"),
            ("schedule.missed", "all", "must be run-once or skip"),
            ("schedule.except", "2026-13-01", "such as 2026-12-24..2026-12-26"),
            ("schedule.except", "2026-12-24..2026-12-20", "ends before it begins"),
            ("schedule.windows", "mon-fri", "such as mon-fri 08:00-18:00"),
            ("schedule.windows", "mon 08:00-08:00", "without an extent"),
            ("disabled.until", "tomorrow", "such as 2026-12-01T08:00:00Z"),
            ("disabled.reason", "two\nlines", "one line of 1 to 400 bytes"),
            ("enabled", "perhaps", "never, yes or no"),
            ("scrub.within", "5s", "must be off, or a duration from a minute"),
            ("scrub.bandwidth", "1KiB", "at least 64KiB"),
            ("scrub.bandwidth", "fast", "such as 64MiB"),
        ] {
            let error = check(key, value).expect_err(key).to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = check("token.ci", "operator").expect_err("no token").to_string();
        assert_eq!(error, "token.ci must be ROLE sha256=HASH until=TIME, as muster token new writes it");
        assert!(is_managed("token.ci"));
        let error = check("service.dns", "sometimes").expect_err("no rule").to_string();
        assert!(error.starts_with("service.dns: \"sometimes\" is none of required"), "{error}");
        for (key, value) in [
            ("interval", "12h"),
            ("recovery_time", "4h"),
            ("drill.within", "off"),
            ("retention.grace", "0s"),
            ("scrub.within", "off"),
            ("scrub.within", "7d"),
            ("scrub.bandwidth", "1GiB"),
            ("retention.keep_days", "30"),
            ("schedule", "off"),
            ("service.dns-*", "optional"),
            ("schedule", "every 12h"),
            ("schedule", "30 2 1-7 * SUN"),
            ("schedule.zone", "Europe/Berlin"),
            ("schedule.except", "2026-12-24..2026-12-26, 2027-01-01"),
            ("schedule.windows", "mon-fri 08:00-18:00, sat+sun 22:00-06:00, 12:00-24:00"),
            ("disabled.until", "2026-12-01T08:00:00Z"),
        ] {
            assert_eq!(check(key, value), Ok(()), "{key} {value}");
        }
    }

    #[test]
    fn settings_hold_together_or_not() {
        let with = |pairs: &[(&str, &str)]| -> Result<(), String> {
            let clear = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            check_all(&clear).map_err(|error| error.to_string())
        };
        assert_eq!(with(&[("schedule", "0 3 * * *"), ("of.a.later.version", "x")]), Ok(()));
        for (pairs, part) in [
            (vec![("schedule", "0 0 30 2 *")], "no day of the calendar is like that"),
            (
                vec![("schedule", "0 3 * * *"), ("schedule.windows", "00:00-24:00")],
                "in one of schedule.windows",
            ),
            (
                vec![("schedule", "0 3 * * *"), ("schedule.except", "2000-01-01..9999-12-31")],
                "schedule.except",
            ),
            (vec![("schedule", "every 12h"), ("schedule.jitter", "12h")], "between two slots, 720 min"),
            (vec![("schedule", "soon")], "must be off"),
            (vec![("service.a", "sometimes")], "none of required"),
        ] {
            let error = with(&pairs).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        assert!(is_managed(ENABLED) && default_of(ENABLED) == Some("never"));
        assert!(!defaults().contains_key(ENABLED), "a new fleet says nothing of it");
    }
}
