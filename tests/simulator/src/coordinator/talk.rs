//! Talk: what the desk says to agents, and what their messages mean to a machine.

use std::rc::Rc;

use muster_protocol::ids::{ObjectId, RoundId, ServiceName};
use muster_protocol::message::{NoticeOutcome, OpenRound, ServiceState, StateDocument, Verdict};
use muster_protocol::round::{Event, Failure};

use crate::fact::Fact;
use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::{self, Answer, Content, Happening, Paper, Party, Reply, Said, Words, agent};
use crate::world::World;

/// Every value is published again after this time, because the server's memory may be wiped.
const AGAIN: u64 = 6_000;

impl World {
    /// A message of an agent came. What its signer may not say changes nothing.
    pub(crate) fn heard(&mut self, c: usize, said: &Rc<Said>) {
        let Some(epoch) = self.coordinators[c].desk.as_ref().map(|desk| desk.epoch) else { return };
        let founding = Founding::get();
        let foreign =
            founding.agents[said.service] != said.signer || said.what == Words::Hello && said.epoch != epoch;
        let before = (foreign && self.calm_since.is_none()).then(|| self.stand_of(c));
        self.take(c, said);
        if let Some(before) = before {
            let changed = before != self.stand_of(c);
            self.facts.push(Fact::Foreign { what: format!("{said:?}"), changed });
            return;
        }
        if said.what != Words::Working && self.strikes(Fault::Doubled) {
            let before = self.stand_of(c);
            self.take(c, said);
            let changed = before != self.stand_of(c);
            self.facts.push(Fact::Twice { what: format!("{said:?}"), changed });
        }
    }

    fn take(&mut self, c: usize, said: &Rc<Said>) {
        let founding = Founding::get();
        if founding.agents[said.service] != said.signer {
            return;
        }
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        let (round, attempt) = (said.round, said.attempt);
        let service = founding.services[said.service].clone();
        let Some(seat) = desk.rounds.get_mut(&round).filter(|seat| !seat.finished) else {
            return self.answer_over(c, said);
        };
        let event = match &said.what {
            Words::Hello if said.epoch != desk.epoch => return,
            Words::Hello => {
                seat.hellos.insert(said.service, said.request);
                Event::Hello { service, attempt }
            }
            Words::Working => Event::Seen { service },
            Words::Notice(outcome) => {
                seat.notices.insert(said.service, said.request);
                match outcome {
                    NoticeOutcome::Stored { receipt, receipt_size, .. } => {
                        Event::Stored { service, attempt, receipt: *receipt, receipt_size: *receipt_size }
                    }
                    NoticeOutcome::Failed { code, reason, permanent } => {
                        let (code, reason, permanent) = (*code, reason.clone(), *permanent);
                        Event::Failed { service, attempt, failure: Failure { code, reason, permanent } }
                    }
                    NoticeOutcome::Quiesced => Event::Quiesced { service, attempt },
                    NoticeOutcome::Snapped { nonce } => Event::Snapped { service, attempt, nonce: *nonce },
                }
            }
        };
        self.tell(c, &round, event);
    }

    /// Nobody needs this round any more, or yet.
    fn answer_over(&mut self, c: usize, said: &Said) {
        let leads = self.coordinators[c].desk.as_ref().map_or(0, |desk| desk.epoch);
        let reply = match &said.what {
            Words::Hello if said.epoch != leads => return,
            Words::Hello => Reply::Welcome { attempt: None },
            Words::Working => return,
            Words::Notice(outcome) => {
                let receipt = match outcome {
                    NoticeOutcome::Stored { receipt, .. } => Some(*receipt),
                    NoticeOutcome::Failed { .. }
                    | NoticeOutcome::Quiesced
                    | NoticeOutcome::Snapped { .. } => None,
                };
                Reply::Acknowledgement { attempt: said.attempt, receipt, verdict: Verdict::Over }
            }
        };
        self.answer(c, said.service, said.round, said.request, reply);
    }

    fn answer(&mut self, c: usize, service: usize, round: RoundId, request: u64, reply: Reply) {
        let epoch = self.coordinators[c].desk.as_ref().map_or(0, |desk| desk.epoch);
        let answer = Answer { signer: self.coordinators[c].key, request, epoch, round, reply };
        let step = happening::Step::Agent(agent::Step::Answered(answer));
        let message = Happening::For(Party::Agent(service), self.agents[service].life, step);
        self.carry(Party::Coordinator(c), Party::Agent(service), &message);
    }

