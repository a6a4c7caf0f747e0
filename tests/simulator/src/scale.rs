//! One round of very many agents: the real machines, a bus that loses one message in a hundred, and nothing else.

use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::document::{ManifestSlice, SliceStatus, SliceTotals};
use muster_protocol::ids::{KeyId, ObjectId, RoundId, ServiceName};
use muster_protocol::log::Outcome;
use muster_protocol::message::Verdict;
use muster_protocol::retry::{Attempts, Retry};
use muster_protocol::round::{self, Failure, Start};
use muster_protocol::service_policy::ServicePolicy;
use muster_protocol::slice::{self, Reported};
use muster_protocol::time::Time;

use crate::rng::Rng;

const ROUND: RoundId = RoundId::from_bytes([1; 16]);
/// Messages in a hundred that are lost.
const LOST: u64 = 1;
/// Captures in a thousand that fail.
const FAILS: u64 = 5;

/// What a round of many agents came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Slices in its manifest.
    pub slices: usize,
    /// Events that it took.
    pub events: u64,
    /// Simulated milliseconds that it took.
    pub millis: u64,
}

#[derive(Debug, Clone)]
enum Happening {
    ToLeader(round::Event),
    ToAgent(u32, slice::Event),
    AgentWakes(u32),
    LeaderWakes,
}

/// By time, then in the order of sending.
type Due = std::cmp::Reverse<(u64, u64)>;

struct Fleet {
    rng: Rng,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<(Due, usize)>,
    happenings: BTreeMap<usize, Happening>,
    leader: round::Machine,
    agents: Vec<slice::Machine>,
    numbers: BTreeMap<ServiceName, u32>,
    names: Vec<ServiceName>,
    wake_at: Option<u64>,
    slices: usize,
}

/// Lets a round of this many agents run to its end.
#[must_use]
pub fn round_of(agents: u32, seed: u64) -> Scale {
    let secs = Duration::from_secs;
    let retry = |attempts| Retry::new(secs(5), secs(60), attempts).expect("these delays are in order");
    let names: Vec<ServiceName> =
        (0..agents).map(|n| format!("s{n:06}").parse().expect("a service's name")).collect();
    let policy = round::Policy {
        deadline: secs(3_600),
        recruit: secs(60),
        offline_after: secs(120),
        retry: retry(Attempts::AtMost(5)),
        tier_wait: secs(300),
        cut: None,
    };
    let services = names.iter().map(|name| (name.clone(), ServicePolicy::default()));
    let mut rng = Rng::new(seed);
    let leader = round::Machine::start(Start::Fresh, services, policy, rng.next(), Time(0));
    let slice_policy = slice::Policy { resend: retry(Attempts::Unlimited), hooks: false };
    let machines = (0..agents).map(|n| slice::Machine::start(slice_policy, u64::from(n))).collect();
    let mut fleet = Fleet {
        rng,
        now: 0,
        sequence: 0,
        queue: BinaryHeap::new(),
        happenings: BTreeMap::new(),
        leader,
        agents: machines,
        numbers: names.iter().cloned().zip(0..).collect(),
        names,
        wake_at: None,
        slices: 0,
    };
    fleet.run()
}

impl Fleet {
    fn run(&mut self) -> Scale {
        let mut events = 0;
        self.carry_out();
        while !matches!(self.leader.phase(), round::Phase::Ended { .. }) {
            let Some((std::cmp::Reverse((due, _)), at)) = self.queue.pop() else { break };
            self.now = due;
            events += 1;
            match self.happenings.remove(&at) {
                Some(Happening::ToLeader(event)) => {
                    self.leader.handle(event, Time(due));
                    self.carry_out();
                }
                Some(Happening::LeaderWakes) => {
                    self.wake_at = None;
                    self.leader.handle_timeout(Time(due));
                    self.carry_out();
                }
                Some(Happening::ToAgent(agent, event)) => {
                    self.agents[agent as usize].handle(event, Time(due));
                    self.carry_out_slice(agent);
                }
                Some(Happening::AgentWakes(agent)) => {
                    self.agents[agent as usize].handle_timeout(Time(due));
                    self.carry_out_slice(agent);
                }
                None => {}
            }
        }
        let outcome = match self.leader.phase() {
            round::Phase::Ended { outcome, .. } => Some(*outcome),
            round::Phase::Opening
            | round::Phase::Gathering
            | round::Phase::Capturing
            | round::Phase::Writing
            | round::Phase::Committing { .. }
            | round::Phase::Verifying { .. }
            | round::Phase::Confirming { .. }
            | round::Phase::Ending { .. } => None,
        };
        Scale { outcome, slices: self.slices, events, millis: self.now }
    }

    fn after(&mut self, millis: u64, happening: Happening) {
        self.sequence += 1;
        let at = self.sequence as usize;
        self.happenings.insert(at, happening);
        self.queue.push((std::cmp::Reverse((self.now + millis, self.sequence)), at));
    }

    fn send(&mut self, happening: Happening) {
        if !self.rng.percent(LOST) {
            let after = self.rng.between(1, 500);
            self.after(after, happening);
        }
    }

