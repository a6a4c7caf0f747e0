//! Requests: what becomes of a trigger, and of those that wait for their services.

use std::collections::{BTreeSet, VecDeque};

use muster_bus::{Job, Reply};
use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::causes::causes;
use muster_protocol::entropy::random;
use muster_protocol::ids::{Nonce, RoundId, ServiceName};
use muster_protocol::log::{Open, Scope, State};
use muster_protocol::message::{
    CommandReply, CommandState, Format, Trigger, TriggerError, TriggerReply, TriggerState, cut_reason,
};
use muster_protocol::round::{Admission, Overlap, Phase, Start, admit};
use muster_protocol::schedule::{Due, Standing, rfc3339};
use muster_protocol::service_policy::ServicePolicies;
use muster_share::entropy::OsEntropy;
use muster_telemetry::span::Place as Trace;

use crate::scribe::unix_now;

use super::{Desk, JOB_AGAIN, MAX_QUEUED};

/// Services that a round's record can name: names of 32 bytes at most, in a record of 64 KiB.
const MAX_NAMED: usize = 1500;

/// Who asks for a round.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A message that anybody may have sent.
    Message,
    /// The queue, where whoever asked has left it.
    Queue,
    /// A member, by a signed command, or a token.
    Command {
        /// Its name, in words.
        who: String,
        /// Also while the fleet is disabled.
        force: bool,
    },
    /// The schedule.
    Schedule(Due),
}

/// Where a request waits for its services. Each kind has places of its own, so that requests that anybody may send keep out no
/// signed one, and none of these the schedule's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anybody,
    Signed,
    Schedule,
}

impl Place {
    fn most(self) -> usize {
        match self {
            Self::Anybody | Self::Signed => MAX_QUEUED,
            // A slot that finds another one waiting would be the same round a moment later.
            Self::Schedule => 1,
        }
    }
}

impl Origin {
    /// As the round's record has it; `reason` is the sender's.
    fn trigger(&self, reason: &str) -> String {
        let line: String = reason.chars().filter(|c| !c.is_control()).collect();
        let detail = if line.is_empty() { String::new() } else { format!(": {}", cut_reason(&line)) };
        match self {
            Self::Message => format!("message{detail}"),
            Self::Queue => format!("queue{detail}"),
            Self::Command { who, force: false } => format!("command of {who}{detail}"),
            Self::Command { who, force: true } => format!("command of {who}, forced{detail}"),
            Self::Schedule(due) => {
                let slot = rfc3339(due.slot).unwrap_or_default();
                let missed = if due.missed { ", missed and made up for" } else { "" };
                format!("schedule, slot {slot}{missed}")
            }
        }
    }

    fn is_forced(&self) -> bool {
        match self {
            Self::Command { force, .. } => *force,
            Self::Message | Self::Queue | Self::Schedule(_) => false,
        }
    }

    /// Where it waits here; none: it waits where it came from.
    fn place(&self) -> Option<Place> {
        match self {
            Self::Message => Some(Place::Anybody),
            Self::Queue => None,
            Self::Command { .. } => Some(Place::Signed),
            Self::Schedule(_) => Some(Place::Schedule),
        }
    }
}

/// A request that waits for its services, or is about to be a round.
pub(super) struct Request {
    pub(super) id: RoundId,
    pub(super) scope: Scope,
    trigger: String,
    place: Option<Place>,
    forced: bool,
    /// What whoever asks does it within.
    trace: Option<Trace>,
}

/// Who waits until a round's record is in the log.
pub(super) enum Waiter {
    /// Whoever sent a trigger.
    Trigger(Reply, Format),
    /// Whoever sent a command with this nonce.
    Command(Reply, Nonce),
}

