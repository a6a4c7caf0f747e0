//! Talks to the coordinators over NATS: questions and triggers. Every wait has a limit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use muster_bus::{Bus, BusError, Headers, Message, NatsBus, NatsConfig, Streams};
use muster_coordinator::query::{AgentView, Answer, ChannelView, LeaderView, Query, RoundPage};
use muster_protocol::alert::Alert;
use muster_protocol::entropy::random;
use muster_protocol::envelope::{Signer, open_as};
use muster_protocol::ids::{FleetId, KeyId, Nonce, RoundId};
use muster_protocol::log::State;
use muster_protocol::message::{
    Command, CommandReply, Demand, Format, MAX_MESSAGE_LEN, Trigger, TriggerReply, TriggerState,
};
use muster_protocol::subject::{Subject, Subjects};
use muster_share::entropy::OsEntropy;
use muster_telemetry::span::Place;
use tokio::time::{Instant, sleep, timeout};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::operator::Operator;
use crate::screen;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Wait before a question is asked once more.
const QUERY_AGAIN: Duration = Duration::from_millis(400);
/// Wait before a command is sent once more: a leader that is well answers it much sooner.
const DEMAND_AGAIN: Duration = Duration::from_millis(1_500);
/// Longest wait for the answer to a trigger, in all: the leader writes to the log on the share first.
const TRIGGER: Duration = Duration::from_secs(60);
/// Wait before a trigger is sent again: the coordinator that took it may have died with it.
const TRIGGER_AGAIN: Duration = Duration::from_secs(5);
/// Longest wait for a coordinator that is just starting or taking over.
const NOBODY: Duration = Duration::from_secs(10);
/// Pause before anything is asked again over NATS, and within a process, where asking costs nothing.
const ASK_AGAIN: Duration = Duration::from_millis(200);
const ASK_AGAIN_HERE: Duration = Duration::from_millis(5);
/// Most pages of one list; a leader that never ends a list is not followed forever.
const PAGES: usize = 10_000;

/// The way to the leading coordinator.
pub(crate) struct Leader {
    bus: Arc<dyn Bus>,
    subjects: Subjects,
    /// Pause before anything is asked again.
    pub(crate) again: Duration,
}

/// The bus as a fleet of this name uses it.
pub(crate) fn streams(subjects: &Subjects, fleet: &str) -> Result<Streams, BusError> {
    Streams::new(fleet, &subjects.print(&Subject::State), &subjects.print(&Subject::TriggerAsync))
}

/// A round that is asked for in an operator's name: signed, so that requests which anybody may send keep it out of no queue, and
/// nobody else can force it.
pub(crate) struct Order {
    /// What is asked for; its request id makes asking again safe.
    pub(crate) trigger: Trigger,
    force: bool,
    signer: Signer,
    fleet: FleetId,
    /// Whose answer counts; none where the share, which names them, cannot be read.
    coordinators: Option<BTreeSet<KeyId>>,
}

impl Order {
    /// An order signed by `signer`. `state` tells whose answer counts.
    ///
    /// # Errors
    /// Exit 2 when it names more than a message holds.
    pub(crate) fn new(
        trigger: Trigger,
        force: bool,
        signer: Signer,
        fleet: FleetId,
        state: Option<&State>,
    ) -> Result<Self, Failure> {
        let coordinators = state
            .map(|state| state.members.keys().copied().filter(|key| state.is_coordinator(key)).collect());
        let order = Self { trigger, force, signer, fleet, coordinators };
        let len = order.seal(Nonce::from_bytes([0; 16])).len();
        if len > MAX_MESSAGE_LEN {
            return Err(Failure::usage(format!(
                "the request has {len} bytes, and a message at most {MAX_MESSAGE_LEN}: too many services are named"
            ))
            .next("ask for all of them, or by label: muster start --labels NAME"));
        }
        Ok(order)
    }

    fn seal(&self, nonce: Nonce) -> Vec<u8> {
        let trigger = self.trigger.clone();
        let demand = Demand::Start {
            services: trigger.services,
            labels: trigger.labels,
            request: trigger.request.unwrap_or_default(),
            reason: trigger.reason,
            force: self.force,
        };
        self.signer.seal(&self.fleet, &Command { nonce, demand, token: None })
    }
}

