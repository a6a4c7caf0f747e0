//! Reads: each answers with the very shape that the command of the same name prints with `--json`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use muster_protocol::alert::{Alert, Code};
use muster_share::store::StoreError;
use schemars::JsonSchema;
use serde::Serialize;

use super::asked::Asked;
use super::leader::AskError;
use super::problem::{Kind, Problem};
use super::reader::Seen;
use super::route::Answer;
use super::{Api, World};
use crate::alerts::from_share;
use crate::scribe::unix_now;
use crate::view::Shown;
use crate::view::agents::AgentsView;
use crate::view::alerts::{AlertView, AlertsView, refused, sort};
use crate::view::audit::{AuditView, Page, since};
use crate::view::manifest::ManifestError;
use crate::view::round::RoundView;
use crate::view::round_name::{FindError, RoundName};
use crate::view::rounds::{RoundsView, page};
use crate::view::settings::SettingsView;
use crate::view::status::{StatusView, fill};
use crate::view::timetable::Timetable;

/// Rounds and records of a page, unless said otherwise.
const ROUNDS: u64 = 20;
const RECORDS: u64 = 50;

/// `{"schema":"muster.health/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HealthView {
    /// `muster.health/1`
    pub(super) schema: &'static str,
    /// `ok`
    pub(super) state: &'static str,
}

/// `{"schema":"muster.version/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct VersionView {
    /// `muster.version/1`
    pub(super) schema: &'static str,
    /// The product's version.
    pub(super) version: &'static str,
    /// The fleet's name.
    pub(super) fleet: String,
    /// Whoever answers.
    pub(super) coordinator: String,
    /// Whether it leads. If not, it reads the log by itself, and asks the leader for the rest.
    pub(super) leads: bool,
    /// The name of whoever holds the newest epoch by the log.
    pub(super) leader: Option<String>,
    /// That epoch.
    pub(super) epoch: Option<u64>,
}

/// `{"schema":"muster.schedule/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ScheduleView {
    /// `muster.schedule/1`
    pub(super) schema: &'static str,
    /// The fleet's name.
    pub(super) fleet: String,
    /// When the next round begins by itself, and whether any may.
    pub(super) schedule: Timetable,
}

