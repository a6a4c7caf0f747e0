//! Who leads: the log stands still and nobody answers, so another coordinator appends the next epoch.

use muster_protocol::log::Epoch;

use crate::happening::{Entry, Party};
use crate::plan::TAKEOVER;
use crate::world::World;

/// How far a coordinator is on its way to the lead.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    /// Whether it has just started: then it reclaims what it held.
    fresh: bool,
    /// How much of the log was there when it last grew, and when that was.
    seen: (usize, u64),
    /// Whether its `epoch` record is under way.
    asking: bool,
}

impl Lead {
    pub(crate) fn fresh(now: u64) -> Self {
        Self { fresh: true, seen: (0, now), asking: false }
    }

    pub(crate) fn follower(now: u64, view: usize) -> Self {
        Self { fresh: false, seen: (view, now), asking: false }
    }
}

impl World {
    pub(crate) fn consider_lead(&mut self, c: usize) {
        let (now, state, key) = (self.now, self.view_of(c), self.coordinators[c].key);
        let view = self.coordinators[c].view;
        let it = &mut self.coordinators[c].lead;
        if it.asking {
            return;
        }
        if it.seen.0 != view {
            it.seen = (view, now);
        }
        let current = state.epoch;
        let free = current.is_none_or(|e| e.holder == key && it.fresh || !state.is_coordinator(&e.holder));
        if !free && now - it.seen.1 < TAKEOVER {
            it.fresh = false;
            return;
        }
        // An idle leader writes nothing: only one that is silent on the bus as well has lost its place.
        if let Some(leader) = current.filter(|_| !free)
            && self.answers(c, leader.epoch)
        {
            self.coordinators[c].lead.seen.1 = now;
            return;
        }
        self.coordinators[c].lead.asking = true;
        let epoch = current.map_or(0, |e| e.epoch) + 1;
        let epoch = Epoch { epoch, instance: self.rng.nonce(), at: self.wall_of(c) };
        self.append(c, Entry::Epoch(epoch), None);
    }

    /// The `epoch` record was not written, or not for certain.
    pub(crate) fn lead_failed(&mut self, c: usize, known: bool) {
        let it = &mut self.coordinators[c].lead;
        it.asking = false;
        it.fresh |= !known;
    }

    /// Whether a leader of this epoch answers over the bus.
    fn answers(&mut self, c: usize, epoch: u64) -> bool {
        let off = |world: &Self, c: usize| world.off_bus[Party::Coordinator(c).index()] > world.now;
        let leads = |other: usize| {
            self.leads(other, epoch)
                && self.coordinators[other].stopped_until <= self.now
                && !off(self, other)
        };
        let there = !off(self, c) && (0..self.coordinators.len()).any(leads);
        there && !self.strikes(crate::fault::Fault::Dropped)
    }
}
