//! What a capture is asked for, and what it gives.

use std::collections::HashSet;
use std::sync::Arc;

use muster_protocol::age::Recipient;
use muster_protocol::document::{ObjectRef, SliceStatus, SliceTotals};
use muster_protocol::ids::{FleetId, ObjectId, RoundId, ServiceName};
use muster_share::chunk::ChunkKey;
use muster_share::pack::PackContext;

use crate::source::Source;
use crate::state::ListPair;

/// What to capture, and for whom.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    /// The fleet.
    pub fleet: FleetId,
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// Log number of the keyset.
    pub keyset: u64,
    /// The keyset's recovery keys.
    pub recipients: Vec<Recipient>,
    /// The agent's own key, to which the chunk index is sealed, too.
    pub agent: Recipient,
    /// Names the chunks; see [`chunk_key`].
    pub chunk_key: ChunkKey,
    /// What to capture, in this order.
    pub sources: Vec<Arc<dyn Source>>,
    /// Objects on `sweep` and pending `prune` lists: they may not be named.
    pub refused: HashSet<ObjectId>,
    /// Bytes a second that go to the share at most, if that is less than the engine's own limit; none: no further limit.
    pub bandwidth_bytes_per_sec: Option<u64>,
}

impl CaptureRequest {
    pub(super) fn context(&self) -> PackContext {
        PackContext { fleet: self.fleet, service: self.service.clone(), keyset: self.keyset }
    }
}

/// The chunk key of an agent under a keyset: BLAKE3's key derivation (section 2.3 of its specification) over the agent's
/// chunk secret and the keyset's log number. An agent that lost its state finds its chunks again; a re-enrolled one, or
/// new recovery keys, begin anew.
#[must_use]
pub fn chunk_key(secret: &[u8; 32], keyset: u64) -> ChunkKey {
    let mut hasher = blake3::Hasher::new_derive_key("muster 2026 chunk key of chunk secret and keyset v1");
    hasher.update(secret).update(&keyset.to_be_bytes());
    ChunkKey::from_bytes(*hasher.finalize().as_bytes())
}

/// A slice of which everything but the receipt is on the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The fleet.
    pub fleet: FleetId,
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// Log number of the keyset.
    pub keyset: u64,
    /// The slice index.
    pub index: ObjectRef,
    /// Pack lists and chunk indexes, oldest first.
    pub lists: Vec<ListPair>,
    /// How many of them, from the end, are new.
    pub new_lists: u32,
    /// Numbers of the packs that the entries lie in, and how many plain bytes of each they name.
    pub live: Vec<(u64, u64)>,
    /// Whole, or with gaps.
    pub status: SliceStatus,
    /// Totals.
    pub totals: SliceTotals,
    /// The service's last receipt that counted, if it is known.
    pub previous: Option<ObjectId>,
}
