//! What the desk reads from the share: receipts to check, receipts to find, objects to read again.

use std::collections::BTreeSet;
use std::rc::Rc;

use muster_protocol::alert::Code;
use muster_protocol::document::{ManifestSlice, SliceStatus, SliceTotals};
use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::{Open, State};
use muster_protocol::round::{CheckFailure, Event, Failure, Machine};

use crate::founding::Founding;
use crate::happening::Party;
use crate::happening::coordinator::Check;
use crate::planted::Planted;
use crate::share::Receipt;
use crate::world::{Call, World};

fn refused(code: Code, reason: &str) -> CheckFailure {
    CheckFailure::Refused(Failure { code, reason: reason.to_owned(), permanent: false })
}

impl World {
    /// The check of a receipt is over.
    pub(crate) fn check(&mut self, c: usize, round: RoundId, check: &Check) {
        let desk = self.coordinators[c].desk.as_ref();
        let Some(seat) = desk.and_then(|desk| desk.rounds.get(&round)) else { return };
        let (open, position) = (seat.open.clone(), seat.position);
        let result = if self.call(Party::Coordinator(c)) == Call::Done {
            self.look_into(check, &open, position)
        } else {
            Err(CheckFailure::Unavailable { reason: "the share does not answer".to_owned() })
        };
        self.note(|_| format!("  checked: {result:?}"));
        let service = Founding::get().services[check.service].clone();
        self.tell(
            c,
            &round,
            Event::Checked { service, receipt: check.receipt, result: result.map(Box::new) },
        );
    }

    fn look_into(&self, check: &Check, open: &Open, position: u64) -> Result<ManifestSlice, CheckFailure> {
        let founding = Founding::get();
        let receipt = self.share.receipt(&check.receipt);
        if self.has(Planted::CommitBeforeCheck) {
            let receipt = receipt.cloned();
            let cut = receipt.as_ref().and_then(|receipt| receipt.cut);
            return Ok(slice(check, cut));
        }
        let damaged = |what: &str| Err(refused(Code::Share07, what));
        let Some(receipt) = receipt.filter(|_| self.share.holds(&check.receipt, check.receipt_size)) else {
            return damaged("the receipt is not there");
        };
        let service = &founding.services[check.service];
        let named = (receipt.service, receipt.round, receipt.attempt, receipt.signer);
        if named != (check.service, open.round, check.attempt, founding.agents[check.service]) {
            return Err(refused(Code::Key03, "the receipt is of another service, round or attempt"));
        }
        if receipt.nonce != open.nonce.for_attempt(service, check.attempt) {
            return Err(refused(Code::Key03, "the receipt was not made for this attempt"));
        }
        let state = self.share.state(check.view);
        let sweeps = state.sweeps.values().map(|(sweep, _)| sweep.list);
        let prunes = state.prunes.range(..position).map(|(_, prune)| prune.list);
        let mut gone = BTreeSet::new();
        for list in sweeps.chain(prunes) {
            let Some(list) = self.share.list(&list) else { return damaged("a list is not there") };
            gone.extend(list.iter().copied());
        }
        if receipt.packs.iter().any(|(id, _)| gone.contains(id)) {
            return damaged("a pack is being deleted; it must be uploaded again");
        }
        if receipt.packs.iter().any(|(id, size)| !self.share.holds(id, *size)) {
            return damaged("a pack is not there with its length");
        }
        Ok(slice(check, receipt.cut))
    }

