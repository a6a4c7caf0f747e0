//! Effects: what a machine wants done is sent on its way, and comes back as an event.

use std::rc::Rc;

use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::{Commit, End, Outcome, Verified};
use muster_protocol::round::{Effect, Event};

use crate::fact::Fact;
use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::coordinator::{Check, Step};
use crate::happening::{self, Entry, Happening, Party, Request};
use crate::share::{Manifest, Object, What};
use crate::world::{Call, World};

/// Length of a manifest.
const MANIFEST_SIZE: u64 = 500;

impl World {
    /// Carries out every effect that is waiting, as far as the coordinator lives.
    pub(crate) fn carry_out(&mut self, c: usize) {
        let mut publish = false;
        while let Some((id, effect)) = self.next_effect(c) {
            if self.dies(Fault::CoordinatorCrashed) {
                return self.coordinator_dies(c);
            }
            if effect == Effect::Publish {
                publish = true;
            } else {
                self.carry_one(c, id, effect);
            }
            if self.coordinators[c].desk.is_none() {
                return;
            }
        }
        if publish {
            self.publish(c);
        }
        if self.coordinators[c].desk.as_ref().is_some_and(|desk| !desk.waiting.is_empty()) {
            self.wake_waiting(c);
            // A round that was opened just now has its first effects.
            while let Some((id, effect)) = self.next_effect(c) {
                self.carry_one(c, id, effect);
            }
        }
        self.set_alarm(c);
    }

    fn next_effect(&mut self, c: usize) -> Option<(RoundId, Effect)> {
        let desk = self.coordinators[c].desk.as_mut()?;
        desk.rounds.iter_mut().find_map(|(id, seat)| seat.machine.poll_effect().map(|effect| (*id, effect)))
    }

    fn carry_one(&mut self, c: usize, id: RoundId, effect: Effect) {
        self.note(|_| format!("  coordinator {c}: {effect:?}"));
        let Some(epoch) = self.coordinators[c].desk.as_ref().map(|desk| desk.epoch) else { return };
        let at = self.wall_of(c);
        match effect {
            Effect::Publish => self.publish(c),
            Effect::AppendOpen => {
                let desk = self.coordinators[c].desk.as_ref();
                if let Some(open) = desk.and_then(|desk| desk.rounds.get(&id)).map(|seat| seat.open.clone()) {
                    self.write(c, Entry::Open(open), Some(id));
                }
            }
            Effect::FindReceipts => {
                for service in 0..self.agents.len() {
                    let after = self.rng.between(20, 400);
                    self.for_coordinator(c, after, Step::Find { epoch, round: id, service });
                }
            }
            Effect::PublishRetry { service, attempt } => self.publish_retry(c, id, service, attempt),
            Effect::Welcome { service, attempt } => self.welcome(c, id, &service, attempt),
            Effect::Check { service, receipt, receipt_size, attempt } => {
                let (service, view) = (Founding::get().service(&service), self.coordinators[c].view);
                let check = Rc::new(Check { service, receipt, receipt_size, attempt, view });
                let after = self.rng.between(20, 600);
                self.for_coordinator(c, after, Step::Check { epoch, round: id, check });
            }
            Effect::Acknowledge { service, attempt, receipt, verdict } => {
                self.acknowledge(c, id, &service, attempt, receipt, verdict);
            }
            Effect::WriteManifest { outcome, slices, absent, cut } => {
                let fine = absent.iter().all(|absentee| absentee.excuse.is_some());
                if fine != (outcome == Outcome::Complete) || slices.is_empty() {
                    let what = format!("a manifest that is {outcome:?} with {} slices", slices.len());
                    self.facts.push(Fact::Impossible { what });
                }
                let manifest = Rc::new(Manifest { round: id, outcome, slices, cut });
                let (name, life) = (self.rng.object(), self.coordinators[c].life);
                let request = Request::Manifest { id: name, epoch, manifest };
                let after = self.latency();
                self.after(after, Happening::Arrives(Party::Coordinator(c), life, request));
            }
            Effect::AppendCommit { outcome, manifest, manifest_size } => {
                let commit = Commit { epoch, round: id, manifest, manifest_size, outcome, at };
                self.write(c, Entry::Commit(commit), Some(id));
            }
            Effect::Reread { .. } => {
                let after = self.rng.between(50, 1_500);
                self.for_coordinator(c, after, Step::Reread { epoch, round: id });
            }
            Effect::AppendVerified { objects, bytes } => {
                let verified = Verified { epoch, round: id, objects, bytes, at };
                self.write(c, Entry::Verified(verified), Some(id));
            }
            Effect::AppendEnd { outcome, reason, .. } => {
                self.write(
                    c,
                    Entry::End(End { epoch, round: id, outcome, reason, at, account: None }),
                    Some(id),
                );
            }
            Effect::Finished => self.finished(c, &id),
        }
    }

    /// The round has ended: its retries need not be kept on the bus any more.
    fn finished(&mut self, c: usize, id: &RoundId) {
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        if let Some(seat) = desk.rounds.get_mut(id) {
            seat.finished = true;
        }
        desk.values.retain(|_, paper| match paper.content.as_ref() {
            happening::Content::Fleet(_) => true,
            happening::Content::Service(retry) => retry.round != *id,
        });
    }

    /// A manifest arrives at the share.
    pub(crate) fn manifest_arrives(
        &mut self,
        party: Party,
        life: u32,
        id: ObjectId,
        epoch: u64,
        manifest: Rc<Manifest>,
    ) {
        let call = self.call(party);
        let round = manifest.round;
        if call != Call::Refused {
            let object = Object { what: What::Manifest(manifest), size: MANIFEST_SIZE, sound: true };
            let fresh = self.share.create(id, object);
            self.facts.push(Fact::Written { id, fresh });
        }
        let event = if call == Call::Done {
            Event::ManifestWritten { manifest: id, manifest_size: MANIFEST_SIZE }
        } else {
            Event::StageFailed { reason: "the share took no manifest".to_owned() }
        };
        let after = self.latency();
        let step = happening::Step::Coordinator(Step::Report { epoch, round, event });
        self.after(after, Happening::For(party, life, step));
    }
}
