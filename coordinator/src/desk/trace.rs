//! What a round tells telemetry: one trace from its trigger to its end, and the figures of it.
//!
//! A pure observer: it hears the events that a machine is given and sees the effects that come of them, and decides nothing. The
//! trace's id is the round's, unless whoever asked for the round brought a trace of its own; the ids of spans follow from
//! their names, so that a leader that takes the round over goes on with the same trace.
//!
//! ```text
//! round ─┬─ open · recruit · cut · capture · commit · verify          how long it stayed at each
//!        └─ slice (one for each attempt; a later one links the first)
//!             ├─ send order ── process order …                        the agent's side
//!             └─ check
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use muster_bus::Headers;
use muster_protocol::document::{ManifestSlice, SliceStatus};
use muster_protocol::ids::ServiceName;
use muster_protocol::log::Open;
use muster_protocol::round::{CheckFailure, Effect, Event, Failure, Machine, MemberView, Phase};
use muster_protocol::subject::{Subject, Subjects};
use muster_protocol::time::UnixMillis;
use muster_telemetry::metrics::{
    CODE, CUT_SKEW, OUTCOME, PHASE, PHASE_DURATION, RETRIES, ROUND_DURATION, ROUNDS, SLICE_DURATION, SLICES,
};
use muster_telemetry::span::{self, Finished, Happened, Place, Side};

/// Events that a span keeps.
const MOST_EVENTS: usize = 100;
/// The subject of hellos, whose answers are orders, with placeholders for what is of many values.
const HELLO_TEMPLATE: &str = "muster.v1.{fleet}.hello.{service}";

/// A moment: for people by the calendar, for figures by a clock that never jumps.
#[derive(Debug, Clone, Copy)]
struct Since {
    date: SystemTime,
    clock: Instant,
}

impl Since {
    fn now() -> Self {
        Self { date: SystemTime::now(), clock: Instant::now() }
    }

    fn seconds(self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    /// What tells spans of one name apart.
    fn nanos(self) -> u128 {
        self.date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
    }
}

/// One attempt of one service.
#[derive(Debug)]
struct Attempt {
    number: u32,
    place: Place,
    began: Since,
    checked_from: Option<Since>,
    events: Vec<Happened>,
}

/// A phase that a round is in: what its span and its figure are called.
#[derive(Debug, Clone, Copy)]
struct Stage {
    span: &'static str,
    word: &'static str,
    since: Since,
}

/// The trace of one round.
#[derive(Debug)]
pub(crate) struct RoundTrace {
    /// Where the round is, told or not: whoever works for it follows.
    place: Place,
    /// The same, if its trace is told.
    root: Option<Place>,
    /// What it belongs to, if whoever asked for it said so.
    parent: Option<Place>,
    began: SystemTime,
    /// The phase that it is in, and since when.
    phase: Option<Stage>,
    /// Services that have not said hello yet, and since when they are waited for.
    awaited: Option<(BTreeSet<ServiceName>, Since)>,
    attempts: BTreeMap<ServiceName, Attempt>,
    /// Attempts that were ordered: their spans are told when they end.
    ordered: BTreeSet<(ServiceName, u32)>,
    events: Vec<Happened>,
    /// Somebody else has counted the round when it was committed.
    is_counted: bool,
}

impl RoundTrace {
    /// Of a round that was opened so.
    pub(crate) fn of(open: &Open) -> Self {
        let place = Place::root(*open.round.as_bytes());
        Self {
            place,
            root: sampled(place),
            parent: None,
            began: time(open.at),
            phase: None,
            awaited: None,
            attempts: BTreeMap::new(),
            ordered: BTreeSet::new(),
            events: Vec::new(),
            is_counted: false,
        }
    }

    /// Where the round is, if its trace is told.
    pub(crate) fn place(&self) -> Option<Place> {
        self.root
    }

    /// Whoever asked for the round brought a trace: the round is part of it.
    pub(crate) fn belongs_to(&mut self, parent: Option<Place>, open: &Open) {
        if let Some(parent) = parent {
            self.parent = Some(parent);
            self.place = parent.named(&open.round.to_string());
            self.root = sampled(self.place);
        }
    }

