//! Intake: what arrives on the bus, checked as far as that is possible without the roster, goes to the desk.
//!
//! Garbage is counted and told once a minute, never answered. Signatures are verified here, beside the desk's loop;
//! whether the key may say it, the desk looks up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_bus::{Bus, BusError, Job, Message, Reply};
use muster_protocol::causes::causes;
use muster_protocol::envelope::{Payload, open_as};
use muster_protocol::ids::{FleetId, KeyId};
use muster_protocol::message::{Command, Format, Heartbeat, Hello, Notice, Progress, Trigger, TriggerError};
use muster_protocol::subject::{Subject, Subjects};
use tokio::sync::mpsc;

/// Name of the queue group of the core services: only leaders listen, but two may for a moment.
const GROUP: &str = "coordinators";

/// Something from the bus.
pub(crate) enum Input {
    Hello {
        key: KeyId,
        hello: Hello,
        reply: Option<Reply>,
    },
    Notice {
        key: KeyId,
        notice: Notice,
        reply: Option<Reply>,
    },
    Heartbeat {
        key: KeyId,
        beat: Heartbeat,
    },
    Progress {
        key: KeyId,
        progress: Progress,
    },
    Trigger {
        request: Option<String>,
        trigger: Result<Trigger, TriggerError>,
        format: Format,
        reply: Option<Reply>,
    },
    Job {
        request: Option<String>,
        trigger: Result<Trigger, TriggerError>,
        job: Job,
    },
    Command {
        key: KeyId,
        command: Command,
        reply: Reply,
    },
    Query {
        payload: bytes::Bytes,
        reply: Reply,
    },
}

/// Messages that were ignored, because they were none of ours.
#[derive(Debug, Default)]
pub(crate) struct Ignored(AtomicU64);

impl Ignored {
    /// Counts one.
    pub(crate) fn one(&self, why: &dyn std::fmt::Display) {
        self.0.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%why, "message ignored");
    }

    /// How many so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts listening; every task ends when the receiver of `desk` is gone.
