//! Why a source as a whole could not be captured.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use muster_protocol::ids::SourceName;
use muster_protocol::units::format_duration;

use super::Stopped;

/// A source could not be captured.
#[derive(Debug)]
pub struct SourceError {
    /// The source's name.
    pub name: SourceName,
    /// Its kind, as configuration writes it.
    pub kind: &'static str,
    /// What happened.
    pub cause: Box<Cause>,
}

impl SourceError {
    /// Whether the same capture would fail again until a person has changed something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.cause.is_permanent()
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source {} ({}): {}", self.name, self.kind, self.cause)
    }
}

// By hand: the cause is part of the message, so that one line names the object; what lies beneath the cause is the
// error's source.
impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.cause)
    }
}

/// What happened to a source.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The path that the source names cannot be read.
    #[error("{} cannot be read", path.display())]
    Root {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The path is neither a folder nor a regular file.
    #[error("{} is neither a folder nor a regular file", path.display())]
    RootKind {
        /// The path.
        path: PathBuf,
    },
    /// The path is no regular file.
    #[error("{} is no regular file", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// SQLite refused a step.
    #[error("{doing} {} failed", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        error: rusqlite::Error,
    },
    /// The database stayed locked.
    #[error("{} stayed locked for {}", path.display(), format_duration(*waited))]
    Locked {
        /// The database.
        path: PathBuf,
        /// How long no page could be copied.
        waited: Duration,
    },
    /// The copy of the database fails SQLite's own check.
    #[error("the copy of {} fails the integrity check: {}", path.display(), problems.join("; "))]
    Damaged {
        /// The database.
        path: PathBuf,
        /// SQLite's first lines.
        problems: Vec<String>,
    },
    /// The spool file could not be written or read.
    #[error("spool file {} failed", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The program could not be started.
    #[error("{program:?} could not be started")]
    Start {
        /// `argv[0]`.
        program: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The program's pipes or its end could not be watched.
    #[error("{program:?} could not be followed")]
    Follow {
        /// `argv[0]`.
        program: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The program ended badly.
    #[error("{program:?} ended with {status}{}", tail(stderr))]
    Status {
        /// `argv[0]`.
        program: String,
        /// Its exit status or signal.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The program was too slow and has been killed with its process group.
    #[error("{program:?} did not end within {} and was killed{}", format_duration(*limit), tail(stderr))]
    TimedOut {
        /// `argv[0]`.
        program: String,
        /// The limit.
        limit: Duration,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The program ended, but a process that it left behind kept its output open, so its end was never seen.
    #[error(
        "{program:?} ended with {status} but left a process behind that keeps its output open{}",
        tail(stderr)
    )]
    Held {
        /// `argv[0]`.
        program: String,
        /// Its exit status or signal.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The program wrote less than it must.
    #[error("{program:?} wrote {have} bytes, fewer than min_bytes = {want}{}", tail(stderr))]
    Short {
        /// `argv[0]`.
        program: String,
        /// Bytes written.
        have: u64,
        /// Bytes wanted at least.
        want: u64,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The capture was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The engine takes no more; it holds the reason.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

impl Cause {
    /// Whether the same capture would fail again until a person has changed something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase, PermissionDenied, ReadOnly};
        match self {
            Self::Root { .. } | Self::RootKind { .. } | Self::NoFile { .. } | Self::Damaged { .. } => true,
            Self::Sqlite { error, .. } => error.sqlite_error_code().is_some_and(|code| {
                [CannotOpen, DatabaseCorrupt, NotADatabase, PermissionDenied, ReadOnly].contains(&code)
            }),
            Self::Start { error, .. } => {
                [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::NotADirectory]
                    .contains(&error.kind())
            }
            Self::Locked { .. }
            | Self::Spool { .. }
            | Self::Follow { .. }
            | Self::Status { .. }
            | Self::TimedOut { .. }
            | Self::Held { .. }
            | Self::Short { .. }
            | Self::Cancelled
            | Self::Stopped(_) => false,
        }
    }
}
