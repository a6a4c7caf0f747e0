//! Intake: what arrives on the bus, checked as far as that is possible without the roster, goes to the desk.
//!
//! Garbage is counted and told once a minute, never answered. Signatures are verified and sealed messages opened here, beside the
//! desk's loop; whether the key may say it, the desk looks up.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster_bus::{Bus, BusError, Headers, Job, Message, Reply};
use muster_protocol::alert::{About, Part};
use muster_protocol::causes::causes;
use muster_protocol::envelope::{Payload, open, open_as};
use muster_protocol::ids::{FleetId, KeyId, RoundId, ServiceName};
use muster_protocol::message::{Command, Format, Heartbeat, Hello, Notice, Progress, Trigger, TriggerError};
use muster_protocol::session::Sealed;
use muster_protocol::subject::{Subject, Subjects};
use muster_telemetry::span::{self, Finished, Place, Side};
use tokio::sync::mpsc;

use crate::ignored::{Ignored, Reason};
use crate::sessions::{Held, Sessions};

/// Name of the queue group of the core services: only leaders listen, but two may for a moment.
const GROUP: &str = "coordinators";

/// How whoever asked is to be answered: signed, or under the session that it asked under.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) session: Option<Arc<Held>>,
    asked: Asked,
}

/// When a question came, and within which trace.
struct Asked {
    at: SystemTime,
    within: Option<Place>,
    subject: String,
}

impl Answer {
    fn to(message: &Message, reply: Reply, session: Option<Arc<Held>>) -> Self {
        let asked = Asked {
            at: SystemTime::now(),
            within: within(&message.headers),
            subject: message.subject.clone(),
        };
        Self { reply, session, asked }
    }

    /// The notice is being answered: the span of taking it is over.
    pub(crate) fn told(&self) {
        let Some(sent) = self.asked.within else { return };
        Finished::new("process notice", sent.below("process"), Some(sent), self.asked.at)
            .message(Side::Consumer, "notice", &self.asked.subject, "muster.v1.{fleet}.notice.{service}")
            .tell();
    }
}

/// The trace that a message belongs to. Nothing is made of it but spans; it is looked at only where they are told.
fn within(headers: &Headers) -> Option<Place> {
    if span::is_told() { Place::of_headers(headers) } else { None }
}

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
        answer: Option<Answer>,
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
        trace: Option<Place>,
    },
    Job {
        request: Option<String>,
        trigger: Result<Trigger, TriggerError>,
        job: Job,
        trace: Option<Place>,
    },
    Command {
        key: KeyId,
        command: Command,
        reply: Reply,
        trace: Option<Place>,
    },
    Query {
        payload: bytes::Bytes,
        reply: Reply,
    },
    /// Well signed, and of a version of the protocol that this coordinator does not know.
    OtherVersion {
        key: KeyId,
        service: ServiceName,
        what: String,
    },
}

/// Why a message goes no further.
struct Refused {
    reason: Reason,
    about: About,
    why: String,
}

