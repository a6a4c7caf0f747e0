//! The terms of the scrub, as the operators signed them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::schedule::OFF;
use crate::settings::{self, SettingError};
use crate::units::{parse_duration, parse_size};

/// How fast stored objects are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Every object is read again in each; none: the scrub is off.
    pub within: Option<Duration>,
    /// Bytes a second that are read at most.
    pub bandwidth: u64,
}

impl Terms {
    /// The terms in the clear part of a `config` record; a setting that is not there has its default.
    ///
    /// # Errors
    /// When a value is none of its setting's.
    pub fn of(clear: &BTreeMap<String, String>) -> Result<Self, SettingError> {
        let value = |key: &str| {
            let set = clear.get(key).map(String::as_str).or_else(|| settings::default_of(key));
            let text = set.unwrap_or_default();
            settings::check(key, text).map(|()| text)
        };
        let within = value("scrub.within")?;
        // Checked values parse; what would not is no shorter than any time.
        let within = (within != OFF).then(|| parse_duration(within).unwrap_or(Duration::MAX));
        Ok(Self { within, bandwidth: parse_size(value("scrub.bandwidth")?).unwrap_or(u64::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Terms;

    #[test]
    fn what_is_not_set_has_its_default_and_what_is_wrong_is_said() {
        let set = |key: &str, value: &str| Terms::of(&[(key.to_owned(), value.to_owned())].into());
        let month = Some(Duration::from_secs(30 * 86_400));
        assert_eq!(Terms::of(&[].into()), Ok(Terms { within: month, bandwidth: 64 << 20 }));
        assert_eq!(set("scrub.within", "off"), Ok(Terms { within: None, bandwidth: 64 << 20 }));
        assert_eq!(set("scrub.bandwidth", "1MiB"), Ok(Terms { within: month, bandwidth: 1 << 20 }));
        set("scrub.within", "now").expect_err("no duration");
        set("scrub.bandwidth", "1").expect_err("too slow");
    }
}