    /// What the agent's state document asks for.
    fn order(&mut self, agent: u32, attempt: u32) {
        let (epoch, round, turn, cut) = (1, ROUND, self.leader.turn(), self.leader.cut_order());
        self.send(Happening::ToAgent(agent, slice::Event::Order { epoch, round, attempt, turn, cut }));
    }

    fn carry_out(&mut self) {
        use round::{Effect, Event};
        while let Some(effect) = self.leader.poll_effect() {
            match effect {
                Effect::AppendOpen => self.after(20, Happening::ToLeader(Event::Opened)),
                Effect::Publish if self.leader.wants_slices() => {
                    for agent in 0..self.agents.len() as u32 {
                        self.order(agent, 1);
                    }
                }
                Effect::Publish | Effect::FindReceipts | Effect::AppendEnd { .. } | Effect::Finished => {}
                Effect::PublishRetry { service, attempt } => self.order(self.numbers[&service], attempt),
                Effect::Welcome { service, attempt } => {
                    let agent = self.numbers[&service];
                    let event = slice::Event::Welcomed { round: ROUND, attempt };
                    self.send(Happening::ToAgent(agent, event));
                }
                Effect::Check { service, receipt, receipt_size, attempt } => {
                    let slice = ManifestSlice {
                        service: service.clone(),
                        agent: KeyId::from_bytes([1; 32]),
                        attempts: attempt,
                        receipt,
                        receipt_size,
                        status: SliceStatus::Whole,
                        totals: SliceTotals::default(),
                        cut: None,
                        timing: None,
                        tries: Vec::new(),
                    };
                    let event = Event::Checked { service, receipt, result: Ok(Box::new(slice)) };
                    self.after(50, Happening::ToLeader(event));
                }
                Effect::Acknowledge { service, attempt, verdict, .. } => {
                    self.acknowledge(&service, attempt, verdict);
                }
                Effect::WriteManifest { slices, .. } => {
                    self.slices = slices.len();
                    let manifest = self.rng.object();
                    let event = Event::ManifestWritten { manifest, manifest_size: 500 };
                    self.after(500, Happening::ToLeader(event));
                }
                Effect::AppendCommit { .. } => self.after(20, Happening::ToLeader(Event::Committed)),
                Effect::Reread { slices } => {
                    let event = Event::Reread { objects: slices.len() as u64, bytes: 1 };
                    self.after(5_000, Happening::ToLeader(event));
                }
                Effect::AppendVerified { .. } => {
                    self.after(20, Happening::ToLeader(Event::VerifiedAppended));
                }
            }
        }
        if let Some((due, _)) = self.leader.poll_timeout() {
            let due = due.0.max(self.now);
            if self.wake_at.is_none_or(|at| at > due) {
                self.wake_at = Some(due);
                self.after(due - self.now, Happening::LeaderWakes);
            }
        }
    }

    fn acknowledge(&mut self, service: &ServiceName, attempt: u32, verdict: Verdict) {
        let event = slice::Event::Acknowledged { round: ROUND, attempt, verdict };
        self.send(Happening::ToAgent(self.numbers[service], event));
    }

    fn carry_out_slice(&mut self, agent: u32) {
        let service = self.names[agent as usize].clone();
        while let Some(effect) = self.agents[agent as usize].poll_effect() {
            match effect {
                slice::Effect::Hello { attempt, .. } => {
                    self.send(Happening::ToLeader(round::Event::Hello { service: service.clone(), attempt }));
                    self.after(10_000, Happening::ToAgent(agent, slice::Event::HelloUnanswered));
                }
                slice::Effect::Capture { round } => {
                    let event = if self.rng.per_mille(FAILS) {
                        let (code, reason) = (Code::Agent03, "source locked".to_owned());
                        slice::Event::CaptureFailed { round, code, reason, permanent: false }
                    } else {
                        slice::Event::Captured { round }
                    };
                    let after = self.rng.between(1_000, 60_000);
                    self.after(after, Happening::ToAgent(agent, event));
                }
                slice::Effect::WriteReceipt { round, attempt, .. } => {
                    let (receipt, totals): (ObjectId, _) = (self.rng.object(), SliceTotals::default());
                    let event =
                        slice::Event::ReceiptWritten { round, attempt, receipt, receipt_size: 300, totals };
                    self.after(50, Happening::ToAgent(agent, event));
                }
                slice::Effect::Notice { attempt, reported, .. } => {
                    let service = service.clone();
                    let event = match reported {
                        Reported::Stored { receipt, receipt_size, .. } => {
                            round::Event::Stored { service, attempt, receipt, receipt_size }
                        }
                        Reported::Failed { code, reason, permanent } => {
                            let failure = Failure { code, reason, permanent };
                            round::Event::Failed { service, attempt, failure }
                        }
                    };
                    self.send(Happening::ToLeader(event));
                    self.after(15_000, Happening::ToAgent(agent, slice::Event::NoticeUnanswered));
                }
                // No hooks and no cut.
                slice::Effect::Quiesce { .. }
                | slice::Effect::Release { .. }
                | slice::Effect::Tell { .. }
                | slice::Effect::Drop { .. }
                | slice::Effect::Keep { .. } => {}
            }
        }
        if let Some((due, _)) = self.agents[agent as usize].poll_timeout() {
            self.after(due.0.saturating_sub(self.now), Happening::AgentWakes(agent));
        }
    }
}
