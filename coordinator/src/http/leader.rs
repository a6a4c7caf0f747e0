//! Asks whoever leads: this process, when it does, and over the bus as `muster` does, when it follows. Every wait has a limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use muster_bus::{Bus, BusError, Headers, Reply, Responder};
use muster_protocol::alert::Alert;
use muster_protocol::entropy::random;
use muster_protocol::envelope::{Signer, open_as};
use muster_protocol::ids::{FleetId, MemberName, Nonce, RoundId};
use muster_protocol::log::State;
use muster_protocol::message::{Command, CommandReply, Demand, MAX_MESSAGE_LEN, TriggerState};
use muster_protocol::subject::{Subject, Subjects};
use muster_share::entropy::OsEntropy;
use muster_telemetry::span::Place;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::intake::Input;
use crate::query::{AgentView, Answer, LeaderView, Query, RoundPage};

/// Longest wait for the answer to a question.
const QUESTION: Duration = Duration::from_secs(5);
/// Longest wait for the answer to a demand: the leader writes to the log on the share first.
const DEMAND: Duration = Duration::from_secs(25);
/// Wait before the same is asked once more: the server may have handed it to a former leader that hangs.
const AGAIN: Duration = Duration::from_millis(1_500);
/// Longest wait for a coordinator that is just taking over, and the pause between two tries.
const NOBODY: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);
/// Most pages of one list; a leader that never ends a list is not followed forever.
const PAGES: usize = 10_000;

/// How this process reaches its own desk, while it leads.
pub(crate) type Leading = Option<mpsc::Sender<Input>>;

/// Why the leader gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody leads.
    #[error("nobody leads just now")]
    Nobody,
    /// It did not answer in time.
    #[error("the leader did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The bus is away.
    #[error("the NATS server cannot be reached")]
    Bus(#[source] BusError),
    /// The demand names more than a message holds.
    #[error("the request has {len} bytes, and a message holds {MAX_MESSAGE_LEN}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// What came is no answer to what was asked, or nobody's who may answer.
    #[error("the answer makes no sense: {0}")]
    NoSense(String),
}

/// The way to the leader.
pub(super) struct Leader {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) subjects: Subjects,
    pub(super) fleet: FleetId,
    pub(super) signer: Arc<Signer>,
    pub(super) leading: watch::Receiver<Leading>,
}

impl Leader {
    /// Whether this process leads.
    pub(super) fn is_here(&self) -> bool {
        self.leading.borrow().is_some()
    }

    /// Who leads, and what is open.
    pub(super) async fn view(&self) -> Result<LeaderView, AskError> {
        match self.ask(&Query::Leader).await? {
            Answer::Leader(view) => Ok(view),
            Answer::Error { reason } => Err(AskError::NoSense(reason)),
            Answer::Agents(_) | Answer::Round(_) | Answer::Alerts(_) | Answer::Channels(_) => Err(other()),
        }
    }

    /// All agents.
    pub(super) async fn agents(&self) -> Result<Vec<AgentView>, AskError> {
        let (mut agents, mut after) = (Vec::new(), None);
        for _ in 0..PAGES {
            let page = match self.ask(&Query::Agents { after }).await? {
                Answer::Agents(page) => page,
                Answer::Error { reason } => return Err(AskError::NoSense(reason)),
                Answer::Leader(_) | Answer::Round(_) | Answer::Alerts(_) | Answer::Channels(_) => {
                    return Err(other());
                }
            };
            agents.extend(page.agents);
            after = page.next;
            if after.is_none() {
                return Ok(agents);
            }
        }
        Err(other())
    }

    /// A round at the leader's desk with all its services; none when it is not there (any more).
    pub(super) async fn round(&self, round: RoundId) -> Result<Option<RoundPage>, AskError> {
        let (mut before, mut after) = (Vec::new(), None);
        for _ in 0..PAGES {
            let mut page = match self.ask(&Query::Round { round, after }).await? {
                Answer::Round(page) => page,
                Answer::Error { .. } => return Ok(None),
                Answer::Leader(_) | Answer::Agents(_) | Answer::Alerts(_) | Answer::Channels(_) => {
                    return Err(other());
                }
            };
            before.append(&mut page.services);
            after = page.next.take();
            if after.is_none() {
                return Ok(Some(RoundPage { services: before, ..page }));
            }
        }
        Err(other())
    }

    /// The alerts, `closed` ones as well, and how many findings found no place in the leader's book.
    pub(super) async fn alerts(&self, closed: bool) -> Result<(Vec<Alert>, u64), AskError> {
        let (mut alerts, mut after) = (Vec::new(), None);
        for _ in 0..PAGES {
            let page = match self.ask(&Query::Alerts { closed, after }).await? {
                Answer::Alerts(page) => page,
                Answer::Error { reason } => return Err(AskError::NoSense(reason)),
                Answer::Leader(_) | Answer::Agents(_) | Answer::Round(_) | Answer::Channels(_) => {
                    return Err(other());
                }
            };
            alerts.extend(page.alerts);
            after = page.next;
            if after.is_none() {
                return Ok((alerts, page.passed_over));
            }
        }
        Err(other())
    }

