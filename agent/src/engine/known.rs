//! Which chunks need no upload: those in packs that are on the share and may be named, and those that this capture has
//! packed already.
//!
//! The former are on the local disk, the latter in memory only until their pack is uploaded, so memory does not grow
//! with the data. A new chunk is claimed before it is compressed: of threads that meet it in the same moment one packs it,
//! and the others wait for its place. Whoever claims packs all of it before it waits for anybody, so nobody waits in a ring.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use muster_protocol::ids::ChunkId;

use super::shared::{Halt, WATCH};
use crate::source::Stopped;
use crate::state::{PackRow, Place, State, StateError, View};

/// A chunk of this capture that is not in the state yet.
#[derive(Debug, Clone, Copy)]
enum Pending {
    /// Somebody compresses it.
    Claimed,
    /// It lies in a pack that is not uploaded yet.
    Packed(Place),
}

/// What a thread knows of a chunk after it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is packed already.
    At(Place),
    /// Whoever asked packs it.
    Own,
    /// Another thread packs it.
    Other,
}

/// The chunks of this capture.
#[derive(Debug)]
pub(super) struct Known {
    state: Arc<State>,
    /// Older packs that may be named.
    usable: HashSet<u64>,
    /// Packs from this number on are of this capture.
    first_new: u64,
    pending: Mutex<HashMap<ChunkId, Pending>>,
    /// A claimed chunk is packed.
    packed: Condvar,
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
        Self {
            state,
            usable,
            first_new,
            pending: Mutex::default(),
            packed: Condvar::new(),
            generation: AtomicU64::new(0),
        }
    }

    /// Whether what an earlier slice stored in this pack may be named: it is on the share.
    pub(super) fn is_older(&self, pack: u64) -> bool {
        pack < self.first_new && self.usable.contains(&pack)
    }

    /// Whether what lies in this pack may be named: it is on the share, or will be before the receipt.
    fn is_usable(&self, pack: u64) -> bool {
        pack >= self.first_new || self.usable.contains(&pack)
    }

    pub(super) fn take_pack_number(&self) -> u64 {
        self.state.take_pack_number()
    }

    pub(super) fn sight(&self) -> Result<Sight, StateError> {
        let generation = self.generation.load(Ordering::Acquire);
        Ok(Sight { view: self.state.view()?, generation })
    }

    /// Where each of these chunks, no two of one name, lies; those that lie nowhere yet are claimed. A place of another
    /// length than the chunk's is none: what was learnt from the share may be wrong.
    pub(super) fn claim(
        &self,
        sight: &mut Sight,
        chunks: &[(ChunkId, u32)],
        claims: &mut Vec<Claim>,
    ) -> Result<(), StateError> {
        claims.clear();
        let mut open = Vec::new();
        {
            let pending = self.pending();
            for (at, (id, _)) in chunks.iter().enumerate() {
                claims.push(match pending.get(id) {
                    Some(Pending::Packed(place)) => Claim::At(*place),
                    Some(Pending::Claimed) => Claim::Other,
                    None => {
                        open.push(at);
                        Claim::Own
                    }
                });
            }
        }
        while !open.is_empty() {
            self.refresh(sight)?;
            for at in &open {
                let (id, length) = &chunks[*at];
                let found = self.state.find(&sight.view, id)?;
                if let Some(place) = found.filter(|at| self.is_usable(at.pack) && at.length == *length) {
                    claims[*at] = Claim::At(place);
                }
            }
            open.retain(|at| claims[*at] == Claim::Own);
            let mut pending = self.pending();
            // What has left the pending ones since is in the state by now, and only a newer view shows it.
            if sight.generation != self.generation.load(Ordering::Acquire) {
                continue;
            }
            for at in open.drain(..) {
                match pending.entry(chunks[at].0) {
                    Entry::Vacant(free) => drop(free.insert(Pending::Claimed)),
                    Entry::Occupied(taken) => {
                        claims[at] = match taken.get() {
                            Pending::Packed(place) => Claim::At(*place),
                            Pending::Claimed => Claim::Other,
                        };
                    }
                }
            }
        }
        Ok(())
    }

    fn refresh(&self, sight: &mut Sight) -> Result<(), StateError> {
        let generation = self.generation.load(Ordering::Acquire);
        if sight.generation != generation {
            *sight = Sight { view: self.state.view()?, generation };
        }
        Ok(())
    }

    /// Claimed chunks lie in a pack now.
    pub(super) fn packed(&self, places: impl IntoIterator<Item = (ChunkId, Place)>) {
        let packed = places.into_iter().map(|(id, place)| (id, Pending::Packed(place)));
        self.pending().extend(packed);
        self.packed.notify_all();
    }

    /// Where each of these chunks lies, once whoever claimed one has packed it.
    pub(super) fn places(
        &self,
        sight: &mut Sight,
        chunks: &[(ChunkId, u32)],
        claims: &[Claim],
        halt: &Halt,
        places: &mut Vec<Place>,
    ) -> Result<(), PlacesError> {
        places.clear();
        for ((id, _), claim) in chunks.iter().zip(claims) {
            let known = match claim {
                Claim::At(place) => Some(*place),
                Claim::Own | Claim::Other => self.wait(id, halt)?,
            };
            places.push(match known {
                Some(place) => place,
                // Uploaded meanwhile.
                None => {
                    self.refresh(sight)?;
                    self.state.find(&sight.view, id)?.ok_or(PlacesError::Lost)?
                }
            });
        }
        Ok(())
    }

    /// Waits until a claimed chunk is packed; `None` when its pack is uploaded already.
    fn wait(&self, id: &ChunkId, halt: &Halt) -> Result<Option<Place>, Stopped> {
        let mut pending = self.pending();
        loop {
            match pending.get(id) {
                Some(Pending::Packed(place)) => return Ok(Some(*place)),
                Some(Pending::Claimed) => halt.check()?,
                None => return Ok(None),
            }
            (pending, _) = self.packed.wait_timeout(pending, WATCH).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<ChunkId, Pending>> {
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
            if matches!(pending.get(id), Some(Pending::Packed(place)) if place.pack == number) {
                pending.remove(id);
            }
        }
        Ok(())
    }
}

