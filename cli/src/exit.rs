//! How a command ended, as the number that scripts rely on (DESIGN section 8).

use std::process::ExitCode;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// A partial round; a share of which only older rounds are damaged.
    Partial = 3,
    /// Damaged or forged data.
    Damaged = 4,
    /// A key is missing or wrong.
    Key = 5,
    /// Share or bus unreachable.
    Unreachable = 6,
    /// Refused: disabled, overlap, unsigned, locked.
    Refused = 7,
    /// Interrupted by the operator.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
