//! What a simulated agent says and hears: the messages of the real one, made and checked with the same types.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, Headers, NatsBus};
use muster_protocol::entropy::random;
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::message::{
    Acknowledgement, Heartbeat, Hello, Notice, NoticeOutcome, Ordered, Progress, Stage, Verdict, Welcome,
};
use muster_protocol::session::{Ephemeral, Sealed, Session, Side, Transcript};
use muster_protocol::slice::{Reported, Standing};
use muster_protocol::subject::{Subject, Subjects};
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
    /// With the leader of the round that it was last welcomed to.
    pub(super) session: Arc<Mutex<Option<(RoundId, Session)>>>,
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
            sealed: true,
        };
        let answer = self.ask(Subject::Hello, self.signer.seal(&self.fleet, &hello), HELLO).await?;
        if !Sealed::is_one(&answer) {
            let (key, welcome) = open_as::<Welcome>(&answer, &self.fleet)?;
            let same = (welcome.round, welcome.epoch, welcome.nonce) == (order.round, order.epoch, nonce);
            return if key == order.leader && same && welcome.attempt.is_none() {
                Ok(None)
            } else {
                Err("the welcome belongs to another hello".into())
            };
        }
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
        let Ordered { attempt, order: ordered } = session.hear(&Sealed::read(&answer, Ordered::MAX_LEN)?)?;
        if ordered.nonce == order.nonce.for_attempt(&self.service, attempt) {
            *self.session() = Some((order.round, session));
            Ok(Some(attempt))
        } else {
            Err("the welcome's nonce is not the attempt's".into())
        }
    }

    fn session(&self) -> MutexGuard<'_, Option<(RoundId, Session)>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sealed in the session with the round's leader, signed where there is none.
    fn seal<P: Payload>(&self, round: RoundId, payload: &P) -> Vec<u8> {
        match self.session().as_mut().filter(|(of, _)| *of == round) {
            Some((_, session)) => session.say(payload),
            None => self.signer.seal(&self.fleet, payload),
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
        let asked = self.ask(Subject::Notice, self.seal(round, &notice), NOTICE).await;
        let answer = asked.and_then(|answer| self.acknowledged(order, &answer));
        if answer.is_err() {
            // Signed when it is said again, as the real agent does.
            *self.session() = None;
        }
        let answer = answer?;
        if (answer.round, answer.epoch, answer.attempt, answer.receipt) == (round, epoch, attempt, receipt) {
            Ok(answer.verdict)
        } else {
            Err("the acknowledgement belongs to another notice".into())
        }
    }

    fn acknowledged(&self, order: &Order, answer: &[u8]) -> Result<Acknowledgement, Failure> {
        if Sealed::is_one(answer) {
            let sealed = Sealed::read(answer, Acknowledgement::MAX_LEN)?;
            let mut session = self.session();
            let (_, session) = session.as_mut().ok_or("an answer under a session that is over")?;
            return Ok(session.hear(&sealed)?);
        }
        let (key, content) = open_as::<Acknowledgement>(answer, &self.fleet)?;
        if key == order.leader { Ok(content) } else { Err("somebody answered who does not lead".into()) }
    }

    /// Says that the agent is there.
    pub(super) async fn heartbeat(&self, sequence: u64, round: Option<RoundId>) {
        let (service, instance, version) = (self.service.clone(), self.instance, VERSION.to_owned());
        let beat = Heartbeat { service, instance, sequence, version, round, at: None, leaving: false };
        self.say(Subject::Heartbeat, self.signer.seal(&self.fleet, &beat)).await;
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
        self.say(Subject::Progress, self.seal(round, &progress)).await;
    }

    async fn say(&self, of: impl FnOnce(ServiceName) -> Subject, payload: Vec<u8>) {
        // Lossy by design: what a dead connection does not take is said again by itself.
        drop(self.bus.publish(&self.subject(of), Headers::new(), payload.into()).await);
    }

    async fn ask(
        &self,
        of: impl FnOnce(ServiceName) -> Subject,
        payload: Vec<u8>,
        limit: Duration,
    ) -> Result<Bytes, Failure> {
        Ok(self.bus.request(&self.subject(of), Headers::new(), payload.into(), limit).await?.payload)
    }
}
