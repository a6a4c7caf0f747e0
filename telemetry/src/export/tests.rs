//! Against a collector of our own that keeps what it is sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use super::*;
use crate::config::Config;

const WAIT_LIMIT: Duration = Duration::from_secs(20);

struct Posted {
    request: String,
    content_type: String,
    body: Vec<u8>,
}

impl Posted {
    fn holds(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// A collector that takes what comes and answers it with an empty response.
fn collector() -> (SocketAddr, Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let (posted, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let posted = posted.clone();
            thread::spawn(move || posted.send(take(stream)));
        }
    });
    (address, received)
}

fn take(stream: TcpStream) -> Posted {
    stream.set_read_timeout(Some(WAIT_LIMIT)).expect("a limit above zero");
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).expect("a request line");
    let (mut content_type, mut length_bytes) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-type" => content_type = value.trim().to_owned(),
            "content-length" => length_bytes = value.trim().parse().expect("a length"),
            _ => {}
        }
    }
    let mut body = vec![0; length_bytes];
    reader.read_exact(&mut body).expect("the whole body");
    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    reader.get_mut().write_all(answer).expect("the exporter listens for the answer");
    Posted { request, content_type, body }
}

/// The first that was posted there.
fn posted(received: &Receiver<Posted>, path: &str) -> Posted {
    loop {
        let posted = received.recv_timeout(WAIT_LIMIT).expect("an export");
        if posted.request == format!("POST {path} HTTP/1.1\r\n") {
            assert_eq!(posted.content_type, "application/x-protobuf");
            return posted;
        }
    }
}

fn config(address: SocketAddr) -> Config {
    Config { otlp_endpoint: Some(format!("http://{address}")), ..Config::new("muster-agent", "secrets-1") }
}

#[test]
fn spans_reach_a_collector_and_those_of_the_export_do_not() {
    let (address, received) = collector();
    let (subscriber, telemetry) = config(address).assemble().expect("a good configuration");
    tracing::subscriber::with_default(subscriber, || {
        let _round = tracing::info_span!("round-to-export").entered();
        let _slice = tracing::info_span!("slice", service = "dns", round = "ab", attempt = 7).entered();
        let _http = tracing::info_span!(target: "hyper::client", "span-of-the-http-stack").entered();
        let _sdk = tracing::info_span!(target: "opentelemetry_sdk", "span-of-the-sdk").entered();
    });
    telemetry.shutdown().expect("the collector takes the spans");
    let posted = posted(&received, "/v1/traces");
    for text in [
        "round-to-export",
        "service.name",
        "muster-agent",
        "service.instance.id",
        "secrets-1",
        "muster.service",
        "muster.round",
        "muster.attempt",
    ] {
        assert!(posted.holds(text), "{text} is missing");
    }
    // As protobuf has it: the key's field, its length, the key.
    for other in ["\n\u{7}service", "\n\u{5}round", "\n\u{7}attempt"] {
        assert!(!posted.holds(other), "{other:?} has another name elsewhere");
    }
    assert!(!posted.holds("span-of-the-http-stack"));
    assert!(!posted.holds("span-of-the-sdk"));
}

#[test]
fn log_records_and_figures_reach_a_collector() {
    let (address, received) = collector();
    let (subscriber, telemetry) = config(address).assemble().expect("a good configuration");
    crate::metrics::SELF_CHECK_FAILURES.one(vec![("muster.service", "of-the-figures".to_owned())]);
    tracing::subscriber::with_default(subscriber, || {
        let _slice = tracing::info_span!("slice", service = "of-the-record").entered();
        tracing::warn!("said-to-the-collector");
        tracing::warn!(target: "reqwest::connect", "said-by-the-export");
    });
    telemetry.shutdown().expect("the collector takes all");
    let all: Vec<_> = (0..3).map(|_| received.recv_timeout(WAIT_LIMIT).expect("an export")).collect();
    let of = |path: &str| all.iter().find(|posted| posted.request.contains(path)).expect("posted there");
    let (logs, metrics) = (of("/v1/logs"), of("/v1/metrics"));
    for text in ["said-to-the-collector", "of-the-record", "service.instance.id"] {
        assert!(logs.holds(text), "{text} is missing");
    }
    assert!(!logs.holds("said-by-the-export"));
    assert!(!logs.holds("export/tests.rs"), "a line of the source is no name of an event");
    assert!(metrics.holds("muster.self_check.failures") && metrics.holds("of-the-figures"));
    assert!(metrics.holds("process.memory.usage"));
}

#[test]
fn the_exporter_works_inside_an_async_runtime() {
    let (address, received) = collector();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (subscriber, telemetry) = config(address).assemble().expect("a good configuration");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("round-in-a-runtime").in_scope(|| {});
        });
        telemetry.shutdown().expect("the collector takes the spans");
    });
    assert!(posted(&received, "/v1/traces").holds("round-in-a-runtime"));
}

#[test]
fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    // Measured beside other tests, on machines that are busy: nearer to the limit than to an export's own.
    let most = crate::SHUTDOWN_LIMIT + Duration::from_secs(2);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let (subscriber, telemetry) = config(address).assemble().expect("a good configuration");
    let (ended, waited) = channel();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("lost").in_scope(|| tracing::warn!("lost, too"));
    });
    let began = Instant::now();
    thread::spawn(move || ended.send(telemetry.shutdown().is_err()));
    assert!(waited.recv_timeout(WAIT_LIMIT).expect("an end within the limit"), "unsent spans are told");
    assert!(began.elapsed() < most, "the end took {:?}", began.elapsed());
    drop(listener);
}
