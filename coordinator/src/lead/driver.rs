//! The driver: the lead machine with its clock and its lease on the bus.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use muster_bus::{Bus, BusError, LeaseSwap, Link};
use muster_protocol::entropy::random;
use muster_protocol::ids::{KeyId, Nonce};
use muster_protocol::lead::{Effect, Event, Lease, LeaseSeen, LogView, Machine, Phase, Policy, Stop};
use muster_protocol::log::State;
use muster_protocol::time::Time;
use muster_share::entropy::OsEntropy;
use tokio::sync::watch;

use super::standing::{Standing, Told};

/// What the machine wants of the log, or has decided.
#[derive(Debug)]
pub(super) enum Wish {
    /// Read the log on.
    Read,
    /// Append this epoch.
    Append(u64),
    /// Another epoch is in force.
    StepDown(u64),
    /// It stops for good.
    Stop(Stop),
}

/// One coordinator's lead machine at work.
pub(crate) struct Driver {
    machine: Machine,
    own: KeyId,
    instance: Nonce,
    origin: Instant,
    bus: Arc<dyn Bus>,
    /// The call about the lease that is under way; the machine wants at most one at a time.
    call: Option<BoxFuture<'static, Event>>,
    link: watch::Receiver<Link>,
    told: watch::Sender<Told>,
    /// Whether it was said that the lease cannot be asked.
    complained: bool,
}

impl Driver {
    /// The driver of the coordinator with this key; it knows nothing yet.
    pub(crate) fn start(own: KeyId, policy: Policy, bus: Arc<dyn Bus>) -> Self {
        let instance = Nonce::from_bytes(random(&mut OsEntropy));
        let seed = u64::from_be_bytes(random(&mut OsEntropy));
        let machine = Machine::start(own, instance, policy, seed, Time(0));
        let link = bus.link();
        let told = watch::channel(None).0;
        Self {
            machine,
            own,
            instance,
            origin: Instant::now(),
            bus,
            call: None,
            link,
            told,
            complained: false,
        }
    }

    /// Its process, as its `epoch` records name it.
    pub(super) fn instance(&self) -> Nonce {
        self.instance
    }

    /// Now, on its own clock.
    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The epoch that this process leads, as far as is known.
    pub(super) fn leads(&self) -> Option<u64> {
        match self.machine.phase() {
            Phase::Leader { epoch } => Some(*epoch),
            Phase::Follower
            | Phase::Claiming
            | Phase::Reading { .. }
            | Phase::Appending { .. }
            | Phase::Stopped(_) => None,
        }
    }

    /// Whether it has stopped because its key counts no longer.
    pub(super) fn is_revoked(&self) -> bool {
        *self.machine.phase() == Phase::Stopped(Stop::Revoked)
    }

    /// What others in this process ask before they act under `epoch`.
    pub(crate) fn standing(&self, epoch: u64) -> Standing {
        Standing::new(epoch, self.told.subscribe())
    }

    /// Tells the machine what the log says; `asked` is when the reading began.
    pub(super) fn log_read(&mut self, asked: Time, state: &State) {
        self.handle(Event::LogRead { asked, log: LogView::of(state, &self.own) });
    }

    /// Tells the machine what has happened.
    pub(super) fn handle(&mut self, event: Event) {
        match &event {
            Event::LeaseUnknown if !self.complained => {
                tracing::warn!(
                    "BUS-01: the lease of the lead can be neither read nor written; the log decides"
                );
                self.complained = true;
            }
            Event::LeaseRead { .. } | Event::LeaseWritten { .. } => self.complained = false,
            Event::LeaseUnknown
            | Event::LogRead { .. }
            | Event::LogUnread
            | Event::LogBroken { .. }
            | Event::LeaseLost
            | Event::Reconnected
            | Event::EpochAppended
            | Event::EpochLost
            | Event::EpochFailed => {}
        }
        let now = self.now();
        self.machine.handle(event, now);
        self.tell();
    }

    /// What is to be done about the log; calls about the lease are begun on the way.
    pub(super) fn wish(&mut self) -> Option<Wish> {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::ReadLease => self.call = Some(read(self.bus.clone()).boxed()),
                Effect::WriteLease { expected, lease } => {
                    self.call = Some(write(self.bus.clone(), expected, lease, self.now()).boxed());
                }
                Effect::ReadLog => return Some(Wish::Read),
                Effect::AppendEpoch { epoch } => return Some(Wish::Append(epoch)),
                // Whoever drives sees it by `leads`, once the log is in hand.
                Effect::Lead { .. } => {}
                Effect::StepDown { epoch } => return Some(Wish::StepDown(epoch)),
                Effect::Stop(why) => return Some(Wish::Stop(why)),
            }
        }
        None
    }

    /// Waits for the next thing that concerns the lease or a deadline, and tells the machine. May be dropped at any
    /// await: what is under way goes on with the next call.
    pub(super) async fn turn(&mut self) {
        let due = self.machine.poll_timeout().map(|(due, _)| due.since(self.now()));
        let Self { call: under_way, link, .. } = self;
        let call = async {
            match under_way {
                Some(call) => call.await,
                None => std::future::pending().await,
            }
        };
        let connected = async {
            match link.changed().await {
                Ok(()) => link.borrow_and_update().connected,
                Err(_) => std::future::pending().await,
            }
        };
        let timer = async {
            match due {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = call => {
                self.call = None;
                Some(event)
            }
            connected = connected => {
                if !connected {
                    return;
                }
                Some(Event::Reconnected)
            }
            () = timer => None,
        };
        match event {
            Some(event) => self.handle(event),
            None => {
                let now = self.now();
                self.machine.handle_timeout(now);
                self.tell();
            }
        }
    }

    /// Gives the lease back, so that nobody needs to wait for it to expire. A hint like the lease itself: one try.
    pub(crate) async fn resign(&mut self) {
        self.told.send_replace(None);
        if let Some(call) = self.call.take() {
            let event = call.await;
            self.handle(event);
        }
        let Some((revision, lease)) = self.machine.last_word() else { return };
        if let Err(error) = self.bus.swap_lease(Some(revision), lease.print().into()).await {
            tracing::debug!(%error, "the lease was not given back; it expires");
        }
    }

    fn tell(&self) {
        let until = self.machine.trusted_until();
        let until = until.map(|until| self.origin + std::time::Duration::from_millis(until.0));
        let told = self.leads().zip(until);
        self.told.send_if_modified(|last| std::mem::replace(last, told) != told);
    }
}

async fn read(bus: Arc<dyn Bus>) -> Event {
    match bus.lease().await {
        Ok(value) => {
            let seen = |value: muster_bus::LeaseValue| LeaseSeen {
                revision: value.revision,
                lease: Lease::parse(&value.payload),
            };
            Event::LeaseRead { seen: value.map(seen) }
        }
        Err(error) => unknown(&error),
    }
}

async fn write(bus: Arc<dyn Bus>, expected: Option<u64>, lease: Lease, asked: Time) -> Event {
    match bus.swap_lease(expected, lease.print().into()).await {
        Ok(LeaseSwap::Stored(revision)) => Event::LeaseWritten { asked, revision },
        Ok(LeaseSwap::Lost) => Event::LeaseLost,
        Err(error) => unknown(&error),
    }
}

fn unknown(error: &BusError) -> Event {
    tracing::debug!(%error, "no word of the lease");
    Event::LeaseUnknown
}
