//! The desk: one loop that owns every open round's machine while this coordinator leads.
//!
//! It only carries: messages become events, effects become tasks, and what a task brings back becomes an event again.
//! Nothing here waits for the share or the bus, so that no slow part holds up another round.

mod carry;
mod command;
mod disown;
mod failing;
mod presence;
mod requests;
mod schedule;
mod talk;
mod trace;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_bus::{Job, Reply};
use muster_protocol::alert::About;
use muster_protocol::document::Manifest;
use muster_protocol::entropy::random;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{KeyId, Nonce, RoundId, ServiceName};
use muster_protocol::log::{CutTerms, Open, State};
use muster_protocol::message::Hello;
use muster_protocol::round::{CutPolicy, Event, Machine, Overlap, Policy, Start};
use muster_protocol::schedule::Due;
use muster_protocol::service_policy::ServicePolicies;
use muster_protocol::session::Ephemeral;
use muster_protocol::subject::Subjects;
use muster_protocol::time::Time;
use muster_share::entropy::OsEntropy;
use muster_share::store::Store;
use muster_telemetry::span;
use tokio::sync::{Semaphore, mpsc};

use crate::alerts::Alerts;
use crate::answer;
use crate::confided::Confided;
use crate::daemon::Slots;
use crate::ignored::{Ignored, Reason};
use crate::intake::{Answer, Input};
use crate::lead::Standing;
use crate::notify::Notifier;
use crate::publisher::Value;
use crate::roll::Roll;
use crate::room::Room;
use crate::scribe::ScribeHandle;
use crate::scrub::Suspects;
use crate::sessions::Sessions;
use failing::Failing;
use requests::{Origin, Request, Waiter, send_trigger_reply};
use schedule::Timetable;
use trace::RoundTrace;

/// Ended rounds that are still told on the query subject.
const REMEMBERED: usize = 16;
/// Successors that restart a round's deadline in full.
const MAX_RESTARTS: u64 = 2;
/// Requests that may wait for their services: so many that anybody sent, and as many signed ones.
const MAX_QUEUED: usize = 64;
/// Slices that are checked at once. Each asks the share a few times; thousands at a time would only take threads from one
/// another.
const CHECKS_AT_ONCE: usize = 32;
/// How long a job whose services are busy waits before it is looked at again.
const JOB_AGAIN: Duration = Duration::from_secs(2);

/// What the desk needs of the world.
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) signer: Arc<Signer>,
    pub(crate) subjects: Subjects,
    /// Of every round; its cut stands in the round's record.
    pub(crate) policy: Policy,
    /// The terms of new rounds' cuts, if they are to have one.
    pub(crate) cut: Option<CutTerms>,
    pub(crate) overlap: Overlap,
    pub(crate) slots: Slots,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) scribe: ScribeHandle,
    pub(crate) standing: Standing,
    /// Of the share, for the agents of a round.
    pub(crate) credentials: Confided,
    pub(crate) publisher: mpsc::Sender<Value>,
    pub(crate) ignored: Arc<Ignored>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) alerts: Alerts,
    /// The way to the scrub.
    pub(crate) suspects: mpsc::Sender<Suspects>,
    pub(crate) room: Room,
    pub(crate) notifier: Notifier,
}

/// What a task brings back.
enum Report {
    Event(RoundId, Box<Event>),
    /// The manifest of a round that is committed and was never read again.
    Unverified(Box<Manifest>),
    /// A slot of the schedule is due, and the log was read since.
    Slot(Due),
    Deposed,
    Revoked,
}

/// One round at the desk.
pub(crate) struct Round {
    pub(crate) machine: Machine,
    pub(crate) open: Open,
    pub(crate) position: u64,
    pub(crate) began: Instant,
    pub(crate) took: Option<Duration>,
    ephemeral: Arc<Ephemeral>,
    opened_reply: Vec<Waiter>,
    opened_job: Option<Job>,
    hellos: HashMap<ServiceName, (KeyId, Hello, Reply)>,
    /// Who waits for an answer; of each agent one about a receipt, which is checked first, and one about anything else.
    notices: HashMap<(ServiceName, bool), Answer>,
    /// The log's number at the earliest check of a slice: what was swept since is looked at before the commit.
    checked_at: Option<u64>,
    /// The agent that each service had when it was last looked.
    agents: BTreeMap<ServiceName, KeyId>,
    retries: Vec<ServiceName>,
    trace: RoundTrace,
    failing: Failing,
    finished: bool,
}

/// The desk.
pub(crate) struct Desk {
    pub(crate) setting: Setting,
    pub(crate) rounds: BTreeMap<RoundId, Round>,
    pub(crate) ended: VecDeque<RoundId>,
    pub(crate) roll: Roll,
    pub(crate) queued: VecDeque<RoundId>,
    waiting: VecDeque<Request>,
    timetable: Timetable,
    origin: Instant,
    /// Since when silence counts.
    listening: Instant,
    revision: u64,
    reports: mpsc::Sender<Report>,
    checks: Arc<Semaphore>,
}

