//! The conversations with the leader: hello and welcome, notice or standing and acknowledgement.
//!
//! Must never take an answer on trust: it counts only when the leader of the order signed it, or sealed it in the session of the
//! order, and it repeats what was asked. What does not count is as if nobody had answered.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster_bus::{Bus, BusError, Headers, Message};
use muster_protocol::entropy::random;
use muster_protocol::envelope::{EnvelopeError, Payload, open_as};
use muster_protocol::ids::{FleetId, KeyId, Nonce, ObjectId};
use muster_protocol::message::{
    Acknowledgement, Hello, Notice, NoticeOutcome, Order as Sealed, Ordered, Verdict, Welcome, cut_reason,
};
use muster_protocol::session::{Ephemeral, Sealed as Frame, Session, SessionError, Side, Transcript};
use muster_protocol::slice::{Reported, Standing};
use muster_protocol::subject::Subject;
use muster_protocol::wire::{self, WireError};
use muster_share::credentials::Credentials;
use muster_share::entropy::OsEntropy;
use muster_telemetry::span::{self, Finished, Place};
use tracing::Span;

use super::belief::Order;
use super::identity::{Identity, VERSION};
use super::session::Current;

/// Why a conversation came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    /// Nobody answered, or the bus is down.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The answer is not signed, or not what was asked for.
    #[error("the answer is not a signed one")]
    Envelope(#[from] EnvelopeError),
    /// Somebody else answered.
    #[error("key {} answered, which does not lead", key.short())]
    NotLeader {
        /// Who.
        key: KeyId,
    },
    /// The answer belongs to another question.
    #[error("the answer repeats another {field}")]
    Other {
        /// What differs.
        field: &'static str,
    },
    /// The sealed part was not sealed to us.
    #[error("the sealed order cannot be opened")]
    Session(#[from] SessionError),
    /// The sealed part does not parse.
    #[error("the sealed order does not parse")]
    Order(#[source] WireError),
}

impl TalkError {
    /// Whether something came that must not be believed, as opposed to nothing at all.
    pub(crate) fn is_suspicious(&self) -> bool {
        match self {
            Self::Bus(_) => false,
            Self::Envelope(_)
            | Self::NotLeader { .. }
            | Self::Other { .. }
            | Self::Session(_)
            | Self::Order(_) => true,
        }
    }
}

/// What the leader allows an agent for one attempt; where it says nothing, the agent's own configuration stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The longest that the service may be held quiesced.
    pub(crate) max_hold: Option<Duration>,
    /// Bytes a second that are uploaded at most.
    pub(crate) bandwidth: Option<u64>,
}

/// What a welcome says.
#[derive(Debug, Clone)]
pub(crate) struct Welcomed {
    /// The attempt that may be made; none: nothing is wanted.
    pub(crate) attempt: Option<u32>,
    /// Credentials of the share, where the fleet has any.
    pub(crate) credentials: Option<Credentials>,
    /// What the leader allows.
    pub(crate) terms: Terms,
    /// The answer's headers: they continue the round's trace.
    pub(crate) headers: Headers,
}

impl Welcomed {
    fn unwanted(headers: Headers) -> Self {
        Self { attempt: None, credentials: None, terms: Terms::default(), headers }
    }

    /// What the leader ordered, if it knows the attempt's nonce.
    fn of(
        me: &Identity,
        order: &Order,
        attempt: u32,
        sealed: Sealed,
        headers: Headers,
    ) -> Result<Self, TalkError> {
        same(sealed.nonce == order.nonce.for_attempt(&me.service, attempt), "attempt's nonce")?;
        let credentials = sealed.credentials.as_deref().map(|bytes| wire::decode(bytes));
        let terms = Terms {
            max_hold: sealed.max_hold_millis.map(Duration::from_millis),
            bandwidth: sealed.bandwidth,
        };
        let credentials = credentials.transpose().map_err(TalkError::Order)?;
        Ok(Self { attempt: Some(attempt), credentials, terms, headers })
    }
}

/// Talks to whoever leads.
#[derive(Clone)]
pub(crate) struct Talker {
    pub(crate) identity: Arc<Identity>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) session: Current,
}

impl Talker {
    /// Says hello for an attempt of `order`.
    pub(crate) async fn hello(
        &self,
        order: &Order,
        attempt: u32,
        limit: Duration,
    ) -> Result<Welcomed, TalkError> {
        let me = &self.identity;
        let own = Ephemeral::generate(&mut OsEntropy);
        let nonce = Nonce::from_bytes(random(&mut OsEntropy));
        let hello = Hello {
            service: me.service.clone(),
            round: order.round,
            epoch: order.epoch,
            attempt,
            nonce,
            ephemeral: own.public(),
            version: VERSION.to_owned(),
            sealed: true,
        };
        let payload = me.signer.seal(&me.fleet, &hello);
        let answer = self.ask("hello", me.subject(Subject::Hello), payload, limit).await?;
        let session = || {
            let transcript = Transcript {
                fleet: me.fleet,
                round: order.round,
                epoch: order.epoch,
                leader: order.leader,
                agent: me.signer.key_id(),
                leader_ephemeral: order.leader_ephemeral,
                agent_ephemeral: own.public(),
                nonce,
            };
            Session::derive(Side::Agent, &own, &transcript)
        };
        let (attempt, sealed): (_, Sealed) = if Frame::is_one(&answer.payload) {
            let frame = Frame::read(&answer.payload, Ordered::MAX_LEN)?;
            same(frame.session == nonce, "nonce")?;
            let mut session = session()?;
            let Ordered { attempt, order: sealed } = session.hear(&frame)?;
            self.session.begin(order.round, order.epoch, session);
            (attempt, sealed)
        } else {
            let welcome = signed::<Welcome>(me.fleet, order, &answer.payload)?;
            same(welcome.round == order.round, "round")?;
            same(welcome.epoch == order.epoch, "epoch")?;
            same(welcome.nonce == nonce, "nonce")?;
            let headers = answer.headers;
            let Some(attempt) = welcome.attempt else { return Ok(Welcomed::unwanted(headers)) };
            let plain = session()?.open(&welcome.sealed)?;
            return Welcomed::of(
                me,
                order,
                attempt,
                wire::decode(&plain).map_err(TalkError::Order)?,
                headers,
            );
        };
        Welcomed::of(me, order, attempt, sealed, answer.headers)
    }

