//! The desk: one loop that owns every open round's machine while this coordinator leads.
//!
//! It only carries: messages become events, effects become tasks, and what a task brings back becomes an event again.
//! Nothing here waits for the share or the bus, so that no slow part holds up another round.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_bus::{Job, Reply};
use muster_protocol::alert::Code;
use muster_protocol::document::{Manifest, Receipt};
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{KeyId, Nonce, RoundId, ServiceName};
use muster_protocol::log::{Commit, End, Open, Scope, State, Verified};
use muster_protocol::message::{
    Acknowledgement, Format, Hello, Notice, NoticeOutcome, OpenRound, Order, ServiceState, StateDocument,
    Trigger, TriggerError, TriggerReply, TriggerState, Verdict, Welcome,
};
use muster_protocol::round::{
    Admission, CheckFailure, Effect, Event, Failure, Machine, Overlap, Phase, Policy, Start, admit,
};
use muster_protocol::session::{Ephemeral, Session, Side, Transcript};
use muster_protocol::subject::{Subject, Subjects};
use muster_protocol::time::Time;
use muster_protocol::wire;
use muster_protocol::{entropy::random, ids::ObjectId};
use muster_share::entropy::OsEntropy;
use muster_share::layout::{ObjectPath, Prefix, SlicePart};
use muster_share::store::{Listed, Store};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;

use crate::check::{self, Case};
use crate::intake::{Ignored, Input};
use crate::publisher::Value;
use crate::roll::Roll;
use crate::scribe::{Entry, ScribeError, ScribeHandle, causes, unix_now};
use crate::{answer, manifest, reread};

/// Ended rounds that are still told on the query subject.
const REMEMBERED: usize = 16;
/// Requests that may wait for their services.
const MAX_QUEUED: usize = 64;
/// How long a job whose services are busy waits before it is looked at again.
const JOB_AGAIN: Duration = Duration::from_secs(2);

/// What the desk needs of the world.
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) signer: Arc<Signer>,
    pub(crate) subjects: Subjects,
    pub(crate) policy: Policy,
    pub(crate) overlap: Overlap,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) scribe: ScribeHandle,
    pub(crate) publisher: mpsc::Sender<Value>,
    pub(crate) ignored: Arc<Ignored>,
}

/// What a task brings back.
enum Report {
    Event(RoundId, Box<Event>),
    /// The manifest of a round that is committed and was never read again.
    Unverified(Box<Manifest>),
    Deposed,
}

/// One round at the desk.
pub(crate) struct Round {
    pub(crate) machine: Machine,
    pub(crate) open: Open,
    pub(crate) position: u64,
    pub(crate) began: Instant,
    ephemeral: Ephemeral,
    opened_reply: Vec<(Reply, Format)>,
    opened_job: Option<Job>,
    hellos: HashMap<ServiceName, (KeyId, Hello, Reply)>,
    notices: HashMap<ServiceName, Reply>,
    retries: Vec<ServiceName>,
    finished: bool,
}

struct Request {
    id: RoundId,
    scope: Scope,
    trigger: String,
}

/// The desk.
pub(crate) struct Desk {
    pub(crate) setting: Setting,
    pub(crate) rounds: BTreeMap<RoundId, Round>,
    pub(crate) ended: VecDeque<RoundId>,
    pub(crate) roll: Roll,
    pub(crate) queued: VecDeque<RoundId>,
    waiting: VecDeque<Request>,
    origin: Instant,
    revision: u64,
    reports: mpsc::Sender<Report>,
}

