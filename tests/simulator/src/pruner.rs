//! The pruner: an identity of its own, the only one that deletes. It does what the log asks for next, in two passes, as
//! `share/src/prune` has it.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::{Effect, Prune, Pruned, State, Sweep};
use muster_protocol::prune::{Chooser, Next, Sight, Stock, Verdict, next};
use muster_protocol::time::UnixMillis;

use crate::fact::Fact;
use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::{Entry, Happening, Party, Request, Step};
use crate::planted::Planted;
use crate::share::{Object, What};
use crate::world::{Call, World};

/// Between two looks at the log.
const LOOK: u64 = 1_500;
/// Between marking and deleting.
const GRACE: Duration = Duration::from_millis(2_000);

/// The pruner's process.
#[derive(Debug, Default)]
pub(crate) struct Pruner {
    pub(crate) up: bool,
    pub(crate) life: u32,
    /// Records that it has read; its disk remembers them.
    view: usize,
    /// How far its wall clock is off.
    pub(crate) wall: i64,
    /// Whether space is wanted, so that something is to be marked.
    pub(crate) wanted: bool,
    /// What is to be said of a list that is on the share.
    listed: Option<Entry>,
    /// The sweep that it is at, and what is still to be deleted.
    deleting: Option<(u64, VecDeque<ObjectId>)>,
}

/// What may go.
#[derive(Debug)]
pub(crate) struct Waste {
    rounds: Vec<RoundId>,
    pub(crate) objects: Vec<ObjectId>,
}

/// Of what a survey is made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Of all that is due.
    Due,
    /// Of what these rounds and this list leave.
    Within(&'a [RoundId], &'a [ObjectId]),
}

impl World {
    pub(crate) fn pruner_starts(&mut self) {
        let Pruner { life, view, wall, wanted, .. } = self.pruner;
        self.pruner = Pruner { up: true, life: life + 1, view, wall, wanted, ..Pruner::default() };
        self.after(LOOK, Happening::For(Party::Pruner, life + 1, Step::Pruner { tick: true }));
    }

    pub(crate) fn pruner_dies(&mut self) {
        self.pruner.up = false;
        self.pruner.life += 1;
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
        if let Some(entry) = self.pruner.listed.take() {
            return self.say_of_list(state, entry);
        }
        let careless = self.has(Planted::PruneWithoutOpenRounds);
        self.note(|it| format!("  the log asks for {:?}", next(state, GRACE, it.wall_of_pruner())));
        match next(state, GRACE, self.wall_of_pruner()) {
            Next::Finish { sweep } => self.finish(state, sweep),
            Next::Sweep { mark } => self.sweep(state, mark),
            Next::Wait { mark, .. } if careless => self.sweep(state, mark),
            Next::Wait { .. } => {}
            Next::Mark if std::mem::take(&mut self.pruner.wanted) => {
                if let Some(waste) = self.waste(state, Scope::Due).filter(|waste| self.is_worth_it(waste)) {
                    let epoch = state.epoch.map_or(0, |epoch| epoch.epoch);
                    let (list, at) = (self.rng.object(), Some(self.wall_of_pruner()));
                    let prune = Prune { epoch, rounds: waste.rounds, list, at };
                    self.write_list(list, waste.objects, Entry::Prune(prune));
                }
            }
            Next::Mark => {}
        }
    }

    /// Whether the log asks for nothing but a new mark.
    pub(crate) fn is_pruned(&self, state: &State) -> bool {
        next(state, GRACE, self.wall_of_pruner()) == Next::Mark
    }

    /// Whether more may go than the lists of former marks: a prune for those alone would leave another one.
    pub(crate) fn is_worth_it(&self, waste: &Waste) -> bool {
        waste.objects.iter().any(|id| self.share.list(id).is_none())
    }

    /// Pass two: what was marked is looked at again, for a round that was open then may have come to need it.
    fn sweep(&mut self, state: &State, mark: u64) {
        let Some(prune) = state.prunes.get(&mark) else { return };
        let Some(marked) = self.share.list(&prune.list).cloned() else { return };
        let Some(waste) = self.waste(state, Scope::Within(&prune.rounds, &marked)) else { return };
        let list = self.rng.object();
        self.write_list(list, waste.objects, Entry::Sweep(Sweep { rounds: waste.rounds, list }));
    }

    /// Writes a list, then a record that names it.
    fn write_list(&mut self, id: ObjectId, objects: Vec<ObjectId>, entry: Entry) {
        let (life, after) = (self.pruner.life, self.latency());
        let request = Request::List { id, objects: Rc::new(objects), entry };
        self.after(after, Happening::Arrives(Party::Pruner, life, request));
    }

    /// A list arrives at the share.
    pub(crate) fn list_arrives(&mut self, life: u32, id: ObjectId, objects: Rc<Vec<ObjectId>>, entry: Entry) {
        let call = self.call(Party::Pruner);
        if call != Call::Refused {
            let size = objects.len() as u64 * 32;
            let fresh = self.share.create(id, Object { what: What::List(objects), size, sound: true });
            self.facts.push(Fact::Written { id, fresh });
        }
        if call == Call::Done && self.pruner.life == life {
            self.pruner.listed = Some(entry);
            let after = self.latency();
            self.after(after, Happening::For(Party::Pruner, life, Step::Pruner { tick: false }));
        }
    }

