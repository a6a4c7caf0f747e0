//! All routes, in one table: the router is built of it, requests are checked by it, and the OpenAPI document tells it. None of the
//! three can say anything else than the others.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures::future::BoxFuture;
use schemars::{Schema, SchemaGenerator};

use super::asked::{Asked, MOST, Param, Shape};
use super::problem::{Kind, Problem};
use super::{Api, World, act, events, openapi, read, signed};
use crate::view::acts::{AckView, CancelView, StartView};
use crate::view::agents::AgentsView;
use crate::view::alerts::AlertsView;
use crate::view::audit::{AuditView, KINDS};
use crate::view::round::RoundView;
use crate::view::rounds::RoundsView;
use crate::view::settings::SettingsView;
use crate::view::status::StatusView;

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody.
    Public,
    /// Any valid token.
    Viewer,
    /// A token of the role operator.
    Operator,
}

/// What a handler has to answer with.
pub(super) type Answer = BoxFuture<'static, Result<Response, Problem>>;

/// What answers.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Before share and bus are there as well.
    Always(fn(Arc<Api>) -> Result<Response, Problem>),
    /// Of share and leader.
    Of(fn(Arc<Api>, Arc<World>, Asked) -> Answer),
}

/// A body that a route takes.
pub(super) struct BodySpec {
    pub(super) what: &'static str,
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// One route.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// The operation's name in the document.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) access: Access,
    pub(super) path_params: &'static [Param],
    pub(super) query: &'static [Param],
    /// Whether it takes `Idempotency-Key`.
    pub(super) idempotent: bool,
    pub(super) body: Option<BodySpec>,
    /// What it answers with when all is well: statuses, media type, shape.
    pub(super) answers: &'static [(StatusCode, &'static str)],
    pub(super) media_type: &'static str,
    pub(super) schema: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// What it may refuse with, beside what every route may.
    pub(super) problems: &'static [Kind],
    pub(super) handler: Handler,
}

const JSON: &str = "application/json";
const FINE: &[(StatusCode, &str)] = &[(StatusCode::OK, "as `muster … --json` prints it")];

const ROUND: Param = Param {
    name: "round",
    shape: Shape::Text {
        most: 64,
        pattern: Some("^(latest|[0-9]{1,9}|(id:)?[0-9a-fA-F]{4,32})$"),
        accepted: "latest, a number, or at least 4 characters of a round's id",
    },
    what: "latest, a number, or a unique prefix of an id",
    example: "latest",
};
const ALERT: Param = Param {
    name: "alert",
    shape: Shape::Text {
        most: 10,
        pattern: Some("^[0-9a-f]{1,10}$"),
        accepted: "an alert's id, or its beginning: up to ten hexadecimal digits",
    },
    what: "an alert's id, or a unique prefix of one",
    example: "0a1b2c3d4e",
};
const CLOSED: Param =
    Param { name: "closed", shape: Shape::Flag, what: "also what is over", example: "true" };
const BEFORE: Param = Param {
    name: "before",
    shape: Shape::Number(0, MOST),
    what: "only what has a lower number: `next` of the page before",
    example: "1000000",
};
const ROUNDS: &[Param] = &[
    Param {
        name: "limit",
        shape: Shape::Number(1, 200),
        what: "how many, newest first; 20 unless given",
        example: "20",
    },
    BEFORE,
];
const AUDIT: &[Param] = &[
    Param {
        name: "limit",
        shape: Shape::Number(1, 200),
        what: "how many, newest first; 50 unless given",
        example: "50",
    },
    BEFORE,
    Param { name: "kind", shape: Shape::Word(&KINDS), what: "only records of this kind", example: "config" },
    Param {
        name: "since",
        shape: Shape::Moment,
        what: "nothing older: a moment (UTC) or a duration",
        example: "7d",
    },
];

/// What most reads have in common.
fn get(path: &'static str, id: &'static str, summary: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::GET,
        path,
        id,
        summary,
        access: Access::Viewer,
        path_params: &[],
        query: &[],
        idempotent: false,
        body: None,
        answers: FINE,
        media_type: JSON,
        schema: None,
        problems: &[],
        handler,
    }
}

/// What only an operator's key may.
fn signed_alone(
    method: Method,
    path: &'static str,
    id: &'static str,
    command: fn(Arc<Api>, Arc<World>, Asked) -> Answer,
) -> Route {
    Route {
        method,
        access: Access::Viewer,
        answers: &[],
        problems: &[Kind::Signature],
        ..get(path, id, "refused: an operator signs this with `muster`", Handler::Of(command))
    }
}