pub(crate) async fn listen(
    bus: &Arc<dyn Bus>,
    subjects: &Subjects,
    fleet: FleetId,
    desk: mpsc::Sender<Input>,
    ignored: Arc<Ignored>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, BusError> {
    let mut tasks = Vec::new();
    for what in ["hello", "notice", "heartbeat", "progress"] {
        let mut subscription = bus.subscribe(&subjects.every(what), None).await?;
        let (subjects, desk, ignored) = (subjects.clone(), desk.clone(), ignored.clone());
        tasks.push(tokio::spawn(async move {
            while let Some(message) = subscription.next().await {
                match signed(&subjects, &fleet, message) {
                    Ok(input) => {
                        if desk.send(input).await.is_err() {
                            return;
                        }
                    }
                    Err(why) => ignored.one(&why),
                }
            }
        }));
    }
    let mut triggers = bus.subscribe(&subjects.print(&Subject::Trigger), Some(GROUP)).await?;
    let sender = desk.clone();
    tasks.push(tokio::spawn(async move {
        while let Some(message) = triggers.next().await {
            let (request, format, trigger) =
                trigger(message.header(muster_bus::MSG_ID), message.header("Content-Type"), &message.payload);
            if sender.send(Input::Trigger { request, trigger, format, reply: message.reply }).await.is_err() {
                return;
            }
        }
    }));
    let mut queries = bus.subscribe(&subjects.print(&Subject::Query), Some(GROUP)).await?;
    let (sender, counter) = (desk.clone(), ignored.clone());
    tasks.push(tokio::spawn(async move {
        while let Some(message) = queries.next().await {
            let Some(reply) = message.reply else {
                counter.one(&"a query that asks for no answer");
                continue;
            };
            if sender.send(Input::Query { payload: message.payload, reply }).await.is_err() {
                return;
            }
        }
    }));
    let mut commands = bus.subscribe(&subjects.print(&Subject::Command), Some(GROUP)).await?;
    let (sender, counter) = (desk.clone(), ignored.clone());
    tasks.push(tokio::spawn(async move {
        while let Some(message) = commands.next().await {
            match (open_as::<Command>(&message.payload, &fleet), message.reply) {
                (Ok((key, command)), Some(reply)) => {
                    if sender.send(Input::Command { key, command, reply }).await.is_err() {
                        return;
                    }
                }
                (Ok(_), None) => counter.one(&"a command that asks for no answer"),
                (Err(error), _) => counter.one(&causes(&error)),
            }
        }
    }));
    tasks.push(tokio::spawn(take_jobs(bus.clone(), subjects.print(&Subject::TriggerAsync), desk)));
    Ok(tasks)
}

fn signed(subjects: &Subjects, fleet: &FleetId, message: Message) -> Result<Input, String> {
    fn open<P: Payload>(message: &Message, fleet: &FleetId) -> Result<(KeyId, P), String> {
        open_as::<P>(&message.payload, fleet).map_err(|e| causes(&e))
    }
    let subject = subjects.parse(&message.subject).ok_or("the subject is none of ours")?;
    let (input, service, said) = match subject {
        Subject::Hello(service) => {
            let (key, hello) = open::<Hello>(&message, fleet)?;
            let said = hello.service.clone();
            (Input::Hello { key, hello, reply: message.reply }, service, said)
        }
        Subject::Notice(service) => {
            let (key, notice) = open::<Notice>(&message, fleet)?;
            let said = notice.service.clone();
            (Input::Notice { key, notice, reply: message.reply }, service, said)
        }
        Subject::Heartbeat(service) => {
            let (key, beat) = open::<Heartbeat>(&message, fleet)?;
            let said = beat.service.clone();
            (Input::Heartbeat { key, beat }, service, said)
        }
        Subject::Progress(service) => {
            let (key, progress) = open::<Progress>(&message, fleet)?;
            let said = progress.service.clone();
            (Input::Progress { key, progress }, service, said)
        }
        Subject::State
        | Subject::ServiceState(_)
        | Subject::Restore(_)
        | Subject::Trigger
        | Subject::TriggerAsync
        | Subject::Query
        | Subject::Command => return Err("the subject is not an agent's".into()),
    };
    if service == said {
        Ok(input)
    } else {
        Err(format!("a message about {said} on the subject of {service}"))
    }
}

fn trigger(
    id: Option<&str>,
    content_type: Option<&str>,
    payload: &[u8],
) -> (Option<String>, Format, Result<Trigger, TriggerError>) {
    let id = id.filter(|id| !id.is_empty()).map(str::to_owned);
    match Format::from_content_type(content_type) {
        Ok(format) => (id, format, Trigger::parse(format, payload)),
        Err(error) => (id, Format::Json, Err(error)),
    }
}

async fn take_jobs(bus: Arc<dyn Bus>, subject: String, desk: mpsc::Sender<Input>) {
    let mut queue = None;
    while !desk.is_closed() {
        let mut open = match queue.take() {
            Some(open) => open,
            None => match bus.queue(&subject).await {
                Ok(open) => open,
                Err(error) => {
                    tracing::debug!(%error, "the trigger queue is not there yet");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            },
        };
        match open.next(Duration::from_secs(5)).await {
            Ok(Some(job)) => {
                // A job that comes again after a crash must be the same round.
                let id = job.header(muster_bus::MSG_ID).unwrap_or(&job.id);
                let (request, _, trigger) = trigger(Some(id), job.header("Content-Type"), &job.payload);
                if desk.send(Input::Job { request, trigger, job }).await.is_err() {
                    return;
                }
                queue = Some(open);
            }
            Ok(None) => queue = Some(open),
            Err(error) => {
                tracing::debug!(%error, "the trigger queue was not read");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