    /// Tells the leader how an attempt of `order` went.
    pub(crate) async fn notice(
        &self,
        order: &Order,
        attempt: u32,
        reported: Reported,
        limit: Duration,
    ) -> Result<Verdict, TalkError> {
        let (outcome, receipt) = match reported {
            Reported::Stored { receipt, receipt_size, totals } => {
                (NoticeOutcome::Stored { receipt, receipt_size, totals }, Some(receipt))
            }
            Reported::Failed { code, reason, permanent } => {
                (NoticeOutcome::Failed { code, reason: cut_reason(&reason), permanent }, None)
            }
        };
        self.tell(order, attempt, outcome, receipt, limit).await
    }

    /// Tells the leader where an attempt of `order` stands in the cut.
    pub(crate) async fn standing(
        &self,
        order: &Order,
        attempt: u32,
        standing: Standing,
        limit: Duration,
    ) -> Result<(), TalkError> {
        let outcome = match standing {
            Standing::Quiesced => NoticeOutcome::Quiesced,
            Standing::Snapped { nonce } => NoticeOutcome::Snapped { nonce },
        };
        // Whatever it says of it: the leader knows, and what follows comes with the state document.
        self.tell(order, attempt, outcome, None, limit).await.map(drop)
    }

    async fn tell(
        &self,
        order: &Order,
        attempt: u32,
        outcome: NoticeOutcome,
        receipt: Option<ObjectId>,
        limit: Duration,
    ) -> Result<Verdict, TalkError> {
        let me = &self.identity;
        let notice =
            Notice { service: me.service.clone(), round: order.round, epoch: order.epoch, attempt, outcome };
        let sealed = self.session.say(order.round, order.epoch, &notice);
        let payload = sealed.unwrap_or_else(|| me.signer.seal(&me.fleet, &notice));
        let answer = self.acknowledged(order, payload, limit).await;
        if answer.is_err() {
            // Signed when it is said again: the leader may have lost its side of the session.
            self.session.end();
        }
        let answer = answer?;
        same(answer.round == order.round, "round")?;
        same(answer.epoch == order.epoch, "epoch")?;
        same(answer.attempt == attempt, "attempt")?;
        same(answer.receipt == receipt, "receipt")?;
        Ok(answer.verdict)
    }

    async fn acknowledged(
        &self,
        order: &Order,
        payload: Vec<u8>,
        limit: Duration,
    ) -> Result<Acknowledgement, TalkError> {
        let me = &self.identity;
        let answer = self.ask("notice", me.subject(Subject::Notice), payload, limit).await?.payload;
        if Frame::is_one(&answer) {
            let frame = Frame::read(&answer, Acknowledgement::MAX_LEN)?;
            return Ok(self.session.hear(&frame)?);
        }
        signed(me.fleet, order, &answer)
    }

    /// Asks, as a span of whatever it is asked within.
    async fn ask(
        &self,
        what: &'static str,
        subject: String,
        payload: Vec<u8>,
        limit: Duration,
    ) -> Result<Message, TalkError> {
        let within = muster_telemetry::place(&Span::current()).filter(Place::is_sampled);
        let began = SystemTime::now();
        let nanos = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let sent = within.map(|within| within.below(&format!("send {what} {nanos}")));
        let headers: Headers = sent.iter().map(Place::header).collect();
        let answer = self.bus.request(&subject, headers, payload.into(), limit).await;
        if let Some(sent) = sent {
            let mut span = Finished::new(format!("send {what}"), sent, within, began).message(
                span::Side::Producer,
                what,
                &subject,
                &format!("muster.v1.{{fleet}}.{what}.{{service}}"),
            );
            span.error = answer.as_ref().err().map(ToString::to_string);
            span.tell();
        }
        Ok(answer?)
    }
}

/// What the leader of `order` signed.
fn signed<A: Payload>(fleet: FleetId, order: &Order, answer: &[u8]) -> Result<A, TalkError> {
    let (key, content) = open_as::<A>(answer, &fleet)?;
    if key == order.leader { Ok(content) } else { Err(TalkError::NotLeader { key }) }
}

fn same(same: bool, field: &'static str) -> Result<(), TalkError> {
    if same { Ok(()) } else { Err(TalkError::Other { field }) }
}