/// All of them.
pub(super) fn all() -> Vec<Route> {
    let public = |path, id, summary, handler| Route {
        access: Access::Public,
        ..get(path, id, summary, Handler::Always(handler))
    };
    let act = |path, id, summary, handler| Route {
        method: Method::POST,
        access: Access::Operator,
        problems: &[Kind::Refused],
        ..get(path, id, summary, Handler::Of(handler))
    };
    vec![
        Route {
            schema: Some(|generator| generator.subschema_for::<read::HealthView>()),
            answers: &[(StatusCode::OK, "the process is there")],
            ..public("/healthz", "healthz", "whether this process is there", read::healthz)
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<read::HealthView>()),
            answers: &[(StatusCode::OK, "it answers")],
            ..public(
                "/readyz",
                "readyz",
                "whether share and bus were there, so that it answers",
                read::readyz,
            )
        },
        Route {
            answers: &[(StatusCode::OK, "this document")],
            ..public("/api/v1/openapi.json", "openapi", "this document", openapi::answer)
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<read::VersionView>()),
            answers: &[(StatusCode::OK, "who answers, and whether it leads")],
            ..get(
                "/api/v1/version",
                "version",
                "who answers, and whether it leads",
                Handler::Of(read::version),
            )
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<StatusView>()),
            ..get("/api/v1/status", "status", "how the fleet stands", Handler::Of(read::status))
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<RoundsView>()),
            query: ROUNDS,
            ..get(
                "/api/v1/rounds",
                "rounds",
                "the rounds in the log, newest first",
                Handler::Of(read::rounds),
            )
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<StartView<'_>>()),
            idempotent: true,
            body: Some(BodySpec {
                what: "which services, and why; nothing: all of them",
                schema: |generator| generator.subschema_for::<act::StartBody>(),
            }),
            answers: &[
                (StatusCode::CREATED, "it is opened"),
                (StatusCode::OK, "the same request came before: its round runs, or has ended"),
                (StatusCode::ACCEPTED, "it waits for another round to end"),
            ],
            ..act("/api/v1/rounds", "start", "asks for a round", act::start)
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<RoundView>()),
            path_params: &[ROUND],
            problems: &[Kind::Unknown],
            ..get(
                "/api/v1/rounds/{round}",
                "round",
                "one round, as log and manifest tell it",
                Handler::Of(read::round),
            )
        },
        Route {
            path_params: &[ROUND],
            problems: &[Kind::Unknown],
            media_type: events::MEDIA_TYPE,
            answers: &[(
                StatusCode::OK,
                "server-sent events with the lines of `muster watch --json`: `progress` for each change, and `round` as the last one",
            )],
            ..get(
                "/api/v1/rounds/{round}/events",
                "events",
                "follows a round to its end",
                Handler::Of(events::follow),
            )
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<CancelView<'_>>()),
            path_params: &[ROUND],
            body: Some(BodySpec {
                what: "why",
                schema: |generator| generator.subschema_for::<act::CancelBody>(),
            }),
            problems: &[Kind::Unknown, Kind::Refused],
            answers: &[(StatusCode::OK, "it ends without a commit")],
            ..act(
                "/api/v1/rounds/{round}/cancel",
                "cancel",
                "ends an open round without a commit; latest is the newest open one",
                act::cancel,
            )
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<AgentsView>()),
            ..get(
                "/api/v1/agents",
                "agents",
                "who is in the roster, and who is there",
                Handler::Of(read::agents),
            )
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<AlertsView>()),
            query: &[CLOSED],
            ..get(
                "/api/v1/alerts",
                "alerts",
                "what is wrong, since when, and what to do",
                Handler::Of(read::alerts),
            )
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<AlertsView>()),
            path_params: &[ALERT],
            problems: &[Kind::Unknown],
            ..get("/api/v1/alerts/{alert}", "alert", "every opening of one alert", Handler::Of(read::alert))
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<AckView<'_>>()),
            path_params: &[ALERT],
            problems: &[Kind::Unknown, Kind::Refused],
            answers: &[(StatusCode::OK, "somebody knows of it")],
            ..act("/api/v1/alerts/{alert}/ack", "acknowledge", "somebody knows of it", act::acknowledge)
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<SettingsView>()),
            ..get("/api/v1/config", "config", "the fleet-wide settings", Handler::Of(read::config))
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<read::ScheduleView>()),
            answers: &[(StatusCode::OK, "`schedule` of `muster status --json`")],
            ..get(
                "/api/v1/schedule",
                "schedule",
                "when the next round begins by itself",
                Handler::Of(read::schedule),
            )
        },
        Route {
            schema: Some(|generator| generator.subschema_for::<AuditView>()),
            query: AUDIT,
            ..get("/api/v1/audit", "audit", "who did what, newest first", Handler::Of(read::audit))
        },
        signed_alone(Method::PATCH, "/api/v1/config", "setConfig", signed::config),
        signed_alone(Method::POST, "/api/v1/enable", "enable", signed::enable),
        signed_alone(Method::POST, "/api/v1/disable", "disable", signed::disable),
        signed_alone(Method::POST, "/api/v1/prune", "prune", signed::prune),
        Route {
            path_params: &[ROUND],
            ..signed_alone(Method::POST, "/api/v1/rounds/{round}/hold", "hold", signed::hold)
        },
        Route {
            path_params: &[ROUND],
            ..signed_alone(Method::POST, "/api/v1/rounds/{round}/unhold", "unhold", signed::unhold)
        },
    ]
}
