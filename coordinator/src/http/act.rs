//! Acts: a round asked for, a round cancelled, an alert acknowledged. The leader does them, and the log says which token asked.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use muster_protocol::alert::Code;
use muster_protocol::entropy::random;
use muster_protocol::ids::{RoundId, ServiceName, hex};
use muster_protocol::log::State;
use muster_protocol::message::{CommandReply, CommandState, Demand, TriggerState, cut_reason};
use muster_protocol::service_policy::is_label;
use muster_share::entropy::OsEntropy;
use schemars::JsonSchema;
use serde::Deserialize;

use super::asked::Asked;
use super::problem::{Kind, Problem};
use super::read::{alert_id, json, newest, of_leader, of_name, round_name};
use super::route::Answer;
use super::{Api, World};
use crate::view::acts::{AckView, CancelView, StartView};
use crate::view::round_name::RoundName;

/// Longest id of a request, in bytes.
const MAX_REQUEST_LEN: usize = 128;
/// Longest reason; with characters of several bytes it is cut.
const MAX_REASON_CHARS: usize = 400;
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Which services a round is for, and why it is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StartBody {
    /// Only these services; null: all of them, unless labels are named.
    #[schemars(length(min = 1, max = 1500), inner(regex(pattern = r"^[a-z][a-z0-9-]{0,31}$")))]
    services: Option<Vec<String>>,
    /// Only services with one of these labels, beside those that are named.
    #[schemars(length(min = 1, max = 100), inner(regex(pattern = r"^[a-z][a-z0-9-]{0,31}$")))]
    labels: Option<Vec<String>>,
    /// Why, for people.
    #[schemars(length(max = 400))]
    reason: Option<String>,
}

/// Why a round is cancelled.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CancelBody {
    /// Why, for people.
    #[schemars(length(max = 400))]
    reason: Option<String>,
}

/// The id of the request: the sender's, so that asking again is the same round, or one of our own.
fn request_id(asked: &Asked) -> Result<String, Problem> {
    let mut values = asked.headers.get_all(IDEMPOTENCY_KEY).iter();
    let at = format!("header {IDEMPOTENCY_KEY}");
    let accepted = format!("1 to {MAX_REQUEST_LEN} visible ASCII characters, once");
    match (values.next(), values.next()) {
        (None, _) => Ok(hex(&random::<16>(&mut OsEntropy))),
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default();
            let fits = (1..=MAX_REQUEST_LEN).contains(&text.len())
                && text.bytes().all(|b| (b'!'..=b'~').contains(&b));
            if fits { Ok(text.to_owned()) } else { Err(Problem::invalid(at, text, accepted)) }
        }
        (Some(_), Some(_)) => {
            Err(Problem::new(Kind::Invalid, format!("{at}: it is there twice")).at(at).accepted(accepted))
        }
    }
}

/// The reason, which is cut to what a record holds.
fn reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    match reason {
        Some(text) if text.chars().count() > MAX_REASON_CHARS => {
            let accepted = format!("at most {MAX_REASON_CHARS} characters");
            Err(Problem::invalid("body reason", &text, accepted))
        }
        reason => Ok(reason.filter(|reason| !reason.is_empty()).map(|reason| cut_reason(&reason))),
    }
}

fn services(state: &State, names: Option<Vec<String>>) -> Result<Option<Vec<ServiceName>>, Problem> {
    let Some(names) = names else { return Ok(None) };
    if names.is_empty() {
        return Err(Problem::invalid(
            "body services",
            "[]",
            "one service or more; leave it out to ask for all",
        ));
    }
    let mut services = Vec::with_capacity(names.len());
    for name in names {
        match name.parse::<ServiceName>() {
            Ok(service) if state.agent(&service).is_some() => services.push(service),
            Ok(service) => {
                return Err(Problem::new(Kind::Unknown, format!("the fleet has no service {service}"))
                    .at("body services")
                    .accepted("names that GET /api/v1/agents lists"));
            }
            Err(_) => {
                return Err(Problem::invalid("body services", &name, "a name like [a-z][a-z0-9-]{0,31}"));
            }
        }
    }
    Ok(Some(services))
}

fn labels(labels: Option<Vec<String>>) -> Result<Option<Vec<String>>, Problem> {
    let Some(labels) = labels else { return Ok(None) };
    if labels.is_empty() {
        return Err(Problem::invalid(
            "body labels",
            "[]",
            "one label or more; leave it out to ask for all services",
        ));
    }
    match labels.iter().find(|label| !is_label(label)) {
        Some(bad) => Err(Problem::invalid("body labels", bad, "a label like [a-z][a-z0-9-]{0,31}")),
        None => Ok(Some(labels)),
    }
}