    fn say_of_list(&mut self, state: &State, entry: Entry) {
        let mut after = state.clone();
        let record = entry.record(Founding::get().pruner, after.next, after.head);
        if matches!(after.replay_record(record), Ok(Effect::Applied)) {
            return self.pruner_appends(entry);
        }
        if let (Entry::Sweep(sweep), true) = (&entry, self.has(Planted::PruneWithoutOpenRounds)) {
            for id in self.share.list(&sweep.list).cloned().iter().flat_map(|list| list.iter()) {
                self.delete(*id);
            }
        }
    }

    fn pruner_appends(&mut self, entry: Entry) {
        let (view, life, after) = (self.pruner.view, self.pruner.life, self.latency());
        let request = Request::Append { view, entry, round: None };
        self.after(after, Happening::Arrives(Party::Pruner, life, request));
    }

    /// Deletes what a sweep names, then says so.
    fn finish(&mut self, state: &State, number: u64) {
        if self.pruner.deleting.as_ref().is_none_or(|(at, _)| *at != number) {
            let list = state.sweeps.get(&number).and_then(|(sweep, _)| self.share.list(&sweep.list));
            let Some(list) = list else { return };
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
            self.delete(id);
        }
        self.pruner_appends(Entry::Pruned(Pruned { sweep: number }));
    }

    fn delete(&mut self, id: ObjectId) {
        if let Some(object) = self.share.objects.remove(&id) {
            if matches!(object.what, What::Receipt(_)) {
                self.deleted_receipts.insert(id);
            }
            self.facts.push(Fact::Deleted { id });
        }
    }

    fn wall_of_pruner(&self) -> UnixMillis {
        UnixMillis(1_700_000_000_000 + self.now as i64 + self.pruner.wall)
    }

    /// Which rounds and objects may go as the log stands; none when that cannot be known for certain.
    pub(crate) fn waste(&mut self, state: &State, scope: Scope<'_>) -> Option<Waste> {
        if self.call(Party::Pruner) != Call::Done {
            return None;
        }
        let short = self.strikes(Fault::ListingShort);
        let left_out = self.rng.index(self.share.objects.len().max(1));
        let careless = self.has(Planted::PruneWithoutOpenRounds);
        let (mut rounds, mut stock) = (Vec::new(), Stock::default());
        let mut chooser = Chooser::new(state, self.plan.terms(GRACE), self.wall_of_pruner());
        for round in chooser.order() {
            let manifest = round.commit().and_then(|commit| self.share.manifest(&commit.manifest));
            let services: Option<Vec<_>> =
                manifest.map(|manifest| manifest.slices.iter().map(|slice| slice.service.clone()).collect());
            let verdict = chooser.judge(round, services.as_deref(), &[]);
            let marked = match scope {
                Scope::Due => true,
                Scope::Within(marked, _) => marked.contains(&round.open.round),
            };
            let Some(commit) = round.commit().filter(|_| verdict != Verdict::Empty) else { continue };
            if verdict == Verdict::Goes && marked {
                rounds.push(round.open.round);
                continue;
            }
            manifest?;
            for (id, size) in self.share.named_by(&commit.manifest, commit.manifest_size) {
                stock.need(id, Some(size)).ok()?;
            }
        }
        let lists = state.prunes.values().map(|prune| prune.list);
        for list in lists.chain(state.sweeps.values().map(|(sweep, _)| sweep.list)) {
            stock.need(list, None).ok()?;
        }
        let going: BTreeSet<_> = rounds.iter().collect();
        let of_going: BTreeSet<ObjectId> = state
            .rounds
            .values()
            .filter(|round| going.contains(&round.open.round))
            .filter_map(|round| round.commit())
            .flat_map(|commit| self.share.named_by(&commit.manifest, commit.manifest_size))
            .map(|(id, _)| id)
            .collect();
        let in_use = !state.open_rounds().is_empty() && !careless;
        let mut objects = Vec::new();
        for (at, (id, object)) in self.share.objects.iter().enumerate() {
            // A listing that leaves out every second object from somewhere on.
            if short && at >= left_out && (at - left_out).is_multiple_of(2) {
                continue;
            }
            match (stock.see(id, object.size), scope) {
                (Sight::OtherLength { .. }, _) => return None,
                (Sight::Needed, _) => {}
                // A round that is open may need what nobody names yet.
                (Sight::Unneeded, Scope::Due) if in_use && !of_going.contains(id) => {}
                (Sight::Unneeded, Scope::Due) => objects.push(*id),
                (Sight::Unneeded, Scope::Within(_, marked)) => {
                    if marked.contains(id) {
                        objects.push(*id);
                    }
                }
            }
        }
        // A listing without what stays is no listing.
        stock.missing().next().is_none().then_some(Waste { rounds, objects })
    }
}
