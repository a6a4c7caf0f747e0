//! An agent: the event loop around the slice machine, as `agent/src/daemon/event_loop` has it.

mod belief;
mod capture;
mod talk;

use std::rc::Rc;

use muster_protocol::ids::ObjectId;
use muster_protocol::log::{RoundPhase, State};
use muster_protocol::slice::{Effect, Event, Machine, Policy};
use muster_protocol::time::Time;

use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::agent::Step;
use crate::happening::{self, Happening, Paper, Party, Words};
use crate::plan::Plan;
use crate::world::World;

use belief::{Beliefs, Order, Wish};
use capture::{Cache, Capture};
use talk::Talk;

/// Between two readings of log and last values, and between two heartbeats.
const TICK: u64 = 3_000;

/// An agent's process and what its disk keeps.
pub(crate) struct Agent {
    hooks: bool,
    pub(crate) up: bool,
    pub(crate) life: u32,
    pub(crate) stopped_until: u64,
    origin: u64,
    /// Records that its disk knows of.
    pub(crate) remembered: usize,
    /// Records that this process has read; none before the first reading.
    view: Option<usize>,
    pub(crate) machine: Machine,
    beliefs: Beliefs,
    order: Option<Order>,
    talk: Option<Talk>,
    capture: Option<Capture>,
    tickets: u64,
    /// Whether a reading of the log is under way.
    reading: bool,
    cache: Cache,
    wake_at: Option<u64>,
}

impl Agent {
    pub(crate) fn new(a: usize, hooks: bool) -> Self {
        Self {
            hooks,
            up: false,
            life: 0,
            stopped_until: 0,
            origin: 0,
            remembered: 0,
            view: None,
            machine: Machine::start(policy(hooks), a as u64),
            beliefs: Beliefs::default(),
            order: None,
            talk: None,
            capture: None,
            tickets: 0,
            reading: false,
            cache: Cache::default(),
            wake_at: None,
        }
    }
}

fn policy(hooks: bool) -> Policy {
    Policy { resend: Plan::resend(), hooks }
}

impl World {
    pub(crate) fn agent_starts(&mut self, a: usize) {
        let (now, seed) = (self.now, self.rng.next());
        let it = &mut self.agents[a];
        if it.up {
            return;
        }
        (it.up, it.origin, it.view, it.wake_at) = (true, now, None, None);
        it.life += 1;
        it.machine = Machine::start(policy(it.hooks), seed);
        (it.beliefs, it.order, it.talk, it.capture) = (Beliefs::default(), None, None, None);
        it.reading = false;
        self.for_agent(a, 5, Step::Tick);
    }

    pub(crate) fn agent_dies(&mut self, a: usize) {
        if !self.agents[a].up {
            return;
        }
        self.agents[a].up = false;
        self.agents[a].life += 1;
        if self.strikes(Fault::AgentStateLost) {
            self.agents[a].remembered = 0;
            self.agents[a].cache = Cache::default();
            self.facts.push(crate::fact::Fact::Forgot { party: Party::Agent(a) });
        }
        if self.strikes(Fault::AgentGone) {
            self.agents[a].stopped_until = u64::MAX;
            return;
        }
        let after = self.rng.between(200, 8_000);
        self.after(after, Happening::Start(Party::Agent(a)));
    }

    pub(crate) fn for_agent(&mut self, a: usize, after: u64, step: Step) {
        let life = self.agents[a].life;
        self.after(after, Happening::For(Party::Agent(a), life, happening::Step::Agent(step)));
    }

    pub(crate) fn agent_step(&mut self, a: usize, step: Step) {
        match step {
            Step::Tick => self.tick(a),
            Step::Wake => {
                self.agents[a].wake_at = None;
                let now = self.time_of_agent(a);
                self.agents[a].machine.handle_timeout(now);
            }
            Step::Document(paper) => self.document(a, paper),
            Step::Read { fetch } => self.read_on(a, fetch),
            Step::Answered(answer) => self.answered(a, &answer),
            Step::Unanswered { request } => self.unanswered(a, request),
            Step::Hooked { hold, fails } => self.hooked(a, hold, fails),
            Step::HoldOver { round, hung } => self.hold_over(a, round, hung),
            Step::Captured { ticket, last } => self.captured(a, ticket, last),
            Step::Receipted { ticket, round, attempt, receipt, there } => {
                self.receipted(a, ticket, round, attempt, receipt, there);
            }
        }
        self.carry_out_slice(a);
    }

    fn tick(&mut self, a: usize) {
        self.for_agent(a, TICK, Step::Tick);
        self.begin_reading(a, true);
        if let Some((round, attempt)) = self.agents[a].machine.work() {
            self.say(a, round, attempt, 0, Words::Working);
        }
    }

    fn document(&mut self, a: usize, paper: Paper) {
        let log = self.agent_view(a);
        let foreign = !log.is_coordinator(&paper.signer)
            || log.epoch.is_some_and(|current| paper.age().0 < current.epoch);
        let stand = |it: &Self| (it.stand_of_agent(a), it.agents[a].beliefs.wants_reading());
        let before = (foreign && self.calm_since.is_none()).then(|| stand(self));
        if self.agents[a].beliefs.arrive(paper, &log) {
            self.begin_reading(a, false);
        }
        if let Some(before) = before {
            let changed = before != stand(self);
            let what = "a document of nobody who leads".to_owned();
            self.facts.push(crate::fact::Fact::Foreign { what, changed });
        }
    }

