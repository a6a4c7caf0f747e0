//! The event loop: turns what happens into events of the slice machine, and its effects into tasks.
//!
//! ```text
//! bus: documents ──▶ Beliefs ──(log read after they came)──▶ wish ──▶ Machine ──effects──▶ tasks ──reports──▶ Machine
//! ```
//!
//! One loop owns all state; whatever waits for the share, the bus or the sources is a task that reports back once. Must
//! never wait for anything but its own select, and never let a report of superseded work reach the machine: work is
//! known by tickets.

mod documents;
mod effects;
mod holds;
mod reports;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, BusError, Watch};
use muster_protocol::entropy::random;
use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::State;
use muster_protocol::message::Verdict;
use muster_protocol::retry::Retry;
use muster_protocol::slice::{Event, Machine, Policy};
use muster_protocol::subject::Subject;
use muster_protocol::time::Time;
use muster_share::entropy::OsEntropy;
use muster_share::store::Store;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Span;

use super::beat::{Doing, heartbeats};
use super::belief::{Beliefs, Channel, Order};
use super::capturer::{Capturer, Failure, Running, Written};
use super::connect::stopped;
use super::error::DaemonError;
use super::identity::{Identity, Pace};
use super::reader::{ReadError, Reader};
use super::refused::Lists;
use super::said::{Condition, PassedOver};
use super::session::Current;
use super::talk::{TalkError, Talker, Terms, Welcomed};
use crate::hold::Keeper;
use crate::restore::Gate;
use holds::{Hold, HoldSaid};

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
    /// Closed while a restore runs.
    pub(crate) gate: Gate,
    /// Holds the service while it is captured.
    pub(crate) keeper: Arc<Keeper>,
}

/// What a task reports, once. Tickets say which work it was for.
enum Report<C: Capturer> {
    Read {
        reader: Box<Reader>,
        read: Result<Option<Arc<State>>, ReadError>,
    },
    Values {
        fleet: Result<Option<Bytes>, BusError>,
        service: Result<Option<Bytes>, BusError>,
    },
    Hello {
        ticket: u64,
        round: RoundId,
        answer: Result<Welcomed, TalkError>,
    },
    Notice {
        ticket: u64,
        round: RoundId,
        attempt: u32,
        answer: Result<Verdict, TalkError>,
    },
    Standing {
        ticket: u64,
        round: RoundId,
        attempt: u32,
        answer: Result<(), TalkError>,
    },
    /// Every source is read; not, when the capture has ended before.
    SourcesRead {
        ticket: u64,
        round: RoundId,
        read: bool,
    },
    Captured {
        ticket: u64,
        round: RoundId,
        lists: Lists,
        captured: Result<Arc<C::Captured>, Failure>,
    },
    Receipt {
        ticket: u64,
        round: RoundId,
        attempt: u32,
        written: Result<Written, Failure>,
    },
    Kept {
        receipt: ObjectId,
        kept: Result<(), Failure>,
    },
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
    Hold(HoldSaid),
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
    /// What the leader allows, as its last welcome said.
    terms: Terms,
    capture: Option<Capture<C>>,
    /// Resolves when the last capture's task has ended.
    winding_down: Option<oneshot::Receiver<()>>,
    lists: Lists,
    talk: Option<(u64, AbortHandle)>,
    tickets: u64,
    span: Option<(RoundId, u32, Span)>,
    doing: watch::Sender<Doing>,
    /// The epoch of the leader that this agent says it is there to.
    greeted: watch::Sender<Option<u64>>,
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
    gate: Gate,
    keeper: Arc<Keeper>,
    /// The hold that the machine knows of.
    hold: Option<Hold>,
    /// Holds, those included that are only being released.
    holds: JoinSet<()>,
    said: (mpsc::UnboundedSender<HoldSaid>, mpsc::UnboundedReceiver<HoldSaid>),
    /// Tells that the service is held, while there is nothing else to tell.
    telling: Option<AbortHandle>,
    share: Condition,
    values: Condition,
    outsider: Condition,
    /// The record that revoked this agent's key.
    revoked: Option<u64>,
}

impl<C: Capturer> Daemon<C> {
    pub(crate) fn build(parts: Parts<C>) -> Self {
        let Parts { identity, pace, bus, store, reader, capturer, passed_over, gate, keeper } = parts;
        let seed = u64::from_be_bytes(random(&mut OsEntropy));
        let key = identity.signer.key_id();
        Self {
            talker: Talker {
                identity: Arc::clone(&identity),
                bus: Arc::clone(&bus),
                session: Current::default(),
            },
            machine: Machine::start(Policy { resend: pace.resend, hooks: keeper.has_hooks() }, seed),
            beliefs: Beliefs::new(identity.fleet, identity.service.clone(), key),
            backoff: Backoff { policy: pace.reread, failures: 0 },
            origin: Instant::now(),
            poll_at: Instant::now(),
            reader: Some(Box::new(reader)),
            log: None,
            order: None,
            terms: Terms::default(),
            capture: None,
            winding_down: None,
            lists: Lists::new(),
            talk: None,
            tickets: 0,
            span: None,
            doing: watch::Sender::new(None),
            greeted: watch::Sender::new(None),
            tasks: JoinSet::new(),
            fetching: false,
            fetch_again: false,
            fetch_after_read: false,
            reread_at: None,
            connects: bus.link().borrow().connects,
            passed_over: PassedOver::new(passed_over),
            gate,
            keeper,
            hold: None,
            holds: JoinSet::new(),
            said: mpsc::unbounded_channel(),
            telling: None,
            share: Condition::default(),
            values: Condition::default(),
            outsider: Condition::default(),
            revoked: None,
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
    /// When the bus is closed under it, a task of its own fails, or its key was revoked, which is final.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
        let mut fleet = self.watch(&self.identity.state_subject()).await?;
        let mut service = self.watch(&self.identity.subject(Subject::ServiceState)).await?;
        let mut link = self.bus.link();
        let mut beating = JoinSet::new();
        let beat = self.pace.heartbeat;
        let (identity, bus) = (Arc::clone(&self.identity), Arc::clone(&self.bus));
        beating.spawn(heartbeats(identity, bus, beat, self.doing.subscribe(), self.greeted.subscribe()));
        self.settle_former();
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
                Some(said) = self.said.1.recv() => Turn::Hold(said),
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
                Turn::Hold(said) => self.held(said),
                Turn::Timer => self.timer(),
            }
            if let Some(record) = self.revoked {
                self.wind_down().await;
                let (service, key) = (self.identity.service.clone(), self.identity.signer.key_id().short());
                return Err(DaemonError::Revoked { service, key, record });
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

    /// Releases the service, cancels what runs, and gives it a moment to end.
    async fn wind_down(&mut self) {
        self.capture = None;
        self.end_holds().await;
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
            self.ask_again();
        } else if !link.connected {
            tracing::warn!("the connection to the bus is lost; it is made again as soon as a server answers");
        }
    }
}
