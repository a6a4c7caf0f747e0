//! `/metrics`: figures for whoever comes by, in Prometheus' text format, on a thread of its own, so that a busy daemon answers.
//!
//! It must never take from the daemon what that needs: connections are few, each has one question and a limit for all of it, and an
//! address that cannot be had is said and tried again.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::called::{may_be_called, name_of};
use crate::export::Figures;

/// The format's media type (Prometheus, "Exposition formats", text format 0.0.4).
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at once. Whoever comes above that is let go.
const CONNECTIONS: usize = 32;
/// How long the head of a question may take.
const HEAD: Duration = Duration::from_secs(5);
/// Its longest head, in bytes.
const HEAD_LEN: usize = 16 * 1024;
/// How long one connection may take in all.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two tries to have the address, and after the system gave no connection.
const AGAIN: Duration = Duration::from_secs(10);

/// Why `/metrics` does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No address.
    #[error(
        "[telemetry] metrics, or MUSTER_TELEMETRY_METRICS, is no ADDRESS:PORT with an address of this machine in numbers: give one \
         such as 127.0.0.1:9464, or nothing"
    )]
    Address,
    /// The system gives no thread for it.
    #[error("no thread can be started for /metrics")]
    Thread(#[source] std::io::Error),
}

/// Answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    _end: oneshot::Sender<()>,
}

impl Listening {
    /// Answers on `address` from now on, or as soon as it is free.
    pub(crate) fn start(address: &str, figures: Figures) -> Result<Self, ListenError> {
        let address: SocketAddr = address.parse().map_err(|_| ListenError::Address)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ListenError::Thread)?;
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(address, figures) => {}
                        _ = ended => {}
                    }
                });
                runtime.shutdown_background();
            })
            .map_err(ListenError::Thread)?;
        Ok(Self { _end: end })
    }
}

async fn serve(address: SocketAddr, figures: Figures) {
    let listener = listen(address).await;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of file descriptors, perhaps: a moment later there may be some.
            Err(_) => {
                sleep(AGAIN).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let figures = figures.clone();
        tokio::spawn(async move {
            let _place = place;
            // Whoever does not read in time has gone for us.
            drop(timeout(LIMIT, converse(stream, address.ip(), figures)).await);
        });
    }
}

/// Takes the address, as soon as it is free. No backup is left undone because whoever watches it cannot.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                tracing::info!(%address, "/metrics listens");
                return listener;
            }
            Err(error) if !std::mem::replace(&mut said, true) => {
                let secs = AGAIN.as_secs();
                tracing::error!(
                    %address,
                    %error,
                    "/metrics cannot listen; tried again every {secs} s. [telemetry] metrics names another address, or none"
                );
            }
            Err(_) => {}
        }
        sleep(AGAIN).await;
    }
}

/// One question and its answer.
async fn converse(stream: TcpStream, listens: IpAddr, figures: Figures) {
    let service = service_fn(move |request: Request<Incoming>| {
        let figures = figures.clone();
        async move { Ok::<_, Infallible>(answer(&request, listens, figures).await) }
    });
    let conversation = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_LEN)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever hangs up has no answer, and nobody is told of it.
    drop(conversation.await);
}

async fn answer(request: &Request<Incoming>, listens: IpAddr, figures: Figures) -> Response<Full<Bytes>> {
    if called(request).is_some_and(|name| !may_be_called(name, listens)) {
        return said(
            StatusCode::MISDIRECTED_REQUEST,
            "this server is not called so: on loopback it is localhost, or the address that it listens on\n"
                .to_owned(),
        );
    }
    if request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, "figures are at /metrics\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return said(StatusCode::METHOD_NOT_ALLOWED, "figures can only be got\n".to_owned());
    }
    match tokio::task::spawn_blocking(move || figures.text()).await {
        Ok(Ok(text)) => said(StatusCode::OK, text),
        Ok(Err(error)) => said(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(_) => said(StatusCode::INTERNAL_SERVER_ERROR, "the figures could not be had\n".to_owned()),
    }
}

