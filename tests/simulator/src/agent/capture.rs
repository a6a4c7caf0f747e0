//! Captures: packs that are there already are named again, the others are uploaded, then the receipt.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use muster_protocol::alert::Code;
use muster_protocol::document::SliceTotals;
use muster_protocol::ids::{Nonce, ObjectId, RoundId};
use muster_protocol::slice::Event;

use crate::fact::Fact;
use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::agent::Step;
use crate::happening::{self, Happening, Party, Request};
use crate::planted::Planted;
use crate::share::{Object, Receipt, What};
use crate::world::{Call, World};

/// Length of a receipt.
const RECEIPT_SIZE: u64 = 300;
/// Packs of earlier slices that one names again, at most.
const SHARED: usize = 3;

/// What an agent's disk knows of the share.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// Packs that it has uploaded.
    packs: BTreeMap<ObjectId, u64>,
}

impl Cache {
    /// A receipt counts: all that it names is known, also to a cache that was lost.
    pub(crate) fn keep(&mut self, receipt: &Receipt) {
        self.packs.extend(receipt.packs.iter().copied());
    }
}

/// A capture that runs or has ended.
#[derive(Debug)]
pub(crate) struct Capture {
    ticket: u64,
    round: RoundId,
    packs: BTreeMap<ObjectId, u64>,
    /// When it began to read, and since when the service was held by the time that everything was read.
    began: u64,
    held_since: Option<u64>,
}

impl World {
    pub(crate) fn capture(&mut self, a: usize, round: RoundId) {
        self.agents[a].tickets += 1;
        let ticket = self.agents[a].tickets;
        self.agents[a].capture =
            Some(Capture { ticket, round, packs: BTreeMap::new(), began: self.now, held_since: None });
        let after = self.rng.between(150, 2_500);
        self.for_agent(a, after, Step::Captured { ticket, last: false });
    }

    /// Half of the capture is done, or all of it.
    pub(crate) fn captured(&mut self, a: usize, ticket: u64, last: bool) {
        let Some(capture) = self.agents[a].capture.as_ref().filter(|capture| capture.ticket == ticket) else {
            return;
        };
        let round = capture.round;
        if !last {
            let Some(shared) = self.shared(a) else {
                return self.capture_failed(a, round, "no list of prunes");
            };
            if let Some(capture) = &mut self.agents[a].capture {
                capture.packs.extend(shared);
            }
        }
        if self.strikes(Fault::CaptureFailed) {
            return self.capture_failed(a, round, "source locked");
        }
        let packs = if last { self.rng.below(2) } else { 1 + self.rng.below(2) };
        for _ in 0..packs {
            if !self.upload(a) {
                return self.capture_failed(a, round, "the share took no pack");
            }
        }
        if last {
            self.tell_slice(a, Event::Captured { round });
        } else {
            self.look_at_hold(a);
            let held_since = self.holds[a].as_ref().map(|hold| hold.since);
            match &mut self.agents[a].capture {
                Some(capture) => capture.held_since = held_since,
                // The hold was over.
                None => return,
            }
            self.tell_slice(a, Event::Read { round });
            let after = self.rng.between(50, 1_500);
            self.for_agent(a, after, Step::Captured { ticket, last: true });
        }
    }

    /// Packs that need no uploading: not those that may go, as far as this agent has read the log.
    fn shared(&mut self, a: usize) -> Option<Vec<(ObjectId, u64)>> {
        if self.call(Party::Agent(a)) != Call::Done {
            return None;
        }
        let log = self.agent_view(a);
        let sweeps = log.sweeps.values().map(|(sweep, _)| sweep.list);
        let mut refused = BTreeSet::new();
        for list in sweeps.chain(log.prunes.values().map(|prune| prune.list)) {
            refused.extend(self.share.list(&list)?.iter().copied());
        }
        let known: Vec<_> = self.agents[a].cache.packs.iter().map(|(id, size)| (*id, *size)).collect();
        let mut shared = Vec::new();
        for pack in known {
            if !refused.contains(&pack.0) && shared.len() < SHARED && self.rng.percent(60) {
                shared.push(pack);
            }
        }
        Some(shared)
    }

