//! The conversations with the leader: hello and welcome, notice or standing and acknowledgement.
//!
//! Must never take an answer on trust: it counts only when the leader of the order signed it and it repeats what was
//! asked. What does not count is as if nobody had answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, BusError, Headers};
use muster_protocol::entropy::random;
use muster_protocol::envelope::{EnvelopeError, Payload, open_as};
use muster_protocol::ids::{KeyId, Nonce, ObjectId};
use muster_protocol::message::{
    Acknowledgement, Hello, Notice, NoticeOutcome, Order as Sealed, Verdict, Welcome, cut_reason,
};
use muster_protocol::session::{Ephemeral, Session, SessionError, Side, Transcript};
use muster_protocol::slice::{Reported, Standing};
use muster_protocol::subject::Subject;
use muster_protocol::wire::{self, WireError};
use muster_share::credentials::Credentials;
use muster_share::entropy::OsEntropy;

use super::belief::Order;
use super::identity::{Identity, VERSION};

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

/// Talks to whoever leads.
#[derive(Clone)]
pub(crate) struct Talker {
    pub(crate) identity: Arc<Identity>,
    pub(crate) bus: Arc<dyn Bus>,
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
        };
        let (welcome, headers) =
            self.ask::<_, Welcome>(order, me.subject(Subject::Hello), &hello, limit).await?;
        same(welcome.round == order.round, "round")?;
        same(welcome.epoch == order.epoch, "epoch")?;
        same(welcome.nonce == nonce, "nonce")?;
        let (mut credentials, mut terms) = (None, Terms::default());
        if let Some(attempt) = welcome.attempt {
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
            let mut session = Session::derive(Side::Agent, &own, &transcript)?;
            let plain = session.open(&welcome.sealed)?;
            let sealed: Sealed = wire::decode(&plain).map_err(TalkError::Order)?;
            same(sealed.nonce == order.nonce.for_attempt(&me.service, attempt), "attempt's nonce")?;
            credentials = sealed
                .credentials
                .as_deref()
                .map(|bytes| wire::decode(bytes))
                .transpose()
                .map_err(TalkError::Order)?;
            terms = Terms {
                max_hold: sealed.max_hold_millis.map(Duration::from_millis),
                bandwidth: sealed.bandwidth,
            };
        }
        Ok(Welcomed { attempt: welcome.attempt, credentials, terms, headers })
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
        let (answer, _) =
            self.ask::<_, Acknowledgement>(order, me.subject(Subject::Notice), &notice, limit).await?;
        same(answer.round == order.round, "round")?;
        same(answer.epoch == order.epoch, "epoch")?;
        same(answer.attempt == attempt, "attempt")?;
        same(answer.receipt == receipt, "receipt")?;
        Ok(answer.verdict)
    }

    async fn ask<Q: Payload, A: Payload>(
        &self,
        order: &Order,
        subject: String,
        question: &Q,
        limit: Duration,
    ) -> Result<(A, Headers), TalkError> {
        let me = &self.identity;
        let mut headers = Headers::new();
        muster_telemetry::inject(&mut headers);
        let payload = Bytes::from(me.signer.seal(&me.fleet, question));
        let answer = self.bus.request(&subject, headers, payload, limit).await?;
        let (key, content) = open_as::<A>(&answer.payload, &me.fleet)?;
        if key != order.leader {
            return Err(TalkError::NotLeader { key });
        }
        Ok((content, answer.headers))
    }
}

fn same(same: bool, field: &'static str) -> Result<(), TalkError> {
    if same { Ok(()) } else { Err(TalkError::Other { field }) }
}