/// Starts listening; every task ends when the receiver of `desk` is gone.
pub(crate) async fn listen(
    bus: &Arc<dyn Bus>,
    subjects: &Subjects,
    fleet: FleetId,
    desk: mpsc::Sender<Input>,
    ignored: Arc<Ignored>,
    sessions: Arc<Sessions>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, BusError> {
    let mut tasks = Vec::new();
    for what in ["hello", "notice", "heartbeat", "progress"] {
        let mut subscription = bus.subscribe(&subjects.every(what), None).await?;
        let (subjects, desk, ignored) = (subjects.clone(), desk.clone(), ignored.clone());
        let sessions = Arc::clone(&sessions);
        tasks.push(tokio::spawn(async move {
            while let Some(message) = subscription.next().await {
                match of_agent(&subjects, &fleet, &sessions, message) {
                    Ok(input) => {
                        if desk.send(input).await.is_err() {
                            return;
                        }
                    }
                    Err(Refused { reason, about, why }) => ignored.one(reason, about, &why),
                }
            }
        }));
    }
    let mut triggers = bus.subscribe(&subjects.print(&Subject::Trigger), Some(GROUP)).await?;
    let (sender, counter) = (desk.clone(), ignored.clone());
    tasks.push(tokio::spawn(async move {
        while let Some(message) = triggers.next().await {
            let (request, format, trigger) =
                trigger(message.header(muster_bus::MSG_ID), message.header("Content-Type"), &message.payload);
            count_noise(&counter, &trigger);
            let trace = within(&message.headers);
            let input = Input::Trigger { request, trigger, format, reply: message.reply, trace };
            if sender.send(input).await.is_err() {
                return;
            }
        }
    }));
    let mut queries = bus.subscribe(&subjects.print(&Subject::Query), Some(GROUP)).await?;
    let (sender, counter) = (desk.clone(), ignored.clone());
    tasks.push(tokio::spawn(async move {
        while let Some(message) = queries.next().await {
            let Some(reply) = message.reply else {
                let about = About::Part(Part::Queries);
                counter.one(Reason::Unanswerable, about, &"a query that asks for no answer");
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
                    let trace = within(&message.headers);
                    if sender.send(Input::Command { key, command, reply, trace }).await.is_err() {
                        return;
                    }
                }
                (Ok(_), None) => {
                    let about = About::Part(Part::Commands);
                    counter.one(Reason::Unanswerable, about, &"a command that asks for no answer");
                }
                (Err(error), _) => {
                    counter.one(Reason::of(&error), About::Part(Part::Commands), &causes(&error));
                }
            }
        }
    }));
    tasks.push(tokio::spawn(take_jobs(bus.clone(), subjects.print(&Subject::TriggerAsync), desk, ignored)));
    Ok(tasks)
}

/// What an agent says, signed or sealed.
fn of_agent(
    subjects: &Subjects,
    fleet: &FleetId,
    sessions: &Sessions,
    message: Message,
) -> Result<Input, Refused> {
    let unknown = |why: &str| Refused {
        reason: Reason::Noise,
        about: About::Part(Part::Messages),
        why: why.to_owned(),
    };
    let subject = subjects.parse(&message.subject).ok_or_else(|| unknown("the subject is none of ours"))?;
    let opened = match subject {
        Subject::Hello(on) => opened::<Hello>(&message, fleet, &on)
            .map(|opened| opened.map(|(key, hello)| Input::Hello { key, hello, reply: message.reply })),
        Subject::Notice(on) if Sealed::is_one(&message.payload) => {
            unsealed::<Notice>(&message, sessions, &on).map(|opened| {
                opened.map(|(held, notice)| {
                    let key = held.key;
                    let answer = message.reply.clone().map(|reply| Answer::to(&message, reply, Some(held)));
                    Input::Notice { key, notice, answer }
                })
            })
        }
        Subject::Notice(on) => opened::<Notice>(&message, fleet, &on).map(|opened| {
            opened.map(|(key, notice)| {
                let answer = message.reply.clone().map(|reply| Answer::to(&message, reply, None));
                Input::Notice { key, notice, answer }
            })
        }),
        Subject::Heartbeat(on) => opened::<Heartbeat>(&message, fleet, &on)
            .map(|opened| opened.map(|(key, beat)| Input::Heartbeat { key, beat })),
        Subject::Progress(on) if Sealed::is_one(&message.payload) => {
            unsealed::<Progress>(&message, sessions, &on)
                .map(|opened| opened.map(|(held, progress)| Input::Progress { key: held.key, progress }))
        }
        Subject::Progress(on) => opened::<Progress>(&message, fleet, &on)
            .map(|opened| opened.map(|(key, progress)| Input::Progress { key, progress })),
        Subject::State
        | Subject::ServiceState(_)
        | Subject::Restore(_)
        | Subject::Trigger
        | Subject::TriggerAsync
        | Subject::Query
        | Subject::Command
        | Subject::Alert => return Err(unknown("the subject is not an agent's")),
    };
    opened.map(|opened| match opened {
        Opened::Of(input) => input,
        Opened::OtherVersion { key, service, what } => Input::OtherVersion { key, service, what },
    })
}

/// An envelope whose signature is good.
enum Opened<T> {
    /// As it was expected.
    Of(T),
    /// Of another version of the protocol.
    OtherVersion { key: KeyId, service: ServiceName, what: String },
}