    /// It was committed by another leader, and only its objects are still to be read again.
    pub(crate) fn only_verifies(&mut self) {
        self.is_counted = true;
    }

    /// Who is expected.
    pub(crate) fn awaits(&mut self, services: impl IntoIterator<Item = ServiceName>) {
        self.awaited = Some((services.into_iter().collect(), Since::now()));
    }

    /// What the machine is about to be told.
    pub(crate) fn hear(&mut self, event: &Event) {
        match event {
            Event::Hello { service, .. } => {
                if let Some((awaited, since)) = &mut self.awaited {
                    awaited.remove(service);
                    if awaited.is_empty() {
                        let since = *since;
                        self.awaited = None;
                        self.stage("recruit", since);
                    }
                }
            }
            Event::Failed { service, attempt, failure } => self.failed(service, *attempt, failure),
            Event::Checked { service, result, .. } => match result {
                Ok(slice) => self.stored(service, slice),
                Err(CheckFailure::Refused(failure)) => {
                    self.checked(service, Some(&failure.reason));
                    let attempt = self.attempts.get(service).map_or(1, |attempt| attempt.number);
                    self.failed(service, attempt, failure);
                }
                Err(CheckFailure::Unavailable { reason }) => {
                    self.checked(service, Some(reason));
                    self.happened(service, "check again", vec![("muster.reason", reason.as_str().into())]);
                }
            },
            Event::Disowned { service, failure } => {
                let attempt = self.attempts.get(service).map_or(1, |attempt| attempt.number);
                self.failed(service, attempt, failure);
            }
            Event::Quiesced { service, .. } => self.happened(service, "quiesced", Vec::new()),
            Event::Snapped { service, .. } => self.happened(service, "snapped", Vec::new()),
            Event::StageFailed { reason } => {
                push(&mut self.events, "stage failed", vec![("muster.reason", reason.as_str().into())]);
            }
            Event::Cancel { reason } => {
                push(&mut self.events, "cancel", vec![("muster.reason", reason.as_str().into())]);
            }
            Event::Opened
            | Event::Seen { .. }
            | Event::AtWork { .. }
            | Event::Stored { .. }
            | Event::ManifestWritten { .. }
            | Event::Committed
            | Event::Reread { .. }
            | Event::RereadFailed { .. }
            | Event::VerifiedAppended
            | Event::EndAppended => {}
        }
    }

    /// What the machine wants done.
    pub(crate) fn see(&mut self, effect: &Effect) {
        match effect {
            Effect::Check { service, .. } => {
                if let Some(attempt) = self.attempts.get_mut(service) {
                    attempt.checked_from = Some(Since::now());
                }
            }
            Effect::PublishRetry { service, attempt } => {
                // An attempt that nobody heard of any more: what failed was told before.
                if self.attempts.get(service).is_some_and(|open| open.number < *attempt) {
                    self.end(service, Some("nothing was heard of it any more".to_owned()));
                }
                let said = vec![
                    ("muster.service", service.to_string().into()),
                    ("muster.attempt", (*attempt).into()),
                ];
                push(&mut self.events, "retry", said);
            }
            Effect::WriteManifest { cut: Some(cut), .. } => {
                if cut.broken.is_none() {
                    CUT_SKEW.record(Duration::from_millis(cut.skew_millis).as_secs_f64(), Vec::new());
                }
            }
            Effect::AppendOpen
            | Effect::Publish
            | Effect::FindReceipts
            | Effect::Welcome { .. }
            | Effect::Acknowledge { .. }
            | Effect::WriteManifest { cut: None, .. }
            | Effect::AppendCommit { .. }
            | Effect::Reread { .. }
            | Effect::AppendVerified { .. }
            | Effect::AppendEnd { .. }
            | Effect::Finished => {}
        }
    }

