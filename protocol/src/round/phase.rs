//! How far a round is.

use crate::ids::ObjectId;
use crate::log::Outcome;

/// How far the round is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The `open` record is being appended.
    Opening,
    /// Services are being quiesced for the cut.
    Gathering,
    /// Services work.
    Capturing,
    /// The manifest is being written.
    Writing,
    /// The `commit` record is being appended.
    Committing {
        /// Complete or partial.
        outcome: Outcome,
        /// The manifest.
        manifest: ObjectId,
        /// Its length in bytes.
        manifest_size: u64,
    },
    /// Committed; the new objects are being read again.
    Verifying {
        /// Complete or partial.
        outcome: Outcome,
    },
    /// The `verified` record is being appended.
    Confirming {
        /// Complete or partial.
        outcome: Outcome,
        /// Objects read.
        objects: u64,
        /// Bytes read.
        bytes: u64,
    },
    /// The `end` record is being appended.
    Ending {
        /// Failed or cancelled.
        outcome: Outcome,
        /// Why.
        reason: String,
    },
    /// Over.
    Ended {
        /// How.
        outcome: Outcome,
        /// Whether the new objects were read again and found whole.
        verified: bool,
    },
}

impl Phase {
    /// Whether slices are still made.
    #[must_use]
    pub fn takes_slices(&self) -> bool {
        match self {
            Self::Gathering | Self::Capturing => true,
            Self::Opening
            | Self::Writing
            | Self::Committing { .. }
            | Self::Verifying { .. }
            | Self::Confirming { .. }
            | Self::Ending { .. }
            | Self::Ended { .. } => false,
        }
    }

    /// The word for screens and JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Gathering => "quiescing",
            Self::Capturing => "capturing",
            Self::Writing | Self::Committing { .. } => "committing",
            Self::Verifying { .. } | Self::Confirming { .. } => "verifying",
            Self::Ending { .. } => "ending",
            Self::Ended { verified: true, .. } => "verified",
            Self::Ended { outcome, .. } => outcome.as_str(),
        }
    }
}
