//! The way from a request to its route: by which name this server is called, who asks, what is asked, and how long that may take.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use muster_protocol::alert::Code;
use muster_protocol::token::TokenRole;
use muster_telemetry::called::{may_be_called, name_of};
use tokio::time::timeout;

use super::access::{self, Bearer};
use super::asked::{Asked, checked, query};
use super::problem::{Kind, Problem};
use super::route::{self, Access, Handler, Route};
use super::{Api, World};

/// Longest body.
pub(super) const MAX_BODY_LEN: usize = 64 * 1024;
/// Longest time for a body to come.
const BODY: Duration = Duration::from_secs(10);
/// Longest time for an answer, from the moment when the request is whole; a demand waits for the leader and the share.
const ANSWER: Duration = Duration::from_secs(40);
/// Longest wait for a place among the requests that are being answered.
const PLACE: Duration = Duration::from_secs(5);
const COORDINATOR: HeaderName = HeaderName::from_static("muster-coordinator");

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The routes as a service.
pub(super) fn router(api: Arc<Api>) -> Router {
    let mut paths: BTreeMap<&'static str, MethodRouter> = BTreeMap::new();
    for route in route::all() {
        let (path, route) = (route.path, Arc::new(route));
        let methods = paths.remove(path).unwrap_or_default();
        // Every method of the table is one of those that routers know.
        let Ok(filter) = MethodFilter::try_from(route.method.clone()) else { continue };
        let api = Arc::clone(&api);
        let handler = move |request: Request| {
            let (api, route) = (Arc::clone(&api), Arc::clone(&route));
            async move { answer(api, route, request).await.unwrap_or_else(IntoResponse::into_response) }
        };
        paths.insert(path, methods.on(filter, handler));
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        router = router.route(path, methods);
    }
    let nothing =
        |request: Request| async move { Problem::invalid_address(request.uri().path()).into_response() };
    // A router names the methods that there are only on its way out: what looks at that goes around it.
    let routes = router.fallback(nothing);
    Router::new().fallback_service(routes).layer(from_fn(move |request: Request, next: Next| {
        let api = Arc::clone(&api);
        async move {
            let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
            let admitted = called_right(&api, &request).and_then(|()| framed_right(&request));
            let mut response = match admitted {
                Ok(()) => next.run(request).await,
                Err(problem) => problem.into_response(),
            };
            if is_chunked {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                response = other_method(&response);
            }
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if let Ok(name) = HeaderValue::from_str(&api.coordinator) {
                headers.insert(COORDINATOR, name);
            }
            response
        }
    }))
}

/// A body's length is said once, before it. Where Transfer-Encoding says it, the HTTP stack takes a Content-Length beside it out of
/// the head: who is before us may have gone by that, and have passed on a request within the body (RFC 9112, 6.1 and 11.2). It is
/// no longer to be told which it was, and bodies are short: each of them is refused, and its connection closed.
fn framed_right(request: &Request) -> Result<(), Problem> {
    if !request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    Err(Problem::new(Kind::Invalid, "header Transfer-Encoding: the length of a body must be said before it")
        .at("header Transfer-Encoding")
        .accepted(format!("Content-Length, at most {MAX_BODY_LEN}, and no Transfer-Encoding")))
}

/// Whether this server is called by a name of its own, or of its configuration.
fn called_right(api: &Api, request: &Request) -> Result<(), Problem> {
    let Some(address) = api.config.address() else { return Ok(()) };
    let of_header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let called = request.uri().authority().map(|authority| authority.as_str()).or_else(of_header);
    let name = name_of(called.unwrap_or_default());
    if may_be_called(name, address.ip())
        || api.config.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    {
        return Ok(());
    }
    Err(Problem::invalid_host(name))
}