    /// Demands something in the name of a token, perhaps within a trace. An answer counts when a coordinator of the roster has signed it for this very
    /// command.
    pub(super) async fn demand(
        &self,
        state: &State,
        token: &MemberName,
        demand: Demand,
        trace: Option<Place>,
    ) -> Result<CommandReply, AskError> {
        let nonce = Nonce::from_bytes(random(&mut OsEntropy));
        let command = Command { nonce, demand, token: Some(token.clone()) };
        let sealed = Bytes::from(self.signer.seal(&self.fleet, &command));
        if sealed.len() > MAX_MESSAGE_LEN {
            return Err(AskError::TooLong { len: sealed.len() });
        }
        let here =
            |reply| Input::Command { key: self.signer.key_id(), command: command.clone(), reply, trace };
        let headers = trace.iter().map(Place::header).collect();
        let (answer, again) = self.insist(&Subject::Command, &headers, &sealed, here, DEMAND).await?;
        match open_as::<CommandReply>(&answer, &self.fleet) {
            Ok((key, reply)) if reply.nonce == nonce && state.is_coordinator(&key) => {
                Ok(as_first(reply, again))
            }
            Ok(_) | Err(_) => Err(AskError::NoSense("no coordinator of the fleet has signed it".to_owned())),
        }
    }

    async fn ask(&self, query: &Query) -> Result<Answer, AskError> {
        let payload = Bytes::from(serde_json::to_vec(query).expect("a query is JSON"));
        let here = |reply| Input::Query { payload: payload.clone(), reply };
        let (answer, _) = self.insist(&Subject::Query, &Headers::new(), &payload, here, QUESTION).await?;
        serde_json::from_slice(&answer).map_err(|error| AskError::NoSense(error.to_string()))
    }

    /// Asks until there is an answer, for at most `limit`. What is asked may be asked twice; true: it was heard more than once,
    /// perhaps.
    async fn insist(
        &self,
        subject: &Subject,
        headers: &Headers,
        payload: &Bytes,
        here: impl Fn(Reply) -> Input,
        limit: Duration,
    ) -> Result<(Bytes, bool), AskError> {
        let (began, mut unheard) = (Instant::now(), false);
        loop {
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(AskError::Late(limit));
            }
            let leading = self.leading.borrow().clone();
            let again = AGAIN.max(limit / 5).min(left);
            let answer = match leading {
                Some(desk) => timeout(again, ask_here(&desk, &here)).await.ok().flatten(),
                None => {
                    let subject = self.subjects.print(subject);
                    match self.bus.request(&subject, headers.clone(), payload.clone(), again).await {
                        Ok(message) => Some(message.payload),
                        Err(BusError::Timeout { .. }) => None,
                        Err(BusError::NoResponders { .. }) if began.elapsed() < NOBODY => {
                            sleep(PAUSE.min(left)).await;
                            continue;
                        }
                        Err(BusError::NoResponders { .. }) => return Err(AskError::Nobody),
                        Err(error) => return Err(AskError::Bus(error)),
                    }
                }
            };
            match answer {
                Some(answer) => return Ok((answer, unheard)),
                None => {
                    unheard = true;
                    sleep(PAUSE.min(left)).await;
                }
            }
        }
    }
}

/// The round that runs already is the one that the first, unanswered message opened.
fn as_first(mut reply: CommandReply, again: bool) -> CommandReply {
    if let Some(started) =
        reply.started.as_mut().filter(|started| again && started.state == TriggerState::Running)
    {
        started.state = TriggerState::Opened;
    }
    reply
}

fn other() -> AskError {
    AskError::NoSense("it is one to another question".to_owned())
}

/// Asks this process's own desk; none when that is left meanwhile.
async fn ask_here(desk: &mpsc::Sender<Input>, input: &impl Fn(Reply) -> Input) -> Option<Bytes> {
    let (answer, answered) = oneshot::channel();
    let responder = Arc::new(Here(Mutex::new(Some(answer))));
    desk.send(input(Reply::new(String::new(), responder))).await.ok()?;
    answered.await.ok()
}

/// The way back within this process.
struct Here(Mutex<Option<oneshot::Sender<Bytes>>>);

#[async_trait]
impl Responder for Here {
    async fn respond(&self, _subject: &str, _headers: Headers, payload: Bytes) -> Result<(), BusError> {
        if let Some(answer) = self.0.lock().await.take() {
            // Whoever asked may be gone.
            answer.send(payload).ok();
        }
        Ok(())
    }
}