/// What the request calls this server; none: it says nothing of that, as plain clients may.
fn called(request: &Request<Incoming>) -> Option<&str> {
    let of_header = || request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    request.uri().authority().map(|authority| authority.as_str()).or_else(of_header).map(name_of)
}

fn said(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(TEXT_FORMAT));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::export;
    use crate::metrics::{EPOCH, ROUND_DURATION, ROUNDS, SLICE_SOURCE, Value};

    fn free() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound")
    }

    /// It may not listen yet.
    fn connected(address: SocketAddr) -> TcpStream {
        for _ in 0..200 {
            if let Ok(stream) = TcpStream::connect(address) {
                return stream;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("nobody listens on {address}");
    }

    fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = connected(address);
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        stream.write_all(request.as_bytes()).expect("asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    #[test]
    fn figures_are_told_in_prometheus_words() {
        let resource = export::resource("muster-agent", "dns", Some("prod"));
        let (_provider, figures) =
            export::metrics(None, Duration::from_secs(60), true, resource).expect("figures");
        let address = free();
        let _listening =
            Listening::start(&address.to_string(), figures.expect("asked for")).expect("an address");
        ROUNDS.one(vec![("muster.outcome", "complete".to_owned())]);
        SLICE_SOURCE.set(Value::Is(7.0), vec![("muster.service", "dns".to_owned())]);
        ROUND_DURATION.record(3.0, vec![("muster.outcome", "complete".to_owned())]);
        EPOCH.set(Value::Is(3.0), Vec::new());
        let text = get(address, "/metrics");
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        for line in [
            "muster_rounds_total{muster_outcome=\"complete\"} 1",
            "muster_slice_source_bytes{muster_service=\"dns\"} 7",
            "muster_round_duration_seconds_bucket{muster_outcome=\"complete\",le=\"5\"} 1",
            "muster_epoch 3",
            "# TYPE process_cpu_time_seconds_total counter",
            "process_memory_usage_bytes ",
            "service_instance_id=\"dns\"",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(get(address, "/other").starts_with("HTTP/1.1 404"));
    }

    fn figures() -> Figures {
        let resource = export::resource("muster-agent", "dns", None);
        export::metrics(None, Duration::from_secs(60), true, resource).expect("figures").1.expect("asked for")
    }

    #[test]
    fn a_page_that_calls_loopback_by_a_name_of_its_own_reads_nothing() {
        let address = free();
        let _listening = Listening::start(&address.to_string(), figures()).expect("an address");
        for (request, status) in [
            (format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"), "200"),
            ("GET /metrics HTTP/1.0\r\n\r\n".to_owned(), "200"),
            (
                "GET /metrics HTTP/1.1\r\nhost: rebound.example.org:9464\r\nconnection: close\r\n\r\n".to_owned(),
                "421",
            ),
            (
                "GET http://rebound.example.org/metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                    .to_owned(),
                "421",
            ),
        ] {
            let text = ask(address, &request);
            assert!(text.split(' ').nth(1) == Some(status), "{request}{text}");
            assert_eq!(text.contains("this server is not called so"), status == "421", "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        let error = Listening::start("hunter2", figures()).expect_err("no address");
        assert!(
            error.to_string().contains("127.0.0.1:9464") && !error.to_string().contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn an_address_that_is_taken_is_had_later_and_stops_nobody() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound");
        let _listening = Listening::start(&address.to_string(), figures()).expect("it goes on");
        drop(taken);
        assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 OK"));
    }

    #[test]
    fn those_who_only_come_and_say_nothing_take_no_more_than_their_places() {
        let address = free();
        let _listening = Listening::start(&address.to_string(), figures()).expect("an address");
        let mut silent: Vec<_> = (0..CONNECTIONS + 8).map(|_| connected(address)).collect();
        // Those above are let go at once, the others when they have said nothing for long enough.
        for stream in &mut silent {
            stream.set_read_timeout(Some(2 * HEAD)).expect("a limit");
            let mut text = String::new();
            match stream.read_to_string(&mut text) {
                Ok(_) => assert!(!text.contains("200 OK"), "{text}"),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it was not ended")
                }
            }
        }
        assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 OK"), "and then there is room again");
    }
}