impl Leader {
    /// Connects to the operator's NATS server.
    pub(crate) async fn connect(operator: &Operator) -> Result<Self, Failure> {
        let subjects = Subjects::new(&operator.fleet.name);
        let streams = streams(&subjects, operator.fleet.name.as_str())?;
        let name = format!("muster {}", operator.operator.name);
        let nats = NatsConfig::new(operator.nats.url.as_str(), name, streams);
        let nats = nats.with_files(&operator.nats.nkey, &operator.nats.ca, "operators")?;
        let bus = NatsBus::connect(nats).await?;
        Ok(Self { bus: Arc::new(bus), subjects, again: ASK_AGAIN })
    }

    /// Over the bus of this process.
    pub(crate) fn here(bus: Arc<dyn Bus>, subjects: Subjects) -> Self {
        Self { bus, subjects, again: ASK_AGAIN_HERE }
    }

    /// The bus, and the fleet's subjects on it, for whoever talks to others than the leader.
    pub(crate) fn into_parts(self) -> (Arc<dyn Bus>, Subjects) {
        (self.bus, self.subjects)
    }

    /// Asks for a round.
    pub(crate) async fn trigger(&self, trigger: &Trigger) -> Result<TriggerReply, Failure> {
        let payload = serde_json::to_vec(trigger).expect("a trigger is JSON");
        let headers = vec![("Content-Type".to_owned(), Format::Json.content_type().to_owned())];
        let subject = self.subjects.print(&Subject::Trigger);
        let (answer, again) = self.insist(&subject, headers, payload.into()).await?;
        let reply: TriggerReply =
            serde_json::from_slice(&answer.payload).map_err(|error| no_sense(&subject, &error))?;
        Ok(as_first(reply, again))
    }

    /// Asks for a round in an operator's name.
    ///
    /// # Errors
    /// Exit 7 when the key may not; exit 6 when nobody answers.
    pub(crate) async fn start(&self, order: &Order) -> Result<TriggerReply, Failure> {
        let nonce = Nonce::from_bytes(random(&mut OsEntropy));
        let subject = self.subjects.print(&Subject::Command);
        let (answer, again) = self.insist(&subject, within(), order.seal(nonce).into()).await?;
        let counts = |key: &KeyId| order.coordinators.as_ref().is_none_or(|known| known.contains(key));
        let reply = answered(&answer.payload, &order.fleet, nonce, counts)?;
        match reply.started {
            Some(started) => Ok(as_first(started, again)),
            // Whoever may not demand it is told so, and nothing of a round.
            None => Err(Failure::new(Exit::Refused, reply.reason)),
        }
    }

    /// Sends a request for a round until it is answered. True: more than once. A coordinator that starts or takes over is not there
    /// for a moment; the request id makes asking again safe.
    async fn insist(
        &self,
        subject: &str,
        headers: Vec<(String, String)>,
        payload: Bytes,
    ) -> Result<(Message, bool), Failure> {
        let began = Instant::now();
        let mut again = false;
        loop {
            match self.bus.request(subject, headers.clone(), payload.clone(), TRIGGER_AGAIN).await {
                Err(BusError::NoResponders { .. }) if began.elapsed() < NOBODY => sleep(self.again).await,
                Err(BusError::Timeout { .. }) if began.elapsed() < TRIGGER => {
                    if !again {
                        let most = TRIGGER.as_secs();
                        screen::aside(format!(
                            "no coordinator has answered yet; asking again, for {most} s at most"
                        ));
                    }
                    again = true;
                }
                answered => return Ok((answered?, again)),
            }
        }
    }

