//! The fleet-wide settings: the clear part of the `config` record, by key, as `muster config` shows and sets them.
//!
//! Values are texts, so that a later version adds keys and an earlier one passes over them.

use std::collections::BTreeMap;

use crate::service_policy::{self, RULE_PREFIX, RuleError};
use crate::units::HumanDuration;

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A duration of at least a minute and at most ten years.
    Duration,
    /// A duration of at most ten years; none at all is one, too.
    Grace,
    /// A number in these bounds.
    Number(u32, u32),
    /// Nothing follows a schedule yet.
    Off,
}

/// Ten years, in seconds.
const LONGEST_SECS: u64 = 10 * 366 * 86_400;

struct Setting {
    key: &'static str,
    default: &'static str,
    shape: Shape,
    what: &'static str,
}

const SETTINGS: [Setting; 11] = [
    Setting {
        key: "interval",
        default: "24h",
        shape: Shape::Duration,
        what: "a verified round is promised in each",
    },
    Setting {
        key: "retention.grace",
        default: "24h",
        shape: Shape::Grace,
        what: "between marking for deletion and deleting",
    },
    Setting {
        key: "retention.keep_daily",
        default: "0",
        shape: Shape::Number(0, 100_000),
        what: "newest days for which the newest verified round is kept",
    },
    Setting {
        key: "retention.keep_days",
        default: "7",
        shape: Shape::Number(0, 36_500),
        what: "days that rounds are kept",
    },
    Setting {
        key: "retention.keep_hourly",
        default: "0",
        shape: Shape::Number(0, 100_000),
        what: "newest hours for which the newest verified round is kept",
    },
    Setting {
        key: "retention.keep_last",
        default: "0",
        shape: Shape::Number(0, 100_000),
        what: "newest rounds that are kept",
    },
    Setting {
        key: "retention.keep_monthly",
        default: "0",
        shape: Shape::Number(0, 100_000),
        what: "newest months for which the newest verified round is kept",
    },
    Setting {
        key: "retention.keep_weekly",
        default: "0",
        shape: Shape::Number(0, 100_000),
        what: "newest weeks for which the newest verified round is kept",
    },
    Setting {
        key: "retention.keep_yearly",
        default: "0",
        shape: Shape::Number(0, 100_000),
        what: "newest years for which the newest verified round is kept",
    },
    Setting {
        key: "retention.min_verified",
        default: "7",
        shape: Shape::Number(1, 100_000),
        what: "verified rounds that are always kept",
    },
    Setting { key: "schedule", default: "off", shape: Shape::Off, what: "when rounds begin by themselves" },
];

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
}

/// The keys, sorted.
pub fn keys() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.key)
}

/// What a key is for, in a few words.
#[must_use]
pub fn what(key: &str) -> Option<&'static str> {
    if key.starts_with(RULE_PREFIX) {
        return Some("what is expected of these services");
    }
    SETTINGS.iter().find(|setting| setting.key == key).map(|setting| setting.what)
}

/// The settings of a new fleet.
#[must_use]
pub fn defaults() -> BTreeMap<String, String> {
    SETTINGS.iter().map(|setting| (setting.key.to_owned(), setting.default.to_owned())).collect()
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
        Shape::Off if value == "off" => return Ok(()),
        Shape::Off => {
            "must be off: this version follows no schedule; start rounds by command or message".to_owned()
        }
    };
    Err(SettingError::Value { key: setting.key, must })
}

#[cfg(test)]
mod tests {
    use super::{check, defaults, keys, what};

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
            ("retention", "1", "there are interval, retention.grace, retention.keep_daily"),
            ("schedule", "0 3 * * *", "follows no schedule"),
        ] {
            let error = check(key, value).expect_err(key).to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = check("service.dns", "sometimes").expect_err("no rule").to_string();
        assert!(error.starts_with("service.dns: \"sometimes\" is none of required"), "{error}");
        for (key, value) in [
            ("interval", "12h"),
            ("retention.grace", "0s"),
            ("retention.keep_days", "30"),
            ("schedule", "off"),
            ("service.dns-*", "optional"),
        ] {
            assert_eq!(check(key, value), Ok(()));
        }
    }
}
