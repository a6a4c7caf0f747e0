//! A fleet in one thread from one seed: the round machine, the slice machines of its agents, a bus that loses, doubles
//! and reorders, agents and a coordinator that crash, and a share that fails. A seed that breaks a promise is printed;
//! `MUSTER_SEED=<it>` runs that seed alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::alert::Code;
use crate::document::{ManifestSlice, SliceStatus, SliceTotals};
use crate::ids::{KeyId, ObjectId, RoundId, ServiceName};
use crate::log::Outcome;
use crate::message::Verdict;
use crate::retry::{Attempts, Retry};
use crate::round::{self, CheckFailure, Failure, Start};
use crate::seeds::{Rng, each_seed};
use crate::service_policy::ServicePolicy;
use crate::slice::{self, Reported};
use crate::time::Time;

/// What a check finds of a whole slice.
pub(crate) fn checked_slice(service: &ServiceName, receipt: ObjectId) -> ManifestSlice {
    ManifestSlice {
        service: service.clone(),
        agent: KeyId::from_bytes([1; 32]),
        attempts: 0,
        receipt,
        receipt_size: 300,
        status: SliceStatus::Whole,
        totals: SliceTotals::default(),
        cut: None,
        timing: None,
        tries: Vec::new(),
    }
}

const ROUND: RoundId = RoundId::from_bytes([1; 16]);
const TICK: u64 = 3_000;
const DEADLINE: u64 = 600_000;
const GRACE: u64 = 120_000;

/// What makes a run hard. Nothing fails any more from `calm` on, but the dead stay dead.
#[derive(Debug)]
struct Faults {
    calm: u64,
    lost: u64,
    doubled: u64,
    agent_crash: u64,
    leader_crash: u64,
    share: u64,
    bad_slice: u64,
    dead: BTreeSet<usize>,
    attempts: Attempts,
}

#[derive(Debug, Clone)]
enum ToLeader {
    Hello { request: u64, attempt: u32 },
    Notice { attempt: u32, reported: Reported },
    Working,
}

#[derive(Debug, Clone)]
enum ToAgent {
    State,
    Welcome { request: u64, attempt: Option<u32> },
    Acknowledge { attempt: u32, verdict: Verdict },
}

#[derive(Debug, Clone)]
enum Action {
    Leader { epoch: u64, agent: usize, message: ToLeader },
    Agent { agent: usize, message: ToAgent },
    AgentTick(usize),
    HelloTimeout { agent: usize, request: u64 },
    NoticeTimeout(usize),
    Captured { agent: usize, capture: u64, fails: bool },
    Report { epoch: u64, event: round::Event },
    Wake,
    LeaderStarts,
}

#[derive(Debug)]
struct Agent {
    name: ServiceName,
    machine: slice::Machine,
    /// The hello that was said last: its answer is the only one that counts.
    request: u64,
    /// The capture that runs: those before it were stopped.
    capture: u64,
}

struct Leader {
    machine: round::Machine,
    requests: BTreeMap<usize, u64>,
    /// Receipts whose check passed under this leader.
    passed: BTreeSet<ObjectId>,
    manifest: Option<(ObjectId, Outcome, Vec<ManifestSlice>)>,
}

/// What the log says of the round.
#[derive(Debug, Default)]
struct Log {
    opened: Option<u64>,
    committed: Option<(Outcome, Vec<ManifestSlice>)>,
    verified: bool,
    ended: Option<Outcome>,
}

