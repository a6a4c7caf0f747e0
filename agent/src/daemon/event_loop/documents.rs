//! Documents and the log: what arrives on the bus is weighed against what the share says.

use std::sync::Arc;

use bytes::Bytes;
use muster_bus::BusError;
use muster_protocol::causes::causes;
use muster_protocol::ids::RoundId;
use muster_protocol::log::{RoundPhase, State};
use muster_protocol::slice::Event;
use muster_protocol::subject::Subject;
use tokio::time::Instant;

use super::super::belief::{Arrival, Channel, Ignored, Order, Wish};
use super::super::capturer::Capturer;
use super::super::reader::{ReadError, Reader};

use super::{Daemon, Report};

impl<C: Capturer> Daemon<C> {
    /// Reads the log, then the last values: whatever they depend on is read by then.
    pub(super) fn poll(&mut self) {
        self.poll_at = Instant::now() + self.pace.poll;
        self.fetch_after_read = true;
        self.read();
    }

    pub(super) fn read(&mut self) {
        let Some(mut reader) = self.reader.take() else { return };
        self.beliefs.begin_reading();
        self.tasks.spawn(async move {
            let read = reader.read().await;
            Report::Read { reader, read }
        });
    }

    pub(super) fn fetch(&mut self) {
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

    pub(super) fn fetched(&mut self, channel: Channel, value: Result<Option<Bytes>, BusError>) {
        match value {
            Ok(Some(bytes)) => self.document(channel, &bytes),
            Ok(None) | Err(BusError::NoStream { .. }) => {}
            Err(error) => {
                if self.values.wrong(&causes(&error)) {
                    tracing::warn!(error = causes(&error), "the current state cannot be read from the bus");
                }
                return;
            }
        }
        if self.values.right() {
            tracing::info!("the current state can be read from the bus again");
        }
    }

    pub(super) fn document(&mut self, channel: Channel, bytes: &Bytes) {
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
    pub(super) fn read_if_due(&mut self) {
        if self.reread_at.is_none() && self.beliefs.wants_reading() {
            self.read();
        }
    }

    pub(super) fn read_on(&mut self, reader: Box<Reader>, read: Result<Option<Arc<State>>, ReadError>) {
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
                if self.share.wrong(&causes(&error)) {
                    tracing::error!(
                        share = self.store.describe(),
                        error = causes(&error),
                        "{}: the log cannot be read; waiting until it can",
                        error.alert()
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

    pub(super) fn judge(&mut self) {
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
    pub(super) fn follow(&mut self, log: &State) {
        let wish = self.beliefs.wish(log);
        let epoch = log.epoch.map(|epoch| epoch.epoch);
        // A new leader knows nobody yet: it need not wait for the next heartbeat.
        self.greeted.send_if_modified(|greeted| std::mem::replace(greeted, epoch) != epoch);
        let key = self.identity.signer.key_id();
        self.revoked = log.members.get(&key).and_then(|member| member.revoked);
        if wish == Wish::Outsider && self.revoked.is_none() {
            if self.outsider.wrong("outsider") {
                tracing::error!(
                    service = self.identity.service.as_str(),
                    key = key.to_string(),
                    "KEY-03: this key is not the agent of the service in the fleet's roster: enrol it with `muster enroll`"
                );
            }
        } else if self.outsider.right() {
            tracing::info!(key = key.to_string(), "this key is the agent of the service now");
        }
        match wish {
            Wish::Slice(order) => {
                let Order { epoch, round, attempt, turn, cut, .. } = order;
                self.order = Some(order);
                self.handle(Event::Order { epoch, round, attempt, turn, cut });
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

    pub(super) fn drop_order(&mut self) {
        self.order = None;
        self.handle(Event::NoOrder);
    }
}