/// Why the desk was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Somebody else leads.
    Deposed,
    /// This coordinator's key counts no longer.
    Revoked,
    /// It was told to stop.
    Stopped,
}

/// Works until this coordinator is deposed or told to stop.
pub(crate) async fn work(
    setting: Setting,
    mut inbox: mpsc::Receiver<Input>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> Left {
    let (reports, mut reported) = mpsc::channel(1024);
    let mut desk = Desk {
        setting,
        rounds: BTreeMap::new(),
        ended: VecDeque::new(),
        roll: Roll::default(),
        queued: VecDeque::new(),
        waiting: VecDeque::new(),
        timetable: Timetable::default(),
        origin: Instant::now(),
        listening: Instant::now(),
        revision: 0,
        reports,
        checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
    };
    desk.resume();
    let mut log = desk.setting.scribe.changes();
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    let mut look = tokio::time::interval(desk.look_every());
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut second = tokio::time::interval(schedule::LOOK);
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        desk.carry();
        let now = desk.now();
        let due = desk.rounds.values().filter_map(|r| r.machine.poll_timeout()).map(|(due, _)| due).min();
        let wait = due.map_or(Duration::from_secs(60), |due| due.since(now));
        tokio::select! {
            input = inbox.recv() => match input {
                Some(input) => desk.take(input),
                None => return Left::Stopped,
            },
            report = reported.recv() => match report {
                Some(Report::Event(round, event)) => {
                    if let Event::StageFailed { reason } = event.as_ref() {
                        desk.tell_delay(&round, reason);
                    }
                    desk.event(&round, *event);
                }
                Some(Report::Unverified(manifest)) => desk.verify(*manifest),
                Some(Report::Slot(due)) => desk.scheduled(due),
                Some(Report::Deposed) | None => return Left::Deposed,
                Some(Report::Revoked) => return Left::Revoked,
            },
            () = tokio::time::sleep(wait) => {
                let now = desk.now();
                for round in desk.rounds.values_mut() {
                    let _within = span::enter(round.trace.place());
                    round.machine.handle_timeout(now);
                    round.trace.at(round.machine.phase());
                    round.failing.tell(round.open.number, &round.machine, None);
                }
            }
            _ = minute.tick() => {
                desk.setting.ignored.log();
            }
            _ = look.tick() => desk.look(),
            _ = second.tick() => desk.look_at_the_clock(),
            changed = log.changed() => {
                let epoch = log.borrow_and_update().epoch.map(|e| e.epoch);
                if changed.is_err() || epoch != Some(desk.setting.scribe.epoch()) {
                    tracing::warn!(epoch, "COORD-01: another coordinator leads now");
                    return Left::Deposed;
                }
                if !desk.state().is_coordinator(&desk.setting.signer.key_id()) {
                    return Left::Revoked;
                }
                desk.adopt_strays();
                desk.disown();
            }
            changed = stop.changed() => if changed.is_err() || *stop.borrow() { return Left::Stopped },
        }
    }
}

impl Desk {
    pub(crate) fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn state(&self) -> Arc<State> {
        self.setting.scribe.state()
    }

    /// Takes up rounds of the log that nobody is at: an `open` record that was given up may have got through after all.
    fn adopt_strays(&mut self) {
        let state = self.state();
        for round in state.open_rounds() {
            if self.rounds.get(&round.open.round).is_none_or(|known| known.finished) {
                tracing::warn!(number = round.open.number, "an open round that nobody is at is taken up");
                self.begin(round.open.clone(), round.position, Start::Resume);
            }
        }
    }

    /// Takes up what the log says is open, and verifies what was committed and not yet read again.
    fn resume(&mut self) {
        let state = self.state();
        for round in state.open_rounds() {
            tracing::info!(number = round.open.number, "going on with an open round");
            self.begin(round.open.clone(), round.position, Start::Resume);
        }
        for round in state.rounds.values().filter(|r| r.is_recoverable() && r.word() == "committed") {
            if let Some(commit) = round.commit() {
                self.verify_later(commit.clone());
            }
        }
        self.publish();
    }

    fn begin(&mut self, open: Open, position: u64, start: Start) {
        let state = self.state();
        // Who was revoked since the round began is expected and absent, not forgotten.
        let agents = disown::expected(&state, &open, position);
        let policies =
            state.config.as_ref().map(|config| ServicePolicies::of(&config.clear)).unwrap_or_default();
        let services: Vec<_> =
            agents.keys().map(|service| (service.clone(), policies.policy(service))).collect();
        let seed = u64::from_be_bytes(random(&mut OsEntropy));
        // Each new leader restarts the deadline, at most twice in full; from then on each has half of the one before.
        let leaders = self.setting.scribe.epoch().saturating_sub(open.epoch);
        let halvings = u32::try_from(leaders.saturating_sub(MAX_RESTARTS)).unwrap_or(u32::MAX).min(63);
        let deadline = Duration::from_millis(open.deadline_millis >> halvings).max(Duration::from_secs(1));
        let cut = open.cut.map(|terms| CutPolicy {
            nonce: Nonce::from_bytes(random(&mut OsEntropy)),
            barrier: Duration::from_millis(terms.barrier_millis).min(deadline),
            on_break: terms.on_break,
        });
        let policy = Policy { deadline, cut, ..self.setting.policy };
        let machine = Machine::start(start, services, policy, seed, self.now());
        let id = open.round;
        self.seat(machine, open, position);
        if let Some(round) = self.rounds.get_mut(&id) {
            round.trace.awaits(agents.keys().cloned());
            round.agents = agents;
        }
        self.disown();
    }

