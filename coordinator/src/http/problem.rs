//! Refusals, as RFC 9457 has them: `application/problem+json` with what is wrong, where, what would be right, and what to do next.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::alert::Code;
use schemars::JsonSchema;
use serde::Serialize;

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// What kind of refusal it is. A closed list: scripts rely on the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something of the request is not what it must be.
    Invalid,
    /// No valid token.
    Token,
    /// The token may not.
    Role,
    /// Only an operator's own key may.
    Signature,
    /// There is no such round or alert.
    Unknown,
    /// There is nothing at this address.
    Address,
    /// The address knows another method.
    Method,
    /// The fleet refuses it as it stands.
    Refused,
    /// The body is too long.
    Length,
    /// The body is of another type.
    MediaType,
    /// The body took too long.
    Slow,
    /// The server is called by a name that is not its own.
    Host,
    /// Too many refusals, or too many at once.
    Crowded,
    /// The coordinator is not there yet.
    Waiting,
    /// Nobody leads, or the leader does not answer.
    Leader,
    /// The share or what is on it.
    Share,
    /// A mistake of ours.
    Internal,
}

impl Kind {
    pub(super) const ALL: [Self; 17] = [
        Self::Invalid,
        Self::Token,
        Self::Role,
        Self::Signature,
        Self::Unknown,
        Self::Address,
        Self::Method,
        Self::Refused,
        Self::Length,
        Self::MediaType,
        Self::Slow,
        Self::Host,
        Self::Crowded,
        Self::Waiting,
        Self::Leader,
        Self::Share,
        Self::Internal,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Token => "token",
            Self::Role => "role",
            Self::Signature => "signature",
            Self::Unknown => "unknown",
            Self::Address => "address",
            Self::Method => "method",
            Self::Refused => "refused",
            Self::Length => "length",
            Self::MediaType => "media-type",
            Self::Slow => "slow",
            Self::Host => "host",
            Self::Crowded => "crowded",
            Self::Waiting => "waiting",
            Self::Leader => "leader",
            Self::Share => "share",
            Self::Internal => "internal",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Invalid => "a value of the request cannot be",
            Self::Token => "this takes a valid token",
            Self::Role => "this token may not do that",
            Self::Signature => "this takes an operator's signature",
            Self::Unknown => "there is no such thing",
            Self::Address => "there is nothing at this address",
            Self::Method => "this address knows other methods",
            Self::Refused => "the fleet refuses it as it stands",
            Self::Length => "the body is too long",
            Self::MediaType => "the body is of another type",
            Self::Slow => "the body took too long",
            Self::Host => "this server is not called so",
            Self::Crowded => "too much at once",
            Self::Waiting => "this coordinator is not ready",
            Self::Leader => "no leader answers",
            Self::Share => "the share cannot be read",
            Self::Internal => "this coordinator made a mistake",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Role | Self::Signature => StatusCode::FORBIDDEN,
            Self::Unknown | Self::Address => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused => StatusCode::CONFLICT,
            Self::Length => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Crowded => StatusCode::TOO_MANY_REQUESTS,
            Self::Waiting | Self::Leader | Self::Share => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    at: Option<String>,
    accepted: Option<String>,
    code: Option<Code>,
    next: Vec<String>,
    retry_secs: Option<u64>,
}

/// Its shape.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProblemView<'a> {
    /// `urn:muster:problem:` and the kind of problem.
    r#type: String,
    /// The kind in a few words.
    title: &'a str,
    /// The status code.
    status: u16,
    /// What is wrong with this very request.
    detail: &'a str,
    /// The value that is wrong: `query limit`, `header Idempotency-Key`, `body services`.
    at: Option<&'a str>,
    /// What would be accepted in its place.
    accepted: Option<&'a str>,
    /// The alert code, where the fleet has one for it.
    code: Option<&'static str>,
    /// What to do.
    next: &'a [String],
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, detail, at: None, accepted: None, code: None, next: Vec::new(), retry_secs: None }
    }

    /// A value that cannot be, and what would be accepted.
    pub(super) fn invalid(at: impl Into<String>, given: &str, accepted: impl Into<String>) -> Self {
        let (at, given) = (at.into(), shortened(given));
        let accepted = accepted.into();
        Self {
            at: Some(at.clone()),
            accepted: Some(accepted.clone()),
            ..Self::new(Kind::Invalid, format!("{at}: {given:?} must be {accepted}"))
        }
    }

    /// Nothing is there.
    pub(super) fn invalid_address(path: &str) -> Self {
        Self::new(Kind::Address, format!("there is nothing at {:?}", shortened(path)))
            .at("path")
            .accepted("the addresses that GET /api/v1/openapi.json names")
    }

    /// The server is called by a name that is none of its own.
    pub(super) fn invalid_host(name: &str) -> Self {
        Self::new(Kind::Host, format!("this server is not called {:?}", shortened(name)))
            .at("header Host")
            .accepted("localhost, the address that it listens on, or a name of [http] hosts")
            .next("add the name to [http] hosts of coordinator.toml, if it is yours")
    }

    /// The value that it is about.
    pub(super) fn at(self, at: impl Into<String>) -> Self {
        Self { at: Some(at.into()), ..self }
    }

    pub(super) fn accepted(self, accepted: impl Into<String>) -> Self {
        Self { accepted: Some(accepted.into()), ..self }
    }

    pub(super) fn code(self, code: Option<Code>) -> Self {
        Self { code, ..self }
    }

    /// What to do.
    pub(super) fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }

    /// When asking again makes sense.
    pub(super) fn again_in(self, secs: u64) -> Self {
        Self { retry_secs: Some(secs), ..self }
    }
}

/// What somebody sent, cut so that an answer stays short.
fn shortened(given: &str) -> String {
    given.chars().take(80).collect()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let view = ProblemView {
            r#type: format!("urn:muster:problem:{}", self.kind.word()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            at: self.at.as_deref(),
            accepted: self.accepted.as_deref(),
            code: self.code.map(Code::as_str),
            next: &self.next,
        };
        let body = serde_json::to_vec(&view).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"muster\""));
        }
        if let Some(secs) = self.retry_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}
