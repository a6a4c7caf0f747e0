//! Talk: what the desk says to agents, and what their hellos and notices mean to a machine.

use std::sync::Arc;

use muster_bus::{Headers, Reply};
use muster_protocol::alert::About;
use muster_protocol::envelope::Payload;
use muster_protocol::ids::ObjectId;
use muster_protocol::ids::{KeyId, RoundId, ServiceName};
use muster_protocol::message::{
    Acknowledgement, Hello, Notice, NoticeOutcome, OpenRound, Order, Ordered, ServiceState, StateDocument,
    TriggerReply, TriggerState, Verdict, Welcome, cut_reason,
};
use muster_protocol::round::{Event, Failure, Phase};
use muster_protocol::session::{Session, Side, Transcript};
use muster_protocol::subject::Subject;
use muster_protocol::wire;
use muster_telemetry::span;
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::ignored::Reason;
use crate::intake::Answer;
use crate::sessions::Held;

use super::Desk;

impl Desk {
    pub(super) fn hello(&mut self, key: KeyId, hello: Hello, reply: Option<Reply>) {
        let Some(reply) = reply else { return };
        if hello.epoch != self.setting.scribe.epoch() {
            let why = format!("a hello of {} to epoch {}", hello.service, hello.epoch);
            return self.setting.ignored.one(Reason::Epoch, About::Service(hello.service), &why);
        }
        let (service, attempt, id) = (hello.service.clone(), hello.attempt, hello.round);
        let Some(round) = self.rounds.get_mut(&id).filter(|r| !r.finished) else {
            return self.welcome_to_nothing(&hello, reply);
        };
        self.roll.works_for(&service, id);
        round.hellos.insert(service.clone(), (key, hello, reply));
        self.event(&id, Event::Hello { service, attempt });
    }

    pub(super) fn notice(&mut self, notice: Notice, answer: Option<Answer>) {
        let Some(answer) = answer else { return };
        let Notice { service, round: id, attempt, outcome, .. } = notice;
        let Some(round) = self.rounds.get_mut(&id).filter(|r| !r.finished) else {
            let receipt = match outcome {
                NoticeOutcome::Stored { receipt, .. } => Some(receipt),
                NoticeOutcome::Failed { .. } | NoticeOutcome::Quiesced | NoticeOutcome::Snapped { .. } => {
                    None
                }
            };
            return self.acknowledge(id, attempt, receipt, Verdict::Over, answer);
        };
        let about_receipt = matches!(outcome, NoticeOutcome::Stored { .. });
        round.notices.insert((service.clone(), about_receipt), answer);
        let event = match outcome {
            NoticeOutcome::Stored { receipt, receipt_size, .. } => {
                Event::Stored { service, attempt, receipt, receipt_size }
            }
            NoticeOutcome::Failed { code, reason, permanent } => {
                if !round.machine.may_be_at(&service, attempt) {
                    let why = format!("attempt {attempt} of {service} failed, which nobody ordered");
                    self.setting.ignored.one(Reason::Attempt, About::Service(service.clone()), &why);
                }
                let reason = cut_reason(&reason);
                Event::Failed { service, attempt, failure: Failure { code, reason, permanent } }
            }
            NoticeOutcome::Quiesced => Event::Quiesced { service, attempt },
            NoticeOutcome::Snapped { nonce } => Event::Snapped { service, attempt, nonce },
        };
        self.event(&id, event);
    }

    /// The number and position that the log gave the round.
    pub(super) fn learn_position(&mut self, id: &RoundId) {
        let state = self.state();
        let (Some(round), Some(logged)) = (self.rounds.get_mut(id), state.rounds.get(id)) else { return };
        if round.position == 0 {
            round.open = logged.open.clone();
            round.position = logged.position;
            let services = round.machine.members().count();
            let _within = span::enter(round.trace.place());
            tracing::info!(
                number = round.open.number,
                services,
                trigger = round.open.trigger,
                "round opened"
            );
        }
        let reply = TriggerReply {
            round: Some(*id),
            number: Some(round.open.number),
            state: TriggerState::Opened,
            reason: None,
        };
        let waiters = std::mem::take(&mut round.opened_reply);
        if let Some(job) = round.opened_job.take() {
            tokio::spawn(async move { job.ack().await });
        }
        waiters.into_iter().for_each(|waiter| self.tell_waiter(waiter, &reply));
    }

    /// Tells whoever waits for a round's opening that the log takes no record now, and that it will be tried again.
    pub(super) fn tell_delay(&mut self, id: &RoundId, reason: &str) {
        let Some(round) = self.rounds.get_mut(id).filter(|r| *r.machine.phase() == Phase::Opening) else {
            return;
        };
        let reason = cut_reason(&format!("the round opens as soon as the share takes its record: {reason}"));
        let reply = TriggerReply {
            round: Some(*id),
            number: None,
            state: TriggerState::Queued,
            reason: Some(reason),
        };
        let waiters = std::mem::take(&mut round.opened_reply);
        waiters.into_iter().for_each(|waiter| self.tell_waiter(waiter, &reply));
    }

    pub(super) fn publish(&mut self) {
        let ids: Vec<_> = self.rounds.keys().copied().collect();
        for id in &ids {
            self.learn_position(id);
        }
        self.revision += 1;
        let now = self.now();
        let rounds = self
            .rounds
            .values()
            .filter(|r| r.position > 0 && r.machine.wants_slices())
            .map(|r| OpenRound {
                round: r.open.round,
                position: r.position,
                remaining_millis: u64::try_from(r.machine.remaining(now).as_millis()).unwrap_or(u64::MAX),
                ephemeral: r.ephemeral.public(),
                turn: r.machine.turn(),
                cut: r.machine.cut_order(),
            })
            .collect();
        let document = StateDocument { epoch: self.setting.scribe.epoch(), revision: self.revision, rounds };
        self.send_value(&Subject::State, Some(self.seal(&document)));
    }