    /// Demands something of the leader, signed with the operator's key. A reply counts when a coordinator of the roster has
    /// signed it for this very command.
    pub(crate) async fn demand(
        &self,
        fleet: &Fleet,
        signer: &Signer,
        demand: Demand,
    ) -> Result<CommandReply, Failure> {
        let nonce = Nonce::from_bytes(random(&mut OsEntropy));
        let id = fleet.state().fleet;
        let payload = Bytes::from(signer.seal(&id, &Command { nonce, demand, token: None }));
        let subject = self.subjects.print(&Subject::Command);
        let began = Instant::now();
        let answer = loop {
            // A command names what it is about, so one that is heard twice does no more than one.
            match self.first_answer(&subject, &payload, DEMAND_AGAIN).await {
                Err(BusError::NoResponders { .. }) if began.elapsed() < NOBODY => sleep(self.again).await,
                answered => break answered?,
            }
        };
        answered(&answer.payload, &id, nonce, |key| fleet.state().is_coordinator(key))
    }

    /// Who leads, and what is open.
    pub(crate) async fn leader(&self) -> Result<LeaderView, Failure> {
        match self.ask(&Query::Leader).await? {
            Answer::Leader(view) => Ok(view),
            Answer::Error { reason } => Err(Failure::new(Exit::Failed, reason)),
            Answer::Agents(_) | Answer::Round(_) | Answer::Alerts(_) | Answer::Channels(_) => {
                Err(other_answer())
            }
        }
    }

    /// All agents.
    pub(crate) async fn agents(&self) -> Result<Vec<AgentView>, Failure> {
        let mut agents = Vec::new();
        let mut after = None;
        for _ in 0..PAGES {
            let page = match self.ask(&Query::Agents { after }).await? {
                Answer::Agents(page) => page,
                Answer::Error { reason } => return Err(Failure::new(Exit::Failed, reason)),
                Answer::Leader(_) | Answer::Round(_) | Answer::Alerts(_) | Answer::Channels(_) => {
                    return Err(other_answer());
                }
            };
            agents.extend(page.agents);
            after = page.next;
            if after.is_none() {
                return Ok(agents);
            }
        }
        Err(other_answer())
    }

    /// A round at the leader's desk with all its services; none when it is not there (any more).
    pub(crate) async fn round(&self, round: RoundId) -> Result<Option<RoundPage>, Failure> {
        let mut whole: Option<RoundPage> = None;
        let mut after = None;
        for _ in 0..PAGES {
            let page = match self.ask(&Query::Round { round, after }).await? {
                Answer::Round(page) => page,
                Answer::Error { .. } => return Ok(None),
                Answer::Leader(_) | Answer::Agents(_) | Answer::Alerts(_) | Answer::Channels(_) => {
                    return Err(other_answer());
                }
            };
            after = page.next.clone();
            whole = Some(match whole {
                None => page,
                Some(mut before) => {
                    before.services.extend(page.services);
                    RoundPage { services: before.services, ..page }
                }
            });
            if after.is_none() {
                return Ok(whole);
            }
        }
        Err(other_answer())
    }

    /// The alerts, `closed` ones as well, and how many findings found no place in the leader's book.
    pub(crate) async fn alerts(&self, closed: bool) -> Result<(Vec<Alert>, u64), Failure> {
        let (mut alerts, mut after) = (Vec::new(), None);
        for _ in 0..PAGES {
            let page = match self.ask(&Query::Alerts { closed, after }).await? {
                Answer::Alerts(page) => page,
                Answer::Error { reason } => return Err(Failure::new(Exit::Failed, reason)),
                Answer::Leader(_) | Answer::Agents(_) | Answer::Round(_) | Answer::Channels(_) => {
                    return Err(other_answer());
                }
            };
            alerts.extend(page.alerts);
            after = page.next;
            if after.is_none() {
                return Ok((alerts, page.passed_over));
            }
        }
        Err(other_answer())
    }

    /// The channels that tell people of alerts, and how they do.
    pub(crate) async fn channels(&self) -> Result<Vec<ChannelView>, Failure> {
        let (mut channels, mut after) = (Vec::new(), None);
        for _ in 0..PAGES {
            let page = match self.ask(&Query::Channels { after }).await? {
                Answer::Channels(page) => page,
                Answer::Error { reason } => return Err(Failure::new(Exit::Failed, reason)),
                Answer::Leader(_) | Answer::Agents(_) | Answer::Round(_) | Answer::Alerts(_) => {
                    return Err(other_answer());
                }
            };
            channels.extend(page.channels);
            after = page.next;
            if after.is_none() {
                return Ok(channels);
            }
        }
        Err(other_answer())
    }

