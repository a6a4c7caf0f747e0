//! Why there is no slice.

use muster_protocol::alert::Code;
use muster_protocol::ids::ObjectId;
use muster_share::lists::ListError;
use muster_share::pack::PackError;
use muster_share::sealed::SealedError;
use muster_share::store::StoreError;

use crate::source::{Cause, SourceError};
use crate::state::StateError;

/// A slice could not be captured, or its receipt not written.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A source could not be captured.
    #[error(transparent)]
    Source(SourceError),
    /// The share failed.
    #[error("{doing} failed")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: StoreError,
    },
    /// The agent's memory failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A pack could not be made.
    #[error("a pack cannot be sealed")]
    Pack(#[source] PackError),
    /// A sealed pack does not give back what went in; it was not uploaded. Memory or processor may be failing.
    #[error("pack {id} does not give back what went into it; it was not uploaded")]
    SelfCheck {
        /// The pack.
        id: ObjectId,
        /// The first difference.
        source: PackError,
    },
    /// An index or list could not be made.
    #[error("the index or a list of the slice cannot be made")]
    List(#[from] ListError),
    /// No memory for the compressor.
    #[error("the compressor gets no memory")]
    Compressor(#[source] std::io::Error),
    /// Another slice of this agent is being captured.
    #[error("another slice is being captured")]
    Busy,
    /// It was told to stop.
    #[error("the capture was cancelled")]
    Cancelled,
    /// A thread of the engine ended by a panic, which the log shows.
    #[error("the slice engine has crashed")]
    Crashed,
}

impl EngineError {
    /// The alert that it raises.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Source(error) if matches!(*error.cause, Cause::Spool { .. }) => Code::Agent04,
            Self::Source(_) | Self::SelfCheck { .. } | Self::Busy | Self::Cancelled | Self::Crashed => {
                Code::Agent03
            }
            Self::Store { source, .. } => source.alert().unwrap_or(Code::Share07),
            Self::State(_) | Self::Compressor(_) => Code::Agent04,
            Self::Pack(PackError::Sealed(SealedError::Seal(_)))
            | Self::List(ListError::Sealed(SealedError::Seal(_))) => Code::Key01,
            Self::Pack(_) | Self::List(_) => Code::Agent03,
        }
    }

    /// Whether another attempt would fail again until a person has changed something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Source(error) => error.is_permanent(),
            // A name that is taken is what a write left that was cut off: sealed again, the object has another one.
            Self::Store { source: StoreError::AlreadyExists { .. }, .. } => false,
            Self::Store { source, .. } => !source.is_transient(),
            Self::Pack(_) | Self::List(_) => true,
            Self::State(StateError::InUse { .. }) => true,
            Self::State(StateError::File { .. } | StateError::Database { .. } | StateError::Row { .. })
            | Self::SelfCheck { .. }
            | Self::Compressor(_)
            | Self::Busy
            | Self::Cancelled
            | Self::Crashed => false,
        }
    }
}