/// One JSON document.
pub(super) fn json(status: StatusCode, view: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(view).map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn fine(view: &impl Serialize) -> Result<Response, Problem> {
    json(StatusCode::OK, view)
}

/// The newest log, or why there is none.
pub(super) async fn newest(world: &World) -> Result<Seen, Problem> {
    let seen = world.reader.read().await;
    match &seen.unread {
        None => Ok(seen),
        Some(unread) => Err(Problem::new(Kind::Share, unread.why.clone())
            .code(unread.code)
            .next("muster share test")
            .again_in(10)),
    }
}

pub(super) fn shown<'a>(world: &'a World, seen: &'a Seen) -> Shown<'a> {
    Shown { log: &seen.log, share: &world.share }
}

fn of_store(error: &StoreError) -> Problem {
    Problem::new(Kind::Share, error.to_string()).code(error.alert()).next("muster share test").again_in(10)
}

fn of_manifest(error: &ManifestError) -> Problem {
    match error {
        ManifestError::Store { source, .. } => of_store(source),
        ManifestError::Damaged { .. } => Problem::new(Kind::Share, error.to_string())
            .code(Some(Code::Verify02))
            .next("muster verify names everything that is damaged"),
    }
}

/// The leader gave no answer.
pub(super) fn of_leader(error: &AskError) -> Problem {
    match error {
        AskError::TooLong { .. } => {
            Problem::new(Kind::Invalid, format!("body: {error}; ask for all services, or by label"))
                .at("body")
        }
        AskError::Nobody | AskError::Late(_) | AskError::Bus(_) | AskError::NoSense(_) => {
            Problem::new(Kind::Leader, error.to_string())
                .next("ask again; with the same Idempotency-Key it is the same request")
                .next("muster status tells who leads, and muster doctor why nobody does")
                .again_in(5)
        }
    }
}

/// No round is called so.
pub(super) fn of_name(error: &FindError) -> Problem {
    match error {
        FindError::NoneYet | FindError::Unknown { .. } => Problem::new(Kind::Unknown, error.to_string())
            .at("path round")
            .next("GET /api/v1/rounds lists them"),
        FindError::Several { .. } => Problem::new(Kind::Unknown, error.to_string())
            .at("path round")
            .accepted("more of the id, or the round's number"),
    }
}

pub(super) fn round_name(asked: &Asked) -> Result<RoundName, Problem> {
    let text = asked.path("round");
    text.parse().map_err(|error: crate::view::round_name::RoundNameError| {
        Problem::invalid("path round", text, error.to_string().trim_start_matches("write ").to_owned())
    })
}

pub(super) fn healthz(_api: Arc<Api>) -> Result<Response, Problem> {
    fine(&HealthView { schema: "muster.health/1", state: "ok" })
}

pub(super) fn readyz(api: Arc<Api>) -> Result<Response, Problem> {
    if api.world.borrow().is_some() {
        return fine(&HealthView { schema: "muster.health/1", state: "ok" });
    }
    Err(Problem::new(Kind::Waiting, "this coordinator still waits for the share or the NATS server")
        .again_in(5))
}

pub(super) fn version(api: Arc<Api>, world: Arc<World>, _asked: Asked) -> Answer {
    Box::pin(async move {
        let seen = world.reader.known().await;
        let (state, epoch) = (seen.log.state(), seen.log.state().epoch);
        fine(&VersionView {
            schema: "muster.version/1",
            version: env!("CARGO_PKG_VERSION"),
            fleet: world.fleet.clone(),
            coordinator: api.coordinator.clone(),
            leads: world.leader.is_here(),
            leader: epoch.map(|epoch| state.name_of(&epoch.holder)),
            epoch: epoch.map(|epoch| epoch.epoch),
        })
    })
}

pub(super) fn status(_api: Arc<Api>, world: Arc<World>, _asked: Asked) -> Answer {
    Box::pin(async move {
        let mut view = StatusView::unknown(world.fleet.clone(), world.share.clone());
        let (leader, told) = match world.leader.view().await {
            Ok(leader) => (Ok(leader), world.leader.alerts(false).await.ok()),
            Err(error) => (Err(error), None),
        };
        match leader {
            Ok(leader) => view.leader = Some(leader),
            Err(error) => {
                view.alerts.push(AlertView::new(Code::Bus01, "NATS", error.to_string()));
                view.bus_error = Some(error.to_string());
            }
        }
        let seen = world.reader.read().await;
        let mut told = told.map(|(alerts, _)| alerts);
        if let Some(unread) = &seen.unread {
            let code = unread.code.unwrap_or(Code::Share01);
            view.alerts.push(AlertView::new(code, view.share.clone(), unread.why.clone()));
            view.share_error = Some(unread.why.clone());
            view.reasons.push("the share cannot be read".to_owned());
        } else {
            let shown = shown(&world, &seen);
            view.alerts.extend(refused(&shown).await.map_err(|error| of_store(&error))?);
            if told.is_none() {
                told = Some(of_share(&seen, false).await?.0);
            }
            fill(&shown, &mut view).await.map_err(|error| of_manifest(&error))?;
        }
        view.alerts.extend(told.iter().flatten().map(AlertView::from));
        fine(&view)
    })
}

pub(super) fn rounds(_api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move {
        let seen = newest(&world).await?;
        let shown = shown(&world, &seen);
        let limit = usize::try_from(asked.number("limit").unwrap_or(ROUNDS)).ok();
        let (rounds, next) = page(&shown, limit, asked.number("before"));
        let view = RoundsView::read(&shown, &rounds, next).await;
        fine(&view.map_err(|error| of_manifest(&error))?)
    })
}

pub(super) fn round(_api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move {
        let name = round_name(&asked)?;
        let seen = newest(&world).await?;
        let round = name.find(seen.log.state()).map_err(|error| of_name(&error))?;
        let view = RoundView::read(&shown(&world, &seen), round).await;
        fine(&view.map_err(|error| of_manifest(&error))?)
    })
}

pub(super) fn agents(_api: Arc<Api>, world: Arc<World>, _asked: Asked) -> Answer {
    Box::pin(async move {
        let heard = world.leader.agents().await.ok();
        let seen = match heard {
            Some(_) => world.reader.known().await,
            None => newest(&world).await?,
        };
        fine(&AgentsView::of(world.fleet.clone(), heard, Some(seen.log.state())))
    })
}