/// Why places are not known.
#[derive(Debug)]
pub(super) enum PlacesError {
    /// The capture has been halted.
    Stopped,
    /// The memory fails.
    State(StateError),
    /// A chunk was packed, uploaded, and is nowhere: a fault of this program.
    Lost,
}

impl From<Stopped> for PlacesError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<StateError> for PlacesError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Halt, Known};
    use crate::state::{PackRow, Place, State};
    use muster_protocol::ids::{ChunkId, ObjectId};
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Barrier};
    use std::thread;

    fn known(dir: &std::path::Path) -> Known {
        let state = State::open(dir).expect("opens");
        state.begin(3, ChunkId::from_bytes([0; 32])).expect("begins");
        Known::new(Arc::new(state), HashSet::new(), 1)
    }

    /// Eight threads meet the same chunks at once; those of every second batch are uploaded before anybody waits.
    #[test]
    fn one_of_many_packs_a_chunk_and_all_learn_where() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (known, halt) = (known(dir.path()), Halt::new(1));
        let chunks: Vec<_> = (0..200u8).map(|n| (ChunkId::from_bytes([n; 32]), 10)).collect();
        let (packs, claimed) = (AtomicU32::new(0), Barrier::new(8));
        let learnt: Vec<Vec<Place>> = thread::scope(|scope| {
            let work = || {
                let mut sight = known.sight().expect("sight");
                let (mut claims, mut places, mut all) = (Vec::new(), Vec::new(), Vec::new());
                for (turn, batch) in chunks.chunks(10).enumerate() {
                    known.claim(&mut sight, batch, &mut claims).expect("claims");
                    claimed.wait();
                    let own = batch.iter().zip(&claims).filter(|(_, claim)| **claim == Claim::Own);
                    let own: Vec<_> = own.map(|(chunk, _)| *chunk).collect();
                    packs.fetch_add(u32::try_from(own.len()).expect("few"), Ordering::Relaxed);
                    let number = known.take_pack_number();
                    for (offset, (id, length)) in (0..).step_by(10).zip(&own) {
                        known.packed([(*id, Place { pack: number, offset, length: *length })]);
                    }
                    let row = PackRow { id: ObjectId::of(&number.to_be_bytes()), size: 1, plain_bytes: 0 };
                    if turn % 2 == 0 {
                        known.uploaded(number, row, &own).expect("remembered");
                        claimed.wait();
                    }
                    known.places(&mut sight, batch, &claims, &halt, &mut places).expect("learnt");
                    all.extend(batch.iter().map(|(id, _)| *id.as_bytes()).zip(places.iter().copied()));
                }
                all.sort_by_key(|(id, _)| *id);
                all.into_iter().map(|(_, place)| place).collect()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("ends")).collect()
        });
        assert_eq!(packs.into_inner(), 200, "each is packed once");
        assert!(learnt.iter().all(|places| *places == learnt[0]), "all know the same place");
    }

    #[test]
    fn a_halted_capture_waits_for_nobody() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (known, halt) = (known(dir.path()), Halt::new(1));
        let (chunks, mut sight) = ([(ChunkId::from_bytes([1; 32]), 10)], known.sight().expect("sight"));
        let (mut first, mut second) = (Vec::new(), Vec::new());
        known.claim(&mut sight, &chunks, &mut first).expect("claims");
        known.claim(&mut sight, &chunks, &mut second).expect("claims");
        assert_eq!((first[0], second[0]), (Claim::Own, Claim::Other));
        halt.stop();
        let waited = known.places(&mut sight, &chunks, &second, &halt, &mut Vec::new());
        assert!(matches!(waited, Err(super::PlacesError::Stopped)));
    }
}
