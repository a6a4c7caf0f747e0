//! The agent's end of the restore subject: asks, orders and queries, one after the other.
//!
//! ```text
//! Free ──ask──▶ Offered ──order──▶ Running ──▶ Ended ──ask──▶ Offered …
//!                  └──────── time, or a newer ask ────────┘
//! ```
//!
//! Must never answer what is not signed for this fleet, and never let an order begin twice: with it, the offer and its
//! key are gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, BusError, Headers, Message, Subscription};
use muster_protocol::age::Identity as AgeIdentity;
use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::entropy::random;
use muster_protocol::envelope::{self, EnvelopeError, Opened, Payload};
use muster_protocol::ids::{KeyId, Nonce, ObjectId, RestoreId, RoundId, ServiceName};
use muster_protocol::log::State;
use muster_protocol::message::{
    MAX_MESSAGE_LEN, MAX_ORDER_PATH, OfferVerdict, RestoreAsk, RestoreOffer, RestoreOrder, RestoreOutcome,
    RestoreQuery, RestoreRefusal, RestoreState, RestoreStatus, RestoreTarget,
};
use muster_protocol::subject::Subject;
use muster_share::entropy::OsEntropy;
use muster_share::store::Store;
use muster_share::verify::Progress;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::carry::Job;
use super::gate::{Gate, Held};
use super::trust::{may_restore, refusal, slice_of};
use crate::daemon::Identity;
use crate::daemon::{PassedOver, Reader};
use crate::source::SourceConfig;

/// Longest wait for the share before a question is answered with a refusal.
const SHARE: Duration = Duration::from_secs(20);
/// Before a subscription that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What a restore needs of the agent's configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    /// How long an offer stands.
    pub(crate) offer: Duration,
    /// The sources, as they are configured now.
    pub(crate) sources: Vec<SourceConfig>,
    /// The agent's own folder for what it makes meanwhile.
    pub(crate) spool: PathBuf,
    /// Folders that nothing may be restored into.
    pub(crate) apart: Vec<PathBuf>,
    /// Threads that open packs.
    pub(crate) workers: usize,
}

struct Offer {
    restore: RestoreId,
    key: AgeIdentity,
    asker: KeyId,
    round: RoundId,
    receipt: ObjectId,
    until: Instant,
}

/// The restore that runs, or the last one that did.
struct Current {
    restore: RestoreId,
    progress: Arc<Progress>,
    ended: Option<RestoreState>,
}

/// Why a message is passed over.
#[derive(Debug, thiserror::Error)]
enum Ignored {
    #[error("it is not signed for this fleet")]
    Envelope(#[from] EnvelopeError),
    #[error("it is about {0}")]
    Service(ServiceName),
    #[error("it is a {0}")]
    Kind(String),
}

/// The desk.
pub(crate) struct Desk {
    identity: Arc<Identity>,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    reader: Reader,
    log: Option<Arc<State>>,
    gate: Gate,
    settings: Settings,
    offer: Option<Offer>,
    current: Option<Current>,
    running: JoinSet<RestoreState>,
    passed_over: PassedOver,
}

impl Desk {
    pub(crate) fn new(
        identity: Arc<Identity>,
        bus: Arc<dyn Bus>,
        store: Arc<dyn Store>,
        reader: Reader,
        gate: Gate,
        settings: Settings,
    ) -> Self {
        let (running, passed_over) = (JoinSet::new(), PassedOver::new(Arc::default()));
        let (log, offer, current) = (None, None, None);
        Self { identity, bus, store, reader, log, gate, settings, offer, current, running, passed_over }
    }

