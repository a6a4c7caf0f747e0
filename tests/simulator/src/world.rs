//! The world: everything that there is, its one clock, and the queue of what will happen.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::lead::Lease;

use crate::agent::Agent;
use crate::coordinator::Coordinator;
use crate::fact::Fact;
use crate::fault::{Fault, Tally};
use crate::founding::Founding;
use crate::happening::{Happening, Paper, Party, Request, Step, Wanted};
use crate::hold::Hold;
use crate::plan::{Plan, TAKEOVER};
use crate::planted::Planted;
use crate::pruner::{Pruner, Scope};
use crate::rng::Rng;
use crate::share::Share;

/// Messages that may come again.
const REMEMBERED_MESSAGES: usize = 24;

/// Everything that there is.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) planted: Option<Planted>,
    /// Milliseconds since the beginning; nobody can make it jump.
    pub(crate) now: u64,
    /// From here on nothing fails any more.
    pub(crate) calm_since: Option<u64>,
    pub(crate) events: u64,
    queue: BinaryHeap<Scheduled>,
    sequence: u64,
    pub(crate) share: Share,
    /// The bus's last values: of the fleet's subject, then of each service's.
    pub(crate) last_values: Vec<Option<Paper>>,
    /// The lease and its revision.
    pub(crate) lease: Option<(u64, Lease)>,
    pub(crate) revisions: u64,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) agents: Vec<Agent>,
    /// What each service is held by.
    pub(crate) holds: Vec<Option<Hold>>,
    pub(crate) sequence_of_holds: u64,
    pub(crate) pruner: Pruner,
    /// Until when each party is cut off from the bus, and from the share.
    pub(crate) off_bus: [u64; Party::COUNT],
    pub(crate) off_share: [u64; Party::COUNT],
    /// When the last message from one party to another is due.
    due: [[u64; Party::COUNT]; Party::COUNT],
    pub(crate) history: VecDeque<(Party, Happening)>,
    pub(crate) requests: u64,
    /// The round that is wanted once everything has come to rest.
    pub(crate) last_round: Option<RoundId>,
    /// Set when a prune is wanted: then it is worth a look.
    pub(crate) look_whether_at_rest: bool,
    /// When each round's `open` record was written.
    pub(crate) opened: BTreeMap<RoundId, u64>,
    /// Receipts that a prune has deleted.
    pub(crate) deleted_receipts: BTreeSet<ObjectId>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) tally: Tally,
    pub(crate) trace: Option<Vec<String>>,
}