    fn seat(&mut self, machine: Machine, open: Open, position: u64) {
        let id = open.round;
        self.ended.retain(|ended| *ended != id);
        let mut trace = RoundTrace::of(&open);
        trace.at(machine.phase());
        let round = Round {
            machine,
            open,
            position,
            began: Instant::now(),
            took: None,
            ephemeral: Arc::new(Ephemeral::generate(&mut OsEntropy)),
            opened_reply: Vec::new(),
            opened_job: None,
            hellos: HashMap::new(),
            notices: HashMap::new(),
            checked_at: None,
            agents: BTreeMap::new(),
            retries: Vec::new(),
            trace,
            failing: Failing::default(),
            finished: false,
        };
        self.rounds.insert(id, round);
    }

    fn take(&mut self, input: Input) {
        let now = Instant::now();
        let state = self.state();
        let may =
            |key: &KeyId, service: &ServiceName| state.agent(service).is_some_and(|agent| agent.key == *key);
        let stranger = |key: &KeyId, service: &ServiceName| {
            let why = format!("key {} is not the agent of {service}", key.short());
            self.setting.ignored.one(Reason::Stranger, About::Key(*key), &why);
        };
        match input {
            Input::Hello { key, hello, reply } => {
                if !may(&key, &hello.service) {
                    return stranger(&key, &hello.service);
                }
                self.roll.seen(&hello.service, now);
                self.hello(key, hello, reply);
            }
            Input::Notice { key, notice, answer } => {
                if !may(&key, &notice.service) {
                    return stranger(&key, &notice.service);
                }
                self.roll.seen(&notice.service, now);
                self.notice(notice, answer);
            }
            Input::Heartbeat { key, beat } => {
                if !may(&key, &beat.service) {
                    return stranger(&key, &beat.service);
                }
                let (service, round, at) =
                    (beat.service.clone(), beat.round.filter(|_| !beat.leaving), beat.at);
                if !self.roll.heartbeat(beat, now) {
                    let why = format!("a heartbeat of {service} that was heard before");
                    return self.setting.ignored.one(Reason::Replay, About::Service(service), &why);
                }
                if let Some(at) = at {
                    self.clock(&service, at);
                }
                if let Some(round) = round {
                    self.event(&round, Event::Seen { service });
                }
            }
            Input::Progress { key, progress } => {
                if !may(&key, &progress.service) {
                    return stranger(&key, &progress.service);
                }
                let (service, round, stage) = (progress.service.clone(), progress.round, progress.stage);
                self.roll.progress(progress, now);
                self.event(&round, Event::AtWork { service, stage });
            }
            Input::Trigger { request, trigger, format, reply, trace } => {
                let (answer, opening) = self.trigger(request, trigger, &Origin::Message, trace);
                match (opening, reply) {
                    (Some(id), Some(reply)) => {
                        if let Some(round) = self.rounds.get_mut(&id) {
                            round.opened_reply.push(Waiter::Trigger(reply, format));
                        }
                    }
                    (None, Some(reply)) => send_trigger_reply(reply, format, &answer),
                    (_, None) => {}
                }
            }
            Input::Job { request, trigger, job, trace } => self.job(request, trigger, job, trace),
            Input::Command { key, command, reply, trace } => self.command(&key, command, reply, trace),
            Input::OtherVersion { key, service, what } => {
                if !may(&key, &service) {
                    return stranger(&key, &service);
                }
                self.roll.foreign(&service, now);
                self.setting.ignored.one(Reason::Version, About::Service(service), &what);
            }
            Input::Query { payload, reply } => {
                let answer = answer::answer(self, &payload);
                tokio::spawn(async move { reply.send(Vec::new(), answer.into()).await });
            }
        }
    }

    fn event(&mut self, id: &RoundId, event: Event) {
        let now = self.now();
        if let Some(round) = self.rounds.get_mut(id) {
            let _within = span::enter(round.trace.place());
            round.trace.hear(&event);
            let suspect = failing::suspect(&event).cloned();
            round.machine.handle(event, now);
            round.trace.at(round.machine.phase());
            if suspect.is_some() {
                round.failing.tell(round.open.number, &round.machine, suspect.as_ref());
            }
        }
    }

    fn forget(&mut self) {
        while self.ended.len() > REMEMBERED {
            if let Some(id) = self.ended.pop_front() {
                self.rounds.remove(&id);
            }
        }
    }
}