impl Desk {
    /// Decides on a trigger. The second part names the round whose opening must succeed before the answer is true.
    pub(super) fn trigger(
        &mut self,
        request: Option<String>,
        trigger: Result<Trigger, TriggerError>,
        origin: &Origin,
        trace: Option<Trace>,
    ) -> (TriggerReply, Option<RoundId>) {
        let trigger = match trigger {
            Ok(trigger) => trigger,
            Err(error) => {
                return (refused(causes(&error)), None);
            }
        };
        let state = self.state();
        let request = trigger
            .request
            .or(request)
            .unwrap_or_else(|| muster_protocol::ids::hex(&random::<16>(&mut OsEntropy)));
        let id = RoundId::derive(&state.fleet, &request);
        // Without services the id alone says what is meant, and what labels mean may have changed since.
        let named = trigger.services.is_some() && trigger.labels.is_none();
        let scope = match scope(&state, trigger.services, trigger.labels) {
            Ok(scope) => scope,
            Err(reason) => return (refused(reason), None),
        };
        if named && self.asked_before(&state, &id).is_some_and(|before| before != scope) {
            let reason = "the same request id asked for other services before; another id is another round";
            return (refused(reason.to_owned()), None);
        }
        self.ask(id, scope, &trigger.reason.unwrap_or_default(), origin, trace)
    }

