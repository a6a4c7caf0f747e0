//! The exporter: spans to a collector, as protobuf over HTTP (OTLP specification 1.x, "OTLP/HTTP").
//!
//! The SDK's batch processor exports on a thread of its own, outside any async runtime. Therefore the blocking
//! client: the async one would look for a tokio reactor on that thread and panic. It also keeps a slow collector
//! away from the runtime that carries a round.
//!
//! Must never trace itself: spans of the HTTP stack below are kept out, or each export would cause the next.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};

use crate::endpoint::Endpoint;

/// How long one export may take before its batch is given up.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);

/// Prefixes of the targets that an export itself goes through.
const EXPORT_TARGETS: [&str; 6] = ["h2", "hyper", "opentelemetry", "reqwest", "rustls", "tower"];

/// The exporter could not be built.
#[derive(Debug, Error)]
#[error("no exporter for {endpoint}")]
pub struct ExporterError {
    endpoint: String,
    source: ExporterBuildError,
}

/// Starts the exporter's thread. The collector need not be there.
pub(crate) fn provider(
    endpoint: &Endpoint,
    sample: f64,
    service_name: &str,
    instance: &str,
) -> Result<SdkTracerProvider, ExporterError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.as_str())
        .with_timeout(EXPORT_LIMIT)
        .build()
        .map_err(|source| ExporterError { endpoint: endpoint.as_str().to_owned(), source })?;
    // Attribute names: OpenTelemetry semantic conventions, "Service".
    let resource = Resource::builder()
        .with_service_name(service_name.to_owned())
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler(sample))
        .with_batch_exporter(exporter)
        .build())
}

/// A trace is exported whole or not at all: whoever starts it decides, by the ratio; everyone else follows.
pub(crate) fn sampler(sample: f64) -> Sampler {
    Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample)))
}

/// The layer that turns `tracing` spans into exported ones.
pub(crate) fn layer(provider: &SdkTracerProvider) -> impl Layer<Registry> + Send + Sync + use<> {
    let own = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(EXPORT_TARGETS.map(|target| (target, LevelFilter::OFF)));
    tracing_opentelemetry::layer().with_tracer(provider.tracer("muster")).with_filter(own)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

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

    /// A collector that takes one request and answers it with an empty `ExportTraceServiceResponse`.
    fn collector() -> (SocketAddr, Receiver<Posted>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (posted, received) = channel();
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the exporter connects");
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
            reader
                .get_mut()
                .write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\
                      connection: close\r\n\r\n",
                )
                .expect("the exporter listens for the answer");
            posted.send(Posted { request, content_type, body }).expect("the test waits");
        });
        (address, received)
    }

    fn config(address: SocketAddr) -> Config {
        Config {
            otlp_endpoint: Some(format!("http://{address}")),
            ..Config::new("muster-agent", "secrets-1")
        }
    }

    #[test]
    fn spans_reach_a_collector_and_those_of_the_export_do_not() {
        let (address, received) = collector();
        let (subscriber, telemetry) = config(address).assemble().expect("a good configuration");
        tracing::subscriber::with_default(subscriber, || {
            let _round = tracing::info_span!("round-to-export").entered();
            let _http = tracing::info_span!(target: "hyper::client", "span-of-the-http-stack").entered();
            let _sdk = tracing::info_span!(target: "opentelemetry_sdk", "span-of-the-sdk").entered();
        });
        telemetry.shutdown().expect("the collector takes the spans");
        let posted = received.recv_timeout(WAIT_LIMIT).expect("one export");
        assert_eq!(posted.request, "POST /v1/traces HTTP/1.1\r\n");
        assert_eq!(posted.content_type, "application/x-protobuf");
        for text in ["round-to-export", "service.name", "muster-agent", "service.instance.id", "secrets-1"] {
            assert!(posted.holds(text), "{text} is missing");
        }
        assert!(!posted.holds("span-of-the-http-stack"));
        assert!(!posted.holds("span-of-the-sdk"));
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
        assert!(received.recv_timeout(WAIT_LIMIT).expect("one export").holds("round-in-a-runtime"));
    }

    #[test]
    fn a_collector_that_never_answers_does_not_hold_up_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (subscriber, telemetry) = config(address).assemble().expect("a good configuration");
        let (ended, waited) = channel();
        tracing::subscriber::with_default(subscriber, || tracing::info_span!("lost").in_scope(|| {}));
        thread::spawn(move || ended.send(telemetry.shutdown().is_err()));
        assert!(waited.recv_timeout(WAIT_LIMIT).expect("an end within the limit"), "unsent spans are told");
        drop(listener);
    }
}