struct World {
    rng: Rng,
    faults: Faults,
    now: u64,
    queue: BTreeMap<(u64, u64), Action>,
    sequence: u64,
    agents: Vec<Agent>,
    leader: Option<Leader>,
    epoch: u64,
    leaders: u32,
    due: u64,
    log: Log,
    /// Receipts on the share: whose, for which attempt, and whether everything they name is there.
    share: BTreeMap<ObjectId, (usize, u32, bool)>,
    /// The last state document, and the retry orders beside it.
    open: bool,
    published: u64,
    orders: BTreeMap<usize, (u64, u32)>,
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = Rng(seed);
        let agents = ["dns", "identity", "secrets"].map(|name| Agent {
            name: name.parse().expect("a name"),
            machine: agent_machine(rng.next()),
            request: 0,
            capture: 0,
        });
        let mut world = Self {
            rng,
            faults,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            agents: agents.into(),
            leader: None,
            epoch: 0,
            leaders: 0,
            due: DEADLINE,
            log: Log::default(),
            share: BTreeMap::new(),
            open: false,
            published: 0,
            orders: BTreeMap::new(),
        };
        world.at(0, Action::LeaderStarts);
        for agent in 0..world.agents.len() {
            let first = world.rng.below(TICK);
            world.at(first, Action::AgentTick(agent));
        }
        world
    }

    /// Runs until the round is over, or panics when it is not by its deadline and the grace.
    fn run(mut self) -> Self {
        while self.log.ended.is_none() && !self.log.verified {
            let ((now, _), action) = self.queue.pop_first().expect("agents tick for ever");
            self.now = now;
            assert!(now <= self.due.max(self.faults.calm) + GRACE, "no end: {:?}", self.log);
            self.act(action);
            self.drain();
        }
        self
    }

    fn at(&mut self, after: u64, action: Action) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), action);
    }

    fn fault(&mut self, chance: u64) -> bool {
        self.now < self.faults.calm && self.rng.percent(chance)
    }

    fn carry(&mut self, action: &Action) {
        let copies = 1 + u64::from(self.fault(self.faults.doubled));
        for _ in 0..copies {
            if !self.fault(self.faults.lost) {
                let slow = if self.fault(20) { 20_000 } else { 300 };
                let after = self.rng.below(slow);
                self.at(after, action.clone());
            }
        }
    }

    fn act(&mut self, action: Action) {
        let now = Time(self.now);
        match action {
            Action::Leader { epoch, agent, message } => self.leader_hears(epoch, agent, message),
            Action::Agent { agent, message } => self.agent_hears(agent, message),
            Action::AgentTick(agent) => {
                self.at(TICK, Action::AgentTick(agent));
                if self.faults.dead.contains(&agent) {
                    return;
                }
                if self.fault(self.faults.agent_crash) {
                    let seed = self.rng.next();
                    self.agents[agent].machine = agent_machine(seed);
                    self.agents[agent].capture += 1;
                }
                self.agents[agent].machine.handle_timeout(now);
                self.read_state(agent);
                if self.agents[agent].machine.work().is_some() {
                    let epoch = self.published;
                    self.carry(&Action::Leader { epoch, agent, message: ToLeader::Working });
                }
            }
            Action::HelloTimeout { agent, request } if self.agents[agent].request == request => {
                self.agents[agent].machine.handle(slice::Event::HelloUnanswered, now);
            }
            Action::NoticeTimeout(agent) => {
                self.agents[agent].machine.handle(slice::Event::NoticeUnanswered, now);
            }
            Action::Captured { agent, capture, fails } if self.agents[agent].capture == capture => {
                let event = if fails {
                    let (code, reason) = (Code::Agent03, "source locked".to_owned());
                    slice::Event::CaptureFailed { round: ROUND, code, reason, permanent: false }
                } else {
                    slice::Event::Captured { round: ROUND }
                };
                self.agents[agent].machine.handle(event, now);
            }
            Action::Report { epoch, event } if epoch == self.epoch => {
                if let Some(leader) = &mut self.leader {
                    leader.machine.handle(event, now);
                }
            }
            Action::HelloTimeout { .. } | Action::Captured { .. } | Action::Report { .. } => {}
            Action::Wake => {
                if let Some(leader) = &mut self.leader {
                    leader.machine.handle_timeout(now);
                }
            }
            Action::LeaderStarts => self.lead(),
        }
    }

    /// A coordinator starts, or starts again, with nothing but the log.
    fn lead(&mut self) {
        self.epoch += 1;
        self.leaders += 1;
        let (seed, now) = (self.rng.next(), Time(self.now));
        // A successor restarts the deadline at most twice.
        if self.leaders <= 3 || self.log.opened.is_none() {
            self.due = self.now + DEADLINE;
        }
        let policy = round::Policy {
            deadline: Duration::from_millis(self.due.saturating_sub(self.now)),
            recruit: Duration::from_secs(15),
            offline_after: Duration::from_secs(20),
            retry: retry(self.faults.attempts),
            tier_wait: Duration::from_secs(60),
            cut: None,
        };
        let services = self.agents.iter().map(|agent| (agent.name.clone(), ServicePolicy::default()));
        let machine = match (&self.log.committed, self.log.opened) {
            (Some((outcome, slices)), _) => {
                round::Machine::verify(*outcome, slices.clone(), policy, seed, now)
            }
            (None, Some(_)) => round::Machine::start(Start::Resume, services, policy, seed, now),
            (None, None) => round::Machine::start(Start::Fresh, services, policy, seed, now),
        };
        let (requests, passed) = (BTreeMap::new(), BTreeSet::new());
        self.leader = Some(Leader { machine, requests, passed, manifest: None });
    }

    fn leader_hears(&mut self, epoch: u64, agent: usize, message: ToLeader) {
        let service = self.agents[agent].name.clone();
        let Some(leader) = self.leader.as_mut().filter(|_| epoch == self.epoch) else { return };
        let event = match message {
            ToLeader::Hello { request, attempt } => {
                leader.requests.insert(agent, request);
                round::Event::Hello { service, attempt }
            }
            ToLeader::Notice { attempt, reported: Reported::Stored { receipt, receipt_size, .. } } => {
                round::Event::Stored { service, attempt, receipt, receipt_size }
            }
            ToLeader::Notice { attempt, reported: Reported::Failed { code, reason, permanent } } => {
                round::Event::Failed { service, attempt, failure: Failure { code, reason, permanent } }
            }
            ToLeader::Working => round::Event::Seen { service },
        };
        leader.machine.handle(event, Time(self.now));
    }

    fn agent_hears(&mut self, agent: usize, message: ToAgent) {
        if self.faults.dead.contains(&agent) {
            return;
        }
        let now = Time(self.now);
        let target = &mut self.agents[agent];
        match message {
            ToAgent::State => self.read_state(agent),
            ToAgent::Welcome { request, attempt } if request == target.request => {
                target.request = 0;
                target.machine.handle(slice::Event::Welcomed { round: ROUND, attempt }, now);
            }
            ToAgent::Welcome { .. } => {}
            ToAgent::Acknowledge { attempt, verdict } => {
                target.machine.handle(slice::Event::Acknowledged { round: ROUND, attempt, verdict }, now);
            }
        }
    }

    fn read_state(&mut self, agent: usize) {
        let epoch = self.published;
        let attempt = match self.orders.get(&agent) {
            Some((ordered_by, attempt)) if *ordered_by == epoch => *attempt,
            Some(_) | None => 1,
        };
        let event = if self.open {
            slice::Event::Order { epoch, round: ROUND, attempt, turn: 0, cut: None }
        } else {
            slice::Event::NoOrder
        };
        self.agents[agent].machine.handle(event, Time(self.now));
    }

    fn drain(&mut self) {
        while let Some(effect) = self.leader.as_mut().and_then(|leader| leader.machine.poll_effect()) {
            let before = self.fault(self.faults.leader_crash);
            if !before {
                self.leader_effect(effect);
            }
            if before || self.fault(self.faults.leader_crash) {
                self.leader = None;
                let after = self.rng.below(20_000);
                self.at(after, Action::LeaderStarts);
            }
        }
        if let Some((due, _)) = self.leader.as_ref().and_then(|leader| leader.machine.poll_timeout()) {
            self.at(due.0.saturating_sub(self.now), Action::Wake);
        }
        for agent in 0..self.agents.len() {
            while let Some(effect) = self.agents[agent].machine.poll_effect() {
                self.agent_effect(agent, effect);
            }
        }
    }

    fn report(&mut self, event: round::Event) {
        let after = self.rng.below(2_000);
        self.at(after, Action::Report { epoch: self.epoch, event });
    }

    /// A stage that the share may refuse: nothing done, or done and not known to be.
    fn stage(&mut self, event: round::Event, done: impl FnOnce(&mut Self)) {
        let failed = self.fault(self.faults.share);
        if !failed || self.rng.percent(50) {
            done(self);
        }
        let reason = "share unreachable".to_owned();
        self.report(if failed { round::Event::StageFailed { reason } } else { event });
    }

    fn leader_effect(&mut self, effect: round::Effect) {
        use round::{Effect, Event};
        let index = |world: &Self, service: &ServiceName| {
            world.agents.iter().position(|agent| agent.name == *service).expect("a service of the fleet")
        };
        match effect {
            Effect::AppendOpen => self.stage(Event::Opened, |world| {
                world.log.opened.get_or_insert(world.now);
            }),
            Effect::Publish => {
                let leader = self.leader.as_ref().expect("it acts");
                assert!(self.log.opened.is_some(), "published before the open record");
                (self.open, self.published) = (leader.machine.wants_slices(), self.epoch);
                for agent in 0..self.agents.len() {
                    self.carry(&Action::Agent { agent, message: ToAgent::State });
                }
            }
            Effect::FindReceipts => {
                let found: Vec<_> = self.share.iter().map(|(id, found)| (*id, *found)).collect();
                for (receipt, (agent, attempt, _)) in found {
                    let service = self.agents[agent].name.clone();
                    self.report(Event::Stored { service, attempt, receipt, receipt_size: 300 });
                }
            }
            Effect::PublishRetry { service, attempt } => {
                let agent = index(self, &service);
                self.orders.insert(agent, (self.epoch, attempt));
                self.carry(&Action::Agent { agent, message: ToAgent::State });
            }
            Effect::Welcome { service, attempt } => {
                let agent = index(self, &service);
                let request = self.leader.as_ref().expect("it acts").requests[&agent];
                self.carry(&Action::Agent { agent, message: ToAgent::Welcome { request, attempt } });
            }
            Effect::Check { service, receipt, attempt, .. } => {
                let result = if self.fault(self.faults.share) {
                    Err(CheckFailure::Unavailable { reason: "share unreachable".to_owned() })
                } else {
                    match self.share.get(&receipt) {
                        Some((_, found, true)) if *found == attempt => Ok(checked_slice(&service, receipt)),
                        Some(_) | None => {
                            let (code, reason) = (Code::Agent03, "a pack is missing".to_owned());
                            Err(CheckFailure::Refused(Failure { code, reason, permanent: false }))
                        }
                    }
                };
                if result.is_ok() {
                    self.leader.as_mut().expect("it acts").passed.insert(receipt);
                }
                self.report(Event::Checked { service, receipt, result });
            }
            Effect::Acknowledge { service, attempt, verdict, .. } => {
                let agent = index(self, &service);
                self.carry(&Action::Agent { agent, message: ToAgent::Acknowledge { attempt, verdict } });
            }
            Effect::WriteManifest { outcome, slices, absent, .. } => {
                assert_eq!(outcome == Outcome::Complete, absent.is_empty());
                assert_eq!(slices.len() + absent.len(), self.agents.len());
                let manifest = ObjectId::of(&self.rng.next().to_be_bytes());
                let (leader, written) = (self.leader.as_mut().expect("it acts"), (manifest, outcome, slices));
                leader.manifest = Some(written);
                self.stage(Event::ManifestWritten { manifest, manifest_size: 500 }, |_| ());
            }
            Effect::AppendCommit { outcome, manifest, .. } => {
                let leader = self.leader.as_ref().expect("it acts");
                let written = leader.manifest.clone().filter(|(id, ..)| *id == manifest);
                let (_, written, slices) = written.expect("the manifest is there before its commit");
                assert_eq!(written, outcome);
                assert!(!slices.is_empty() && slices.iter().all(|s| leader.passed.contains(&s.receipt)));
                self.stage(Event::Committed, |world| {
                    world.log.committed.get_or_insert((outcome, slices));
                });
            }
            Effect::Reread { .. } => {
                assert!(self.log.committed.is_some(), "read again before the commit");
                self.stage(Event::Reread { objects: 1, bytes: 1 }, |_| ());
            }
            Effect::AppendVerified { .. } => self.stage(Event::VerifiedAppended, |world| {
                world.log.verified = true;
            }),
            Effect::AppendEnd { outcome, .. } => {
                assert!(self.log.committed.is_none(), "ends what is committed");
                self.stage(Event::EndAppended, |world| world.log.ended = Some(outcome));
            }
            Effect::Finished => {}
        }
    }

    fn agent_effect(&mut self, agent: usize, effect: slice::Effect) {
        let request = self.rng.next();
        match effect {
            slice::Effect::Hello { epoch, attempt, .. } => {
                self.agents[agent].request = request;
                self.carry(&Action::Leader { epoch, agent, message: ToLeader::Hello { request, attempt } });
                self.at(2_000, Action::HelloTimeout { agent, request });
            }
            slice::Effect::Capture { .. } => {
                self.agents[agent].capture += 1;
                let (capture, fails) = (self.agents[agent].capture, self.fault(self.faults.bad_slice));
                let after = 1_000 + self.rng.below(30_000);
                self.at(after, Action::Captured { agent, capture, fails });
            }
            slice::Effect::WriteReceipt { attempt, .. } => {
                let receipt = ObjectId::of(&request.to_be_bytes());
                let whole = !self.fault(self.faults.bad_slice);
                self.share.insert(receipt, (agent, attempt, whole));
                let (round, receipt_size, totals) = (ROUND, 300, SliceTotals::default());
                let event = slice::Event::ReceiptWritten { round, attempt, receipt, receipt_size, totals };
                self.agents[agent].machine.handle(event, Time(self.now));
            }
            slice::Effect::Notice { epoch, attempt, reported, .. } => {
                self.carry(&Action::Leader { epoch, agent, message: ToLeader::Notice { attempt, reported } });
                self.at(2_000, Action::NoticeTimeout(agent));
            }
            slice::Effect::Quiesce { .. } | slice::Effect::Release { .. } | slice::Effect::Tell { .. } => {
                panic!("no cut was ordered")
            }
            slice::Effect::Drop { .. } => self.agents[agent].capture += 1,
            slice::Effect::Keep { receipt, .. } => assert!(self.share.contains_key(&receipt)),
        }
    }
}