    /// Serves until the bus is closed. A restore that runs goes on when this is dropped only as far as its threads are.
    pub(crate) async fn serve(mut self) {
        let Some(mut messages) = self.listen().await else { return };
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.message(message).await,
                    None => return,
                },
                Some(ended) = self.running.join_next() => {
                    let state = ended.unwrap_or_else(|_| {
                        let failure = refusal(None, "a fault of the program ended it", "see the agent's log");
                        RestoreState::Ended(RestoreOutcome { failure: Some(failure), ..RestoreOutcome::default() })
                    });
                    self.ended(state);
                }
            }
        }
    }

    async fn listen(&self) -> Option<Subscription> {
        let subject = self.identity.subject(Subject::Restore);
        loop {
            match self.bus.subscribe(&subject, None).await {
                Ok(messages) => return Some(messages),
                Err(BusError::Closed) => return None,
                Err(error) => {
                    tracing::warn!(
                        subject,
                        error = causes(&error),
                        "no restore can be asked for; trying again"
                    );
                    sleep(AGAIN).await;
                }
            }
        }
    }

    fn ended(&mut self, state: RestoreState) {
        match &state {
            RestoreState::Ended(RestoreOutcome { failure: None, files, dumps, bytes, lost, .. }) => {
                tracing::info!(files, dumps, bytes, lost, "the restore has ended");
            }
            RestoreState::Ended(RestoreOutcome { failure: Some(why), .. }) => {
                tracing::error!(
                    reason = why.reason,
                    "the restore ended early: the service may be half restored"
                );
            }
            RestoreState::Refused(why) => {
                let code = why.code.map(Code::as_str);
                tracing::warn!(code, reason = why.reason, "the restore was refused; nothing was changed");
            }
            RestoreState::Unknown | RestoreState::Offered | RestoreState::Running { .. } => {}
        }
        if let Some(current) = &mut self.current {
            current.ended = Some(state);
        }
    }

    async fn message(&mut self, message: Message) {
        match self.answer(&message.payload).await {
            Ok(answer) => {
                if let Err(error) = message.respond(Headers::new(), answer).await {
                    tracing::debug!(error = causes(&error), "the answer about a restore was not sent");
                }
            }
            // Whoever reaches the bus must not fill the log of this agent.
            Err(ignored) => self.passed_over.add("restore", &ignored),
        }
    }

    async fn answer(&mut self, payload: &[u8]) -> Result<Bytes, Ignored> {
        let opened = envelope::open(payload, MAX_MESSAGE_LEN)?;
        match opened.name {
            RestoreAsk::TYPE => {
                let ask: RestoreAsk = self.parse(&opened, |ask: &RestoreAsk| &ask.service)?;
                let verdict = self.ask(opened.key, &ask).await.unwrap_or_else(OfferVerdict::Refused);
                let service = self.identity.service.clone();
                Ok(self.seal(&RestoreOffer { service, nonce: ask.nonce, verdict }))
            }
            RestoreOrder::TYPE => {
                let order: RestoreOrder = self.parse(&opened, |order: &RestoreOrder| &order.service)?;
                let (restore, nonce) = (Some(order.restore), order.nonce);
                let state = self.order(opened.key, order).await.unwrap_or_else(RestoreState::Refused);
                Ok(self.status(restore, nonce, state))
            }
            RestoreQuery::TYPE => {
                let query: RestoreQuery = self.parse(&opened, |query: &RestoreQuery| &query.service)?;
                let (restore, state) = match self.permit(opened.key).await {
                    Ok(_) => self.state(query.restore),
                    Err(refused) => (query.restore, RestoreState::Refused(refused)),
                };
                Ok(self.status(restore, query.nonce, state))
            }
            other => Err(Ignored::Kind(other.chars().take(32).collect())),
        }
    }

    fn parse<P: Payload>(
        &self,
        opened: &Opened<'_>,
        service: impl Fn(&P) -> &ServiceName,
    ) -> Result<P, Ignored> {
        let parsed: P = opened.parse(&self.identity.fleet)?;
        let about = service(&parsed);
        if *about == self.identity.service { Ok(parsed) } else { Err(Ignored::Service(about.clone())) }
    }

    fn seal<P: Payload>(&self, answer: &P) -> Bytes {
        Bytes::from(self.identity.signer.seal(&self.identity.fleet, answer))
    }

    fn status(&self, restore: Option<RestoreId>, nonce: Nonce, state: RestoreState) -> Bytes {
        let service = self.identity.service.clone();
        self.seal(&RestoreStatus { service, restore, nonce, state })
    }

    /// The log as it is now, if this key may restore by it.
    async fn permit(&mut self, key: KeyId) -> Result<Arc<State>, RestoreRefusal> {
        let next = "mend the agent's way to the share and try again";
        match timeout(SHARE, self.reader.read()).await {
            Ok(Ok(Some(log))) => self.log = Some(log),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return Err(refusal(None, &causes(&error), next)),
            Err(_) => return Err(refusal(Some(Code::Share07), "the share does not answer the agent", next)),
        }
        let Some(log) = self.log.clone() else {
            return Err(refusal(None, "the agent has not read the log", next));
        };
        may_restore(&log, &key).inspect_err(|refused| {
            let code = refused.code.map(Code::as_str);
            tracing::warn!(code, key = key.short(), reason = refused.reason, "a restore is refused");
        })?;
        Ok(log)
    }

    async fn ask(&mut self, key: KeyId, ask: &RestoreAsk) -> Result<OfferVerdict, RestoreRefusal> {
        let log = self.permit(key).await?;
        self.free()?;
        let looking = slice_of(&*self.store, &log, &self.identity.service, ask.round, ask.receipt);
        match timeout(SHARE, looking).await {
            Ok(found) => drop(found?),
            Err(_) => {
                let next = "mend the agent's way to the share and try again";
                return Err(refusal(Some(Code::Share07), "the share does not answer the agent", next));
            }
        }
        let own = AgeIdentity::generate(&mut OsEntropy);
        let (restore, recipient) = (RestoreId::from_bytes(random(&mut OsEntropy)), own.recipient());
        let until = Instant::now() + self.settings.offer;
        let (round, receipt) = (ask.round, ask.receipt);
        self.offer = Some(Offer { restore, key: own, asker: key, round, receipt, until });
        let valid_millis = u64::try_from(self.settings.offer.as_millis()).unwrap_or(u64::MAX);
        Ok(OfferVerdict::Offered { restore, recipient, valid_millis })
    }

    fn free(&self) -> Result<(), RestoreRefusal> {
        self.gate
            .free()
            .map_err(|busy| refusal(None, &busy.to_string(), "wait until it has ended, and ask again"))
    }

    async fn order(&mut self, key: KeyId, order: RestoreOrder) -> Result<RestoreState, RestoreRefusal> {
        let log = self.permit(key).await?;
        let again = "run muster restore again";
        let fits = |offer: &Offer| {
            (offer.restore, offer.asker, offer.round, offer.receipt)
                == (order.restore, key, order.round, order.receipt)
        };
        // Also what does not fit leaves the offer to whoever it was made to.
        let Some(offer) = self.offer.take_if(|offer| fits(offer)) else {
            tracing::warn!(
                code = Code::Sec01.as_str(),
                key = key.short(),
                "an order without an offer is refused"
            );
            let reason = "the agent offers no such restore: it was begun before, or was never offered";
            return Err(refusal(Some(Code::Sec01), reason, again));
        };
        if offer.until <= Instant::now() {
            return Err(refusal(None, "the offer has expired", again));
        }
        let long = |path: &[u8]| path.len() > MAX_ORDER_PATH;
        let into = match &order.target {
            RestoreTarget::InPlace => false,
            RestoreTarget::Into { path } => long(path),
        };
        if into || order.path.as_ref().is_some_and(|path| long(path)) {
            return Err(refusal(None, "a path of the order is too long", "name a shorter one"));
        }
        let held = self.gate.restore();
        let held =
            held.map_err(|busy| refusal(None, &busy.to_string(), "wait until it has ended, and ask again"))?;
        Ok(self.begin(log, order, offer.key, held))
    }

    fn begin(&mut self, log: Arc<State>, order: RestoreOrder, key: AgeIdentity, held: Held) -> RestoreState {
        let progress = Arc::new(Progress::default());
        let (restore, settings) = (order.restore, &self.settings);
        tracing::info!(restore = restore.to_string(), round = order.round.to_string(), "restoring");
        let job = Job {
            fleet: self.identity.fleet,
            service: self.identity.service.clone(),
            store: Arc::clone(&self.store),
            log,
            order,
            key,
            sources: settings.sources.clone(),
            spool: settings.spool.clone(),
            apart: settings.apart.clone(),
            workers: settings.workers,
            progress: Arc::clone(&progress),
        };
        self.current = Some(Current { restore, progress, ended: None });
        self.running.spawn(async move {
            let ended = job.run().await;
            drop(held);
            ended
        });
        RestoreState::Running { done_bytes: 0, total_bytes: 0 }
    }

    fn state(&self, restore: Option<RestoreId>) -> (Option<RestoreId>, RestoreState) {
        let meant = |id: RestoreId| restore.is_none_or(|restore| restore == id);
        if let Some(current) = self.current.as_ref().filter(|current| meant(current.restore)) {
            let (total_bytes, done_bytes) = current.progress.bytes();
            let running = RestoreState::Running { done_bytes, total_bytes };
            return (Some(current.restore), current.ended.clone().unwrap_or(running));
        }
        match self.offer.as_ref().filter(|offer| restore == Some(offer.restore)) {
            Some(offer) if offer.until > Instant::now() => (restore, RestoreState::Offered),
            Some(_) | None => (restore, RestoreState::Unknown),
        }
    }
}