    /// Uploads one more pack; false if the share says that it did not take it.
    fn upload(&mut self, a: usize) -> bool {
        let call = self.call(Party::Agent(a));
        let (id, size) = (self.rng.object(), self.rng.between(1, 1_000));
        if call != Call::Refused && !self.strikes(Fault::ObjectLost) {
            let short = self.strikes(Fault::ObjectShort);
            let sound = !short && !self.strikes(Fault::ObjectRotten);
            let object = Object { what: What::Pack(a), size: if short { size - 1 } else { size }, sound };
            let fresh = self.share.create(id, object);
            self.facts.push(Fact::Written { id, fresh });
        }
        if call != Call::Done {
            return false;
        }
        self.agents[a].cache.packs.insert(id, size);
        if let Some(capture) = &mut self.agents[a].capture {
            capture.packs.insert(id, size);
        }
        true
    }

    /// The service was released before everything was read.
    pub(crate) fn give_capture_up(&mut self, a: usize, round: RoundId) {
        if self.agents[a].capture.is_some() {
            self.capture_failed(a, round, "the service was released before everything was read");
        }
    }

    fn capture_failed(&mut self, a: usize, round: RoundId, reason: &str) {
        self.agents[a].capture = None;
        let (code, reason) = (Code::Agent03, reason.to_owned());
        self.tell_slice(a, Event::CaptureFailed { round, code, reason, permanent: false });
    }

    pub(crate) fn write_receipt(&mut self, a: usize, round: RoundId, attempt: u32, cut: Option<Nonce>) {
        let nonce = self.attempt_nonce(a, round, attempt);
        let capture = self.agents[a].capture.as_ref().filter(|capture| capture.round == round);
        let (Some(nonce), Some(capture)) = (nonce, capture) else {
            let what = format!("agent {a} is to write a receipt of what it has not captured");
            return self.facts.push(Fact::Impossible { what });
        };
        let receipt = Receipt {
            service: a,
            signer: Founding::get().agents[a],
            round,
            attempt,
            nonce,
            cut,
            packs: capture.packs.iter().map(|(id, size)| (*id, *size)).collect(),
        };
        let (ticket, id, life) = (capture.ticket, self.rng.object(), self.agents[a].life);
        if let Some(nonce) = cut {
            let (hooks, began, held_since) = (self.agents[a].hooks, capture.began, capture.held_since);
            self.facts.push(Fact::InCut { receipt: id, nonce, hooks, began, held_since });
        }
        let request = Request::Receipt { ticket, id, receipt: Rc::new(receipt) };
        let after = self.rng.between(20, 400);
        self.after(after, Happening::Arrives(Party::Agent(a), life, request));
        if self.has(Planted::NoticeBeforeReceipt) {
            self.receipted(a, ticket, round, attempt, id, true);
        }
    }

    /// A receipt arrives at the share.
    pub(crate) fn receipt_arrives(
        &mut self,
        party: Party,
        life: u32,
        ticket: u64,
        id: ObjectId,
        receipt: Rc<Receipt>,
    ) {
        let call = self.call(party);
        let (round, attempt) = (receipt.round, receipt.attempt);
        if call != Call::Refused {
            let object = Object { what: What::Receipt(receipt), size: RECEIPT_SIZE, sound: true };
            let fresh = self.share.create(id, object);
            self.facts.push(Fact::Written { id, fresh });
        }
        let there = call == Call::Done;
        let after = self.latency();
        let step = Step::Receipted { ticket, round, attempt, receipt: id, there };
        self.after(after, Happening::For(party, life, happening::Step::Agent(step)));
    }

    /// The share has answered to a receipt.
    pub(crate) fn receipted(
        &mut self,
        a: usize,
        ticket: u64,
        round: RoundId,
        attempt: u32,
        receipt: ObjectId,
        there: bool,
    ) {
        if self.agents[a].capture.as_ref().is_none_or(|capture| capture.ticket != ticket) {
            return;
        }
        let event = if there {
            let (receipt_size, totals) = (RECEIPT_SIZE, SliceTotals::default());
            Event::ReceiptWritten { round, attempt, receipt, receipt_size, totals }
        } else {
            let (code, reason) = (Code::Share04, "the share took no receipt".to_owned());
            Event::CaptureFailed { round, code, reason, permanent: false }
        };
        self.tell_slice(a, event);
    }

    /// The leader found something amiss with what a receipt names: all of it is uploaded again.
    pub(crate) fn give_packs_up(&mut self, a: usize, receipt: &ObjectId) {
        if let Some(receipt) = self.share.receipt(receipt).cloned() {
            for (id, _) in &receipt.packs {
                self.agents[a].cache.packs.remove(id);
            }
        }
    }
}
