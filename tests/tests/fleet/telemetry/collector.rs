//! The collector that is shipped a configuration for: what it takes arrives behind it, also after it was killed.

use std::io::Write;
use std::net::TcpStream;

use muster_test_servers::Rotel;
use muster_tests::http::answer;
use muster_tests::process::{LIMIT, wait_for};
use muster_tests::telemetry::{Sink, deploy};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// A request with one span of this name.
fn request(name: &str) -> Vec<u8> {
    let span = Span {
        trace_id: vec![7; 16],
        span_id: vec![9; 8],
        name: name.to_owned(),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    let group = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![group] }.encode_to_vec()
}

fn send(rotel: &Rotel, name: &str) -> u16 {
    let body = request(name);
    let host = rotel.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&host).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).expect("sent");
    answer(stream).status
}

#[test]
#[ignore = "needs rotel: ./x test --servers"]
fn servers_rotel_hands_on_what_it_takes_with_the_configuration_that_is_shipped() {
    let sink = Sink::start();
    let mut rotel = Rotel::start(&deploy("otel/rotel.env"), &sink.url());
    let arrives = |name: &str| {
        wait_for(&format!("{name} arrives"), || {
            sink.spans().into_iter().find(|span| span.name == name && span.trace == "07".repeat(16))
        })
    };
    assert_eq!(send(&rotel, "first"), 200, "{}", rotel.log());
    let span = arrives("first");
    assert_eq!(
        (span.id.as_str(), span.parent.as_str(), span.began, span.ended),
        ("0909090909090909", "", 1, 2)
    );
    rotel.kill();
    rotel.restart();
    assert_eq!(send(&rotel, "second"), 200, "{}", rotel.log());
    arrives("second");
    assert_eq!(sink.spans().len(), 2, "{:?}", sink.spans());
}
