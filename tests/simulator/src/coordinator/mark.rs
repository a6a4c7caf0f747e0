//! The first pass of a prune: the leader writes down what may go.

use std::collections::BTreeSet;
use std::rc::Rc;

use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::Prune;

use crate::happening::{self, Entry, Happening, Party, Request, coordinator};
use crate::share::{Object, What};
use crate::world::{Call, World};

impl World {
    /// An operator, or the end of a round, wants space.
    pub(crate) fn mark(&mut self, c: usize) {
        let state = self.view_of(c);
        if !state.prunes.is_empty() || self.coordinators[c].desk.is_none() {
            return;
        }
        if self.call(Party::Coordinator(c)) != Call::Done {
            return;
        }
        let Some(waste) = self.waste(&state, None) else { return };
        if waste.objects.is_empty() {
            return;
        }
        let (id, life, after) = (self.rng.object(), self.coordinators[c].life, self.latency());
        let (rounds, objects): (Vec<RoundId>, Vec<ObjectId>) =
            (waste.rounds.into_iter().collect(), waste.objects.into_iter().collect());
        let request = Request::List { id, rounds, objects: Rc::new(objects) };
        self.after(after, Happening::Arrives(Party::Coordinator(c), life, request));
    }

    /// A list arrives at the share.
    pub(crate) fn list_arrives(
        &mut self,
        party: Party,
        life: u32,
        id: ObjectId,
        rounds: Vec<RoundId>,
        objects: Rc<Vec<ObjectId>>,
    ) {
        let call = self.call(party);
        if call != Call::Refused {
            let size = objects.len() as u64 * 32;
            let fresh = self.share.create(id, Object { what: What::List(objects), size, sound: true });
            self.facts.push(crate::fact::Fact::Written { id, fresh });
        }
        let there = call == Call::Done;
        let after = self.latency();
        let step = match party {
            Party::Coordinator(_) => {
                happening::Step::Coordinator(coordinator::Step::Listed { list: id, rounds, there })
            }
            Party::Agent(_) | Party::Pruner | Party::Bus => {
                self.pruner.listed = there.then_some((id, rounds));
                happening::Step::Pruner { tick: false }
            }
        };
        self.after(after, Happening::For(party, life, step));
    }

    pub(crate) fn listed(&mut self, c: usize, list: ObjectId, rounds: Vec<RoundId>, there: bool) {
        if there {
            let rounds: BTreeSet<_> = rounds.into_iter().collect();
            let prune = Prune { epoch: 0, rounds: rounds.into_iter().collect(), list };
            self.write(c, Entry::Prune(prune), None);
        }
    }
}