async fn of_share(seen: &Seen, closed: bool) -> Result<(Vec<Alert>, u64), Problem> {
    let book = from_share(&seen.log.sure(), seen.log.state()).await.map_err(|error| of_store(&error))?;
    let old = book.history().filter(|_| closed);
    Ok((book.open().chain(old).cloned().collect(), book.passed_over()))
}

/// All that is known of alerts: the leader's, or what the share tells while none answers.
async fn known(world: &World, closed: bool) -> Result<AlertsView, Problem> {
    let told = world.leader.alerts(closed).await;
    let seen = match &told {
        Ok(_) => world.reader.read().await,
        Err(_) => newest(world).await?,
    };
    let mut judged = Vec::new();
    if seen.unread.is_none() {
        judged = refused(&shown(world, &seen)).await.map_err(|error| of_store(&error))?;
    }
    let bus = told.is_ok();
    let (mut alerts, passed_over) = match told {
        Ok(told) => told,
        Err(error) => {
            judged.push(AlertView::new(Code::Bus01, "NATS", error.to_string()));
            of_share(&seen, closed).await?
        }
    };
    sort(&mut alerts);
    let alerts = judged.into_iter().chain(alerts.iter().map(AlertView::from)).collect();
    Ok(AlertsView { schema: "muster.alerts/1", fleet: world.fleet.clone(), bus, passed_over, alerts })
}

pub(super) fn alerts(_api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move { fine(&known(&world, asked.flag("closed")).await?) })
}

/// The id that begins so.
pub(super) fn alert_id(ids: impl Iterator<Item = String>, asked: &Asked) -> Result<String, Problem> {
    let prefix = asked.path("alert");
    let mut ids: Vec<String> = ids.filter(|id| id.starts_with(prefix)).collect();
    ids.sort();
    ids.dedup();
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(Problem::new(Kind::Unknown, format!("there is no alert {prefix:?}"))
            .at("path alert")
            .accepted("the id of an alert, or its beginning")
            .next("GET /api/v1/alerts?closed=true names them")),
        [_, _, ..] => {
            Err(Problem::new(Kind::Unknown, format!("{prefix} begins the ids of {} alerts", ids.len()))
                .at("path alert")
                .accepted("more of the id"))
        }
    }
}

pub(super) fn alert(_api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move {
        let mut view = known(&world, true).await?;
        let id = alert_id(view.alerts.iter().map(|alert| alert.id.clone()), &asked)?;
        view.alerts.retain(|alert| alert.id == id);
        // What was judged just now comes first, then the newest opening.
        view.alerts
            .sort_by(|one, two| (one.since.is_some(), &two.since).cmp(&(two.since.is_some(), &one.since)));
        fine(&view)
    })
}

pub(super) fn config(_api: Arc<Api>, world: Arc<World>, _asked: Asked) -> Answer {
    Box::pin(async move {
        let seen = newest(&world).await?;
        fine(&SettingsView::of(seen.log.state()))
    })
}

pub(super) fn schedule(_api: Arc<Api>, world: Arc<World>, _asked: Asked) -> Answer {
    Box::pin(async move {
        let seen = newest(&world).await?;
        let schedule = Timetable::of(seen.log.state(), unix_now());
        fine(&ScheduleView { schema: "muster.schedule/1", fleet: world.fleet.clone(), schedule })
    })
}

pub(super) fn audit(_api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move {
        let since = match asked.text("since") {
            None => None,
            Some(text) => {
                let at = since(text, unix_now());
                let accepted = |must: String| must.trim_start_matches("must be ").to_owned();
                Some(at.map_err(|must| Problem::invalid("query since", text, accepted(must)))?)
            }
        };
        let seen = newest(&world).await?;
        let limit = usize::try_from(asked.number("limit").unwrap_or(RECORDS)).unwrap_or(usize::MAX);
        let page = Page { since, limit, before: asked.number("before"), kind: asked.text("kind") };
        let view = AuditView::read(&shown(&world, &seen), &page).await;
        fine(&view.map_err(|error| {
            Problem::new(Kind::Share, muster_protocol::causes::causes(&error))
                .code(error.alert())
                .again_in(10)
        })?)
    })
}
