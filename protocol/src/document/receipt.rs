//! The receipt: an agent's signed account of one slice. It is an object on the share, named by its hash, and written
//! only after everything that it names.

use serde::{Deserialize, Serialize};

use crate::envelope::Payload;
use crate::ids::{Nonce, ObjectId, RoundId, ServiceName};

/// An object that a slice wrote: its hash, its exact length, and the round in whose folder it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// The round under whose folder the object lies (lists of earlier rounds stay in use).
    pub round: RoundId,
    /// SHA-256 of its bytes.
    pub id: ObjectId,
    /// Its length in bytes.
    pub size: u64,
}

/// How well the slice holds what its sources name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SliceStatus {
    /// Everything was read.
    Whole,
    /// Some entries could not be read or changed while they were; the index names each.
    Gaps,
}

/// What a slice amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceTotals {
    /// Bytes that the sources hold.
    pub source_bytes: u64,
    /// Bytes of all packs that the slice may need.
    pub stored_bytes: u64,
    /// Bytes of the objects that this attempt wrote.
    pub added_bytes: u64,
    /// Entries in the index: files, folders, links and so on.
    pub entries: u64,
    /// Entries with a gap: unreadable, vanished or changed while read.
    pub gaps: u64,
}

impl SliceTotals {
    /// No total is above this, 1 EiB. An agent whose sources claim more, as sparse files may, says this much; a coordinator
    /// refuses a receipt with more.
    pub const MOST: u64 = 1 << 60;
}

/// The signed account of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The attempt's nonce: proof that the slice was made for this command.
    pub nonce: Nonce,
    /// Log number of the keyset that every named pack is sealed to.
    pub keyset: u64,
    /// Log head that the agent had seen.
    pub head: crate::log::Head,
    /// The slice index.
    pub index: ObjectRef,
    /// The chunk index, oldest first; their union counts.
    pub chunks: Vec<ObjectRef>,
    /// The pack lists, oldest first; their union is every pack that the slice may need.
    pub packs: Vec<ObjectRef>,
    /// How many of `packs`, counted from the end, this round wrote.
    pub new_packs: u32,
    /// Whole, or with gaps.
    pub status: SliceStatus,
    /// Totals.
    pub totals: SliceTotals,
    /// The service's receipt before this one, if the agent knows it.
    pub previous: Option<ObjectId>,
    /// The nonce of the cut that the slice was captured in: the agent received it while it held its service quiesced, and
    /// still held it when everything was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Nonce>,
}

impl Payload for Receipt {
    const DOMAIN: &'static str = "muster.share";
    const TYPE: &'static str = "receipt";
    const VERSION: u16 = 1;
    const MAX_LEN: usize = 64 * 1024;
}