impl<T> Opened<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Opened<U> {
        match self {
            Self::Of(it) => Opened::Of(f(it)),
            Self::OtherVersion { key, service, what } => Opened::OtherVersion { key, service, what },
        }
    }
}

/// A message that says of whom it is.
trait OfService {
    fn service(&self) -> &ServiceName;
}

macro_rules! of_service {
    ($($message:ty),*) => {$(
        impl OfService for $message {
            fn service(&self) -> &ServiceName {
                &self.service
            }
        }
    )*};
}
of_service!(Hello, Notice, Heartbeat, Progress);

/// A message that says of which round it is.
trait OfRound {
    fn round(&self) -> &RoundId;
}

macro_rules! of_round {
    ($($message:ty),*) => {$(
        impl OfRound for $message {
            fn round(&self) -> &RoundId {
                &self.round
            }
        }
    )*};
}
of_round!(Notice, Progress);

/// The message of the service `on` whose subject it came.
fn opened<P: Payload + OfService>(
    message: &Message,
    fleet: &FleetId,
    on: &ServiceName,
) -> Result<Opened<(KeyId, P)>, Refused> {
    let about = || About::Service(on.clone());
    let refused = |error| Refused { reason: Reason::of(&error), about: about(), why: causes(&error) };
    let envelope = open(&message.payload, P::MAX_LEN).map_err(refused)?;
    if (envelope.domain, envelope.name, envelope.fleet) == (P::DOMAIN, P::TYPE, *fleet)
        && envelope.version != P::VERSION
    {
        let what = other_version::<P>(envelope.version);
        return Ok(Opened::OtherVersion { key: envelope.key, service: on.clone(), what });
    }
    let said = envelope.parse::<P>(fleet).map_err(refused)?;
    if said.service() == on {
        return Ok(Opened::Of((envelope.key, said)));
    }
    let why = format!("a message about {} on the subject of {on}", said.service());
    Err(Refused { reason: Reason::Subject, about: About::Key(envelope.key), why })
}

/// The sealed message of the service `on` whose subject it came.
fn unsealed<P: Payload + OfService + OfRound>(
    message: &Message,
    sessions: &Sessions,
    on: &ServiceName,
) -> Result<Opened<(Arc<Held>, P)>, Refused> {
    let about = || About::Service(on.clone());
    let sealed = Sealed::read(&message.payload, P::MAX_LEN).map_err(|error| Refused {
        reason: Reason::of(&error),
        about: about(),
        why: causes(&error),
    })?;
    let Some(held) = sessions.find(on, &sealed.session) else {
        let why = format!("a {} of {on} in a session that is none of this leader's", P::TYPE);
        return Err(Refused { reason: Reason::Session, about: about(), why });
    };
    if sealed.name == P::TYPE && sealed.version != P::VERSION {
        let what = other_version::<P>(sealed.version);
        return Ok(Opened::OtherVersion { key: held.key, service: on.clone(), what });
    }
    let said = held.hear::<P>(&sealed).map_err(|error| {
        let reason = Reason::of_sealed(&error);
        Refused { reason, about: about(), why: causes(&error) }
    })?;
    if said.service() == on && *said.round() == held.round {
        return Ok(Opened::Of((held, said)));
    }
    let why = format!("a message about {} or a round that its session is not of", said.service());
    Err(Refused { reason: Reason::Subject, about: About::Key(held.key), why })
}

fn other_version<P: Payload>(version: u16) -> String {
    format!("it speaks version {version} of {}, this coordinator version {}", P::TYPE, P::VERSION)
}

/// A trigger is answered, whatever is wrong with it; only what nobody writes by mistake is counted as well.
fn count_noise(ignored: &Ignored, trigger: &Result<Trigger, TriggerError>) {
    if let Err(error @ TriggerError::TooLong { .. }) = trigger {
        ignored.one(Reason::Noise, About::Part(Part::Triggers), error);
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

async fn take_jobs(bus: Arc<dyn Bus>, subject: String, desk: mpsc::Sender<Input>, ignored: Arc<Ignored>) {
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
                count_noise(&ignored, &trigger);
                let trace = within(&job.headers);
                if desk.send(Input::Job { request, trigger, job, trace }).await.is_err() {
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
