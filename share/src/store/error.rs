//! What can go wrong between us and the share, sorted by what one does about it.

use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use muster_protocol::alert::Code;

/// Why a call to the share failed. `path` is the object, the listed folder, or the share itself.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{path} is not on the share")]
    NotFound {
        /// Which.
        path: String,
    },
    /// The name is taken; nothing was changed.
    #[error("{path} already exists")]
    AlreadyExists {
        /// Which.
        path: String,
    },
    /// No space or quota is left.
    #[error("the share is full: {path} was not written")]
    Full {
        /// Which.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The credentials may not look there.
    #[error("the share refuses access to {path}")]
    Denied {
        /// Which.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The credentials may look, but not write or delete; or the share is read-only.
    #[error("the share refuses to write or delete {path}")]
    WriteRefused {
        /// Which.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The share does not answer, or is not mounted.
    #[error("the share cannot be reached for {path}")]
    Unreachable {
        /// Which.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// What lies at the share's address is another share, or none: the folder of a mount that is gone is there, and empty.
    #[error("{share} is not the fleet's share now: is it mounted? Nothing is concluded from what it lacks")]
    Strange {
        /// The share.
        share: String,
    },
    /// The share's address leads to nothing that can be a share.
    #[error("the share's path {path} is invalid: {reason}")]
    InvalidPath {
        /// The address.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The object is longer than it may be. It was not read.
    #[error("{path} has {have} bytes, more than the {most} that it may have")]
    TooLong {
        /// Which.
        path: String,
        /// Its length in bytes.
        have: u64,
        /// The longest length allowed, in bytes.
        most: u64,
    },
    /// The object is not what it should be: cut short, or no plain file.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// Which.
        path: String,
        /// What was found.
        what: String,
    },
    /// The share reported a write as done, and what it has is not what was written.
    #[error("the share reported {path} as written, and {what}")]
    NotKept {
        /// Which.
        path: String,
        /// What it has in its place.
        what: &'static str,
    },
    /// The call took longer than its limit. A write may have happened or may still happen.
    #[error("the share took longer than {} s for {path}", after.as_secs())]
    TimedOut {
        /// Which.
        path: String,
        /// The limit.
        after: Duration,
    },
    /// The object is locked against deleting, as it should be.
    #[error("{path} is kept by its lock until {}", day(*until))]
    Locked {
        /// Which.
        path: String,
        /// When its lock ends.
        until: SystemTime,
    },
    /// Any other error of the system. A write may have happened.
    #[error("the share failed at {path}")]
    Io {
        /// Which.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

impl StoreError {
    /// The object, the listed folder, or the share.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::NotFound { path }
            | Self::AlreadyExists { path }
            | Self::Full { path, .. }
            | Self::Denied { path, .. }
            | Self::WriteRefused { path, .. }
            | Self::Unreachable { path, .. }
            | Self::InvalidPath { path, .. }
            | Self::TooLong { path, .. }
            | Self::Damaged { path, .. }
            | Self::NotKept { path, .. }
            | Self::TimedOut { path, .. }
            | Self::Locked { path, .. }
            | Self::Io { path, .. } => path,
            Self::Strange { share } => share,
        }
    }

    /// Whether the same call may succeed in a moment, without anybody mending anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Strange { .. } | Self::TimedOut { .. } | Self::Io { .. } => true,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Full { .. }
            | Self::Denied { .. }
            | Self::WriteRefused { .. }
            | Self::InvalidPath { .. }
            | Self::TooLong { .. }
            | Self::Damaged { .. }
            | Self::NotKept { .. }
            | Self::Locked { .. } => false,
        }
    }

    /// The alert that this failure raises; `None` where only the caller knows whether it is one.
    #[must_use]
    pub fn alert(&self) -> Option<Code> {
        match self {
            Self::NotFound { .. } | Self::AlreadyExists { .. } | Self::Locked { .. } => None,
            Self::Unreachable { .. } => Some(Code::Share01),
            Self::Strange { .. } | Self::InvalidPath { .. } => Some(Code::Share02),
            Self::Denied { .. } => Some(Code::Share03),
            Self::WriteRefused { .. } => Some(Code::Share04),
            Self::Full { .. } => Some(Code::Share05),
            Self::NotKept { .. } | Self::TimedOut { .. } | Self::Io { .. } => Some(Code::Share07),
            Self::TooLong { .. } | Self::Damaged { .. } => Some(Code::Verify01),
        }
    }
}

/// The day, in UTC.
fn day(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX).to_string();
    at.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::StoreError;
    use muster_protocol::alert::Code;
    use std::io;

    #[test]
    fn what_may_pass_is_retried_and_what_must_be_mended_is_not() {
        let path = || "log/0000000001".to_owned();
        let source = || io::Error::other("x");
        let unreachable = StoreError::Unreachable { path: path(), source: source() };
        assert!(unreachable.is_transient());
        assert_eq!(unreachable.alert(), Some(Code::Share01));
        let full = StoreError::Full { path: path(), source: source() };
        assert!(!full.is_transient());
        assert_eq!(full.alert(), Some(Code::Share05));
        assert_eq!(full.path(), path());
        assert!(!full.to_string().contains('x'), "display repeats the source");
    }
}
