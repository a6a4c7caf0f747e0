//! Why a recovery does not happen, or not to the end.

use std::path::PathBuf;

use muster_protocol::age::Recipient;
use muster_protocol::ids::ServiceName;
use muster_share::store::StoreError;
use muster_share::verify::{Damage, LedgerError, SelectError};

use super::write::WriteError;

/// Why nothing, or not all, was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
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
    /// The round that was asked for.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A service that the round knows nothing of.
    #[error("round {number} has no service {service}; it has {known}")]
    Service {
        /// The round.
        number: u64,
        /// What was asked for.
        service: ServiceName,
        /// What there is.
        known: String,
    },
    /// Nothing has the path.
    #[error("round {number} has nothing at or below {}", path.escape_ascii())]
    Path {
        /// The round.
        number: u64,
        /// What was asked for, raw.
        path: Vec<u8>,
    },
    /// None of the keys opens the round. Nothing was written.
    #[error("no key of the kit opens round {number}")]
    Key {
        /// The round.
        number: u64,
        /// The recovery keys that do.
        wanted: Vec<Recipient>,
    },
    /// Neither the kit's root key nor its recovery keys are this fleet's. Nothing was written.
    #[error("the kit belongs to another fleet")]
    OtherFleet(#[source] LedgerError),
    /// The log names the kit's recovery key, but was founded by another root key. Nothing was written.
    #[error("the share is forged, or the kit's root.pub is another fleet's")]
    Forged(#[source] LedgerError),
    /// The round, or the log that leads to it, is damaged. Nothing was written.
    #[error("{}", match number {
        Some(number) => format!("round {number} is damaged"),
        None => "the log is damaged: which round is the newest cannot be told".to_owned(),
    })]
    Damaged {
        /// The round, where the log leads to one.
        number: Option<u64>,
        /// What is damaged.
        damaged: Vec<Damage>,
        /// The newest round that has everything, by presence and length.
        newest_intact: Option<u64>,
    },
    /// The log tells nothing.
    #[error(transparent)]
    Ledger(LedgerError),
    /// It was told to stop. What was begun is not finished.
    #[error("the recovery was stopped")]
    Stopped,
    /// The share fails. What was begun is not finished.
    #[error("the share cannot be read")]
    Store(#[source] StoreError),
    /// The target cannot be written. What was begun is not finished.
    #[error("the target cannot be written")]
    Write(#[source] WriteError),
}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<WriteError> for RecoverError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}
