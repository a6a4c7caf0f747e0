//! The pruner: an identity of its own, the only one that deletes. Two passes with a record before and after.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::{Pruned, State, Sweep};

use crate::fact::Fact;
use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::{Entry, Happening, Party, Request, Step};
use crate::planted::Planted;
use crate::share::What;
use crate::world::{Call, World};

/// Between two looks at the log.
const LOOK: u64 = 1_500;

/// The pruner's process.
#[derive(Debug, Default)]
pub(crate) struct Pruner {
    pub(crate) up: bool,
    pub(crate) life: u32,
    /// Records that it has read; its disk remembers them.
    view: usize,
    /// A list that is on the share, for the sweep of these rounds.
    pub(crate) listed: Option<(ObjectId, Vec<RoundId>)>,
    /// The sweep that it is at, and what is still to be deleted.
    deleting: Option<(u64, VecDeque<ObjectId>)>,
}

/// What may go.
#[derive(Debug)]
pub(crate) struct Waste {
    pub(crate) rounds: BTreeSet<RoundId>,
    pub(crate) objects: BTreeSet<ObjectId>,
}

impl World {
    pub(crate) fn pruner_starts(&mut self) {
        let life = self.pruner.life + 1;
        let view = self.pruner.view;
        self.pruner = Pruner { up: true, life, view, ..Pruner::default() };
        self.after(LOOK, Happening::For(Party::Pruner, life, Step::Pruner { tick: true }));
    }

    pub(crate) fn pruner_dies(&mut self) {
        let life = self.pruner.life + 1;
        let view = self.pruner.view;
        self.pruner = Pruner { up: false, life, view, ..Pruner::default() };
        let after = self.rng.between(500, 6_000);
        self.after(after, Happening::Start(Party::Pruner));
    }

    /// Does the next thing that the log calls for.
    pub(crate) fn pruner_step(&mut self, tick: bool) {
        let life = self.pruner.life;
        if let Some(view) = self.read_log(Party::Pruner, self.pruner.view) {
            self.pruner.view = view;
            let state = Rc::clone(self.share.state(view));
            self.work_off(&state);
        }
        if tick && self.pruner.life == life {
            self.after(LOOK, Happening::For(Party::Pruner, life, Step::Pruner { tick: true }));
        }
    }

    fn work_off(&mut self, state: &Rc<State>) {
        if let Some((number, (sweep, _))) = state.sweeps.iter().find(|(_, (_, done))| !done) {
            return self.delete(*number, sweep);
        }
        if let Some((list, rounds)) = self.pruner.listed.take() {
            return self.sweep(state, list, rounds);
        }
        let Some((position, prune)) = state.prunes.last_key_value() else { return };
        let bad = self.has(Planted::PruneWithoutOpenRounds);
        if !bad && state.open_rounds().iter().any(|round| round.position < *position) {
            return;
        }
        let Some(marked) = self.share.list(&prune.list).cloned() else { return };
        if self.call(Party::Pruner) != Call::Done {
            return;
        }
        // What was marked is looked at again: a round that was open then may have come to need it.
        let Some(waste) = self.waste(state, Some(&prune.rounds)) else { return };
        let rounds: Vec<_> =
            prune.rounds.iter().filter(|round| waste.rounds.contains(*round)).copied().collect();
        let objects: Vec<_> =
            marked.iter().filter(|id| bad || waste.objects.contains(*id)).copied().collect();
        let (id, life, after) = (self.rng.object(), self.pruner.life, self.latency());
        let request = Request::List { id, rounds, objects: Rc::new(objects) };
        self.after(after, Happening::Arrives(Party::Pruner, life, request));
    }

    fn sweep(&mut self, state: &State, list: ObjectId, rounds: Vec<RoundId>) {
        let entry = Entry::Sweep(Sweep { rounds, list });
        let mut after = state.clone();
        let record = entry.record(Founding::get().pruner, after.next, after.head);
        let allowed = matches!(after.replay_record(record), Ok(muster_protocol::log::Effect::Applied));
        if allowed {
            self.pruner_appends(entry);
        } else if self.has(Planted::PruneWithoutOpenRounds) {
            for id in self.share.list(&list).cloned().iter().flat_map(|list| list.iter()) {
                self.delete_one(*id);
            }
        }
    }