/// The router's own refusal has no body, and names the methods that there are.
fn other_method(response: &Response) -> Response {
    let allowed = response.headers().get(header::ALLOW).cloned();
    let names = allowed.as_ref().and_then(|names| names.to_str().ok()).unwrap_or_default().to_owned();
    let problem =
        Problem::new(Kind::Method, "this address does not know that method").at("method").accepted(names);
    let mut response = problem.into_response();
    if let Some(allowed) = allowed {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

async fn answer(api: Arc<Api>, route: Arc<Route>, request: Request) -> Result<Response, Problem> {
    let handler = match route.handler {
        Handler::Always(handler) => return handler(api),
        Handler::Of(handler) => handler,
    };
    let world = api.world.borrow().clone().ok_or_else(waiting)?;
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let bearer = admitted(&api, &world, peer, &parts.headers, &route).await?;
    let raw = RawPathParams::from_request_parts(&mut parts, &()).await;
    let raw =
        raw.map_err(|error| Problem::new(Kind::Invalid, format!("path: {}", error.body_text())).at("path"))?;
    let mut path = BTreeMap::new();
    for param in route.path_params {
        let value =
            raw.iter().find(|(name, _)| *name == param.name).map(|(_, value)| value).unwrap_or_default();
        path.insert(param.name, checked(&format!("path {}", param.name), param, value)?);
    }
    let query = query(parts.uri.query(), route.query)?;
    let body = match route.body {
        Some(_) => whole(&parts.headers, body).await?,
        None => Bytes::new(),
    };
    let asked = Asked { path, query, headers: parts.headers, body, bearer: Some(bearer) };
    let place = timeout(PLACE, api.busy.acquire()).await;
    let Ok(Ok(_place)) = place else {
        return Err(Problem::new(Kind::Crowded, "too many requests are being answered").again_in(1));
    };
    let work = handler(Arc::clone(&api), world, asked);
    timeout(ANSWER, work).await.unwrap_or_else(|_| {
        Err(Problem::new(Kind::Leader, format!("there was no answer within {} s", ANSWER.as_secs()))
            .next("ask again; with the same Idempotency-Key it is the same request"))
    })
}

fn waiting() -> Problem {
    Problem::new(Kind::Waiting, "this coordinator still waits for the share or the NATS server")
        .next("see its log, and muster doctor")
        .again_in(5)
}

/// Whoever asks, if it may ask this.
async fn admitted(
    api: &Api,
    world: &World,
    peer: IpAddr,
    headers: &HeaderMap,
    route: &Route,
) -> Result<Bearer, Problem> {
    let now = Instant::now();
    // The reason is told all the same: whoever polls with a token that has ended must see why.
    let refuse = |problem: Problem| match api.failures.one(peer, now) {
        Some(wait) => problem.again_in(wait.as_secs().max(1)),
        None => problem,
    };
    let secret = access::secret(headers);
    // The share is not asked for whoever was refused too often.
    let tired = api.failures.tires(peer, now).is_some();
    let seen = if tired || secret.is_none() { world.reader.known().await } else { world.reader.read().await };
    let bearer = access::bearer(seen.log.state(), secret).map_err(refuse)?;
    match (route.access, bearer.token.role) {
        (Access::Public | Access::Viewer, _) | (Access::Operator, TokenRole::Operator) => Ok(bearer),
        (Access::Operator, TokenRole::Viewer) => {
            let why =
                format!("the token {} may only look, and asked over HTTP for {}", bearer.name, route.id);
            world.tell_refusal(seen.log.state().clone(), &bearer.name, why);
            Err(Problem::new(
                Kind::Role,
                format!("the token {} has the role viewer, which may only look", bearer.name),
            )
            .code(Some(Code::Sec01))
            .accepted("a token of the role operator")
            .next("make one: muster token new NAME --role operator --into FILE"))
        }
    }
}

/// The body, if it is JSON, no longer than it may be, and there in time.
async fn whole(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_long = || {
        Problem::new(Kind::Length, format!("the body is longer than {MAX_BODY_LEN} bytes"))
            .at("body")
            .accepted(format!("at most {MAX_BODY_LEN} bytes"))
    };
    // What says itself that it is too long need not come first.
    if body.size_hint().lower() > MAX_BODY_LEN as u64 {
        return Err(too_long());
    }
    let read = timeout(BODY, Limited::new(body, MAX_BODY_LEN).collect()).await;
    let body = match read {
        Err(_) => {
            return Err(Problem::new(
                Kind::Slow,
                format!("the body was not there within {} s", BODY.as_secs()),
            )
            .at("body"));
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
        Ok(Err(error)) => {
            return Err(Problem::new(Kind::Invalid, format!("body: it cannot be read: {error}")).at("body"));
        }
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if body.is_empty() || essence.eq_ignore_ascii_case("application/json") {
        return Ok(body);
    }
    Err(Problem::new(Kind::MediaType, format!("the body says that it is {essence:?}"))
        .at("header Content-Type")
        .accepted("application/json"))
}
