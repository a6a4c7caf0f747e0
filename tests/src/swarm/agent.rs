//! One simulated agent: the slice machine of the protocol, its effects carried out over a connection of its own.
//!
//! It keeps the real agent's pace: when it beats, how it asks again, that it says everything anew after a reconnect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, Watch};
use muster_protocol::alert::Code;
use muster_protocol::entropy::random;
use muster_protocol::ids::{Nonce, RoundId};
use muster_protocol::message::Verdict;
use muster_protocol::retry::{Attempts, Retry};
use muster_protocol::slice::{Effect, Event, Machine, Policy};
use muster_protocol::subject::Subject;
use muster_protocol::time::Time;
use muster_share::entropy::OsEntropy;
use muster_share::store::Store;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::Failure;
use super::belief::{Beliefs, Order};
use super::crowd::Counts;
use super::slices::{Moment, Slice};
use super::talk::Talker;

/// Between two heartbeats, before jitter.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Between two looks at the last values when nothing happens, before jitter.
const POLL: Duration = Duration::from_secs(30);

/// What one agent is made of.
pub(super) struct Parts {
    pub(super) talker: Talker,
    pub(super) slice: Slice,
    pub(super) store: Arc<dyn Store>,
    pub(super) beliefs: Arc<Beliefs>,
    pub(super) counts: Arc<Counts>,
    /// How long a capture takes, before jitter.
    pub(super) capture: Duration,
}

pub(super) struct Agent {
    parts: Parts,
    machine: Machine,
    order: Option<Order>,
    talk: Option<AbortHandle>,
    tasks: JoinSet<Report>,
    origin: Instant,
    connects: u64,
    beats: u64,
    beat_at: Instant,
}

/// What a task of an agent brings back.
enum Report {
    Document(Result<Option<Order>, Failure>),
    Values { fleet: Option<Bytes>, service: Option<Bytes> },
    Captured { round: RoundId },
    Event(Event),
}

impl Agent {
    pub(super) fn new(parts: Parts) -> Self {
        let resend = Retry::new(Duration::from_secs(1), Duration::from_secs(30), Attempts::Unlimited)
            .expect("these delays are in order");
        Self {
            machine: Machine::start(Policy { resend, hooks: false }, draw()),
            order: None,
            talk: None,
            tasks: JoinSet::new(),
            origin: Instant::now(),
            connects: parts.talker.bus.link().borrow().connects,
            beats: 0,
            beat_at: Instant::now() + jittered(HEARTBEAT),
            parts,
        }
    }

    /// Watches its documents; tells on `ready` once it does, and works until `stop`.
    pub(super) async fn run(
        mut self,
        ready: tokio::sync::mpsc::Sender<Result<(), Failure>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let (mut fleet, mut service) = match self.watch().await {
            Ok(watches) => watches,
            Err(error) => return drop(ready.send(Err(error)).await),
        };
        let mut link = self.parts.talker.bus.link();
        let mut poll_at = Instant::now() + jittered(POLL);
        self.fetch();
        drop(ready.send(Ok(())).await);
        drop(ready);
        loop {
            self.carry_out();
            let due = self.machine.poll_timeout().map(|(at, _)| self.origin + Duration::from_millis(at.0));
            let wake = due.into_iter().chain([self.beat_at, poll_at]).min().unwrap_or(poll_at);
            tokio::select! {
                changed = stop.changed() => if changed.is_err() || *stop.borrow() { return },
                document = fleet.next() => match document {
                    Some(document) => self.document(document),
                    None => return,
                },
                retry = service.next() => match retry {
                    Some(retry) => self.retry(&retry),
                    None => return,
                },
                changed = link.changed() => {
                    if changed.is_err() { return; }
                    let connects = link.borrow_and_update().connects;
                    self.linked(connects);
                }
                Some(Ok(report)) = self.tasks.join_next() => self.report(report),
                () = sleep_until(wake) => {
                    let now = self.now();
                    self.machine.handle_timeout(now);
                    if self.beat_at <= Instant::now() { self.beat(); }
                    if poll_at <= Instant::now() {
                        poll_at = Instant::now() + jittered(POLL);
                        self.fetch();
                    }
                }
            }
        }
    }

    async fn watch(&self) -> Result<(Watch, Watch), Failure> {
        let Talker { bus, subjects, .. } = &self.parts.talker;
        let fleet = bus.watch_last_value(&subjects.print(&Subject::State)).await?;
        let service = bus.watch_last_value(&self.parts.talker.subject(Subject::ServiceState)).await?;
        Ok((fleet, service))
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.machine.handle(event, now);
    }

    fn linked(&mut self, connects: u64) {
        if connects <= self.connects {
            return;
        }
        self.connects = connects;
        self.parts.counts.reconnected();
        self.fetch();
        // What was said over the former connection may be lost with it: it is said again.
        if let Some(talk) = self.talk.take() {
            talk.abort();
            self.handle(Event::HelloUnanswered);
            self.handle(Event::NoticeUnanswered);
            self.handle(Event::StandingUnanswered);
        }
    }

    fn fetch(&mut self) {
        let bus = self.parts.talker.bus.clone();
        let fleet = self.parts.talker.subjects.print(&Subject::State);
        let service = self.parts.talker.subject(Subject::ServiceState);
        self.tasks.spawn(async move {
            let service = bus.last_value(&service).await.ok().flatten();
            Report::Values { fleet: bus.last_value(&fleet).await.ok().flatten(), service }
        });
    }

