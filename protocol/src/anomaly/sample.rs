//! What is known of a slice without opening it: the totals and times of its round's manifest.

use crate::document::{Manifest, ManifestSlice};
use crate::ids::KeyId;

/// Who sealed a slice, and to whom. When either changes, everything is uploaded anew: that tells nothing of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    keyset: u64,
    agent: KeyId,
}

/// One slice, as its manifest has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The round's number.
    pub round: u64,
    /// Bytes that its sources hold.
    pub source_bytes: u64,
    /// Bytes of all packs that it needs.
    pub stored_bytes: u64,
    /// Bytes that it wrote.
    pub added_bytes: u64,
    /// Files, folders and so on.
    pub entries: u64,
    /// Milliseconds from the agent's hello to its notice; none where attempts failed before, or nobody measured.
    pub took_millis: Option<u64>,
    /// Everything was uploaded anew, because agent or recovery keys are others than before.
    pub fresh: bool,
}

impl Sample {
    /// That of a slice of this round. Whether it is fresh, only the slices before it tell.
    #[must_use]
    pub fn of(manifest: &Manifest, slice: &ManifestSlice) -> Self {
        let once = slice.timing.filter(|_| slice.attempts == 1);
        Self {
            round: manifest.number,
            source_bytes: slice.totals.source_bytes,
            stored_bytes: slice.totals.stored_bytes,
            added_bytes: slice.totals.added_bytes,
            entries: slice.totals.entries,
            took_millis: once.map(|timing| timing.noticed_millis.saturating_sub(timing.greeted_millis)),
            fresh: false,
        }
    }

    /// How much of what it needs is new, in thousandths.
    #[must_use]
    pub fn changed(&self) -> u64 {
        per_mille(self.added_bytes, self.stored_bytes).min(1_000)
    }

    /// What its sources take on the share, in thousandths of their size.
    #[must_use]
    pub fn packed(&self) -> u64 {
        per_mille(self.stored_bytes, self.source_bytes)
    }
}

impl Origin {
    pub(super) fn of(manifest: &Manifest, slice: &ManifestSlice) -> Self {
        Self { keyset: manifest.keyset, agent: slice.agent }
    }
}

fn per_mille(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1_000 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}