pub(super) fn start(_api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move {
        let request = request_id(&asked)?;
        let body: StartBody = asked.json()?;
        let seen = newest(&world).await?;
        let state = seen.log.state();
        let demand = Demand::Start {
            services: services(state, body.services)?,
            labels: labels(body.labels)?,
            request: request.clone(),
            reason: reason(body.reason)?,
            force: false,
        };
        let reply = demanded(&world, state, &asked, demand).await?;
        let Some(started) = &reply.started else { return Err(refused(&reply.reason)) };
        let status = match started.state {
            TriggerState::Opened => StatusCode::CREATED,
            TriggerState::Running | TriggerState::Ended => StatusCode::OK,
            TriggerState::Queued => StatusCode::ACCEPTED,
            TriggerState::Skipped | TriggerState::Refused => {
                return Err(refused(started.reason.as_deref().unwrap_or("no reason was given")));
            }
        };
        let mut response = json(status, &StartView::of(started, &request))?;
        // What waits is no round yet.
        let place = started.round.filter(|_| started.state != TriggerState::Queued);
        let place = place.map(|round| format!("/api/v1/rounds/{round}"));
        if let Some(Ok(place)) = place.map(|place| HeaderValue::from_str(&place)) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    })
}

pub(super) fn cancel(_api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move {
        let name = round_name(&asked)?;
        let body: CancelBody = asked.json()?;
        let reason = reason(body.reason)?.unwrap_or_default();
        let seen = newest(&world).await?;
        let round = open_round(&name, seen.log.state())?;
        let reply = demanded(&world, seen.log.state(), &asked, Demand::Cancel { round, reason }).await?;
        done(&reply)?;
        json(StatusCode::OK, &CancelView::of(&reply, round))
    })
}

pub(super) fn acknowledge(_api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move {
        let (alerts, _) = world.leader.alerts(false).await.map_err(|error| of_leader(&error))?;
        let id = alert_id(alerts.iter().map(|alert| alert.id().to_string()), &asked)?;
        // The command names this very opening: sent again, it says nothing of a later one.
        let Some(alert) = alerts.iter().find(|alert| alert.id().to_string() == id) else {
            return Err(Problem::new(Kind::Unknown, format!("the alert {id} is not open")).at("path alert"));
        };
        let demand = Demand::Acknowledge { alert: alert.reference().to_string() };
        let seen = newest(&world).await?;
        let reply = demanded(&world, seen.log.state(), &asked, demand).await?;
        done(&reply)?;
        json(StatusCode::OK, &AckView::of(&reply, id))
    })
}

async fn demanded(
    world: &World,
    state: &State,
    asked: &Asked,
    demand: Demand,
) -> Result<CommandReply, Problem> {
    let token = asked.token()?;
    let what = match &demand {
        Demand::Start { .. } => "start",
        Demand::Cancel { .. } => "cancel",
        Demand::Acknowledge { .. } => "acknowledge",
        Demand::Suspect { .. } => "suspect",
        Demand::TestNotification { .. } => "test-notification",
    };
    tracing::info!(%token, what, "demanded over HTTP");
    world.leader.demand(state, token, demand, asked.trace()).await.map_err(|error| of_leader(&error))
}

/// The round that is meant: `latest` is the newest open one, and a request that waits for its services is in no log yet, so that
/// only its whole id names it.
fn open_round(name: &RoundName, state: &State) -> Result<RoundId, Problem> {
    match name {
        RoundName::Latest => {
            let open = state.open_rounds();
            open.last().map(|round| round.open.round).ok_or_else(|| {
                Problem::new(Kind::Unknown, "no round is open")
                    .at("path round")
                    .next("GET /api/v1/rounds lists them")
            })
        }
        RoundName::Number(_) => {
            name.find(state).map(|round| round.open.round).map_err(|error| of_name(&error))
        }
        RoundName::Prefix(prefix) => match (name.find(state), prefix.parse()) {
            (Ok(known), _) => Ok(known.open.round),
            (Err(_), Ok(whole)) => Ok(whole),
            (Err(error), Err(_)) => Err(of_name(&error)),
        },
    }
}

fn done(reply: &CommandReply) -> Result<(), Problem> {
    match reply.state {
        CommandState::Done => Ok(()),
        CommandState::Nothing | CommandState::Refused => Err(refused(&reply.reason)),
    }
}

/// What the fleet refuses as it stands. Reasons begin with their code, where they have one.
fn refused(reason: &str) -> Problem {
    let code = reason.split([':', ' ']).next().and_then(|word| word.parse::<Code>().ok());
    let problem = Problem::new(Kind::Refused, reason).code(code);
    let steps = code.map(Code::steps).unwrap_or_default().iter().filter(|step| !step.contains("NAME"));
    match steps.copied().next() {
        Some(step) => problem.next(step),
        None => problem.next("GET /api/v1/status tells how the fleet stands, GET /api/v1/rounds what runs"),
    }
}
