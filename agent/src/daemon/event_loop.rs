//! The event loop: turns what happens into events of the slice machine, and its effects into tasks.
//!
//! ```text
//! bus: documents ──▶ Beliefs ──(log read after they came)──▶ wish ──▶ Machine ──effects──▶ tasks ──reports──▶ Machine
//! ```
//!
//! One loop owns all state; whatever waits for the share, the bus or the sources is a task that reports back once. Must
//! never wait for anything but its own select, and never let a report of superseded work reach the machine: work is
//! known by tickets.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, BusError, Headers, Watch};
use muster_protocol::entropy::random;
use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::{RoundPhase, State};
use muster_protocol::message::Verdict;
use muster_protocol::retry::Retry;
use muster_protocol::slice::{Effect, Event, Machine, Policy, Reported};
use muster_protocol::subject::Subject;
use muster_protocol::time::Time;
use muster_share::entropy::OsEntropy;
use muster_share::store::Store;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, Span};

use super::beat::{Doing, heartbeats, progress};
use super::belief::{Arrival, Beliefs, Channel, Ignored, Order, Wish};
use super::capturer::{Capturer, Failure, Running, Written};
use super::connect::stopped;
use super::error::DaemonError;
use super::identity::{Identity, Pace};
use super::reader::{ReadError, Reader};
use super::refused::Lists;
use super::said::{Condition, PassedOver, chain};
use super::slice_task::{Task, guarded};
use super::talk::{TalkError, Talker, Welcomed};

/// What the loop is made of.
pub(crate) struct Parts<C: Capturer> {
    pub(crate) identity: Arc<Identity>,
    pub(crate) pace: Pace,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) reader: Reader,
    pub(crate) capturer: Arc<C>,
    /// Counts the messages that were passed over.
    pub(crate) passed_over: Arc<AtomicU64>,
}

/// What a task reports, once. Tickets say which work it was for.
enum Report<C: Capturer> {
    Read { reader: Box<Reader>, read: Result<Option<Arc<State>>, ReadError> },
    Values { fleet: Result<Option<Bytes>, BusError>, service: Result<Option<Bytes>, BusError> },
    Hello { ticket: u64, round: RoundId, answer: Result<Welcomed, TalkError> },
    Notice { ticket: u64, round: RoundId, attempt: u32, answer: Result<Verdict, TalkError> },
    Captured { ticket: u64, round: RoundId, lists: Lists, captured: Result<Arc<C::Captured>, Failure> },
    Receipt { ticket: u64, round: RoundId, attempt: u32, written: Result<Written, Failure> },
    Kept { receipt: ObjectId, kept: Result<(), Failure> },
}

/// A capture that runs or has ended.
struct Capture<C: Capturer> {
    ticket: u64,
    /// Cancels when the capture is given up.
    running: Option<Running<C>>,
    captured: Option<Arc<C::Captured>>,
}

/// What stood out in one turn of the loop.
enum Turn<C: Capturer> {
    Stop,
    Document(Channel, Option<Bytes>),
    Link(bool),
    Report(Result<Report<C>, tokio::task::JoinError>),
    Timer,
}

/// Delays that grow, and start over when something went well.
struct Backoff {
    policy: Retry,
    failures: u32,
}

