//! Why the agent's memory cannot be used.

use std::io;
use std::path::PathBuf;

/// Why the agent's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it open.
    #[error("{} is in use: another agent runs on this state folder", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The file cannot be made or opened.
    #[error("{} cannot be opened", path.display())]
    File {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database fails.
    #[error("{} fails", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A row is none.
    #[error("{} holds a damaged row", path.display())]
    Row {
        /// The database.
        path: PathBuf,
    },
}
