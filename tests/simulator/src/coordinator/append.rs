//! The scribe: one record after the other, each for the next slot that its coordinator knows of.

use muster_protocol::ids::RoundId;
use muster_protocol::log::{Commit, End, Open, RoundPhase, State, Verified};
use muster_protocol::prune::sweeps_after;
use muster_protocol::round::Event;

use crate::fact::Fact;
use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::coordinator::{Append, Step};
use crate::happening::{self, Entry, Happening, Party, Request};
use crate::planted::Planted;
use crate::world::{Call, World};

impl World {
    /// Puts an entry into the scribe's queue.
    pub(crate) fn write(&mut self, c: usize, entry: Entry, round: Option<RoundId>) {
        if let Some(desk) = &mut self.coordinators[c].desk {
            desk.scribe.push_back((entry, round));
            self.write_next(c);
        }
    }

    fn write_next(&mut self, c: usize) {
        let Some(desk) = self.coordinators[c].desk.as_mut().filter(|desk| !desk.writing) else { return };
        let Some((entry, round)) = desk.scribe.pop_front() else { return };
        desk.writing = true;
        self.try_write(c, entry, round);
    }

    /// Looks whether the entry may still be written, then appends it.
    fn try_write(&mut self, c: usize, entry: Entry, round: Option<RoundId>) {
        // It may have been stopped for longer than its lease: what was true then need not be true now.
        let careless = self.has(Planted::CommitWithoutEpoch);
        if !careless && !self.is_trusted(c) && !self.refresh(c) {
            return self.write_failed(c, round);
        }
        let (state, key) = (self.view_of(c), self.coordinators[c].key);
        let Some(epoch) = self.coordinators[c].desk.as_ref().map(|desk| desk.epoch) else { return };
        let holds = state.epoch.is_some_and(|e| e.epoch == epoch && e.holder == key);
        if !holds && !careless {
            return self.deposed(c);
        }
        if stands_already(&state, &entry) {
            return self.written(c, &entry, round);
        }
        if let Entry::Commit(commit) = &entry
            && !self.has(Planted::PruneWithoutOpenRounds)
            && self.is_swept(c, commit)
        {
            return self.write_failed(c, round);
        }
        let entry = match entry {
            Entry::Open(open) => Entry::Open(Open { epoch, number: state.last_round + 1, ..open }),
            Entry::Commit(commit) => Entry::Commit(Commit { epoch, ..commit }),
            Entry::Verified(verified) => Entry::Verified(Verified { epoch, ..verified }),
            Entry::End(end) => Entry::End(End { epoch, ..end }),
            Entry::Epoch(_) | Entry::Prune(_) | Entry::Sweep(_) | Entry::Pruned(_) => entry,
        };
        // As the log's writer does it: what would break a rule is never sent.
        let mut after = state.as_ref().clone();
        let record = entry.record(key, after.next, after.head);
        if !matches!(after.replay_record(record), Ok(muster_protocol::log::Effect::Applied)) && !careless {
            return self.write_failed(c, round);
        }
        self.append(c, entry, round);
    }

    /// Whether something that the manifest names is on the list of a sweep; or a list cannot be read.
    fn is_swept(&self, c: usize, commit: &Commit) -> bool {
        let state = self.share.state(self.coordinators[c].view);
        let named = self.share.named_by(&commit.manifest, commit.manifest_size);
        sweeps_after(state, 0).any(|list| {
            let list = self.share.list(&list);
            list.is_none_or(|list| named.iter().any(|(id, _)| list.contains(id)))
        })
    }

    /// Sends a record for the next slot that the coordinator knows of.
    pub(crate) fn append(&mut self, c: usize, entry: Entry, round: Option<RoundId>) {
        let (view, life) = (self.coordinators[c].view, self.coordinators[c].life);
        let after = self.latency();
        let request = Request::Append { view, entry, round };
        self.after(after, Happening::Arrives(Party::Coordinator(c), life, request));
    }