    fn pruner_appends(&mut self, entry: Entry) {
        let (view, life, after) = (self.pruner.view, self.pruner.life, self.latency());
        let request = Request::Append { view, entry, round: None };
        self.after(after, Happening::Arrives(Party::Pruner, life, request));
    }

    fn delete(&mut self, number: u64, sweep: &Sweep) {
        let fresh = self.pruner.deleting.as_ref().is_none_or(|(at, _)| *at != number);
        if fresh {
            let Some(list) = self.share.list(&sweep.list) else { return };
            self.pruner.deleting = Some((number, list.iter().copied().collect()));
        }
        while let Some(id) = self.pruner.deleting.as_mut().and_then(|(_, left)| left.pop_front()) {
            if self.strikes(Fault::PrunerCrashed) {
                return self.pruner_dies();
            }
            if self.call(Party::Pruner) == Call::Refused {
                if let Some((_, left)) = &mut self.pruner.deleting {
                    left.push_front(id);
                }
                return;
            }
            self.delete_one(id);
        }
        self.pruner_appends(Entry::Pruned(Pruned { sweep: number }));
    }

    fn delete_one(&mut self, id: ObjectId) {
        if let Some(object) = self.share.objects.remove(&id) {
            if matches!(object.what, What::Receipt(_)) {
                self.deleted_receipts.insert(id);
            }
            self.facts.push(Fact::Deleted { id });
        }
    }

    /// Which rounds and objects may go as the log stands, where `marked` rounds may and no others; none when that cannot be
    /// known for certain.
    pub(crate) fn waste(&mut self, state: &State, marked: Option<&[RoundId]>) -> Option<Waste> {
        let short = self.strikes(Fault::ListingShort);
        let mut listing: BTreeSet<ObjectId> = self.share.objects.keys().copied().collect();
        if short {
            let from = self.rng.index(listing.len().max(1));
            listing = listing.into_iter().skip(from).step_by(2).collect();
        }
        let mut committed: Vec<_> = state.rounds.values().filter(|round| round.is_recoverable()).collect();
        committed.sort_by_key(|round| std::cmp::Reverse(round.open.number));
        let (mut kept, mut verified) = (BTreeSet::new(), BTreeMap::<usize, usize>::new());
        for (newer, round) in committed.iter().enumerate() {
            let manifest = self.share.manifest(&round.commit()?.manifest)?;
            let mut needed = newer < self.plan.keep_last || round.held;
            needed |= marked.is_some_and(|marked| !marked.contains(&round.open.round));
            if round.word() == "verified" {
                for slice in &manifest.slices {
                    let count = verified.entry(Founding::get().service(&slice.service)).or_default();
                    needed |= *count < self.plan.min_verified;
                    *count += 1;
                }
            }
            if needed {
                kept.insert(round.open.round);
            }
        }
        let rounds = committed.iter().map(|round| round.open.round).filter(|id| !kept.contains(id)).collect();
        let mut needed: BTreeSet<ObjectId> = BTreeSet::new();
        for round in committed.iter().filter(|round| kept.contains(&round.open.round)) {
            let commit = round.commit()?;
            for (id, _) in self.share.named_by(&commit.manifest, commit.manifest_size) {
                // A listing without what is kept is no listing.
                listing.contains(&id).then_some(())?;
                needed.insert(id);
            }
        }
        let open: BTreeSet<_> = state.open_rounds().iter().map(|round| round.open.round).collect();
        let lists = state.prunes.values().map(|prune| prune.list);
        let lists = lists.chain(state.sweeps.values().map(|(sweep, _)| sweep.list));
        needed.extend(lists);
        for (id, object) in &self.share.objects {
            match &object.what {
                What::Receipt(receipt) if open.contains(&receipt.round) => {
                    needed.insert(*id);
                    needed.extend(receipt.packs.iter().map(|(id, _)| *id));
                }
                What::Manifest(manifest) if open.contains(&manifest.round) => {
                    needed.insert(*id);
                }
                What::List(_) => {
                    needed.insert(*id);
                }
                What::Pack(_) | What::Receipt(_) | What::Manifest(_) => {}
            }
        }
        let objects = listing.into_iter().filter(|id| !needed.contains(id)).collect();
        Some(Waste { rounds, objects })
    }
}
