//! The door while share and bus are not there yet: whether the process is there can be asked all the same, by the right name alone.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use super::access::Failures;
use super::config::HttpConfig;
use super::{Api, door, problem, serve};

fn api(config: HttpConfig) -> Arc<Api> {
    Arc::new(Api {
        coordinator: "one".to_owned(),
        world: watch::channel(None).1,
        failures: Failures::default(),
        followers: Arc::new(Semaphore::new(1)),
        busy: Semaphore::new(1),
        stop: watch::channel(false).1,
        config,
    })
}

async fn ask(config: HttpConfig, method: &str, path: &str, host: &str) -> (Response, Value) {
    let request = Request::builder().method(method).uri(path).header(header::HOST, host);
    let request = request.body(Body::empty()).expect("a request");
    let response = door::router(api(config)).oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let value = serde_json::from_slice(&body).expect("JSON");
    (Response::from_parts(parts, Body::empty()), value)
}

#[tokio::test]
async fn a_coordinator_that_waits_says_so() {
    for (path, status, word) in [
        ("/healthz", StatusCode::OK, None),
        ("/api/v1/openapi.json", StatusCode::OK, None),
        ("/readyz", StatusCode::SERVICE_UNAVAILABLE, Some("urn:muster:problem:waiting")),
        ("/api/v1/status", StatusCode::SERVICE_UNAVAILABLE, Some("urn:muster:problem:waiting")),
    ] {
        let (response, said) = ask(HttpConfig::default(), "GET", path, "localhost:8470").await;
        assert_eq!(response.status(), status, "{path}: {said}");
        assert_eq!(said["type"].as_str().filter(|_| word.is_some()), word, "{path}");
        assert_eq!(response.headers()["muster-coordinator"], "one");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    }
}

#[tokio::test]
async fn loopback_answers_to_its_own_names_alone() {
    let named = || HttpConfig { hosts: vec!["backup.example.org".to_owned()], ..HttpConfig::default() };
    let open = || HttpConfig { listen: "0.0.0.0:8470".to_owned(), insecure: true, ..HttpConfig::default() };
    for (config, host, status) in [
        (HttpConfig::default(), "127.0.0.1:8470", StatusCode::OK),
        (HttpConfig::default(), "LOCALHOST", StatusCode::OK),
        (HttpConfig::default(), "[::1]:8470", StatusCode::OK),
        (HttpConfig::default(), "rebound.example.org", StatusCode::MISDIRECTED_REQUEST),
        (HttpConfig::default(), "127.0.0.1.example.org:8470", StatusCode::MISDIRECTED_REQUEST),
        (HttpConfig::default(), "", StatusCode::MISDIRECTED_REQUEST),
        (named(), "Backup.example.org:443", StatusCode::OK),
        (named(), "other.example.org", StatusCode::MISDIRECTED_REQUEST),
        (open(), "whatever.example.org", StatusCode::OK),
    ] {
        let (response, _) = ask(config, "GET", "/healthz", host).await;
        assert_eq!(response.status(), status, "{host:?}");
    }
}

/// What a server says to these bytes, until it hangs up.
async fn heard(router: axum::Router, bytes: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve::serve(address, None, router, stopped));
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("it hangs up").expect("an answer");
    stop.send_replace(true);
    serving.await.expect("it ends");
    text
}

#[tokio::test]
async fn a_request_within_the_body_of_another_is_never_heard() {
    const HEAD: &str = "POST /api/v1/rounds HTTP/1.1\r\nhost: localhost\r\n";
    for lengths in [
        "content-length: 6\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 6\r\n",
        "transfer-encoding: chunked\r\n",
    ] {
        let smuggled = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let said = heard(
            door::router(api(HttpConfig::default())),
            &format!("{HEAD}{lengths}\r\n0\r\n\r\n{smuggled}"),
        )
        .await;
        assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("header Transfer-Encoding"), "{said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "the second one was answered: {said}");
    }
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_there_are() {
    let (response, said) = ask(HttpConfig::default(), "DELETE", "/api/v1/rounds", "localhost").await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[header::CONTENT_TYPE], problem::MEDIA_TYPE);
    let allowed = response.headers()[header::ALLOW].to_str().expect("text");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    assert_eq!(said["accepted"], allowed);
}
