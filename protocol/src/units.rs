//! Durations and sizes as people write them: "30s", "4h", "16MiB" in configuration, "2 min 10 s" and "18.2 GiB" on
//! screens. What configuration reads is one whole number and one unit; it never guesses a missing unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not the duration or size that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number with a unit of time.
    #[error(
        "{text:?} is not a duration: write a whole number and ms, s, m, h or d, such as \"30s\" or \"4h\""
    )]
    Duration {
        /// What was given, cut to 64 characters.
        text: String,
    },
    /// Not a number with a unit of size.
    #[error("{text:?} is not a size: write a whole number and B, KiB, MiB, GiB or TiB, such as \"16MiB\"")]
    Size {
        /// What was given, cut to 64 characters.
        text: String,
    },
    /// The value does not fit.
    #[error("{text:?} is too large")]
    TooLarge {
        /// What was given, cut to 64 characters.
        text: String,
    },
}

/// Units of time with their length in milliseconds, longest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// IEC binary units (IEC 80000-13) with their length in bytes, largest first.
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A duration such as `30s`, `500ms`, `5m`, `4h`, `7d`. Blanks around it and before the unit are allowed.
///
/// # Errors
/// When it is anything else, or beyond 2⁶⁴ milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    parse(text, &TIMES, |text| UnitError::Duration { text }).map(Duration::from_millis)
}

/// A size in bytes such as `512B`, `64KiB`, `16MiB`, `2GiB`, `1TiB`. Blanks around it and before the unit are allowed.
///
/// # Errors
/// When it is anything else, or beyond 2⁶⁴ bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, &SIZES, |text| UnitError::Size { text })
}

fn parse(text: &str, units: &[(&str, u64)], error: impl Fn(String) -> UnitError) -> Result<u64, UnitError> {
    let shown = || text.chars().take(64).collect::<String>();
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let Some((_, scale)) = units.iter().find(|(name, _)| *name == unit.trim_start()) else {
        return Err(error(shown()));
    };
    if number.is_empty() {
        return Err(error(shown()));
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*scale))
        .ok_or_else(|| UnitError::TooLarge { text: shown() })
}

/// `1 day`, `2 days`: a number with what it counts.
#[must_use]
pub fn counted(number: u64, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// A duration for screens, in at most two units: `0 s`, `38 ms`, `1.9 s`, `30 s`, `2 min 10 s`, `7 h 38 min`, `5 days`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let pair = |large: u128, name: &str, small: u128, small_name: &str| {
        if small == 0 { format!("{large} {name}") } else { format!("{large} {name} {small} {small_name}") }
    };
    if duration.is_zero() {
        return "0 s".to_owned();
    }
    if millis == 0 {
        return "under 1 ms".to_owned();
    }
    if millis < 1_000 {
        return format!("{millis} ms");
    }
    let tenths = (millis + 50) / 100;
    if tenths < 100 {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let secs = (millis + 500) / 1_000;
    if secs < 60 {
        return format!("{secs} s");
    }
    if secs < 3_600 {
        return pair(secs / 60, "min", secs % 60, "s");
    }
    let mins = (millis + 30_000) / 60_000;
    if mins < 48 * 60 {
        return pair(mins / 60, "h", mins % 60, "min");
    }
    let hours = (millis + 1_800_000) / 3_600_000;
    if hours < 10 * 24 {
        return pair(hours / 24, "days", hours % 24, "h");
    }
    format!("{} days", (hours + 12) / 24)
}

/// A sum that ends at the largest number: what is added may be anybody's word.
#[must_use]
pub fn total(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}

/// A size for screens, in IEC units: `512 B`, `9 KiB`, `4.0 MiB`, `18.2 GiB`, `212 MiB`. One decimal below 100 from
/// MiB on.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let bytes = u128::from(bytes);
    for (index, (name, scale)) in SIZES.iter().enumerate().rev() {
        let scale = u128::from(*scale);
        let whole = (bytes + scale / 2) / scale;
        if whole >= 1024 && index > 0 {
            continue;
        }
        let tenths = (bytes * 10 + scale / 2) / scale;
        if scale >= 1 << 20 && tenths < 1_000 {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        return format!("{whole} {name}");
    }
    unreachable!("the largest unit takes every size")
}