    /// The phase that the machine is in now.
    pub(crate) fn at(&mut self, phase: &Phase) {
        let span = match phase {
            Phase::Opening => "open",
            Phase::Gathering => "cut",
            Phase::Capturing => "capture",
            Phase::Writing | Phase::Committing { .. } => "commit",
            Phase::Verifying { .. } | Phase::Confirming { .. } => "verify",
            Phase::Ending { .. } => "end",
            Phase::Ended { .. } => return self.leave(),
        };
        if self.phase.is_some_and(|current| current.span == span) {
            return;
        }
        self.leave();
        self.phase = Some(Stage { span, word: phase.word(), since: Since::now() });
    }

    fn leave(&mut self) {
        let Some(Stage { span, word, since }) = self.phase.take() else { return };
        PHASE_DURATION.record(since.seconds(), vec![(PHASE, word.to_owned())]);
        self.stage(span, since);
    }

    fn stage(&self, name: &'static str, since: Since) {
        let Some(root) = self.root else { return };
        // A phase may come twice, after a change of leaders: not the same span again.
        let place = root.below(&format!("{name} {}", since.nanos()));
        Finished::new(name, place, Some(root), since.date).tell();
    }

    /// A service is about to be told to begin: the headers that carry the trace there.
    pub(crate) fn order(&mut self, service: &ServiceName, attempt: u32, subjects: &Subjects) -> Headers {
        if self.attempts.get(service).is_some_and(|open| open.number != attempt) {
            self.end(service, Some("another attempt was ordered".to_owned()));
        }
        let place = self.attempt(service, attempt);
        let open = self.attempts.entry(service.clone()).or_insert_with(|| Attempt {
            number: attempt,
            place,
            began: Since::now(),
            checked_from: None,
            events: Vec::new(),
        });
        self.ordered.insert((service.clone(), attempt));
        if self.root.is_none() {
            return vec![place.untold().header()];
        }
        let now = Since::now();
        let sent = open.place.below(&format!("order {}", now.nanos()));
        let subject = subjects.print(&Subject::Hello(service.clone()));
        Finished::new("send order", sent, Some(open.place), now.date)
            .message(Side::Producer, "order", &subject, HELLO_TEMPLATE)
            .with("muster.service", service.as_str())
            .tell();
        vec![sent.header()]
    }

    fn happened(&mut self, service: &ServiceName, name: &'static str, said: Vec<(&'static str, span::Said)>) {
        if let Some(attempt) = self.attempts.get_mut(service) {
            push(&mut attempt.events, name, said);
        }
    }

    fn checked(&mut self, service: &ServiceName, error: Option<&str>) {
        let Some(attempt) = self.attempts.get_mut(service) else { return };
        let Some(since) = attempt.checked_from.take() else { return };
        if self.root.is_some() {
            let place = attempt.place.below(&format!("check {}", since.nanos()));
            let mut span = Finished::new("check", place, Some(attempt.place), since.date);
            span.error = error.map(str::to_owned);
            span.with("muster.service", service.as_str()).tell();
        }
    }

    fn stored(&mut self, service: &ServiceName, slice: &ManifestSlice) {
        self.checked(service, None);
        let Some(attempt) = self.attempts.get_mut(service) else { return };
        SLICE_DURATION.record(attempt.began.seconds(), Vec::new());
        let gaps = slice.status == SliceStatus::Gaps;
        let said = vec![
            ("muster.slice.source", slice.totals.source_bytes.into()),
            ("muster.slice.stored", slice.totals.stored_bytes.into()),
            ("muster.slice.added", slice.totals.added_bytes.into()),
            ("muster.slice.gaps", gaps.into()),
        ];
        push(&mut attempt.events, "stored", said);
        self.end(service, None);
    }

    fn failed(&mut self, service: &ServiceName, attempt: u32, failure: &Failure) {
        if self.attempts.get(service).is_none_or(|open| open.number != attempt) {
            return;
        }
        let said = vec![
            ("muster.code", failure.code.as_str().into()),
            ("muster.reason", failure.reason.as_str().into()),
            ("muster.permanent", failure.permanent.into()),
        ];
        self.happened(service, "failed", said);
        self.end(service, Some(format!("{}: {}", failure.code, failure.reason)));
    }