/// Why the desk was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Somebody else leads.
    Deposed,
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
        origin: Instant::now(),
        revision: 0,
        reports,
    };
    desk.resume();
    let mut log = desk.setting.scribe.changes();
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    let mut told = 0;
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
                Some(Report::Event(round, event)) => desk.event(&round, *event),
                Some(Report::Unverified(manifest)) => desk.verify(*manifest),
                Some(Report::Deposed) | None => return Left::Deposed,
            },
            () = tokio::time::sleep(wait) => {
                let now = desk.now();
                for round in desk.rounds.values_mut() {
                    round.machine.handle_timeout(now);
                }
            }
            _ = minute.tick() => {
                let ignored = desk.setting.ignored.count();
                if ignored > told {
                    tracing::warn!(messages = ignored - told, "messages were ignored in the last minute: not ours or not valid");
                    told = ignored;
                }
            }
            changed = log.changed() => {
                let epoch = log.borrow_and_update().epoch.map(|e| e.epoch);
                if changed.is_err() || epoch != Some(desk.setting.scribe.epoch()) {
                    tracing::warn!(epoch, "COORD-01: another coordinator leads now");
                    return Left::Deposed;
                }
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

    /// Takes up what the log says is open, and verifies what was committed and not yet read again.
    fn resume(&mut self) {
        let state = self.state();
        for round in state.open_rounds() {
            tracing::info!(round = round.open.number, "going on with an open round");
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
        let services: Vec<_> = state.services().into_iter().filter(|s| open.scope.contains(s)).collect();
        let seed = u64::from_be_bytes(random(&mut OsEntropy));
        let policy = Policy { deadline: Duration::from_millis(open.deadline_millis), ..self.setting.policy };
        let machine = Machine::start(start, services, policy, seed, self.now());
        self.seat(machine, open, position);
    }

    fn seat(&mut self, machine: Machine, open: Open, position: u64) {
        let id = open.round;
        self.ended.retain(|ended| *ended != id);
        let round = Round {
            machine,
            open,
            position,
            began: Instant::now(),
            ephemeral: Ephemeral::generate(&mut OsEntropy),
            opened_reply: Vec::new(),
            opened_job: None,
            hellos: HashMap::new(),
            notices: HashMap::new(),
            retries: Vec::new(),
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
            format!("KEY-03: key {} is not the agent of {service}", key.short())
        };
        match input {
            Input::Hello { key, hello, reply } => {
                if !may(&key, &hello.service) {
                    return self.setting.ignored.one(&stranger(&key, &hello.service));
                }
                self.roll.seen(&hello.service, now);
                self.hello(key, hello, reply);
            }
            Input::Notice { key, notice, reply } => {
                if !may(&key, &notice.service) {
                    return self.setting.ignored.one(&stranger(&key, &notice.service));
                }
                self.roll.seen(&notice.service, now);
                self.notice(notice, reply);
            }
            Input::Heartbeat { key, beat } => {
                if !may(&key, &beat.service) {
                    return self.setting.ignored.one(&stranger(&key, &beat.service));
                }
                let (service, round) = (beat.service.clone(), beat.round);
                if !self.roll.heartbeat(beat, now) {
                    return self.setting.ignored.one(&format!("a replayed heartbeat of {service}"));
                }
                if let Some(round) = round {
                    self.event(&round, Event::Seen { service });
                }
            }
            Input::Progress { key, progress } => {
                if !may(&key, &progress.service) {
                    return self.setting.ignored.one(&stranger(&key, &progress.service));
                }
                let (service, round) = (progress.service.clone(), progress.round);
                self.roll.progress(progress, now);
                self.event(&round, Event::Seen { service });
            }
            Input::Trigger { request, trigger, format, reply } => {
                let answer = self.trigger(request, trigger, "message");
                let (answer, opening) = answer;
                match (opening, reply) {
                    (Some(id), Some(reply)) => {
                        if let Some(round) = self.rounds.get_mut(&id) {
                            round.opened_reply.push((reply, format));
                        }
                    }
                    (None, Some(reply)) => send_trigger_reply(reply, format, &answer),
                    (_, None) => {}
                }
            }
            Input::Job { request, trigger, job } => self.job(request, trigger, job),
            Input::Query { payload, reply } => {
                let answer = answer::answer(self, &payload);
                tokio::spawn(async move { reply.send(Vec::new(), answer.into()).await });
            }
        }
    }

    /// Decides on a trigger. The second part names the round whose opening must succeed before the answer is true.
    fn trigger(
        &mut self,
        request: Option<String>,
        trigger: Result<Trigger, TriggerError>,
        how: &str,
    ) -> (TriggerReply, Option<RoundId>) {
        let trigger = match trigger {
            Ok(trigger) => trigger,
            Err(error) => {
                self.setting.ignored.one(&causes(&error));
                return (refused(causes(&error)), None);
            }
        };
        let state = self.state();
        let request = trigger
            .request
            .or(request)
            .unwrap_or_else(|| muster_protocol::ids::hex(&random::<16>(&mut OsEntropy)));
        let id = RoundId::derive(&state.fleet, &request);
        let scope = match trigger.services {
            None => Scope::All,
            Some(mut services) => {
                services.sort();
                services.dedup();
                Scope::Services(services)
            }
        };
        if let Some(round) = self.rounds.get(&id).filter(|r| !r.finished) {
            let answer = TriggerReply {
                round: Some(id),
                number: Some(round.open.number).filter(|n| *n > 0),
                state: TriggerState::Running,
                reason: None,
            };
            return (answer, None);
        }
        // A round whose record is still on its way to the log holds its services already.
        let opening = self.rounds.values().find(|r| {
            *r.machine.phase() == Phase::Opening
                && state.services().iter().any(|s| scope.contains(s) && r.open.scope.contains(s))
        });
        let admission = match (admit(&state, &id, &scope, self.setting.overlap), opening) {
            (Admission::Open { .. }, Some(_)) => {
                let reason = "a round that is just being opened has one of its services".to_owned();
                match self.setting.overlap {
                    Overlap::Queue => Admission::Queue { reason },
                    Overlap::Skip => Admission::Skip { reason },
                }
            }
            (admission, _) => admission,
        };
        let detail = trigger.reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let request = Request { id, scope, trigger: format!("{how}{detail}") };
        let reply = |state, number, reason| TriggerReply { round: Some(id), number, state, reason };
        match admission {
            Admission::Open { number } => {
                self.open(request);
                (reply(TriggerState::Opened, Some(number), None), Some(id))
            }
            Admission::Known { number, ended } => {
                let state = if ended { TriggerState::Ended } else { TriggerState::Running };
                (reply(state, Some(number), None), None)
            }
            Admission::Queue { reason } => {
                if how == "message" && !self.waiting.iter().any(|r| r.id == id) {
                    if self.waiting.len() >= MAX_QUEUED {
                        return (refused(format!("{MAX_QUEUED} requests wait already")), None);
                    }
                    self.queued.push_back(id);
                    self.waiting.push_back(request);
                }
                (reply(TriggerState::Queued, None, Some(reason)), None)
            }
            Admission::Skip { reason } => {
                tracing::warn!(reason, "ROUND-03: a request was skipped");
                (reply(TriggerState::Skipped, None, Some(reason)), None)
            }
            Admission::Refuse { reason } => (refused(reason), None),
        }
    }

    fn open(&mut self, request: Request) {
        let Request { id, scope, trigger } = request;
        let open = Open {
            epoch: self.setting.scribe.epoch(),
            round: id,
            number: 0,
            scope,
            nonce: Nonce::from_bytes(random(&mut OsEntropy)),
            trigger,
            deadline_millis: u64::try_from(self.setting.policy.deadline.as_millis()).unwrap_or(u64::MAX),
            at: unix_now(),
        };
        self.begin(open, 0, Start::Fresh);
    }

    fn job(&mut self, request: Option<String>, trigger: Result<Trigger, TriggerError>, job: Job) {
        let (answer, opening) = self.trigger(request, trigger, "queue");
        if let Some(reason) = &answer.reason {
            tracing::info!(reason, state = ?answer.state, "trigger from the queue");
        }
        match (answer.state, opening) {
            (TriggerState::Queued, _) => {
                tokio::spawn(async move { job.nak(JOB_AGAIN).await });
            }
            // Acknowledged once the round's record is in the log.
            (_, Some(id)) => {
                if let Some(round) = self.rounds.get_mut(&id) {
                    round.opened_job = Some(job);
                }
            }
            (_, None) => {
                tokio::spawn(async move { job.ack().await });
            }
        }
    }

    fn hello(&mut self, key: KeyId, hello: Hello, reply: Option<Reply>) {
        let Some(reply) = reply else { return };
        if hello.epoch != self.setting.scribe.epoch() {
            return self
                .setting
                .ignored
                .one(&format!("a hello of {} to epoch {}", hello.service, hello.epoch));
        }
        let (service, attempt, id) = (hello.service.clone(), hello.attempt, hello.round);
        let Some(round) = self.rounds.get_mut(&id).filter(|r| !r.finished) else {
            return self.welcome_to_nothing(&hello, reply);
        };
        round.hellos.insert(service.clone(), (key, hello, reply));
        self.event(&id, Event::Hello { service, attempt });
    }

    fn notice(&mut self, notice: Notice, reply: Option<Reply>) {
        let Some(reply) = reply else { return };
        let Notice { service, round: id, attempt, outcome, .. } = notice;
        let Some(round) = self.rounds.get_mut(&id).filter(|r| !r.finished) else {
            let receipt = match outcome {
                NoticeOutcome::Stored { receipt, .. } => Some(receipt),
                NoticeOutcome::Failed { .. } => None,
            };
            return self.acknowledge(id, attempt, receipt, Verdict::Over, reply);
        };
        round.notices.insert(service.clone(), reply);
        let event = match outcome {
            NoticeOutcome::Stored { receipt, receipt_size, .. } => {
                Event::Stored { service, attempt, receipt, receipt_size }
            }
            NoticeOutcome::Failed { code, reason, permanent } => {
                Event::Failed { service, attempt, failure: Failure { code, reason, permanent } }
            }
        };
        self.event(&id, event);
    }

    fn event(&mut self, id: &RoundId, event: Event) {
        let now = self.now();
        if let Some(round) = self.rounds.get_mut(id) {
            round.machine.handle(event, now);
        }
    }

    /// Carries out every effect that is waiting.
    fn carry(&mut self) {
        let mut publish = false;
        let ids: Vec<_> = self.rounds.keys().copied().collect();
        for id in ids {
            while let Some(effect) = self.rounds.get_mut(&id).and_then(|r| r.machine.poll_effect()) {
                publish |= effect == Effect::Publish;
                self.carry_one(id, effect);
            }
        }
        if publish {
            self.publish();
        }
        if !self.waiting.is_empty() {
            self.wake_waiting();
        }
        self.forget();
    }

    fn carry_one(&mut self, id: RoundId, effect: Effect) {
        match effect {
            Effect::Publish => {}
            Effect::AppendOpen => self.append_open(id),
            Effect::FindReceipts => self.find_receipts(id),
            Effect::PublishRetry { service, attempt } => self.publish_retry(id, service, attempt),
            Effect::Welcome { service, attempt } => self.welcome(id, &service, attempt),
            Effect::Check { service, receipt, receipt_size, attempt } => {
                self.check(id, service, receipt, receipt_size, attempt);
            }
            Effect::Acknowledge { service, attempt, receipt, verdict } => {
                let reply = self.rounds.get_mut(&id).and_then(|r| r.notices.remove(&service));
                if let Some(reply) = reply {
                    self.acknowledge(id, attempt, receipt, verdict, reply);
                }
            }
            Effect::WriteManifest { outcome, slices, absent } => {
                let state = self.state();
                let Some(round) = self.rounds.get(&id) else { return };
                let manifest = Manifest {
                    round: id,
                    number: round.open.number,
                    epoch: self.setting.scribe.epoch(),
                    keyset: state.keyset().map_or(0, |(number, _)| number),
                    opened: round.open.at,
                    assembled: unix_now(),
                    trigger: round.open.trigger.clone(),
                    outcome,
                    slices,
                    absent,
                };
                let (store, signer) = (self.setting.store.clone(), self.setting.signer.clone());
                self.task(id, async move {
                    match manifest::write(store, signer, state.fleet, manifest).await {
                        Ok((manifest, manifest_size)) => Event::ManifestWritten { manifest, manifest_size },
                        Err(error) => Event::StageFailed { reason: causes(&error) },
                    }
                });
            }
            Effect::AppendCommit { outcome, manifest, manifest_size } => {
                let commit = Commit { epoch: 0, round: id, manifest, manifest_size, outcome, at: unix_now() };
                self.append(id, Entry::Commit(commit), Event::Committed);
            }
            Effect::Reread { slices } => {
                let (store, fleet) = (self.setting.store.clone(), self.state().fleet);
                self.task(id, async move {
                    match reread::reread(store, fleet, id, slices).await {
                        Ok((objects, bytes)) => Event::Reread { objects, bytes },
                        Err(CheckFailure::Unavailable { reason }) => Event::StageFailed { reason },
                        Err(CheckFailure::Refused(failure)) => {
                            tracing::error!(
                                reason = failure.reason,
                                "{}: the round is not verified",
                                Code::Verify01
                            );
                            Event::RereadFailed { reason: failure.reason }
                        }
                    }
                });
            }
            Effect::AppendVerified { objects, bytes } => {
                let verified = Verified { epoch: 0, round: id, objects, bytes, at: unix_now() };
                self.append(id, Entry::Verified(verified), Event::VerifiedAppended);
            }
            Effect::AppendEnd { outcome, reason } => {
                let end = End { epoch: 0, round: id, outcome, reason, at: unix_now() };
                self.append(id, Entry::End(end), Event::EndAppended);
            }
            Effect::Finished => self.finished(id),
        }
    }

    /// Runs a task whose outcome is an event of the round.
    fn task(&self, id: RoundId, work: impl Future<Output = Event> + Send + 'static) {
        let reports = self.reports.clone();
        tokio::spawn(async move {
            // The desk may be gone: then nobody waits for the event.
            let _ = reports.send(Report::Event(id, Box::new(work.await))).await;
        });
    }

    fn append(&self, id: RoundId, entry: Entry, done: Event) {
        let (scribe, reports) = (self.setting.scribe.clone(), self.reports.clone());
        tokio::spawn(async move {
            let report = match scribe.write(entry).await {
                Ok(()) => Report::Event(id, Box::new(done)),
                Err(ScribeError::Deposed { epoch }) => {
                    tracing::warn!(epoch, "COORD-01: another coordinator leads now");
                    Report::Deposed
                }
                Err(error) => {
                    let reason = causes(&error);
                    tracing::warn!(reason, "the log took no record; trying again");
                    Report::Event(id, Box::new(Event::StageFailed { reason }))
                }
            };
            let _ = reports.send(report).await;
        });
    }

    fn append_open(&mut self, id: RoundId) {
        if let Some(round) = self.rounds.get(&id) {
            self.append(id, Entry::Open(round.open.clone()), Event::Opened);
        }
    }

    /// The number and position that the log gave the round.
    fn learn_position(&mut self, id: &RoundId) {
        let state = self.state();
        let (Some(round), Some(logged)) = (self.rounds.get_mut(id), state.rounds.get(id)) else { return };
        if round.position == 0 {
            round.open = logged.open.clone();
            round.position = logged.position;
            let services = round.machine.members().count();
            tracing::info!(round = round.open.number, services, trigger = round.open.trigger, "round opened");
        }
        let reply = TriggerReply {
            round: Some(*id),
            number: Some(round.open.number),
            state: TriggerState::Opened,
            reason: None,
        };
        for (to, format) in round.opened_reply.drain(..) {
            send_trigger_reply(to, format, &reply);
        }
        if let Some(job) = round.opened_job.take() {
            tokio::spawn(async move { job.ack().await });
        }
    }

    fn publish(&mut self) {
        let ids: Vec<_> = self.rounds.keys().copied().collect();
        for id in &ids {
            self.learn_position(id);
        }
        self.revision += 1;
        let now = self.now();
        let rounds = self
            .rounds
            .values()
            .filter(|r| r.position > 0 && r.machine.wants_slices())
            .map(|r| OpenRound {
                round: r.open.round,
                position: r.position,
                remaining_millis: u64::try_from(r.machine.remaining(now).as_millis()).unwrap_or(u64::MAX),
                ephemeral: r.ephemeral.public(),
            })
            .collect();
        let document = StateDocument { epoch: self.setting.scribe.epoch(), revision: self.revision, rounds };
        self.send_value(&Subject::State, Some(self.seal(&document)));
    }

    fn publish_retry(&mut self, id: RoundId, service: ServiceName, attempt: u32) {
        self.revision += 1;
        let (epoch, revision) = (self.setting.scribe.epoch(), self.revision);
        let order = ServiceState { epoch, revision, service: service.clone(), round: id, attempt };
        self.send_value(&Subject::ServiceState(service.clone()), Some(self.seal(&order)));
        if let Some(round) = self.rounds.get_mut(&id) {
            round.retries.push(service);
        }
    }

    fn send_value(&self, subject: &Subject, payload: Option<Vec<u8>>) {
        let value = (self.setting.subjects.print(subject), payload.map(Into::into));
        let publisher = self.setting.publisher.clone();
        if let Err(mpsc::error::TrySendError::Full(value)) = publisher.try_send(value) {
            tokio::spawn(async move { publisher.send(value).await });
        }
    }

    fn seal<P: Payload>(&self, payload: &P) -> Vec<u8> {
        self.setting.signer.seal(&self.state().fleet, payload)
    }

    fn welcome(&mut self, id: RoundId, service: &ServiceName, attempt: Option<u32>) {
        let Some(round) = self.rounds.get_mut(&id) else { return };
        let Some((key, hello, reply)) = round.hellos.remove(service) else { return };
        let Some(attempt) = attempt else { return self.welcome_to_nothing(&hello, reply) };
        let transcript = Transcript {
            fleet: self.setting.scribe.state().fleet,
            round: id,
            epoch: hello.epoch,
            leader: self.setting.signer.key_id(),
            agent: key,
            leader_ephemeral: round.ephemeral.public(),
            agent_ephemeral: hello.ephemeral,
            nonce: hello.nonce,
        };
        let mut session = match Session::derive(Side::Leader, &round.ephemeral, &transcript) {
            Ok(session) => session,
            Err(error) => return self.setting.ignored.one(&error),
        };
        let order = Order { nonce: round.open.nonce.for_attempt(service, attempt), credentials: None };
        let sealed = ByteBuf::from(session.seal(&wire::encode(&order)));
        let welcome =
            Welcome { round: id, epoch: hello.epoch, attempt: Some(attempt), nonce: hello.nonce, sealed };
        send(reply, self.seal(&welcome));
    }

    fn welcome_to_nothing(&self, hello: &Hello, reply: Reply) {
        let (round, epoch, nonce) = (hello.round, hello.epoch, hello.nonce);
        send(reply, self.seal(&Welcome { round, epoch, attempt: None, nonce, sealed: ByteBuf::new() }));
    }

    fn acknowledge(
        &self,
        round: RoundId,
        attempt: u32,
        receipt: Option<ObjectId>,
        verdict: Verdict,
        reply: Reply,
    ) {
        let epoch = self.setting.scribe.epoch();
        send(reply, self.seal(&Acknowledgement { round, epoch, attempt, receipt, verdict }));
    }

    fn check(
        &mut self,
        id: RoundId,
        service: ServiceName,
        receipt: ObjectId,
        receipt_size: u64,
        attempt: u32,
    ) {
        let state = self.state();
        let (Some(round), Some(agent)) = (self.rounds.get(&id), state.agent(&service).map(|a| a.key)) else {
            return;
        };
        let (open, open_position) = (round.open.clone(), round.position);
        let case = Case {
            state,
            open,
            open_position,
            service: service.clone(),
            agent,
            attempt,
            receipt,
            receipt_size,
        };
        let store = self.setting.store.clone();
        self.task(id, async move {
            let result = check::check(store, case).await;
            if let Err(failure) = &result {
                tracing::warn!(%service, ?failure, "slice not accepted");
            }
            Event::Checked { service, receipt, result }
        });
    }

    /// A former leader may have acknowledged receipts that only the share remembers.
    fn find_receipts(&self, id: RoundId) {
        let Some(round) = self.rounds.get(&id) else { return };
        for member in round.machine.members() {
            let (store, reports, service) =
                (self.setting.store.clone(), self.reports.clone(), member.service.clone());
            let fleet = self.state().fleet;
            tokio::spawn(async move {
                use futures::StreamExt;
                let mut listing = store.list(&Prefix::RoundSlices(service.clone(), id));
                let mut newest: Option<(u32, ObjectId, u64)> = None;
                while let Some(Ok(listed)) = listing.next().await {
                    let Listed::Object { path, size } = listed else { continue };
                    let ObjectPath::Slice { id: receipt, part: SlicePart::Receipt, .. } = path else {
                        continue;
                    };
                    let max = Receipt::MAX_LEN as u64;
                    let Ok(bytes) = store.get(&path, max).await else { continue };
                    let opened = open_as::<Receipt>(&bytes, &fleet);
                    let Ok((_, read)) = opened else { continue };
                    if newest.is_none_or(|(attempt, ..)| read.attempt > attempt) {
                        newest = Some((read.attempt, receipt, size));
                    }
                }
                if let Some((attempt, receipt, receipt_size)) = newest {
                    let event = Event::Stored { service, attempt, receipt, receipt_size };
                    let _ = reports.send(Report::Event(id, Box::new(event))).await;
                }
            });
        }
    }

    /// Fetches the manifest of a round that an earlier leader committed but did not verify.
    fn verify_later(&self, commit: Commit) {
        let (store, reports, fleet) = (self.setting.store.clone(), self.reports.clone(), self.state().fleet);
        tokio::spawn(async move {
            let path = ObjectPath::Manifest(commit.manifest);
            match check::read_object(store.as_ref(), &path, &commit.manifest, commit.manifest_size).await {
                Ok(bytes) => match open_as::<Manifest>(&bytes, &fleet) {
                    Ok((_, manifest)) => {
                        let _ = reports.send(Report::Unverified(Box::new(manifest))).await;
                    }
                    Err(error) => tracing::error!(error = causes(&error), "{}: {path}", Code::Verify02),
                },
                Err(failure) => tracing::error!(?failure, "{}: {path} is not readable", Code::Verify02),
            }
        });
    }

    fn verify(&mut self, manifest: Manifest) {
        let state = self.state();
        let Some(round) = state.rounds.get(&manifest.round) else { return };
        let seed = u64::from_be_bytes(random(&mut OsEntropy));
        let machine =
            Machine::verify(manifest.outcome, manifest.slices, self.setting.policy, seed, self.now());
        self.seat(machine, round.open.clone(), round.position);
    }

    fn finished(&mut self, id: RoundId) {
        let Some(round) = self.rounds.get_mut(&id) else { return };
        round.finished = true;
        let retries = std::mem::take(&mut round.retries);
        let number = round.open.number;
        match round.machine.phase() {
            Phase::Ended { outcome, verified } => {
                let (outcome, seconds) = (outcome.as_str(), round.began.elapsed().as_secs_f64());
                tracing::info!(round = number, outcome, verified, seconds, "round ended");
            }
            Phase::Opening
            | Phase::Capturing
            | Phase::Writing
            | Phase::Committing { .. }
            | Phase::Verifying { .. }
            | Phase::Confirming { .. }
            | Phase::Ending { .. } => {}
        }
        for (reply, format) in round.opened_reply.drain(..).collect::<Vec<_>>() {
            send_trigger_reply(reply, format, &refused("the round could not be opened".into()));
        }
        self.ended.push_back(id);
        for service in retries {
            self.send_value(&Subject::ServiceState(service), None);
        }
    }

    /// Opens the requests whose services are free now, in their order.
    fn wake_waiting(&mut self) {
        let mut still = VecDeque::new();
        while let Some(request) = self.waiting.pop_front() {
            let state = self.state();
            let opening = self.rounds.values().any(|r| *r.machine.phase() == Phase::Opening);
            match admit(&state, &request.id, &request.scope, Overlap::Queue) {
                Admission::Open { .. } if !opening => self.open(request),
                Admission::Open { .. } | Admission::Queue { .. } => still.push_back(request),
                Admission::Known { .. } | Admission::Skip { .. } | Admission::Refuse { .. } => {}
            }
        }
        self.queued = still.iter().map(|r| r.id).collect();
        self.waiting = still;
    }

    fn forget(&mut self) {
        while self.ended.len() > REMEMBERED {
            if let Some(id) = self.ended.pop_front() {
                self.rounds.remove(&id);
            }
        }
    }
}

fn refused(reason: String) -> TriggerReply {
    TriggerReply { round: None, number: None, state: TriggerState::Refused, reason: Some(reason) }
}

fn send(reply: Reply, payload: Vec<u8>) {
    tokio::spawn(async move {
        if let Err(error) = reply.send(Vec::new(), payload.into()).await {
            tracing::debug!(%error, "an answer was not sent; it will be asked for again");
        }
    });
}

fn send_trigger_reply(reply: Reply, format: Format, answer: &TriggerReply) {
    let headers = vec![("Content-Type".to_owned(), format.content_type().to_owned())];
    let payload = format.encode(answer);
    tokio::spawn(async move { reply.send(headers, payload.into()).await });
}
