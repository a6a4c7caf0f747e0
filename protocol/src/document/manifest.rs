//! The manifest: the coordinator's signed account of a round.

use serde::{Deserialize, Serialize};

use crate::alert::Code;
use crate::document::receipt::{SliceStatus, SliceTotals};
use crate::envelope::Payload;
use crate::ids::{KeyId, ObjectId, RoundId, ServiceName};
use crate::log::Outcome;
use crate::time::UnixMillis;

/// A slice that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestSlice {
    /// The service.
    pub service: ServiceName,
    /// The agent's key.
    pub agent: KeyId,
    /// Attempts it took.
    pub attempts: u32,
    /// The receipt's hash.
    pub receipt: ObjectId,
    /// The receipt's length in bytes.
    pub receipt_size: u64,
    /// Whole, or with gaps.
    pub status: SliceStatus,
    /// Totals, as the receipt has them.
    pub totals: SliceTotals,
}

/// A service that was expected and gave no slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absentee {
    /// The service.
    pub service: ServiceName,
    /// Attempts that were made.
    pub attempts: u32,
    /// The alert code of the reason.
    pub code: Code,
    /// The reason, for people.
    pub reason: String,
}

/// The signed account of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The round.
    pub round: RoundId,
    /// Its number, from 1.
    pub number: u64,
    /// The epoch in which it was assembled.
    pub epoch: u64,
    /// Log number of the keyset in force.
    pub keyset: u64,
    /// Coordinator's time when the round was opened.
    pub opened: UnixMillis,
    /// Coordinator's time when the manifest was assembled.
    pub assembled: UnixMillis,
    /// What asked for the round.
    pub trigger: String,
    /// Complete or partial.
    pub outcome: Outcome,
    /// Slices, sorted by service.
    pub slices: Vec<ManifestSlice>,
    /// Services without a slice, sorted.
    pub absent: Vec<Absentee>,
}

impl Payload for Manifest {
    const DOMAIN: &'static str = "muster.share";
    const TYPE: &'static str = "manifest";
    const VERSION: u16 = 1;
    const MAX_LEN: usize = 64 * 1024 * 1024;
}