    fn end(&mut self, service: &ServiceName, error: Option<String>) {
        let Some(attempt) = self.attempts.remove(service) else { return };
        let Some(root) = self.root else { return };
        let mut span = Finished::new("slice", attempt.place, Some(root), attempt.began.date)
            .with("muster.service", service.as_str())
            .with("muster.attempt", attempt.number);
        span.links.extend(self.first_of(service, attempt.number));
        span.events = attempt.events;
        span.error = error;
        span.tell();
    }

    /// Where an attempt is.
    fn attempt(&self, service: &ServiceName, number: u32) -> Place {
        self.place.below(&format!("slice {service} {number}"))
    }

    /// The first attempt, of a later one.
    fn first_of(&self, service: &ServiceName, number: u32) -> Option<Place> {
        (number > 1).then(|| self.attempt(service, 1))
    }

    /// Attempts that no agent ever answered have spans, too.
    fn unheard(&self, machine: &Machine) {
        let Some(root) = self.root else { return };
        for member in machine.members() {
            let mut from = self.began;
            for failed in member.tries {
                let ended = self.began + Duration::from_millis(failed.after_millis);
                if !self.ordered.contains(&(member.service.clone(), failed.attempt)) {
                    let place = self.attempt(member.service, failed.attempt);
                    let mut span = Finished::new("slice", place, Some(root), from)
                        .with("muster.service", member.service.as_str())
                        .with("muster.attempt", failed.attempt);
                    span.ended = ended;
                    span.links.extend(self.first_of(member.service, failed.attempt));
                    span.error = Some(format!("{}: {}", failed.code, failed.reason));
                    span.tell();
                }
                from = ended;
            }
        }
    }

    /// The round is over, after so long on a clock that never jumps.
    pub(crate) fn over(&mut self, open: &Open, machine: &Machine, took: Duration) {
        let Phase::Ended { outcome, verified } = *machine.phase() else { return };
        self.leave();
        if let Some((awaited, since)) = self.awaited.take() {
            push(&mut self.events, "not heard of", vec![("muster.services", (awaited.len() as u64).into())]);
            self.stage("recruit", since);
        }
        let unended: Vec<ServiceName> = self.attempts.keys().cloned().collect();
        for service in unended {
            self.end(&service, Some("the round was over".to_owned()));
        }
        self.unheard(machine);
        let outcome = outcome.as_str();
        if !self.is_counted {
            ROUNDS.one(vec![(OUTCOME, outcome.to_owned())]);
            ROUND_DURATION.record(took.as_secs_f64(), vec![(OUTCOME, outcome.to_owned())]);
            machine.members().for_each(count);
        }
        let Some(root) = self.root else { return };
        let mut span = Finished::new("round", root, self.parent, self.began)
            .with("muster.round", open.round.to_string())
            .with("muster.round.number", open.number)
            .with("muster.trigger", open.trigger.as_str())
            .with("muster.outcome", outcome)
            .with("muster.verified", verified);
        span.events = std::mem::take(&mut self.events);
        span.error = (!verified).then(|| format!("{outcome}, not verified"));
        span.tell();
    }
}

/// What became of a service, and of each attempt that failed.
fn count(member: MemberView<'_>) {
    let outcome = match member.phase.slice().map(|slice| slice.status) {
        Some(SliceStatus::Whole) => "stored",
        Some(SliceStatus::Gaps) => "gaps",
        None => "absent",
    };
    SLICES.one(vec![(OUTCOME, outcome.to_owned())]);
    for failed in member.tries {
        RETRIES.one(vec![(CODE, failed.code.as_str().to_owned())]);
    }
}

fn sampled(place: Place) -> Option<Place> {
    Some(place).filter(|place| span::is_told() && place.is_sampled())
}

fn push(events: &mut Vec<Happened>, name: &'static str, attributes: Vec<(&'static str, span::Said)>) {
    if events.len() < MOST_EVENTS {
        events.push(Happened { name: name.into(), at: SystemTime::now(), attributes });
    }
}

/// The calendar is for people: what a trace says decides nothing.
fn time(at: UnixMillis) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}