fn retry(attempts: Attempts) -> Retry {
    Retry::new(Duration::from_secs(1), Duration::from_secs(10), attempts).expect("a policy")
}

fn agent_machine(seed: u64) -> slice::Machine {
    slice::Machine::start(slice::Policy { resend: retry(Attempts::Unlimited), hooks: false }, seed)
}

fn faults(seed: u64, attempts: Attempts) -> Faults {
    // Of other numbers than the world's own.
    let mut rng = Rng(!seed);
    Faults {
        calm: rng.below(200_000),
        lost: rng.below(40),
        doubled: rng.below(40),
        agent_crash: rng.below(15),
        leader_crash: rng.below(4),
        share: rng.below(40),
        bad_slice: rng.below(50),
        dead: BTreeSet::new(),
        attempts,
    }
}

/// Invariants 1, 8, 16 and 17, and the promise that a round is complete once faults stop.
#[test]
fn once_faults_stop_the_round_is_complete_and_verified() {
    each_seed(3_000, |seed| {
        let world = World::new(seed, faults(seed, Attempts::Unlimited)).run();
        let outcome = world.log.committed.as_ref().map(|(outcome, _)| *outcome);
        assert_eq!((outcome, world.log.verified, world.log.ended), (Some(Outcome::Complete), true, None));
    });
}

/// Invariants 1, 3, 8, 16 and 17 with few attempts and agents that never come back.
#[test]
fn with_dead_agents_and_few_attempts_the_round_still_ends() {
    let mut ends = BTreeSet::new();
    each_seed(3_000, |seed| {
        let mut faults = faults(seed, Attempts::AtMost(3));
        faults.dead = (0..3).filter(|agent| seed >> agent & 1 == 1).collect();
        let dead = faults.dead.len();
        let world = World::new(seed, faults).run();
        match &world.log.committed {
            Some((outcome, slices)) => {
                assert!(slices.len() <= 3 - dead && (*outcome == Outcome::Complete) == (slices.len() == 3));
                ends.insert(outcome.as_str());
            }
            None => assert_eq!(world.log.ended, Some(Outcome::Failed)),
        }
        ends.extend(world.log.ended.map(Outcome::as_str));
    });
    if std::env::var_os("MUSTER_SEED").is_none() {
        assert_eq!(ends.into_iter().collect::<Vec<_>>(), ["complete", "failed", "partial"]);
    }
}
