//! One service's place in a round.

use crate::document::ManifestSlice;
use crate::ids::{ObjectId, ServiceName};
use crate::round::event::Failure;
use crate::time::Time;

/// How far a service is in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberPhase {
    /// Asked, no hello yet.
    Waiting,
    /// Its agent has said hello and works.
    Working,
    /// Its receipt is being checked.
    Checking {
        /// The receipt.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
        /// The attempt that it is for.
        attempt: u32,
    },
    /// The last attempt failed; it is asked again later.
    BackingOff {
        /// Why it failed.
        failure: Failure,
    },
    /// Its slice counts.
    Stored(Box<ManifestSlice>),
    /// It gives no slice in this round.
    Absent(Failure),
}

impl MemberPhase {
    /// Whether nothing more is expected of the service.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Stored(_) | Self::Absent(_) => true,
            Self::Waiting | Self::Working | Self::Checking { .. } | Self::BackingOff { .. } => false,
        }
    }

    /// The word for screens and JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Working => "capturing",
            Self::Checking { .. } => "checking",
            Self::BackingOff { .. } => "retrying",
            Self::Stored(_) => "stored",
            Self::Absent(_) => "absent",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) phase: MemberPhase,
    /// The attempt that is made or wanted, from 1.
    pub(super) attempt: u32,
    /// When its agent was last heard of in this round.
    pub(super) seen: Time,
    /// How often the check of the current receipt was repeated.
    pub(super) rechecks: u32,
    /// The last receipt that was refused, and why: a repeated notice of it is no new attempt.
    pub(super) refused: Option<(ObjectId, String)>,
}

/// A service's place in a round, for screens.
#[derive(Debug, Clone, Copy)]
pub struct MemberView<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// How far it is.
    pub phase: &'a MemberPhase,
    /// The attempt, from 1.
    pub attempt: u32,
}