impl Backoff {
    fn next(&mut self) -> Instant {
        self.failures = self.failures.saturating_add(1);
        Instant::now() + self.policy.delay(self.failures, u64::from_be_bytes(random(&mut OsEntropy)))
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The loop's state.
pub(crate) struct Daemon<C: Capturer> {
    identity: Arc<Identity>,
    pace: Pace,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    capturer: Arc<C>,
    talker: Talker,
    origin: Instant,
    machine: Machine,
    beliefs: Beliefs,
    /// The reader, while no reading is under way.
    reader: Option<Box<Reader>>,
    log: Option<Arc<State>>,
    order: Option<Order>,
    capture: Option<Capture<C>>,
    /// Resolves when the last capture's task has ended.
    winding_down: Option<oneshot::Receiver<()>>,
    lists: Lists,
    talk: Option<(u64, AbortHandle)>,
    tickets: u64,
    span: Option<(RoundId, Span)>,
    doing: watch::Sender<Doing>,
    /// The epoch that this agent has said it is there to.
    greeted: Option<u64>,
    tasks: JoinSet<Report<C>>,
    fetching: bool,
    fetch_again: bool,
    fetch_after_read: bool,
    poll_at: Instant,
    /// When a log that could not be read, or lagged behind the bus, is read again.
    reread_at: Option<Instant>,
    backoff: Backoff,
    connects: u64,
    passed_over: PassedOver,
    share: Condition,
    values: Condition,
    outsider: Condition,
}

impl<C: Capturer> Daemon<C> {
    pub(crate) fn build(parts: Parts<C>) -> Self {
        let Parts { identity, pace, bus, store, reader, capturer, passed_over } = parts;
        let seed = u64::from_be_bytes(random(&mut OsEntropy));
        let key = identity.signer.key_id();
        Self {
            talker: Talker { identity: Arc::clone(&identity), bus: Arc::clone(&bus) },
            machine: Machine::start(Policy { resend: pace.resend }, seed),
            beliefs: Beliefs::new(identity.fleet, identity.service.clone(), key),
            backoff: Backoff { policy: pace.reread, failures: 0 },
            origin: Instant::now(),
            poll_at: Instant::now(),
            reader: Some(Box::new(reader)),
            log: None,
            order: None,
            capture: None,
            winding_down: None,
            lists: Lists::new(),
            talk: None,
            tickets: 0,
            span: None,
            doing: watch::Sender::new(None),
            greeted: None,
            tasks: JoinSet::new(),
            fetching: false,
            fetch_again: false,
            fetch_after_read: false,
            reread_at: None,
            connects: bus.link().borrow().connects,
            passed_over: PassedOver::new(passed_over),
            share: Condition::default(),
            values: Condition::default(),
            outsider: Condition::default(),
            identity,
            pace,
            bus,
            store,
            capturer,
        }
    }

    /// Runs until `stop` says so.
    ///
    /// # Errors
    /// When the bus is closed under it, or a task of its own fails.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
        let mut fleet = self.watch(&self.identity.state_subject()).await?;
        let mut service = self.watch(&self.identity.subject(Subject::ServiceState)).await?;
        let mut link = self.bus.link();
        let mut beating = JoinSet::new();
        let beat = self.pace.heartbeat;
        let (identity, bus) = (Arc::clone(&self.identity), Arc::clone(&self.bus));
        beating.spawn(heartbeats(identity, bus, beat, self.doing.subscribe()));
        self.poll();
        loop {
            self.carry_out();
            let wake = self.wake();
            let turn = tokio::select! {
                () = stopped(&mut stop) => Turn::Stop,
                bytes = fleet.next() => Turn::Document(Channel::Fleet, bytes),
                bytes = service.next() => Turn::Document(Channel::Service, bytes),
                changed = link.changed() => Turn::Link(changed.is_ok()),
                Some(report) = self.tasks.join_next() => Turn::Report(report),
                () = sleep_until(wake) => Turn::Timer,
            };
            match turn {
                Turn::Stop => break,
                Turn::Document(channel, Some(bytes)) => self.document(channel, &bytes),
                Turn::Document(_, None) | Turn::Link(false) => {
                    self.wind_down().await;
                    return Err(DaemonError::BusClosed);
                }
                Turn::Link(true) => self.link(*link.borrow_and_update()),
                Turn::Report(Ok(report)) => self.report(report),
                Turn::Report(Err(error)) if error.is_cancelled() => {}
                Turn::Report(Err(_)) => {
                    self.wind_down().await;
                    return Err(DaemonError::Fault);
                }
                Turn::Timer => self.timer(),
            }
        }
        self.wind_down().await;
        Ok(())
    }

    async fn watch(&self, subject: &str) -> Result<Watch, DaemonError> {
        let subscribing = timeout(self.pace.hello, self.bus.watch_last_value(subject));
        match subscribing.await {
            Ok(Ok(watch)) => Ok(watch),
            Ok(Err(source)) => Err(DaemonError::Bus { subject: subject.to_owned(), source }),
            Err(_) => {
                let source = BusError::Timeout { subject: subject.to_owned(), limit: self.pace.hello };
                Err(DaemonError::Bus { subject: subject.to_owned(), source })
            }
        }
    }

    /// Cancels what runs and gives it a moment to end.
    async fn wind_down(&mut self) {
        self.capture = None;
        if let Some(ended) = self.winding_down.take()
            && timeout(self.pace.wind_down, ended).await.is_err()
        {
            tracing::warn!("the capture did not stop in time");
        }
        self.tasks.shutdown().await;
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn wake(&self) -> Instant {
        let machine = self.machine.poll_timeout().map(|(at, _)| self.origin + Duration::from_millis(at.0));
        let earliest = [machine, self.reread_at].into_iter().flatten().min();
        earliest.map_or(self.poll_at, |at| at.min(self.poll_at))
    }

    fn timer(&mut self) {
        let now = self.now();
        self.machine.handle_timeout(now);
        if self.reread_at.is_some_and(|at| at <= Instant::now()) || self.poll_at <= Instant::now() {
            self.reread_at = None;
            self.poll();
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.machine.handle(event, now);
    }

    fn link(&mut self, link: muster_bus::Link) {
        if link.connects > self.connects {
            tracing::info!("connected to the bus again");
            self.connects = link.connects;
            self.fetch();
        } else if !link.connected {
            tracing::warn!("the connection to the bus is lost; it is made again as soon as a server answers");
        }
    }

    // ---- documents and the log

    /// Reads the log, then the last values: whatever they depend on is read by then.
    fn poll(&mut self) {
        self.poll_at = Instant::now() + self.pace.poll;
        self.fetch_after_read = true;
        self.read();
    }

    fn read(&mut self) {
        let Some(mut reader) = self.reader.take() else { return };
        self.beliefs.begin_reading();
        self.tasks.spawn(async move {
            let read = reader.read().await;
            Report::Read { reader, read }
        });
    }

    fn fetch(&mut self) {
        if std::mem::replace(&mut self.fetching, true) {
            self.fetch_again = true;
            return;
        }
        let bus = Arc::clone(&self.bus);
        let (fleet, service) = (self.identity.state_subject(), self.identity.subject(Subject::ServiceState));
        self.tasks.spawn(async move {
            // The retry first, so that the round's document finds its attempt known.
            let service = bus.last_value(&service).await;
            Report::Values { fleet: bus.last_value(&fleet).await, service }
        });
    }

    fn fetched(&mut self, channel: Channel, value: Result<Option<Bytes>, BusError>) {
        match value {
            Ok(Some(bytes)) => self.document(channel, &bytes),
            Ok(None) | Err(BusError::NoStream { .. }) => {}
            Err(error) => {
                if self.values.wrong(&chain(&error)) {
                    tracing::warn!(error = chain(&error), "the current state cannot be read from the bus");
                }
                return;
            }
        }
        if self.values.right() {
            tracing::info!("the current state can be read from the bus again");
        }
    }

    fn document(&mut self, channel: Channel, bytes: &Bytes) {
        match self.beliefs.arrive(channel, bytes, self.log.as_deref()) {
            Ok(Arrival::Known) => {}
            Ok(Arrival::New) => self.read_if_due(),
            Err(why) => {
                self.passed_over.add("document", &why);
                self.read_if_due();
            }
        }
    }

    /// Reads unless the share has just failed; then the back-off decides.
    fn read_if_due(&mut self) {
        if self.reread_at.is_none() && self.beliefs.wants_reading() {
            self.read();
        }
    }

    fn read_on(&mut self, reader: Box<Reader>, read: Result<Option<Arc<State>>, ReadError>) {
        self.reader = Some(reader);
        match read {
            Ok(grown) => {
                if self.share.right() {
                    tracing::info!(share = self.store.describe(), "the log can be read again");
                }
                if let Some(state) = grown {
                    self.log = Some(state);
                }
                self.judge();
            }
            Err(error) => {
                if self.share.wrong(&chain(&error)) {
                    tracing::error!(
                        share = self.store.describe(),
                        error = chain(&error),
                        "the log cannot be read; waiting until it can"
                    );
                }
                self.beliefs.reading_failed();
                self.reread_at = Some(self.backoff.next());
            }
        }
        if std::mem::take(&mut self.fetch_after_read) {
            self.fetch();
        }
    }

    fn judge(&mut self) {
        let Some(log) = self.log.clone() else { return };
        let mut behind = false;
        for why in self.beliefs.judge(&log) {
            behind |= matches!(why, Ignored::Ahead { .. });
            self.passed_over.add("document", &why);
        }
        self.follow(&log);
        let outside = matches!(self.beliefs.wish(&log), Wish::Outsider);
        if behind || outside || self.beliefs.is_ahead(&log) {
            self.reread_at = Some(self.backoff.next());
        } else {
            self.backoff.reset();
            self.read_if_due();
        }
    }

    /// Does what is wished, as the log stands.
    fn follow(&mut self, log: &State) {
        let wish = self.beliefs.wish(log);
        let epoch = log.epoch.map(|epoch| epoch.epoch);
        if self.greeted != epoch {
            // A new leader knows nobody yet: it need not wait for the next heartbeat.
            self.greeted = epoch;
            self.doing.send_modify(|_| ());
        }
        let key = self.identity.signer.key_id();
        if wish == Wish::Outsider {
            if self.outsider.wrong("outsider") {
                tracing::error!(
                    service = self.identity.service.as_str(),
                    key = key.to_string(),
                    "this key is not the agent of the service in the fleet's roster: enrol it with `muster enroll`"
                );
            }
        } else if self.outsider.right() {
            tracing::info!(key = key.to_string(), "this key is the agent of the service now");
        }
        match wish {
            Wish::Slice(order) => {
                let Order { epoch, round, attempt, .. } = order;
                self.order = Some(order);
                self.handle(Event::Order { epoch, round, attempt });
            }
            Wish::Nothing | Wish::Outsider => self.drop_order(),
            Wish::Unknown => {
                let over = |round: &RoundId| {
                    log.rounds.get(round).is_some_and(|state| state.phase != RoundPhase::Open)
                };
                if self.order.as_ref().is_some_and(|order| over(&order.round)) {
                    self.drop_order();
                }
            }
        }
    }

    fn drop_order(&mut self) {
        self.order = None;
        self.handle(Event::NoOrder);
    }

    // ---- effects

    fn carry_out(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Hello { round, attempt, .. } => self.hello(round, attempt),
                Effect::Capture { round } => self.begin_capture(round),
                Effect::WriteReceipt { round, attempt } => self.write_receipt(round, attempt),
                Effect::Notice { round, attempt, reported, .. } => self.notice(round, attempt, reported),
                Effect::Drop { round } => self.drop_work(round),
                Effect::Keep { receipt, .. } => {
                    let capturer = Arc::clone(&self.capturer);
                    self.tasks
                        .spawn(async move { Report::Kept { receipt, kept: capturer.keep(receipt).await } });
                }
            }
        }
        let doing = self.machine.work();
        self.doing.send_if_modified(|now| std::mem::replace(now, doing) != doing);
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// The order that the machine works for. The machine follows orders, so it is there.
    fn order(&self, round: RoundId) -> Order {
        let order = self.order.as_ref().filter(|order| order.round == round);
        order.cloned().expect("the machine works only for the order it was given last")
    }

    /// Begins a conversation; the one before, if any, is over.
    fn begin_talk(
        &mut self,
        ticket: u64,
        talk: impl Future<Output = Report<C>> + Send + 'static,
        span: Span,
    ) {
        let handle = self.tasks.spawn(talk.instrument(span));
        if let Some((_, former)) = self.talk.replace((ticket, handle)) {
            former.abort();
        }
    }

    fn is_current_talk(&mut self, ticket: u64) -> bool {
        self.talk.take_if(|(current, _)| *current == ticket).is_some()
    }

    fn hello(&mut self, round: RoundId, attempt: u32) {
        let (order, ticket, talker, limit) =
            (self.order(round), self.ticket(), self.talker.clone(), self.pace.hello);
        let service = self.identity.service.as_str();
        let span = tracing::info_span!("hello", service, round = round.to_string(), attempt);
        let talk = async move {
            let answer = talker.hello(&order, attempt, limit).await;
            Report::Hello { ticket, round, answer }
        };
        self.begin_talk(ticket, talk, span);
    }

    fn notice(&mut self, round: RoundId, attempt: u32, reported: Reported) {
        let (order, ticket, talker, limit) =
            (self.order(round), self.ticket(), self.talker.clone(), self.pace.notice);
        let talk = async move {
            let answer = talker.notice(&order, attempt, reported, limit).await;
            Report::Notice { ticket, round, attempt, answer }
        };
        let span = self.slice_span(round);
        self.begin_talk(ticket, talk, span);
    }

    fn begin_capture(&mut self, round: RoundId) {
        let ticket = self.ticket();
        let run = Arc::new(self.capturer.run());
        let running = Running { capturer: Arc::clone(&self.capturer), run: Arc::clone(&run) };
        // Whatever ran before is cancelled here, and waited for in the task.
        self.capture = Some(Capture { ticket, running: Some(running), captured: None });
        let (end, ended) = oneshot::channel();
        let former = self.winding_down.replace(ended);
        let log = self.log.clone().expect("nothing is ordered before the log was read");
        let task = Task {
            capturer: Arc::clone(&self.capturer),
            run: Arc::clone(&run),
            store: Arc::clone(&self.store),
            log,
            service: self.identity.service.clone(),
            round,
            lists: std::mem::take(&mut self.lists),
            former,
            wind_down: self.pace.wind_down,
        };
        let telling = progress(
            Arc::clone(&self.identity),
            Arc::clone(&self.bus),
            self.pace.progress,
            Arc::clone(&self.capturer),
            run,
            self.doing.subscribe(),
        );
        tracing::info!(round = round.to_string(), "capturing");
        let work = async move {
            // Dropped when the task has ended, however it did.
            let _end = end;
            let (lists, captured) = tokio::select! {
                done = task.work() => done,
                () = telling => unreachable!("progress is told for ever"),
            };
            Report::Captured { ticket, round, lists, captured }
        };
        let span = self.slice_span(round);
        self.tasks.spawn(work.instrument(span));
    }

    fn write_receipt(&mut self, round: RoundId, attempt: u32) {
        let order = self.order(round);
        let ticket = self.capture.as_ref().map_or(0, |capture| capture.ticket);
        let captured = self.capture.as_ref().and_then(|capture| capture.captured.clone());
        let captured = captured.expect("a receipt is written only of what is captured");
        let nonce = order.nonce.for_attempt(&self.identity.service, attempt);
        let head = self.log.as_ref().expect("nothing is ordered before the log was read").head;
        let capturer = Arc::clone(&self.capturer);
        let span = self.slice_span(round);
        let work = async move {
            let writing = async move { capturer.write_receipt(&captured, attempt, nonce, head).await };
            let written = guarded("writing the receipt", writing).await;
            Report::Receipt { ticket, round, attempt, written }
        };
        self.tasks.spawn(work.instrument(span));
    }

    fn drop_work(&mut self, round: RoundId) {
        tracing::info!(round = round.to_string(), "the round needs nothing more of this service");
        self.capture = None;
        self.span = None;
        if let Some((_, talk)) = self.talk.take() {
            talk.abort();
        }
    }

    /// The span that everything of one slice is in.
    fn slice_span(&mut self, round: RoundId) -> Span {
        match &self.span {
            Some((current, span)) if *current == round => span.clone(),
            Some(_) | None => self.begin_span(round, &Headers::new()),
        }
    }

    fn begin_span(&mut self, round: RoundId, headers: &Headers) -> Span {
        let service = self.identity.service.as_str();
        let attempt = self.machine.work().map_or(1, |(_, attempt)| attempt);
        let span = tracing::info_span!(parent: None, "slice", service, round = round.to_string(), attempt);
        muster_telemetry::set_parent(&span, headers);
        self.span = Some((round, span.clone()));
        span
    }

    // ---- reports

    fn report(&mut self, report: Report<C>) {
        match report {
            Report::Read { reader, read } => self.read_on(reader, read),
            Report::Values { fleet, service } => {
                self.fetching = false;
                self.fetched(Channel::Service, service);
                self.fetched(Channel::Fleet, fleet);
                if std::mem::take(&mut self.fetch_again) {
                    self.fetch();
                }
            }
            Report::Hello { ticket, round, answer } => {
                if self.is_current_talk(ticket) {
                    self.welcomed(round, answer);
                }
            }
            Report::Notice { ticket, round, attempt, answer } => {
                if self.is_current_talk(ticket) {
                    self.acknowledged(round, attempt, answer);
                }
            }
            Report::Captured { ticket, round, lists, captured } => {
                self.lists = lists;
                self.captured(ticket, round, captured);
            }
            Report::Receipt { ticket, round, attempt, written } => {
                if self.is_current_capture(ticket) {
                    self.receipt_written(round, attempt, written);
                }
            }
            Report::Kept { receipt, kept } => {
                if let Err(failure) = kept {
                    let (code, reason) = (failure.code.as_str(), failure.reason);
                    tracing::warn!(
                        receipt = receipt.to_string(),
                        code,
                        reason,
                        "the slice counts but was not remembered; the next one uploads more than it had to"
                    );
                }
            }
        }
    }

    fn is_current_capture(&self, ticket: u64) -> bool {
        self.capture.as_ref().is_some_and(|capture| capture.ticket == ticket)
    }

    fn welcomed(&mut self, round: RoundId, answer: Result<Welcomed, TalkError>) {
        match answer {
            Ok(Welcomed { attempt, headers }) => {
                if attempt.is_some() && self.span.as_ref().is_none_or(|(current, _)| *current != round) {
                    self.begin_span(round, &headers);
                }
                self.handle(Event::Welcomed { round, attempt });
            }
            Err(error) => {
                self.unanswered("welcome", &error);
                self.handle(Event::HelloUnanswered);
            }
        }
    }

    fn acknowledged(&mut self, round: RoundId, attempt: u32, answer: Result<Verdict, TalkError>) {
        match answer {
            Ok(verdict) => {
                match &verdict {
                    Verdict::Accepted => {
                        tracing::info!(round = round.to_string(), attempt, "the leader took the notice");
                    }
                    Verdict::Refused { reason } => {
                        tracing::warn!(
                            round = round.to_string(),
                            attempt,
                            reason,
                            "the slice does not count"
                        );
                    }
                    Verdict::Over => tracing::info!(round = round.to_string(), attempt, "the round is over"),
                }
                self.handle(Event::Acknowledged { round, attempt, verdict });
            }
            Err(error) => {
                self.unanswered("acknowledgement", &error);
                self.handle(Event::NoticeUnanswered);
            }
        }
    }

    fn unanswered(&mut self, what: &str, error: &TalkError) {
        if error.is_suspicious() {
            self.passed_over.add(what, error);
        } else {
            tracing::debug!(what, error = chain(error), "nobody answered; asking again");
        }
    }

    fn captured(&mut self, ticket: u64, round: RoundId, captured: Result<Arc<C::Captured>, Failure>) {
        let Some(capture) = self.capture.as_mut().filter(|capture| capture.ticket == ticket) else { return };
        capture.running = None;
        match captured {
            Ok(captured) => {
                capture.captured = Some(captured);
                self.handle(Event::Captured { round });
            }
            Err(failure) => {
                self.capture = None;
                self.failed(round, failure);
            }
        }
    }

    fn receipt_written(&mut self, round: RoundId, attempt: u32, written: Result<Written, Failure>) {
        match written {
            Ok(Written { receipt, receipt_size, totals }) => {
                tracing::info!(
                    round = round.to_string(),
                    attempt,
                    source_bytes = totals.source_bytes,
                    added_bytes = totals.added_bytes,
                    gaps = totals.gaps,
                    "the slice is on the share"
                );
                self.handle(Event::ReceiptWritten { round, attempt, receipt, receipt_size, totals });
            }
            // What was captured stays: the machine may have moved on to another attempt of it.
            Err(failure) => self.failed(round, failure),
        }
    }

    fn failed(&mut self, round: RoundId, failure: Failure) {
        let Failure { code, reason, permanent } = failure;
        tracing::error!(
            round = round.to_string(),
            code = code.as_str(),
            reason,
            permanent,
            "there is no slice"
        );
        self.handle(Event::CaptureFailed { round, code, reason, permanent });
    }
}
