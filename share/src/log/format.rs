//! The object `FORMAT`: one line of text that says what the folder is.
//!
//! ```text
//! muster <version> <fleet id in hexadecimal>\n
//! ```

use muster_protocol::ids::FleetId;

/// The version that this program writes. 0 until the format is declared frozen.
pub const FORMAT_VERSION: u32 = 0;

/// What `FORMAT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The version of everything on the share.
    pub version: u32,
    /// The fleet.
    pub fleet: FleetId,
}

/// Why bytes are no `FORMAT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another text.
    #[error("FORMAT does not read `muster <version> <fleet id>`")]
    Text,
    /// A later version.
    #[error(
        "FORMAT says version {version}, this program knows versions up to {FORMAT_VERSION}: use a newer one"
    )]
    Version {
        /// Which.
        version: u32,
    },
}

impl Format {
    /// Longest object in bytes.
    pub const MAX_LEN: u64 = 256;

    /// The object's bytes.
    #[must_use]
    pub fn print(&self) -> String {
        format!("muster {} {}\n", self.version, self.fleet)
    }

    /// What the bytes say.
    ///
    /// # Errors
    /// When they are another text or of a later version.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Text)?;
        let mut words = text.strip_suffix('\n').ok_or(FormatError::Text)?.split(' ');
        let (Some("muster"), Some(version), Some(fleet), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(FormatError::Text);
        };
        let version = version.parse().map_err(|_| FormatError::Text)?;
        if version > FORMAT_VERSION {
            return Err(FormatError::Version { version });
        }
        Ok(Self { version, fleet: fleet.parse().map_err(|_| FormatError::Text)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, FormatError};
    use muster_protocol::ids::FleetId;

    #[test]
    fn the_line_parses_back_and_others_do_not() {
        let format = Format { version: 0, fleet: FleetId::from_bytes([9; 32]) };
        assert_eq!(Format::parse(format.print().as_bytes()), Ok(format));
        let later = format.print().replacen('0', "7", 1);
        assert_eq!(Format::parse(later.as_bytes()), Err(FormatError::Version { version: 7 }));
        for bad in ["", "muster", "muster 0 00\n", &format.print().repeat(2)] {
            assert_eq!(Format::parse(bad.as_bytes()), Err(FormatError::Text), "{bad:?}");
        }
    }
}