    pub(super) fn publish_retry(&mut self, id: RoundId, service: ServiceName, attempt: u32) {
        self.revision += 1;
        let (epoch, revision) = (self.setting.scribe.epoch(), self.revision);
        let order = ServiceState { epoch, revision, service: service.clone(), round: id, attempt };
        self.send_value(&Subject::ServiceState(service.clone()), Some(self.seal(&order)));
        if let Some(round) = self.rounds.get_mut(&id) {
            round.retries.push(service);
        }
    }

    pub(super) fn send_value(&self, subject: &Subject, payload: Option<Vec<u8>>) {
        let value = (self.setting.subjects.print(subject), payload.map(Into::into));
        let publisher = self.setting.publisher.clone();
        if let Err(mpsc::error::TrySendError::Full(value)) = publisher.try_send(value) {
            tokio::spawn(async move { publisher.send(value).await });
        }
    }

    fn seal<P: Payload>(&self, payload: &P) -> Vec<u8> {
        self.setting.signer.seal(&self.state().fleet, payload)
    }

    pub(super) fn welcome(&mut self, id: RoundId, service: &ServiceName, attempt: Option<u32>) {
        let Some(round) = self.rounds.get_mut(&id) else { return };
        let Some((key, hello, reply)) = round.hellos.remove(service) else { return };
        let Some(attempt) = attempt else { return self.welcome_to_nothing(&hello, reply) };
        let transcript = Transcript {
            fleet: self.setting.scribe.state().fleet,
            round: id,
            epoch: hello.epoch,
            leader: self.setting.signer.key_id(),
            agent: key,
            leader_ephemeral: round.ephemeral.public(),
            agent_ephemeral: hello.ephemeral,
            nonce: hello.nonce,
        };
        let credentials = self.setting.credentials.borrow().clone();
        let credentials = credentials.map(|credentials| ByteBuf::from(wire::encode(credentials.as_ref())));
        let policy = round.machine.member(service).map(|member| member.policy.clone()).unwrap_or_default();
        let order = Order {
            nonce: round.open.nonce.for_attempt(service, attempt),
            credentials,
            max_hold_millis: policy.max_hold.map(|hold| u64::try_from(hold.as_millis()).unwrap_or(u64::MAX)),
            bandwidth: policy.bandwidth,
        };
        let headers = round.trace.order(service, attempt, &self.setting.subjects);
        let (service, sessions) = (service.clone(), Arc::clone(&self.setting.sessions));
        let (ephemeral, ignored) = (Arc::clone(&round.ephemeral), Arc::clone(&self.setting.ignored));
        let seal = self.sealer();
        // A session costs as much as all else that the desk does for a hello: it is made beside the loop, on any core.
        tokio::spawn(async move {
            let mut session = match Session::derive(Side::Leader, &ephemeral, &transcript) {
                Ok(session) => session,
                Err(error) => return ignored.one(Reason::Noise, About::Service(service), &error),
            };
            let Hello { epoch, nonce, .. } = hello;
            if hello.sealed {
                let held = Arc::new(Held::new(key, id, nonce, session));
                sessions.begin(service, Arc::clone(&held));
                return send(reply, headers, held.say(&Ordered { attempt, order })).await;
            }
            let plain = Zeroizing::new(wire::encode(&order));
            let sealed = ByteBuf::from(session.seal(&plain));
            let welcome = Welcome { round: id, epoch, attempt: Some(attempt), nonce, sealed };
            send(reply, headers, seal(&welcome)).await;
        });
    }

    pub(super) fn welcome_to_nothing(&self, hello: &Hello, reply: Reply) {
        let (round, epoch, nonce) = (hello.round, hello.epoch, hello.nonce);
        let welcome = Welcome { round, epoch, attempt: None, nonce, sealed: ByteBuf::new() };
        self.answer(reply, welcome);
    }

    pub(super) fn acknowledge(
        &self,
        round: RoundId,
        attempt: u32,
        receipt: Option<ObjectId>,
        verdict: Verdict,
        answer: Answer,
    ) {
        let epoch = self.setting.scribe.epoch();
        let verdict = match verdict {
            Verdict::Refused { reason } => Verdict::Refused { reason: cut_reason(&reason) },
            Verdict::Accepted | Verdict::Over => verdict,
        };
        let acknowledgement = Acknowledgement { round, epoch, attempt, receipt, verdict };
        answer.told();
        match answer.session {
            Some(held) => {
                tokio::spawn(send(answer.reply, Headers::new(), held.say(&acknowledgement)));
            }
            None => self.answer(answer.reply, acknowledgement),
        }
    }

    /// Signs an answer and sends it, beside the loop.
    pub(super) fn answer<P: Payload + Send + 'static>(&self, reply: Reply, payload: P) {
        let seal = self.sealer();
        tokio::spawn(async move { send(reply, Headers::new(), seal(&payload)).await });
    }

    /// Signs what it is given as this coordinator, wherever it is called.
    fn sealer<P: Payload>(&self) -> impl Fn(&P) -> Vec<u8> + Send + 'static + use<P> {
        let (signer, fleet) = (Arc::clone(&self.setting.signer), self.state().fleet);
        move |payload| signer.seal(&fleet, payload)
    }
}

async fn send(reply: Reply, headers: Headers, payload: Vec<u8>) {
    if let Err(error) = reply.send(headers, payload.into()).await {
        tracing::debug!(%error, "an answer was not sent; it will be asked for again");
    }
}
