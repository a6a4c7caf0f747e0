//! The conversation with a service's agent. An answer counts only when the service's current agent signed it and it
//! repeats the question's nonce.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, BusError, Headers};
use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::entropy::random;
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, KeyId, Nonce, ObjectId, RestoreId, RoundId, ServiceName};
use muster_protocol::message::{
    OfferVerdict, RestoreAsk, RestoreOffer, RestoreOrder, RestoreQuery, RestoreRefusal, RestoreState,
    RestoreStatus,
};
use muster_protocol::subject::Subject;
use muster_share::entropy::OsEntropy;
use tokio::time::{Instant, sleep};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::leader::Leader;
use crate::operator::Operator;

/// Longest wait for the answer to an ask or an order: the agent reads the log and the round's documents first.
const ANSWER: Duration = Duration::from_secs(45);
/// Longest wait for a status.
const STATUS: Duration = Duration::from_secs(30);
/// How long an agent may be silent before following it is given up.
const SILENT: Duration = Duration::from_secs(120);
/// Longest wait for an agent that is just starting.
const NOBODY: Duration = Duration::from_secs(5);

/// A service's agent, as an operator talks to it.
pub(super) struct Agent {
    bus: Arc<dyn Bus>,
    subject: String,
    fleet: FleetId,
    service: ServiceName,
    /// The agent's key, by the log.
    key: KeyId,
    signer: Signer,
}

/// Why there is no answer.
enum Silence {
    Bus(BusError),
    Failure(Failure),
}

pub(super) fn nonce() -> Nonce {
    Nonce::from_bytes(random(&mut OsEntropy))
}

impl Agent {
    pub(super) async fn connect(
        operator: &Operator,
        fleet: &Fleet,
        service: &ServiceName,
        signer: Signer,
    ) -> Result<Self, Failure> {
        let Some(agent) = fleet.state().agent(service) else {
            return Err(Failure::usage(format!("the fleet has no agent for {service}"))
                .next("muster agents lists them; enrol one, or use muster recover"));
        };
        let (key, fleet) = (agent.key, fleet.state().fleet);
        let (bus, subjects) = Leader::connect(operator).await?.into_parts();
        let subject = subjects.print(&Subject::Restore(service.clone()));
        Ok(Self { bus, subject, fleet, service: service.clone(), key, signer })
    }

    pub(super) fn signer(&self) -> &Signer {
        &self.signer
    }

    pub(super) async fn ask(&self, round: RoundId, receipt: ObjectId) -> Result<OfferVerdict, Failure> {
        let nonce = nonce();
        let ask = RestoreAsk { service: self.service.clone(), round, receipt, nonce };
        let began = Instant::now();
        loop {
            match self.exchange::<_, RestoreOffer>(&ask, ANSWER).await {
                Ok(offer) => {
                    return if offer.service == self.service && offer.nonce == nonce {
                        Ok(offer.verdict)
                    } else {
                        Err(self.forged("it repeats another question"))
                    };
                }
                Err(Silence::Bus(BusError::NoResponders { .. })) if began.elapsed() < NOBODY => {
                    sleep(Duration::from_millis(200)).await;
                }
                Err(silence) => return Err(self.failure(silence)),
            }
        }
    }

    /// An order begins once: when the answer is lost, the status tells whether it has.
    pub(super) async fn order(&self, order: &RestoreOrder) -> Result<RestoreState, Failure> {
        match self.exchange::<_, RestoreStatus>(order, ANSWER).await {
            Ok(status) => self.state(status, order.nonce),
            Err(Silence::Bus(BusError::Timeout { .. } | BusError::Disconnected { .. })) => {
                self.query(Some(order.restore)).await
            }
            Err(silence) => Err(self.failure(silence)),
        }
    }

    pub(super) async fn query(&self, restore: Option<RestoreId>) -> Result<RestoreState, Failure> {
        let began = Instant::now();
        loop {
            let nonce = nonce();
            let query = RestoreQuery { service: self.service.clone(), restore, nonce };
            match self.exchange::<_, RestoreStatus>(&query, STATUS).await {
                Ok(status) => return self.state(status, nonce),
                Err(Silence::Bus(_)) if restore.is_some() && began.elapsed() < SILENT => {
                    sleep(Duration::from_secs(1)).await;
                }
                Err(silence) => return Err(self.failure(silence)),
            }
        }
    }

    fn state(&self, status: RestoreStatus, nonce: Nonce) -> Result<RestoreState, Failure> {
        if status.service == self.service && status.nonce == nonce {
            Ok(status.state)
        } else {
            Err(self.forged("it repeats another question"))
        }
    }

    async fn exchange<Q: Payload, A: Payload>(&self, question: &Q, limit: Duration) -> Result<A, Silence> {
        let payload = Bytes::from(self.signer.seal(&self.fleet, question));
        let answer = self.bus.request(&self.subject, Headers::new(), payload, limit).await;
        let answer = answer.map_err(Silence::Bus)?;
        let opened = open_as::<A>(&answer.payload, &self.fleet);
        let (key, answer) = opened.map_err(|error| Silence::Failure(self.forged(&causes(&error))))?;
        if key != self.key {
            let why = format!("key {} signed it, which is not the agent's", key.short());
            return Err(Silence::Failure(self.forged(&why)));
        }
        Ok(answer)
    }

    fn forged(&self, why: &str) -> Failure {
        Failure::new(Exit::Damaged, format!("KEY-03: the answer is not one of {}'s agent", self.service))
            .because(why)
            .next("somebody else answers on the bus: look at its accounts")
    }

    fn failure(&self, silence: Silence) -> Failure {
        let error = match silence {
            Silence::Failure(failure) => return failure,
            Silence::Bus(error) => error,
        };
        if !matches!(error, BusError::NoResponders { .. } | BusError::Timeout { .. }) {
            return error.into();
        }
        let what = format!("{}: the agent of {} does not answer", Code::Agent01, self.service);
        Failure::new(Exit::Unreachable, what)
            .because(error.to_string())
            .next(Operator::restore_hint(self.service.as_str()))
    }
}

/// What an agent refused; nothing was changed.
pub(super) fn refused(service: &ServiceName, refusal: &RestoreRefusal) -> Failure {
    let what = format!("the agent of {service} refuses: {}", refusal.reason);
    let what = match refusal.code {
        Some(code) => format!("{code}: {what}"),
        None => what,
    };
    let failure = Failure::new(Exit::Refused, what).because("Nothing was changed.");
    if refusal.next.is_empty() { failure } else { failure.next(refusal.next.clone()) }
}
