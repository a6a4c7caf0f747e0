//! The manifest: the coordinator's signed account of a round.

use serde::{Deserialize, Serialize};

use crate::alert::Code;
use crate::document::receipt::{SliceStatus, SliceTotals};
use crate::envelope::Payload;
use crate::ids::{KeyId, Nonce, ObjectId, RoundId, ServiceName};
use crate::log::Outcome;
use crate::time::UnixMillis;

/// Most failed tries of one service that are kept; the oldest go first.
pub const MAX_TRIES: usize = 8;

/// An attempt that gave no slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Try {
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it was over, in milliseconds since the round began on the coordinator's clock.
    pub after_millis: u64,
    /// The alert code of the reason.
    pub code: Code,
    /// The native error.
    pub reason: String,
}

/// When a service did what, in milliseconds since the round began on the coordinator's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Its first hello that it was welcomed to work for.
    pub greeted_millis: u64,
    /// It was quiesced, and held for the round's cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesced_millis: Option<u64>,
    /// Its last notice.
    pub noticed_millis: u64,
    /// Its slice was found whole.
    pub checked_millis: u64,
}

/// Why a service's absence does not make the round partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Excuse {
    /// It is optional.
    Optional,
    /// It is expected while it is present only, and was not.
    NotPresent,
}

/// A service of a cut round whose slice is not in the cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutOutsider {
    /// The service.
    pub service: ServiceName,
    /// Why.
    pub reason: String,
}

/// What became of a round's cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutAccount {
    /// The cut's nonce; the receipts of its members repeat it.
    pub nonce: Nonce,
    /// From the announcement to the last member's word that everything was read while it held, in milliseconds on the
    /// coordinator's clock: all members were quiesced at the announcement, and no two captured further apart than this.
    pub skew_millis: u64,
    /// Services whose slices are in the cut, sorted.
    pub members: Vec<ServiceName>,
    /// Services whose slices, if any, are not, sorted.
    pub outside: Vec<CutOutsider>,
    /// Why the cut does not hold for the round as a whole (ROUND-05); none: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

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
    /// The nonce of the cut that it was captured in, as the receipt has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Nonce>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// Attempts that failed before it, oldest first, at most [`MAX_TRIES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Try>,
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
    /// Why its absence does not make the round partial; none: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excuse: Option<Excuse>,
    /// Attempts that failed, oldest first, at most [`MAX_TRIES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Try>,
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
    /// What became of the cut, in rounds that were to have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutAccount>,
}

impl Payload for Manifest {
    const DOMAIN: &'static str = "muster.share";
    const TYPE: &'static str = "manifest";
    const VERSION: u16 = 1;
    const MAX_LEN: usize = 64 * 1024 * 1024;
}
