//! Why somebody does something: one line of text in the log, for whoever asks later. One rule for every command.

use std::str::FromStr;

use muster_protocol::settings::MAX_TEXT_LEN;

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason(String);

impl Reason {
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let line = text.trim();
        if line.is_empty() || line.len() > MAX_TEXT_LEN || line.chars().any(char::is_control) {
            return Err(format!(
                "it is one line of 1 to {MAX_TEXT_LEN} bytes that says why, for whoever asks later"
            ));
        }
        Ok(Self(line.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TEXT_LEN, Reason};

    #[test]
    fn a_reason_is_one_line() {
        let read = |text: &str| text.parse::<Reason>().map(Reason::into_text);
        assert_eq!(read(" audit of the year "), Ok("audit of the year".to_owned()));
        assert_eq!(read(&"x".repeat(MAX_TEXT_LEN)).map(|text| text.len()), Ok(MAX_TEXT_LEN));
        for bad in ["", "  ", "two\nlines", "a bell \u{7}", &"x".repeat(MAX_TEXT_LEN + 1)] {
            assert!(read(bad).expect_err(bad).contains("one line of 1 to 400 bytes"), "{bad:?}");
        }
    }
}