    /// A former leader may have acknowledged receipts that only the share remembers.
    pub(crate) fn find(&mut self, c: usize, round: RoundId, service: usize) {
        if self.call(Party::Coordinator(c)) != Call::Done {
            return;
        }
        let agent = Founding::get().agents[service];
        let receipts = self.share.objects.iter().filter_map(|(id, object)| match &object.what {
            crate::share::What::Receipt(receipt) => Some((id, receipt, object.size)),
            crate::share::What::Pack(_) | crate::share::What::Manifest(_) | crate::share::What::List(_) => {
                None
            }
        });
        let own = |receipt: &Rc<Receipt>| {
            (receipt.service, receipt.round, receipt.signer) == (service, round, agent)
        };
        let newest = receipts
            .filter(|(_, receipt, _)| own(receipt))
            .max_by_key(|(_, receipt, _)| receipt.attempt)
            .map(|(id, receipt, size)| (*id, receipt.attempt, size));
        if let Some((receipt, attempt, receipt_size)) = newest {
            let service = Founding::get().services[service].clone();
            self.tell(c, &round, Event::Stored { service, attempt, receipt, receipt_size });
        }
    }

    /// The new objects of a committed round have been read again.
    pub(crate) fn reread(&mut self, c: usize, round: RoundId) {
        let call = self.call(Party::Coordinator(c));
        let state = self.view_of(c);
        let Some(commit) = state.rounds.get(&round).and_then(|round| round.commit()) else { return };
        let event = if call != Call::Done {
            Event::StageFailed { reason: "the share does not answer".to_owned() }
        } else {
            match self.read_again(&state, &commit.manifest) {
                Ok(objects) => Event::Reread { objects, bytes: objects },
                Err(id) => Event::RereadFailed { reason: format!("{} is damaged", id.short()) },
            }
        };
        self.tell(c, &round, event);
    }

    /// Reads everything again that no verified round names; the error is what is damaged. What a receipt calls new is not
    /// enough: it names packs as old that came with a round which was cancelled, or never verified.
    fn read_again(&self, state: &State, manifest: &ObjectId) -> Result<u64, ObjectId> {
        let manifest = self.share.manifest(manifest).ok_or(*manifest)?;
        let verified = state.rounds.values().filter(|round| round.word() == "verified" && !round.swept);
        let commits = verified.filter_map(|round| round.commit());
        let known: BTreeSet<_> = commits
            .flat_map(|commit| self.share.named_by(&commit.manifest, commit.manifest_size))
            .map(|(id, _)| id)
            .collect();
        let mut objects = 0;
        for slice in &manifest.slices {
            let receipt = self.share.receipt(&slice.receipt).ok_or(slice.receipt)?;
            let packs = receipt.packs.iter().map(|(id, _)| id);
            for id in packs.chain([&slice.receipt]).filter(|id| !known.contains(id)) {
                if !self.share.objects.get(id).is_some_and(|object| object.sound) {
                    return Err(*id);
                }
                objects += 1;
            }
        }
        Ok(objects)
    }

    /// The manifest of a round that is committed and was never read again.
    pub(crate) fn verify_later(&mut self, c: usize, id: RoundId) {
        let state = self.view_of(c);
        let Some(round) = state.rounds.get(&id) else { return };
        let Some(commit) = round.commit().filter(|_| round.word() == "committed") else { return };
        if self.call(Party::Coordinator(c)) != Call::Done {
            return;
        }
        let Some(manifest) = self.share.manifest(&commit.manifest).cloned() else { return };
        let (policy, seed, now) = (self.plan.policy(), self.rng.next(), self.time_of(c));
        let slices = manifest.slices.iter().cloned();
        let machine = Machine::verify(manifest.outcome, slices, policy, seed, now);
        self.seat(c, machine, round.open.clone(), round.position);
    }
}

fn slice(check: &Check, cut: Option<muster_protocol::ids::Nonce>) -> ManifestSlice {
    let founding = Founding::get();
    ManifestSlice {
        service: founding.services[check.service].clone(),
        agent: founding.agents[check.service],
        attempts: check.attempt,
        receipt: check.receipt,
        receipt_size: check.receipt_size,
        status: SliceStatus::Whole,
        totals: SliceTotals::default(),
        cut,
        timing: None,
        tries: Vec::new(),
    }
}