    fn begin_reading(&mut self, a: usize, fetch: bool) {
        if std::mem::replace(&mut self.agents[a].reading, true) {
            return;
        }
        self.agents[a].beliefs.begin_reading();
        let after = self.latency();
        self.for_agent(a, after, Step::Read { fetch });
    }

    fn read_on(&mut self, a: usize, fetch: bool) {
        self.agents[a].reading = false;
        let party = Party::Agent(a);
        let known = self.agents[a].view.unwrap_or(0).max(self.agents[a].remembered);
        match self.read_log(party, known) {
            Some(view) => {
                (self.agents[a].view, self.agents[a].remembered) = (Some(view), view);
                self.judge(a);
            }
            None => self.agents[a].beliefs.reading_failed(),
        }
        if fetch && self.off_bus[party.index()] <= self.now && !self.strikes(Fault::Dropped) {
            // The retry first, so that the round's document finds its attempt known.
            for subject in [a + 1, 0] {
                if let Some(paper) = self.last_values[subject].clone() {
                    let log = self.agent_view(a);
                    self.agents[a].beliefs.arrive(paper, &log);
                }
            }
        }
        // What failed waits for the next tick, so that nothing spins.
        if self.agents[a].beliefs.wants_reading() && fetch {
            self.begin_reading(a, false);
        }
    }

    fn judge(&mut self, a: usize) {
        let log = self.agent_view(a);
        let behind = self.agents[a].beliefs.judge(&log);
        self.follow(a, &log);
        if behind || self.agents[a].beliefs.is_ahead(&log) {
            let after = self.rng.between(300, 900);
            self.agents[a].reading = true;
            self.agents[a].beliefs.begin_reading();
            self.for_agent(a, after, Step::Read { fetch: true });
        }
    }

    /// Does what is wished, as the log stands.
    fn follow(&mut self, a: usize, log: &State) {
        let service = &Founding::get().services[a];
        match self.agents[a].beliefs.wish(log, service) {
            Wish::Slice(order) => {
                let Order { epoch, round, attempt, turn, cut, .. } = order;
                self.agents[a].order = Some(order);
                self.tell_slice(a, Event::Order { epoch, round, attempt, turn, cut });
            }
            Wish::Nothing => self.drop_order(a),
            Wish::Unknown => {
                let over = |order: &Order| {
                    log.rounds.get(&order.round).is_some_and(|state| state.phase != RoundPhase::Open)
                };
                if self.agents[a].order.as_ref().is_some_and(over) {
                    self.drop_order(a);
                }
            }
        }
    }

    fn drop_order(&mut self, a: usize) {
        self.agents[a].order = None;
        self.tell_slice(a, Event::NoOrder);
    }

    pub(crate) fn tell_slice(&mut self, a: usize, event: Event) {
        let now = self.time_of_agent(a);
        self.agents[a].machine.handle(event, now);
    }

    fn carry_out_slice(&mut self, a: usize) {
        while let Some(effect) = self.agents[a].machine.poll_effect() {
            if self.dies(Fault::AgentCrashed) {
                return self.agent_dies(a);
            }
            self.note(|_| format!("  agent {a}: {effect:?}"));
            match effect {
                Effect::Hello { round, attempt, .. } => self.hello(a, round, attempt),
                Effect::Quiesce { round } => self.quiesce(a, round),
                Effect::Release { .. } => self.release(a),
                Effect::Tell { round, attempt, standing, .. } => {
                    self.tell_standing(a, round, attempt, standing)
                }
                Effect::Capture { round } => self.capture(a, round),
                Effect::WriteReceipt { round, attempt, cut } => self.write_receipt(a, round, attempt, cut),
                Effect::Notice { round, attempt, reported, .. } => self.notice(a, round, attempt, reported),
                Effect::Drop { .. } => (self.agents[a].capture, self.agents[a].talk) = (None, None),
                Effect::Keep { receipt, .. } => self.keep(a, receipt),
            }
        }
        let it = &self.agents[a];
        if let Some((due, _)) = it.machine.poll_timeout() {
            let due = (due.0 + it.origin).max(self.now);
            if it.wake_at.is_none_or(|at| at > due) {
                self.agents[a].wake_at = Some(due);
                self.for_agent(a, due - self.now, Step::Wake);
            }
        }
    }

    fn keep(&mut self, a: usize, receipt: ObjectId) {
        if let Some(kept) = self.share.receipt(&receipt).cloned() {
            self.agents[a].cache.keep(&kept);
        }
    }

    fn time_of_agent(&self, a: usize) -> Time {
        Time(self.now - self.agents[a].origin)
    }

    /// What the agent has read of the log; nothing but the founding before its first reading.
    fn agent_view(&self, a: usize) -> Rc<State> {
        Rc::clone(self.share.state(self.agents[a].view.unwrap_or(0)))
    }

    /// How far the agent is, to compare.
    pub(crate) fn stand_of_agent(&self, a: usize) -> String {
        format!("{:?} {:?}", self.agents[a].machine.phase(), self.agents[a].machine.work())
    }
}