/// The largest unit that divides `value`, as configuration writes it.
fn exact(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let smallest = units[units.len() - 1];
    let (name, scale) = if value == 0 {
        smallest
    } else {
        *units.iter().find(|unit| value.is_multiple_of(unit.1)).unwrap_or(&smallest)
    };
    write!(f, "{}{name}", value / scale)
}

macro_rules! human {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $parse:ident, $expecting:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }

        impl From<$name> for $inner {
            fn from(human: $name) -> Self {
                human.0
            }
        }

        impl FromStr for $name {
            type Err = UnitError;
            fn from_str(text: &str) -> Result<Self, UnitError> {
                $parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                from.deserialize_str(Visitor)
            }
        }
    };
}

human!(
    /// A duration that configuration reads and writes as text. It is kept in whole milliseconds; the text written is the
    /// one with the largest unit that fits exactly (`"60s"` is written back as `"1m"`).
    HumanDuration, Duration, parse_duration, "a duration in quotes, such as \"30s\" or \"4h\"");
human!(
    /// A size in bytes that configuration reads and writes as text, with the largest unit that fits exactly.
    HumanSize, u64, parse_size, "a size in quotes, such as \"16MiB\"");

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        exact(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &TIMES, f)
    }
}

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        exact(self.0, &SIZES, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        HumanDuration, HumanSize, UnitError, counted, format_duration, format_size, parse_duration,
        parse_size,
    };
    use std::time::Duration;

    #[test]
    fn what_people_write_is_read_and_written_back() {
        for (text, millis) in
            [("30s", 30_000), ("500ms", 500), ("5m", 300_000), ("4h", 14_400_000), ("7d", 604_800_000)]
        {
            let human: HumanDuration = text.parse().expect(text);
            assert_eq!(human.0, Duration::from_millis(millis), "{text}");
            assert_eq!(human.to_string(), text);
            assert_eq!(serde_json::to_string(&human).expect("encodes"), format!("\"{text}\""));
        }
        for (text, bytes) in
            [("0B", 0), ("16MiB", 16 << 20), ("1TiB", 1 << 40), ("1000B", 1000), ("3KiB", 3072)]
        {
            let human: HumanSize = text.parse().expect(text);
            assert_eq!(human.0, bytes, "{text}");
            assert_eq!(human.to_string(), text);
        }
        assert_eq!(parse_duration(" 90 s "), Ok(Duration::from_secs(90)));
        assert_eq!(HumanDuration(Duration::from_secs(60)).to_string(), "1m");
    }

    #[test]
    fn anything_else_says_what_would_be_right() {
        for bad in ["", "s", "30", "-1s", "1.5h", "4 hours", "1h30m", "30S", "４s"] {
            assert!(matches!(parse_duration(bad), Err(UnitError::Duration { .. })), "{bad}");
        }
        for bad in ["", "MiB", "16", "16MB", "16M", "-1B", "0x10B"] {
            assert!(matches!(parse_size(bad), Err(UnitError::Size { .. })), "{bad}");
        }
        for bad in ["99999999999999999999s", "99999999999999999d"] {
            assert!(matches!(parse_duration(bad), Err(UnitError::TooLarge { .. })), "{bad}");
        }
        assert!(matches!(parse_size("16777216TiB"), Err(UnitError::TooLarge { .. })));
        let error = serde_json::from_str::<HumanDuration>("30").expect_err("a number has no unit");
        assert!(error.to_string().contains("such as \"30s\""), "{error}");
    }

    #[test]
    fn screens_show_two_units_at_most() {
        for (millis, text) in [
            (0, "0 s"),
            (38, "38 ms"),
            (1_900, "1.9 s"),
            (9_999, "10 s"),
            (59_700, "1 min"),
            (130_000, "2 min 10 s"),
            (660_000, "11 min"),
            (3_599_900, "1 h"),
            (27_480_000, "7 h 38 min"),
            (432_000_000, "5 days"),
            (18_144_000_000, "210 days"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text, "{millis}");
        }
        assert_eq!(format_duration(Duration::from_micros(20)), "under 1 ms");
        assert_eq!([0, 1, 2].map(|days| counted(days, "day")), ["0 days", "1 day", "2 days"]);
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (9 << 10, "9 KiB"),
            (4 << 20, "4.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (212 << 20, "212 MiB"),
            ((182 << 30) / 10, "18.2 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(format_size(bytes), text, "{bytes}");
        }
    }
}