    fn document(&mut self, bytes: Bytes) {
        let (beliefs, service) = (Arc::clone(&self.parts.beliefs), self.parts.talker.service.clone());
        self.tasks.spawn(async move { Report::Document(beliefs.wish(&bytes, &service).await) });
    }

    fn retry(&mut self, bytes: &Bytes) {
        let Some(order) = &self.order else { return };
        if let Some(attempt) = self.parts.beliefs.retry(bytes, order) {
            let Order { epoch, round, turn, cut, .. } = *order;
            self.handle(Event::Order { epoch, round, attempt, turn, cut });
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Document(Ok(Some(order))) => {
                let Order { epoch, round, attempt, turn, cut, .. } = order;
                self.order = Some(order);
                self.handle(Event::Order { epoch, round, attempt, turn, cut });
            }
            Report::Document(Ok(None)) => {
                self.order = None;
                self.handle(Event::NoOrder);
            }
            Report::Document(Err(error)) => self.parts.counts.wrong(&error),
            Report::Values { fleet, service } => {
                if let Some(fleet) = fleet {
                    self.document(fleet);
                }
                if let Some(service) = service {
                    self.retry(&service);
                }
            }
            Report::Captured { round } => {
                self.handle(Event::Read { round });
                self.handle(Event::Captured { round });
            }
            Report::Event(event) => {
                if let Event::Acknowledged { verdict: Verdict::Refused { reason }, .. } = &event {
                    self.parts.counts.wrong(reason);
                }
                self.handle(event);
            }
        }
    }

    fn beat(&mut self) {
        self.beats += 1;
        self.beat_at = Instant::now() + jittered(HEARTBEAT);
        let (talker, sequence, round) = (self.parts.talker.clone(), self.beats, self.machine.work());
        let round = round.map(|(round, _)| round);
        tokio::spawn(async move { talker.heartbeat(sequence, round).await });
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            self.carry_one(effect);
        }
    }

    fn carry_one(&mut self, effect: Effect) {
        let Some(order) = self.order.clone() else { return };
        match effect {
            Effect::Hello { attempt, round, .. } => {
                let talker = self.parts.talker.clone();
                let counts = Arc::clone(&self.parts.counts);
                self.talk = Some(self.tasks.spawn(async move {
                    Report::Event(match talker.hello(&order, attempt).await {
                        Ok(attempt) => Event::Welcomed { round, attempt },
                        Err(error) => {
                            counts.unanswered(&error);
                            Event::HelloUnanswered
                        }
                    })
                }));
            }
            // The objects are on the share already; an agent that captures says so at once.
            Effect::Capture { round } => {
                let (talker, attempt) = (self.parts.talker.clone(), order.attempt);
                let takes = jittered(self.parts.capture);
                self.parts.counts.capturing();
                self.tasks.spawn(async move {
                    talker.progress(round, attempt).await;
                    sleep(takes).await;
                    Report::Captured { round }
                });
            }
            // There is nothing to hold: the service is quiesced at once, and read in the same moment.
            Effect::Quiesce { round } => self.handle(Event::Quiesced { round }),
            Effect::Release { .. } => {}
            Effect::Tell { round, attempt, standing, .. } => {
                let talker = self.parts.talker.clone();
                let counts = Arc::clone(&self.parts.counts);
                self.talk = Some(self.tasks.spawn(async move {
                    Report::Event(match talker.standing(&order, attempt, standing).await {
                        Ok(_) => Event::StandingNoted { round, attempt },
                        Err(error) => {
                            counts.unanswered(&error);
                            Event::StandingUnanswered
                        }
                    })
                }));
            }
            Effect::WriteReceipt { round, attempt, cut } => self.write_receipt(order, round, attempt, cut),
            Effect::Notice { round, attempt, reported, .. } => {
                let talker = self.parts.talker.clone();
                let counts = Arc::clone(&self.parts.counts);
                self.talk = Some(self.tasks.spawn(async move {
                    Report::Event(match talker.notice(&order, attempt, reported).await {
                        Ok(verdict) => Event::Acknowledged { round, attempt, verdict },
                        Err(error) => {
                            counts.unanswered(&error);
                            Event::NoticeUnanswered
                        }
                    })
                }));
            }
            Effect::Drop { .. } => {
                if let Some(talk) = self.talk.take() {
                    talk.abort();
                }
            }
            Effect::Keep { .. } => self.parts.counts.kept(),
        }
    }

    fn write_receipt(&mut self, order: Order, round: RoundId, attempt: u32, cut: Option<Nonce>) {
        let (slice, store) = (self.parts.slice.clone(), Arc::clone(&self.parts.store));
        let talker = self.parts.talker.clone();
        let nonce = order.nonce.for_attempt(&talker.service, attempt);
        let moment = Moment { round, attempt, nonce, keyset: order.keyset, head: order.head, cut };
        self.tasks.spawn(async move {
            let written = slice.write_receipt(store.as_ref(), &talker.signer, &talker.fleet, moment).await;
            Report::Event(match written {
                Ok((receipt, receipt_size, totals)) => {
                    Event::ReceiptWritten { round, attempt, receipt, receipt_size, totals }
                }
                Err(error) => {
                    let (code, reason) = (Code::Agent03, error.to_string());
                    Event::CaptureFailed { round, code, reason, permanent: false }
                }
            })
        });
    }
}

fn draw() -> u64 {
    u64::from_be_bytes(random(&mut OsEntropy))
}

/// `every`, give or take a fifth of it.
fn jittered(every: Duration) -> Duration {
    let draw = f64::from(u32::try_from(draw() >> 32).unwrap_or_default()) / f64::from(u32::MAX);
    every.mul_f64(0.8 + 0.4 * draw)
}