    async fn ask(&self, query: &Query) -> Result<Answer, Failure> {
        let payload = serde_json::to_vec(query).expect("a query is JSON");
        let subject = self.subjects.print(&Subject::Query);
        let reply = self.first_answer(&subject, &Bytes::from(payload), QUERY_AGAIN).await?;
        serde_json::from_slice(&reply.payload).map_err(|error| no_sense(&subject, &error))
    }

    /// Asks, and asks again after each pause: the server may hand a question to a former leader that hangs. The first answer to
    /// any of them will do.
    async fn first_answer(
        &self,
        subject: &str,
        payload: &Bytes,
        again: Duration,
    ) -> Result<Message, BusError> {
        let began = Instant::now();
        let mut asked = FuturesUnordered::new();
        loop {
            let left = ANSWER.saturating_sub(began.elapsed());
            asked.push(self.bus.request(subject, Vec::new(), payload.clone(), left));
            if let Ok(Some(answered)) = timeout(again, asked.next()).await {
                return answered;
            }
        }
    }
}

/// The trace that this command is run within, as whoever runs it says in the environment (OpenTelemetry, "Environment Variables as
/// Context Propagation Carriers"); what is no trace is none.
fn within() -> Headers {
    let value = std::env::var("TRACEPARENT").unwrap_or_default();
    Place::of_headers(&[("traceparent".to_owned(), value)]).iter().map(Place::header).collect()
}

/// The round that runs already is the one that the first, unanswered message opened.
fn as_first(mut reply: TriggerReply, again: bool) -> TriggerReply {
    if again && reply.state == TriggerState::Running {
        reply.state = TriggerState::Opened;
    }
    reply
}

/// The answer to the command with this nonce, if it is signed by one whose answer counts.
fn answered(
    payload: &[u8],
    fleet: &FleetId,
    nonce: Nonce,
    counts: impl Fn(&KeyId) -> bool,
) -> Result<CommandReply, Failure> {
    match open_as::<CommandReply>(payload, fleet) {
        Ok((key, reply)) if reply.nonce == nonce && counts(&key) => Ok(reply),
        Ok(_) | Err(_) => {
            Err(Failure::new(Exit::Damaged, "KEY-03: the answer is not signed by a coordinator of the fleet")
                .next("muster status"))
        }
    }
}

fn no_sense(subject: &str, error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the answer on {subject} makes no sense"))
        .because(error.to_string())
        .next("do coordinator and muster have the same version?")
}

fn other_answer() -> Failure {
    Failure::new(Exit::Failed, "the coordinator answered another question")
        .next("do coordinator and muster have the same version?")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_bus::{Bus, EmbeddedBus, Limits};
    use muster_protocol::subject::{Subject, Subjects};

    use super::{Leader, streams};

    const LEADS: &str = r#"{"answer":"leader","coordinator":"two","version":"1","epoch":2,"head_number":9,
        "head_hash":"","services":1,"online":1,"rounds":[],"queued":0,"ignored_messages":0}"#;

    #[tokio::test]
    async fn a_question_that_a_frozen_leader_was_handed_is_answered_by_the_other() {
        let subjects = Subjects::new(&"test".parse().expect("name"));
        let bus: Arc<dyn Bus> =
            Arc::new(EmbeddedBus::new(streams(&subjects, "test").expect("streams"), Limits::default()));
        let query = subjects.print(&Subject::Query);
        let _frozen = bus.subscribe(&query, Some("coordinators")).await.expect("subscribed");
        let mut awake = bus.subscribe(&query, Some("coordinators")).await.expect("subscribed");
        tokio::spawn(async move {
            while let Some(message) = awake.next().await {
                let reply = message.reply.expect("a question");
                reply.send(Vec::new(), LEADS.into()).await.expect("sent");
            }
        });
        let leader = Leader::here(bus, subjects);
        for _ in 0..4 {
            assert_eq!(leader.leader().await.expect("answered").coordinator, "two");
        }
    }
}