    pub(crate) fn welcome(&mut self, c: usize, id: RoundId, service: &ServiceName, attempt: Option<u32>) {
        let service = Founding::get().service(service);
        let seat = self.coordinators[c].desk.as_mut().and_then(|desk| desk.rounds.get_mut(&id));
        if let Some(request) = seat.and_then(|seat| seat.hellos.remove(&service)) {
            self.answer(c, service, id, request, Reply::Welcome { attempt });
        }
    }

    pub(crate) fn acknowledge(
        &mut self,
        c: usize,
        id: RoundId,
        service: &ServiceName,
        attempt: u32,
        receipt: Option<ObjectId>,
        verdict: Verdict,
    ) {
        let service = Founding::get().service(service);
        let seat = self.coordinators[c].desk.as_mut().and_then(|desk| desk.rounds.get_mut(&id));
        if let Some(request) = seat.and_then(|seat| seat.notices.remove(&service)) {
            self.answer(c, service, id, request, Reply::Acknowledgement { attempt, receipt, verdict });
        }
    }

    /// The numbers that the log gave the rounds.
    fn learn_positions(&mut self, c: usize) {
        let state = self.view_of(c);
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        for (id, seat) in desk.rounds.iter_mut().filter(|(_, seat)| seat.position == 0) {
            if let Some(logged) = state.rounds.get(id) {
                seat.open = logged.open.clone();
                seat.position = logged.position;
            }
        }
    }

    /// Publishes what agents should be doing now.
    pub(crate) fn publish(&mut self, c: usize) {
        self.learn_positions(c);
        let (now, signer) = (self.time_of(c), self.coordinators[c].key);
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        desk.revision += 1;
        let seats = desk.rounds.values().filter(|seat| seat.position > 0 && seat.machine.wants_slices());
        let rounds = seats
            .map(|seat| OpenRound {
                round: seat.open.round,
                position: seat.position,
                remaining_millis: u64::try_from(seat.machine.remaining(now).as_millis()).unwrap_or(u64::MAX),
                ephemeral: [0; 32],
                turn: seat.machine.turn(),
                cut: seat.machine.cut_order(),
            })
            .collect();
        let document = StateDocument { epoch: desk.epoch, revision: desk.revision, rounds };
        self.put_value(c, Paper { signer, content: Rc::new(Content::Fleet(document)) });
    }

    /// Asks a service for a further attempt.
    pub(crate) fn publish_retry(&mut self, c: usize, round: RoundId, service: ServiceName, attempt: u32) {
        let signer = self.coordinators[c].key;
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        desk.revision += 1;
        let order = ServiceState { epoch: desk.epoch, revision: desk.revision, service, round, attempt };
        self.put_value(c, Paper { signer, content: Rc::new(Content::Service(order)) });
    }

    fn put_value(&mut self, c: usize, paper: Paper) {
        if let Some(desk) = &mut self.coordinators[c].desk {
            desk.values.insert(paper.subject(), paper.clone());
        }
        self.send_value(c, paper);
    }

    fn send_value(&mut self, c: usize, paper: Paper) {
        let (from, lost) = (Party::Coordinator(c), self.strikes(Fault::Dropped));
        if lost || self.off_bus[from.index()] > self.now {
            if let Some(desk) = &mut self.coordinators[c].desk {
                desk.unpublished = true;
            }
            return;
        }
        let after = self.latency();
        self.after(after, Happening::Published(paper));
    }

    /// The publisher keeps at it until the server has its values, and says them again from time to time.
    pub(crate) fn publish_again(&mut self, c: usize) {
        let now = self.now;
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        if std::mem::take(&mut desk.unpublished) || now - desk.published_at >= AGAIN {
            desk.published_at = now;
            for paper in desk.values.values().cloned().collect::<Vec<_>>() {
                self.send_value(c, paper);
            }
        }
    }

    /// A value arrives at the bus, which tells whoever watches its subject.
    pub(crate) fn published(&mut self, paper: Paper) {
        let subject = paper.subject();
        self.last_values[subject] = Some(paper.clone());
        for a in 0..self.agents.len() {
            if self.agents[a].up && (subject == 0 || subject == a + 1) {
                let step = happening::Step::Agent(agent::Step::Document(paper.clone()));
                let message = Happening::For(Party::Agent(a), self.agents[a].life, step);
                self.carry(Party::Bus, Party::Agent(a), &message);
            }
        }
    }
}
