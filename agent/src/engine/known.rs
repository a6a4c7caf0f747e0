//! Which chunks need no upload: those in packs that are on the share and may be named, and those that this capture has
//! packed already.
//!
//! The former are on the local disk, the latter in memory only until their pack is uploaded, so memory does not grow
//! with the data.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_protocol::ids::ChunkId;

use crate::state::{PackRow, Place, State, StateError, View};

/// The chunks of this capture.
#[derive(Debug)]
pub(super) struct Known {
    state: Arc<State>,
    /// Older packs that may be named.
    usable: HashSet<u64>,
    /// Packs from this number on are of this capture.
    first_new: u64,
    pending: Mutex<HashMap<ChunkId, Place>>,
    /// Counts what moved from `pending` to the state.
    generation: AtomicU64,
}

/// One thread's view of the state.
#[derive(Debug)]
pub(super) struct Sight {
    view: View,
    generation: u64,
}

impl Known {
    pub(super) fn new(state: Arc<State>, usable: HashSet<u64>, first_new: u64) -> Self {
        Self { state, usable, first_new, pending: Mutex::default(), generation: AtomicU64::new(0) }
    }

    /// Whether what lies in this pack may be named: it is on the share, or will be before the receipt.
    pub(super) fn is_usable(&self, pack: u64) -> bool {
        pack >= self.first_new || self.usable.contains(&pack)
    }

    pub(super) fn take_pack_number(&self) -> u64 {
        self.state.take_pack_number()
    }

    pub(super) fn sight(&self) -> Result<Sight, StateError> {
        let generation = self.generation.load(Ordering::Acquire);
        Ok(Sight { view: self.state.view()?, generation })
    }

    /// Where each chunk lies, as far as it is known. A place of another length than the chunk's is none: what was learnt
    /// from the share may be wrong.
    pub(super) fn find(
        &self,
        sight: &mut Sight,
        ids: &[ChunkId],
        lengths: &[usize],
        places: &mut Vec<Option<Place>>,
    ) -> Result<(), StateError> {
        places.clear();
        {
            let pending = self.pending();
            places.extend(ids.iter().map(|id| pending.get(id).copied()));
        }
        // What is no longer pending is in the state by now, and a view from now on shows it.
        let generation = self.generation.load(Ordering::Acquire);
        if sight.generation != generation {
            *sight = Sight { view: self.state.view()?, generation };
        }
        for ((id, length), place) in ids.iter().zip(lengths).zip(places.iter_mut()) {
            if place.is_none() {
                let found = self.state.find(&sight.view, id)?;
                *place = found.filter(|at| self.is_usable(at.pack) && at.length as usize == *length);
            }
        }
        Ok(())
    }

    /// The chunks that have been packed and not been uploaded yet.
    pub(super) fn pending(&self) -> MutexGuard<'_, HashMap<ChunkId, Place>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pack of this capture is on the share.
    pub(super) fn uploaded(
        &self,
        number: u64,
        row: PackRow,
        chunks: &[(ChunkId, u32)],
    ) -> Result<(), StateError> {
        self.state.add_pack(number, row, chunks)?;
        self.generation.fetch_add(1, Ordering::Release);
        let mut pending = self.pending();
        for (id, _) in chunks {
            if pending.get(id).is_some_and(|place| place.pack == number) {
                pending.remove(id);
            }
        }
        Ok(())
    }
}
