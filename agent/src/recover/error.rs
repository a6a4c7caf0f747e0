//! Why a recovery does not happen, or not to the end.

use std::path::PathBuf;

use muster_protocol::ids::ServiceName;
use muster_share::store::StoreError;

use super::round::RoundError;
use super::write::WriteError;

/// Why nothing, or not all, was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The round does not open: nothing was written. Or the share fails: what was begun is not finished.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// The target is something already.
    #[error("{} exists and is not an empty folder: recovery writes into a new one", path.display())]
    Target {
        /// The target.
        path: PathBuf,
    },
    /// The target cannot be looked at or made.
    #[error("{} cannot be made", path.display())]
    MakeTarget {
        /// The target.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The target lies where nothing may be written.
    #[error("{} lies in {}: recovery writes into a folder of its own", path.display(), apart.display())]
    Inside {
        /// The target, or a service's folder in it.
        path: PathBuf,
        /// The share or the kit.
        apart: PathBuf,
    },
    /// The target holds nothing that could be resumed. Nothing was written.
    #[error("{} cannot be resumed: {why}", path.display())]
    Resume {
        /// The target.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A path selects more hard links without their files than fit in memory.
    #[error("{service} has too many hard links whose files lie outside of the path")]
    CutLinks {
        /// The service.
        service: ServiceName,
    },
    /// Nothing has the path.
    #[error("round {number} has nothing at or below {}", path.escape_ascii())]
    Path {
        /// The round.
        number: u64,
        /// What was asked for, raw.
        path: Vec<u8>,
    },
    /// It was told to stop. What was begun is not finished.
    #[error("the recovery was stopped")]
    Stopped,
    /// The target cannot be written. What was begun is not finished.
    #[error("the target cannot be written")]
    Write(#[source] WriteError),
}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> Self {
        Self::Round(error.into())
    }
}

impl From<WriteError> for RecoverError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}
