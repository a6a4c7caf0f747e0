//! What an agent says to the leader, and which answers it takes.

use std::rc::Rc;

use muster_protocol::ids::{Nonce, RoundId};
use muster_protocol::message::{NoticeOutcome, Verdict};
use muster_protocol::slice::{Event, Reported, Standing};

use crate::fact::Fact;
use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::agent::Step;
use crate::happening::{self, Answer, Happening, Party, Reply, Said, Words, coordinator};
use crate::world::World;

/// Longest wait for a welcome, and for an acknowledgement.
const HELLO: u64 = 2_000;
const NOTICE: u64 = 3_000;

/// A question that waits for its answer.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    request: u64,
    round: RoundId,
    about: About,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Hello,
    Standing,
    Notice,
}

impl World {
    pub(crate) fn hello(&mut self, a: usize, round: RoundId, attempt: u32) {
        self.ask(a, round, attempt, About::Hello, Words::Hello, HELLO);
    }

    pub(crate) fn tell_standing(&mut self, a: usize, round: RoundId, attempt: u32, standing: Standing) {
        let outcome = match standing {
            Standing::Quiesced => NoticeOutcome::Quiesced,
            Standing::Snapped { nonce } => NoticeOutcome::Snapped { nonce },
        };
        self.ask(a, round, attempt, About::Standing, Words::Notice(outcome), NOTICE);
    }

    pub(crate) fn notice(&mut self, a: usize, round: RoundId, attempt: u32, reported: Reported) {
        let outcome = match reported {
            Reported::Stored { receipt, receipt_size, totals } => {
                self.facts.push(Fact::Noticed { receipt });
                NoticeOutcome::Stored { receipt, receipt_size, totals }
            }
            Reported::Failed { code, reason, permanent } => NoticeOutcome::Failed { code, reason, permanent },
        };
        self.ask(a, round, attempt, About::Notice, Words::Notice(outcome), NOTICE);
    }

    /// Begins a conversation; the one before, if any, is over.
    fn ask(&mut self, a: usize, round: RoundId, attempt: u32, about: About, words: Words, limit: u64) {
        let request = self.rng.next();
        self.agents[a].talk = Some(Talk { request, round, about });
        self.say(a, round, attempt, request, words);
        self.for_agent(a, limit, Step::Unanswered { request });
    }

    /// Says something to whoever leads, or believes that it does.
    pub(crate) fn say(&mut self, a: usize, round: RoundId, attempt: u32, request: u64, what: Words) {
        let Some(order) = self.agents[a].order.as_ref().filter(|order| order.round == round) else {
            let what = format!("agent {a} works for a round that nobody ordered");
            return self.facts.push(Fact::Impossible { what });
        };
        let (signer, epoch) = (Founding::get().agents[a], order.epoch);
        let said = Rc::new(Said { signer, service: a, epoch, round, attempt, request, what });
        for c in 0..self.coordinators.len() {
            if self.coordinators[c].desk.is_some() {
                let step = happening::Step::Coordinator(coordinator::Step::Heard(Rc::clone(&said)));
                let message = Happening::For(Party::Coordinator(c), self.coordinators[c].life, step);
                self.carry(Party::Agent(a), Party::Coordinator(c), &message);
            }
        }
    }

    /// An answer counts only when the leader of the order gave it, to the question that is open.
    pub(crate) fn answered(&mut self, a: usize, answer: &Answer) {
        let order = self.agents[a].order.as_ref();
        let leader = order.map(|order| (order.leader, order.epoch, order.round));
        let open = self.agents[a].talk.clone().filter(|talk| talk.request == answer.request);
        let foreign = leader != Some((answer.signer, answer.epoch, answer.round)) || open.is_none();
        let before = foreign.then(|| self.stand_of_agent(a));
        if let Some(talk) = open.filter(|_| !foreign) {
            self.agents[a].talk = None;
            self.take_answer(a, &talk, answer.reply.clone());
            if self.strikes(Fault::Doubled) {
                let before = self.stand_of_agent(a);
                self.answered(a, answer);
                let changed = before != self.stand_of_agent(a);
                self.facts.push(Fact::Twice { what: format!("{answer:?}"), changed });
            }
        }
        if let Some(before) = before {
            let changed = before != self.stand_of_agent(a);
            self.facts.push(Fact::Foreign { what: format!("{answer:?}"), changed });
        }
    }

    fn take_answer(&mut self, a: usize, talk: &Talk, reply: Reply) {
        let round = talk.round;
        match (talk.about, reply) {
            (About::Hello, Reply::Welcome { attempt }) => {
                self.tell_slice(a, Event::Welcomed { round, attempt });
            }
            (About::Standing, Reply::Acknowledgement { attempt, .. }) => {
                self.tell_slice(a, Event::StandingNoted { round, attempt });
            }
            (About::Notice, Reply::Acknowledgement { attempt, receipt, verdict }) => {
                if let (Verdict::Refused { .. }, Some(receipt)) = (&verdict, receipt) {
                    self.give_packs_up(a, &receipt);
                }
                self.tell_slice(a, Event::Acknowledged { round, attempt, verdict });
            }
            (About::Hello, Reply::Acknowledgement { .. })
            | (About::Standing | About::Notice, Reply::Welcome { .. }) => {}
        }
    }

    pub(crate) fn unanswered(&mut self, a: usize, request: u64) {
        let Some(talk) = self.agents[a].talk.take_if(|talk| talk.request == request) else { return };
        let event = match talk.about {
            About::Hello => Event::HelloUnanswered,
            About::Standing => Event::StandingUnanswered,
            About::Notice => Event::NoticeUnanswered,
        };
        self.tell_slice(a, event);
    }

    /// The nonce that a receipt of this attempt must have.
    pub(crate) fn attempt_nonce(&self, a: usize, round: RoundId, attempt: u32) -> Option<Nonce> {
        let order = self.agents[a].order.as_ref().filter(|order| order.round == round)?;
        Some(order.nonce.for_attempt(&Founding::get().services[a], attempt))
    }
}