    /// Decides on a round that is asked for, perhaps within a trace. The second part names it if its opening must succeed before the answer
    /// is true.
    pub(super) fn ask(
        &mut self,
        id: RoundId,
        scope: Scope,
        reason: &str,
        origin: &Origin,
        trace: Option<Trace>,
    ) -> (TriggerReply, Option<RoundId>) {
        let state = self.state();
        if let Some(round) = self.rounds.get(&id).filter(|r| !r.finished) {
            let answer = TriggerReply {
                round: Some(id),
                number: Some(round.open.number).filter(|n| *n > 0),
                state: TriggerState::Running,
                reason: None,
            };
            // Asked again while its record is still on its way to the log.
            let opening = *round.machine.phase() == Phase::Opening;
            return (answer, opening.then_some(id));
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
        // What is a round already, or never can be one, is told all the same.
        let admission = match (admission, disabled(&state).filter(|_| !origin.is_forced())) {
            (Admission::Open { .. } | Admission::Queue { .. } | Admission::Skip { .. }, Some(reason)) => {
                Admission::Refuse { reason }
            }
            (admission, _) => admission,
        };
        let request = Request {
            id,
            scope,
            // It goes into the log and onto screens.
            trigger: origin.trigger(reason),
            place: origin.place(),
            forced: origin.is_forced(),
            trace,
        };
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
                if let Some(place) = request.place.filter(|_| !self.waiting.iter().any(|r| r.id == id)) {
                    if self.waiting.iter().filter(|r| r.place == Some(place)).count() >= place.most() {
                        return match place {
                            Place::Anybody | Place::Signed => {
                                (refused(format!("{MAX_QUEUED} requests wait already")), None)
                            }
                            Place::Schedule => (
                                self.skipped(id, format!("{reason}, and an earlier slot waits already")),
                                None,
                            ),
                        };
                    }
                    self.queued.push_back(id);
                    self.waiting.push_back(request);
                }
                (reply(TriggerState::Queued, None, Some(reason)), None)
            }
            Admission::Skip { reason } => (self.skipped(id, reason), None),
            Admission::Refuse { reason } => (refused(reason), None),
        }
    }

    fn skipped(&self, id: RoundId, reason: String) -> TriggerReply {
        let about = About::Part(Part::Fleet);
        self.setting.alerts.raise(Finding::seen(Code::Round03, about, reason.clone()));
        TriggerReply { round: Some(id), number: None, state: TriggerState::Skipped, reason: Some(reason) }
    }

    /// Tells whoever waited for a round's record what became of it.
    pub(super) fn tell_waiter(&self, waiter: Waiter, answer: &TriggerReply) {
        match waiter {
            Waiter::Trigger(reply, format) => send_trigger_reply(reply, format, answer),
            Waiter::Command(reply, nonce) => self.answer(reply, command_reply(nonce, answer.clone())),
        }
    }

    /// What the request of this round was over when it came before.
    fn asked_before(&self, state: &State, id: &RoundId) -> Option<Scope> {
        let waiting = || self.waiting.iter().find(|request| request.id == *id).map(|request| &request.scope);
        let at_desk = self.rounds.get(id).map(|round| &round.open.scope);
        let in_log = || state.rounds.get(id).map(|round| &round.open.scope);
        at_desk.or_else(in_log).or_else(waiting).cloned()
    }

    pub(super) fn open(&mut self, request: Request) {
        let Request { id, scope, trigger, trace, .. } = request;
        let open = Open {
            epoch: self.setting.scribe.epoch(),
            round: id,
            number: 0,
            scope,
            nonce: Nonce::from_bytes(random(&mut OsEntropy)),
            trigger,
            deadline_millis: u64::try_from(self.setting.policy.deadline.as_millis()).unwrap_or(u64::MAX),
            at: unix_now(),
            cut: self.setting.cut,
        };
        self.begin(open, 0, Start::Fresh);
        if let Some(round) = self.rounds.get_mut(&id) {
            round.trace.belongs_to(trace, &round.open);
        }
    }

    pub(super) fn job(
        &mut self,
        request: Option<String>,
        trigger: Result<Trigger, TriggerError>,
        job: Job,
        trace: Option<Trace>,
    ) {
        let (answer, opening) = self.trigger(request, trigger, &Origin::Queue, trace);
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

    /// Opens the requests whose services are free now, in their order.
    pub(super) fn wake_waiting(&mut self) {
        let mut still = VecDeque::new();
        while let Some(request) = self.waiting.pop_front() {
            let state = self.state();
            if let Some(reason) = disabled(&state).filter(|_| !request.forced) {
                tracing::info!(round = %request.id, reason, "a request that waited is dropped");
                continue;
            }
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
}

/// Why no round begins now, if somebody disabled the fleet.
pub(super) fn disabled(state: &State) -> Option<String> {
    let clear = state.config.as_ref().map(|config| &config.clear)?;
    Standing::of(clear, unix_now()).refusal()
}

/// The answer to a demand for a round.
pub(super) fn command_reply(nonce: Nonce, answer: TriggerReply) -> CommandReply {
    let state = match answer.state {
        TriggerState::Opened | TriggerState::Running | TriggerState::Ended | TriggerState::Queued => {
            CommandState::Done
        }
        TriggerState::Skipped => CommandState::Nothing,
        TriggerState::Refused => CommandState::Refused,
    };
    CommandReply { nonce, state, reason: answer.reason.clone().unwrap_or_default(), started: Some(answer) }
}

/// The services that are named, and those with one of the labels. The record of the round names them all, so that what it is
/// over stays what it was when the labels change.
fn scope(
    state: &State,
    services: Option<Vec<ServiceName>>,
    labels: Option<Vec<String>>,
) -> Result<Scope, String> {
    let Some(labels) = labels else {
        let Some(mut services) = services else { return Ok(Scope::All) };
        services.sort();
        services.dedup();
        return bounded(services);
    };
    let policies = state.config.as_ref().map(|config| ServicePolicies::of(&config.clear)).unwrap_or_default();
    let mut wanted: BTreeSet<_> = services.into_iter().flatten().collect();
    for label in &labels {
        let before = wanted.len();
        let with = |service: &ServiceName| policies.policy(service).labels.contains(label);
        let labelled: Vec<_> = state.services().into_iter().filter(with).collect();
        if labelled.is_empty() {
            return Err(format!(
                "no service has the label {label}; `muster config set service.PATTERN label={label}` gives it to some"
            ));
        }
        wanted.extend(labelled);
        tracing::debug!(label, services = wanted.len() - before, "label resolved");
    }
    bounded(wanted.into_iter().collect())
}

/// A log record holds so many names and no more.
fn bounded(services: Vec<ServiceName>) -> Result<Scope, String> {
    if services.len() > MAX_NAMED {
        return Err(format!(
            "{} services are asked for by name or label, and a round names at most {MAX_NAMED}; ask for all of them, or in parts",
            services.len()
        ));
    }
    Ok(Scope::Services(services))
}

pub(super) fn refused(reason: String) -> TriggerReply {
    TriggerReply {
        round: None,
        number: None,
        state: TriggerState::Refused,
        reason: Some(cut_reason(&reason)),
    }
}

pub(super) fn send_trigger_reply(reply: Reply, format: Format, answer: &TriggerReply) {
    let headers = vec![("Content-Type".to_owned(), format.content_type().to_owned())];
    let payload = format.encode(answer);
    tokio::spawn(async move { reply.send(headers, payload.into()).await });
}
