//! Why a copy is not made, or not whole.

use muster_protocol::log::Head;

use crate::layout::ObjectPath;
use crate::log::{FormatError, LogError};
use crate::prune::ObjectListError;
use crate::store::StoreError;

/// Why a copy ends. Nothing on the first share was changed; what the copy holds by then is a copy of an earlier log.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The first share cannot be read.
    #[error("the share cannot be read")]
    Source(#[source] StoreError),
    /// The first share's log cannot be read or believed.
    #[error("the share's log cannot be read")]
    Log(#[from] LogError),
    /// A list of what was deleted cannot be read.
    #[error(transparent)]
    List(#[from] ObjectListError),
    /// The copy cannot be read or written.
    #[error("the copy cannot be read or written")]
    Target(#[source] StoreError),
    /// The copy's `FORMAT` is none.
    #[error("{share} cannot be read")]
    Format {
        /// The copy.
        share: String,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// The copy's log cannot be read or believed.
    #[error("the log of the copy {share} cannot be used")]
    TargetLog {
        /// The copy.
        share: String,
        /// Why.
        #[source]
        source: LogError,
    },
    /// It holds another fleet.
    #[error("{share} holds another fleet's backups")]
    OtherFleet {
        /// The copy.
        share: String,
    },
    /// It is no copy, and holds other things.
    #[error("{share} is no copy, and holds other things")]
    NotEmpty {
        /// The copy.
        share: String,
    },
    /// It holds this fleet under the same name, and carries no mark: it is the share itself, or one that coordinators use.
    #[error("{share} holds this fleet and is no copy: coordinators may write there")]
    NotACopy {
        /// The copy.
        share: String,
    },
    /// The copy's head is not in the log.
    #[error("the copy {share} has record {}, which the share does not have", copy.number)]
    Parted {
        /// The copy.
        share: String,
        /// Its head.
        copy: Head,
        /// The head of the share.
        head: Head,
    },
    /// A torn object on the copy cannot be written anew.
    #[error("{object} is torn on the copy, and cannot be replaced")]
    Torn {
        /// Which.
        object: ObjectPath,
        /// Why.
        source: StoreError,
    },
    /// The copy does not give back what was written.
    #[error("{object} reads back from the copy with other bytes than were written")]
    Altered {
        /// Which.
        object: ObjectPath,
    },
}
