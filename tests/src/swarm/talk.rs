//! What a simulated agent says and hears: the messages of the real one, made and checked with the same types.

use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, Headers, NatsBus};
use muster_protocol::entropy::random;
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::message::{
    Acknowledgement, Heartbeat, Hello, Notice, NoticeOutcome, Order as Sealed, Progress, Stage, Verdict,
    Welcome,
};
use muster_protocol::session::{Ephemeral, Session, Side, Transcript};
use muster_protocol::slice::{Reported, Standing};
use muster_protocol::subject::{Subject, Subjects};
use muster_protocol::wire;
use muster_share::entropy::OsEntropy;

use super::Failure;
use super::belief::Order;

/// Longest wait for a welcome, as the real agent's.
const HELLO: Duration = Duration::from_secs(10);
/// Longest wait for an acknowledgement, as the real agent's.
const NOTICE: Duration = Duration::from_secs(15);
/// What a simulated agent says its version is.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who talks.
#[derive(Clone)]
pub(super) struct Talker {
    pub(super) fleet: FleetId,
    pub(super) subjects: Subjects,
    pub(super) service: ServiceName,
    pub(super) signer: Signer,
    pub(super) instance: Nonce,
    pub(super) bus: NatsBus,
}

impl Talker {
    pub(super) fn subject(&self, of: impl FnOnce(ServiceName) -> Subject) -> String {
        self.subjects.print(&of(self.service.clone()))
    }

    /// Says hello and opens the welcome: the attempt that may be made, none if nothing is wanted.
    pub(super) async fn hello(&self, order: &Order, attempt: u32) -> Result<Option<u32>, Failure> {
        let own = Ephemeral::generate(&mut OsEntropy);
        let nonce = Nonce::from_bytes(random(&mut OsEntropy));
        let hello = Hello {
            service: self.service.clone(),
            round: order.round,
            epoch: order.epoch,
            attempt,
            nonce,
            ephemeral: own.public(),
            version: VERSION.to_owned(),
        };
        let welcome: Welcome = self.ask(order, Subject::Hello, &hello, HELLO).await?;
        if (welcome.round, welcome.epoch, welcome.nonce) != (order.round, order.epoch, nonce) {
            return Err("the welcome belongs to another hello".into());
        }
        let Some(attempt) = welcome.attempt else { return Ok(None) };
        let transcript = Transcript {
            fleet: self.fleet,
            round: order.round,
            epoch: order.epoch,
            leader: order.leader,
            agent: self.signer.key_id(),
            leader_ephemeral: order.leader_ephemeral,
            agent_ephemeral: own.public(),
            nonce,
        };
        let mut session = Session::derive(Side::Agent, &own, &transcript)?;
        let sealed: Sealed = wire::decode(&session.open(&welcome.sealed)?)?;
        if sealed.nonce == order.nonce.for_attempt(&self.service, attempt) {
            Ok(Some(attempt))
        } else {
            Err("the welcome's nonce is not the attempt's".into())
        }
    }

    /// Tells how an attempt went.
    pub(super) async fn notice(
        &self,
        order: &Order,
        attempt: u32,
        reported: Reported,
    ) -> Result<Verdict, Failure> {
        let (outcome, receipt) = match reported {
            Reported::Stored { receipt, receipt_size, totals } => {
                (NoticeOutcome::Stored { receipt, receipt_size, totals }, Some(receipt))
            }
            Reported::Failed { code, reason, permanent } => {
                (NoticeOutcome::Failed { code, reason, permanent }, None)
            }
        };
        self.tell(order, attempt, outcome, receipt).await
    }

    /// Tells where the service stands in a cut.
    pub(super) async fn standing(
        &self,
        order: &Order,
        attempt: u32,
        standing: Standing,
    ) -> Result<Verdict, Failure> {
        let outcome = match standing {
            Standing::Quiesced => NoticeOutcome::Quiesced,
            Standing::Snapped { nonce } => NoticeOutcome::Snapped { nonce },
        };
        self.tell(order, attempt, outcome, None).await
    }

    async fn tell(
        &self,
        order: &Order,
        attempt: u32,
        outcome: NoticeOutcome,
        receipt: Option<ObjectId>,
    ) -> Result<Verdict, Failure> {
        let (service, round, epoch) = (self.service.clone(), order.round, order.epoch);
        let notice = Notice { service, round, epoch, attempt, outcome };
        let answer: Acknowledgement = self.ask(order, Subject::Notice, &notice, NOTICE).await?;
        if (answer.round, answer.epoch, answer.attempt, answer.receipt) == (round, epoch, attempt, receipt) {
            Ok(answer.verdict)
        } else {
            Err("the acknowledgement belongs to another notice".into())
        }
    }

    /// Says that the agent is there.
    pub(super) async fn heartbeat(&self, sequence: u64, round: Option<RoundId>) {
        let (service, instance, version) = (self.service.clone(), self.instance, VERSION.to_owned());
        self.say(Subject::Heartbeat, &Heartbeat { service, instance, sequence, version, round }).await;
    }

    /// Says that the capture has begun.
    pub(super) async fn progress(&self, round: RoundId, attempt: u32) {
        let progress = Progress {
            service: self.service.clone(),
            round,
            attempt,
            stage: Stage::Capturing,
            done_bytes: 0,
            expected_bytes: None,
            added_bytes: 0,
        };
        self.say(Subject::Progress, &progress).await;
    }

    async fn say<P: Payload>(&self, of: impl FnOnce(ServiceName) -> Subject, message: &P) {
        let payload = Bytes::from(self.signer.seal(&self.fleet, message));
        // Lossy by design: what a dead connection does not take is said again by itself.
        drop(self.bus.publish(&self.subject(of), Headers::new(), payload).await);
    }

    async fn ask<A: Payload>(
        &self,
        order: &Order,
        of: impl FnOnce(ServiceName) -> Subject,
        question: &impl Payload,
        limit: Duration,
    ) -> Result<A, Failure> {
        let payload = Bytes::from(self.signer.seal(&self.fleet, question));
        let answer = self.bus.request(&self.subject(of), Headers::new(), payload, limit).await?;
        let (key, content) = open_as::<A>(&answer.payload, &self.fleet)?;
        if key == order.leader { Ok(content) } else { Err("somebody answered who does not lead".into()) }
    }
}
