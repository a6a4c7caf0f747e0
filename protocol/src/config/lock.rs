//! `[share] lock` and `lock_mode`: how long what is written cannot be deleted, on a share that can promise it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units::{HumanDuration, UnitError};

const DAY: Duration = Duration::from_secs(86_400);
/// A shorter one runs out before anyone renews it.
const LEAST: Duration = DAY;
/// A longer one is a slip: nobody can take it back.
const MOST: Duration = Duration::from_secs(3_650 * 86_400);

/// Who may take a lock back before its time (S3 User Guide, *Object Lock retention modes*).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Nobody, not even the owner of the account.
    #[default]
    Compliance,
    /// Who has the right `s3:BypassGovernanceRetention`.
    Governance,
}

/// What is locked for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// From the moment of writing, or of renewing.
    pub retain: Duration,
    /// Who may end it before.
    pub mode: LockMode,
}

/// The key `lock`: a duration, or empty for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LockFor(pub Option<Duration>);

/// Why a text is no length of a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// No duration.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Shorter or longer than makes sense.
    #[error(
        "a lock of {0} is out of range: give 1d to 3650d, or \"\" for none; a longer one could not be taken back"
    )]
    Range(HumanDuration),
}

impl FromStr for LockFor {
    type Err = LockError;

    fn from_str(text: &str) -> Result<Self, LockError> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        let human: HumanDuration = text.parse()?;
        if (LEAST..=MOST).contains(&human.0) { Ok(Self(Some(human.0))) } else { Err(LockError::Range(human)) }
    }
}

impl fmt::Display for LockFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |retain| HumanDuration(retain).fmt(f))
    }
}

impl Serialize for LockFor {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LockFor {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = LockFor;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes, such as \"30d\", or \"\" for no lock")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LockFor, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::{LockError, LockFor};
    use std::time::Duration;

    #[test]
    fn a_lock_is_a_number_of_days_or_none() {
        for (text, days) in [("", None), ("30d", Some(30)), ("24h", Some(1)), ("3650d", Some(3_650))] {
            let lock: LockFor = text.parse().expect(text);
            assert_eq!(lock.0, days.map(|days| Duration::from_secs(days * 86_400)), "{text}");
            let written = serde_json::to_string(&lock).expect("encodes");
            assert_eq!(serde_json::from_str::<LockFor>(&written).expect("reads"), lock, "{written}");
        }
        for text in ["1h", "23h", "0d", "3651d"] {
            assert!(matches!(text.parse::<LockFor>(), Err(LockError::Range(_))), "{text}");
        }
        assert!(matches!("30".parse::<LockFor>(), Err(LockError::Unit(_))));
    }
}
