//! Why a prune deletes nothing, or stops.

use muster_protocol::alert::Code;
use muster_protocol::ids::KeyId;
use muster_protocol::settings::SettingError;

use super::frozen::Frozen;
use super::lists::ObjectListError;
use crate::layout::ObjectPath;
use crate::lists::ListError;
use crate::log::{AppendError, LogError};
use crate::store::StoreError;
use crate::verify::{Damage, Trouble};

/// Why a prune ended. Unless it says otherwise, nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The signed retention cannot be used.
    #[error("the signed retention cannot be used")]
    Terms(#[from] SettingError),
    /// Something that stays is damaged or not there. Until it is mended, or its rounds would go as well, nothing is
    /// deleted: what is wrong with one object may be wrong with the whole share.
    #[error("{0}")]
    Damaged(Damage),
    /// Something is not as it should be, and older rounds may be all that helps.
    #[error("prune is frozen: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Frozen(Vec<Frozen>),
    /// Two rounds that stay name one object with different lengths.
    #[error("{object} is named with {one} bytes and with {other}")]
    Contradiction {
        /// The object.
        object: ObjectPath,
        /// One length.
        one: u64,
        /// The other.
        other: u64,
    },
    /// The listing leaves out what is there: it cannot say what is not needed.
    #[error("the share's listing leaves out {object}, which is there")]
    Listing {
        /// What is left out.
        object: ObjectPath,
    },
    /// The share cannot be read, or does not take a list.
    #[error("the share cannot be read or written")]
    Store(#[source] StoreError),
    /// An object was not deleted. The sweep is in the log, some of its objects may be gone: the next prune goes on.
    #[error("not everything was deleted; the next prune goes on with sweep {sweep}")]
    Delete {
        /// The sweep's log number.
        sweep: u64,
        /// Why.
        source: StoreError,
    },
    /// A list that the log names cannot be used.
    #[error(transparent)]
    ObjectList(#[from] ObjectListError),
    /// The list of what goes cannot be written.
    #[error("the list of what goes cannot be written")]
    List(#[source] ListError),
    /// The log takes no record.
    #[error("the log takes no record of the prune")]
    Append(#[from] AppendError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] LogError),
    /// The key is none of a pruner that counts now.
    #[error("key {} is no pruner's of this fleet now", key.short())]
    NotPruner {
        /// The key.
        key: KeyId,
    },
}

impl PruneError {
    /// The alert that it raises.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Damaged(_)
            | Self::Contradiction { .. }
            | Self::ObjectList(ObjectListError::Content { .. }) => Code::Verify01,
            Self::Frozen(frozen) => frozen.first().map_or(Code::Share09, Frozen::code),
            Self::ObjectList(ObjectListError::Store(error)) | Self::Store(error) => {
                error.alert().unwrap_or(Code::Share09)
            }
            Self::Terms(_) | Self::Listing { .. } | Self::Delete { .. } | Self::List(_) | Self::Append(_) => {
                Code::Share09
            }
            Self::Log(error) => error.alert().unwrap_or(Code::Share09),
            Self::NotPruner { .. } => Code::Key03,
        }
    }
}

impl From<Trouble> for PruneError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Damaged(damage) => Self::Damaged(damage),
            Trouble::Store(error) => Self::Store(error),
        }
    }
}

impl From<StoreError> for PruneError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