struct Scheduled {
    due: u64,
    sequence: u64,
    happening: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    // The heap's greatest is the one that comes first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

/// How a call of the share goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Done,
    /// Nothing was done.
    Refused,
    /// It is done, and its caller is told that it is not.
    Unknown,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Planted>, traced: bool) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6d75_7374_6572);
        let plan = Plan::new(&mut rng);
        let founding = Founding::get();
        let coordinators = (0..plan.coordinators).map(|c| Coordinator::new(founding.coordinators[c]));
        let coordinators = coordinators.collect();
        let services = founding.services.len();
        let agents = (0..services).map(|a| Agent::new(a, plan.services[a].0)).collect();
        let mut world = Self {
            rng,
            plan,
            planted,
            now: 0,
            calm_since: None,
            events: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            share: Share::new(founding.state()),
            last_values: vec![None; services + 1],
            lease: None,
            revisions: 0,
            coordinators,
            agents,
            holds: (0..services).map(|_| None).collect(),
            sequence_of_holds: 0,
            pruner: Pruner::default(),
            off_bus: [0; Party::COUNT],
            off_share: [0; Party::COUNT],
            due: [[0; Party::COUNT]; Party::COUNT],
            history: VecDeque::new(),
            requests: 0,
            last_round: None,
            look_whether_at_rest: false,
            opened: BTreeMap::new(),
            deleted_receipts: BTreeSet::new(),
            facts: Vec::new(),
            tally: Tally::default(),
            trace: traced.then(Vec::new),
        };
        for c in 0..world.plan.coordinators {
            let after = world.rng.below(1_500);
            world.after(after, Happening::Start(Party::Coordinator(c)));
        }
        for a in 0..services {
            let after = world.rng.below(1_500);
            world.after(after, Happening::Start(Party::Agent(a)));
        }
        world.after(2_500, Happening::Start(Party::Pruner));
        world.after(2_000, Happening::Mischief);
        let first = Wanted::Round { request: 0, services: None };
        world.after(1_500, Happening::Wanted(first));
        world.after(9_000, Happening::Wanted(Wanted::Prune));
        world.after(8_000, Happening::Wanted(Wanted::Restore));
        world.after(12_000, Happening::Wanted(Wanted::Hold));
        world
    }

    pub(crate) fn after(&mut self, millis: u64, happening: Happening) {
        self.sequence += 1;
        let (due, sequence) = (self.now + millis, self.sequence);
        self.queue.push(Scheduled { due, sequence, happening });
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) {
        let Some(Scheduled { due, happening, .. }) = self.queue.pop() else { return };
        self.now = due;
        // A stopped process takes it when it goes on, in the order in which it came.
        if let Happening::For(party, life, _) = &happening
            && let Some(until) = self.stopped(*party, *life)
        {
            self.after(until - self.now, happening);
            return;
        }
        self.events += 1;
        if self.trace.is_some() {
            self.note(|_| format!("{happening:?}"));
        }
        match happening {
            Happening::Mischief => self.mischief(),
            Happening::Wanted(wanted) => self.wanted(wanted),
            Happening::Start(party) => self.start(party),
            Happening::For(party, life, step) => self.act(party, life, step),
            Happening::Arrives(party, life, request) => self.arrives(party, life, request),
            Happening::Published(paper) => self.published(paper),
            Happening::Leased { coordinator, life, asked, write } => {
                self.leased(coordinator, life, asked, write);
            }
            Happening::Watchdog { service, hold } => self.watchdog(service, hold),
        }
    }

    fn act(&mut self, party: Party, life: u32, step: Step) {
        match (party, step) {
            (Party::Coordinator(c), Step::Coordinator(step)) if self.coordinators[c].life == life => {
                self.coordinator_step(c, step);
            }
            (Party::Agent(a), Step::Agent(step)) if self.agents[a].life == life => self.agent_step(a, step),
            (Party::Pruner, Step::Pruner { tick }) if self.pruner.life == life => self.pruner_step(tick),
            (Party::Coordinator(_) | Party::Agent(_) | Party::Pruner | Party::Bus, _) => {}
        }
    }

    fn start(&mut self, party: Party) {
        match party {
            Party::Coordinator(c) => self.coordinator_starts(c),
            Party::Agent(a) => self.agent_starts(a),
            Party::Pruner => self.pruner_starts(),
            Party::Bus => {}
        }
    }

    fn arrives(&mut self, party: Party, life: u32, request: Request) {
        match request {
            Request::Append { view, entry, round } => self.append_arrives(party, life, view, entry, round),
            Request::Manifest { id, epoch, manifest } => {
                self.manifest_arrives(party, life, id, epoch, manifest);
            }
            Request::Receipt { ticket, id, receipt } => {
                self.receipt_arrives(party, life, ticket, id, receipt)
            }
            Request::List { id, objects, entry } => self.list_arrives(life, id, objects, entry),
        }
    }

    /// Until when this life of a process is stopped, if it is.
    fn stopped(&self, party: Party, life: u32) -> Option<u64> {
        let (current, until) = match party {
            Party::Coordinator(c) => (self.coordinators[c].life, self.coordinators[c].stopped_until),
            Party::Agent(a) => (self.agents[a].life, self.agents[a].stopped_until),
            Party::Pruner | Party::Bus => return None,
        };
        (current == life && until > self.now).then_some(until)
    }

    /// Whether this fault strikes here and now.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let rate = self.plan.rate(fault);
        let strikes = self.calm_since.is_none() && rate > 0 && self.rng.per_mille(rate);
        if strikes {
            self.struck(fault);
        }
        strikes
    }

    /// Whether a process dies between two effects, by this fault's usual rate.
    pub(crate) fn dies(&mut self, fault: Fault) -> bool {
        let spared = self.plan.rate(fault) == 0 || self.calm_since.is_some();
        let dies = !spared && self.rng.per_mille(fault.usual());
        if dies {
            self.struck(fault);
        }
        dies
    }

    pub(crate) fn struck(&mut self, fault: Fault) {
        self.tally.count(fault);
        self.note(|_| format!("  fault: {fault:?}"));
    }

    pub(crate) fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>9.3} {}", self.now as f64 / 1000.0, text(self));
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
    }

    /// How a call of the share goes for a party.
    pub(crate) fn call(&mut self, party: Party) -> Call {
        if self.off_share[party.index()] > self.now || self.strikes(Fault::ShareRefused) {
            Call::Refused
        } else if self.strikes(Fault::AnswerLost) {
            Call::Unknown
        } else {
            Call::Done
        }
    }

    /// How long a message or call is under way.
    pub(crate) fn latency(&mut self) -> u64 {
        self.rng.between(5, 60)
    }

    /// What a reader takes to be the length of the log; none when it cannot be read, or is shorter than its disk knows.
    pub(crate) fn read_log(&mut self, party: Party, remembered: usize) -> Option<usize> {
        if self.call(party) != Call::Done {
            return None;
        }
        let mut view = self.share.len();
        if self.strikes(Fault::StaleLog) {
            view = view.saturating_sub(self.rng.index(3) + 1);
        }
        if view < remembered {
            self.note(|_| format!("  {party:?} refuses a log of {view} records, it knows of {remembered}"));
            return None;
        }
        self.facts.push(Fact::Read { party, view });
        Some(view)
    }

    /// Carries a message over the bus, as far as the bus does.
    pub(crate) fn carry(&mut self, from: Party, to: Party, message: &Happening) {
        if self.off_bus[from.index()] > self.now {
            return;
        }
        if self.calm_since.is_none() && self.plan.rate(Fault::Replayed) > 0 {
            self.history.push_back((to, message.clone()));
            if self.history.len() > REMEMBERED_MESSAGES {
                self.history.pop_front();
            }
        }
        let copies = 1 + u64::from(self.strikes(Fault::Doubled));
        for _ in 0..copies {
            if self.strikes(Fault::Dropped) {
                continue;
            }
            let mut after = self.latency();
            if self.strikes(Fault::Delayed) {
                after += self.rng.between(200, 9_000);
            }
            let due = self.now + after;
            let last = &mut self.due[from.index()][to.index()];
            if *last > due {
                self.tally.count(Fault::Reordered);
            }
            *last = (*last).max(due);
            if self.off_bus[to.index()] <= due {
                self.after(after, message.clone());
            }
        }
    }

    /// Whether faults have stopped, and nothing is left to do: no round is open, every machine has finished, and nothing
    /// is there that a prune would delete.
    pub(crate) fn at_rest(&mut self) -> bool {
        // What was under way when faults stopped has arrived by then.
        let settled = self.calm_since.is_some_and(|calm| self.now > calm + TAKEOVER);
        if !settled || !std::mem::take(&mut self.look_whether_at_rest) {
            return false;
        }
        let state = std::rc::Rc::clone(self.share.truth());
        let open = state.rounds.values().any(|round| round.outcome().is_none());
        let swept = state.prunes.is_empty() && state.sweeps.values().all(|(_, done)| *done);
        let desks = self.coordinators.iter().filter_map(|it| it.desk.as_ref());
        let mut seats = desks.clone().flat_map(|desk| desk.rounds.values());
        let busy = seats.any(|seat| !seat.finished) || desks.clone().any(|desk| !desk.waiting.is_empty());
        // A leader that does not know yet that it was deposed takes requests, too.
        let epoch = state.epoch.map(|epoch| epoch.epoch);
        let led = desks.clone().count() == 1 && desks.clone().all(|desk| Some(desk.epoch) == epoch);
        // One that never comes back is stopped for ever.
        let awake = |until: u64| until <= self.now || until == u64::MAX;
        let awake = self.agents.iter().all(|agent| awake(agent.stopped_until))
            && self.coordinators.iter().all(|it| it.up && awake(it.stopped_until));
        awake
            && !open
            && swept
            && !busy
            && led
            && self.waste(&state, Scope::Due).is_some_and(|waste| !self.is_worth_it(&waste))
    }
}