    /// A record arrives at the share. It takes its slot if nobody has.
    pub(crate) fn append_arrives(
        &mut self,
        party: Party,
        life: u32,
        view: usize,
        entry: Entry,
        round: Option<RoundId>,
    ) {
        let signer = match party {
            Party::Coordinator(c) => self.coordinators[c].key,
            Party::Pruner => Founding::get().pruner,
            Party::Agent(_) | Party::Bus => return,
        };
        if view == self.share.len() && self.strikes(Fault::SlotSquatted) {
            self.share.append_bytes(view, b"no record");
        }
        let call = self.call(party);
        let outcome = if call == Call::Refused {
            Append::Unknown
        } else {
            let state = self.share.state(view);
            let record = entry.record(signer, state.next, state.head);
            match self.share.append(view, record) {
                None => Append::Taken,
                Some(result) => {
                    if let Entry::Open(open) = &entry {
                        self.opened.insert(open.round, self.now);
                    }
                    self.note(|_| format!("  log record {}: {}", view + 1, entry.kind()));
                    let (slot, kind) = (view + 1, entry.kind());
                    self.facts.push(Fact::Appended { slot, signer, kind, result });
                    if call == Call::Done { Append::Stands(slot) } else { Append::Unknown }
                }
            }
        };
        let after = self.latency();
        let step = match party {
            Party::Coordinator(_) => happening::Step::Coordinator(Step::Appended { entry, round, outcome }),
            Party::Agent(_) | Party::Pruner | Party::Bus => happening::Step::Pruner { tick: false },
        };
        self.after(after, Happening::For(party, life, step));
    }

    /// The share has answered.
    pub(crate) fn appended(&mut self, c: usize, entry: Entry, round: Option<RoundId>, outcome: Append) {
        if let Append::Stands(slot) = outcome {
            self.knows(c, slot);
        }
        if let Entry::Epoch(_) = &entry {
            return self.epoch_appended(c, outcome);
        }
        match outcome {
            Append::Stands(_) => self.written(c, &entry, round),
            // Somebody else's record: read it, look whether this coordinator still leads, and try the next slot.
            Append::Taken if self.refresh(c) => self.try_write(c, entry, round),
            Append::Taken | Append::Unknown => {
                // What stands may be the own record: only a reading tells.
                self.refresh(c);
                self.write_failed(c, round);
            }
        }
    }

    fn written(&mut self, c: usize, entry: &Entry, round: Option<RoundId>) {
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        desk.writing = false;
        let event = match entry {
            Entry::Open(_) => Some(Event::Opened),
            Entry::Commit(_) => Some(Event::Committed),
            Entry::Verified(_) => Some(Event::VerifiedAppended),
            Entry::End(_) => Some(Event::EndAppended),
            Entry::Epoch(_) | Entry::Prune(_) | Entry::Sweep(_) | Entry::Pruned(_) => None,
        };
        if let (Some(round), Some(event)) = (round, event) {
            self.tell(c, &round, event);
        }
        self.write_next(c);
    }

    fn write_failed(&mut self, c: usize, round: Option<RoundId>) {
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        desk.writing = false;
        if let Some(round) = round {
            self.tell(c, &round, Event::StageFailed { reason: "the log took no record".to_owned() });
        }
        self.write_next(c);
    }
}

/// Whether a former try of the same entry got through although it was reported as failed.
fn stands_already(state: &State, entry: &Entry) -> bool {
    let round = |id: &RoundId| state.rounds.get(id);
    match entry {
        Entry::Open(open) => round(&open.round).is_some_and(|r| r.open.nonce == open.nonce),
        Entry::Commit(commit) => {
            round(&commit.round).and_then(|r| r.commit()).is_some_and(|c| c.manifest == commit.manifest)
        }
        Entry::Verified(verified) => round(&verified.round).is_some_and(|r| r.word() == "verified"),
        Entry::End(end) => round(&end.round).is_none_or(|r| r.phase != RoundPhase::Open),
        Entry::Epoch(_) | Entry::Prune(_) | Entry::Sweep(_) | Entry::Pruned(_) => false,
    }
}
