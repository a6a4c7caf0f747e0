//! The exporters: spans, figures and log records to a collector, as protobuf over HTTP (OTLP specification 1.x, "OTLP/HTTP").
//!
//! The SDK exports on threads of its own, outside any async runtime. Therefore the blocking client: the async one would look for a
//! tokio reactor on that thread and panic. It also keeps a slow collector away from the runtime that carries a round. What waits
//! is bounded: what comes above it is dropped and counted, and nobody waits.
//!
//! Must never trace itself: spans and events of the HTTP stack below are kept out, or each export would cause the next.

mod counted;
mod logs;
mod metrics;
#[cfg(test)]
mod tests;
mod traces;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

pub(crate) use logs::{layer as log_layer, provider as logs};
pub(crate) use metrics::{Figures, StartError, provider as metrics};
#[cfg(test)]
pub(crate) use traces::sampler;
pub(crate) use traces::{layer as span_layer, provider as traces};

use crate::endpoint::{Endpoint, Signal};

/// How long one export may take before its batch is given up.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// Spans that wait, and log records: some MiB at most.
const QUEUE: usize = 16_384;
/// Of these, what goes out at once.
const BATCH: usize = 2_048;
/// How long they wait for company.
const DELAY: Duration = Duration::from_secs(2);

/// Prefixes of the targets that an export itself goes through.
const EXPORT_TARGETS: [&str; 7] =
    ["h2", "hyper", "hyper_util", "opentelemetry", "reqwest", "rustls", "tower"];

/// The exporter could not be built.
#[derive(Debug, Error)]
#[error("no exporter for {endpoint}")]
pub struct ExporterError {
    endpoint: String,
    source: ExporterBuildError,
}

impl ExporterError {
    fn at(endpoint: &Endpoint, signal: Signal) -> impl FnOnce(ExporterBuildError) -> Self + use<> {
        let endpoint = endpoint.url(signal);
        |source| Self { endpoint, source }
    }
}

/// Which process it is. Attribute names: OpenTelemetry semantic conventions, "Service".
pub(crate) fn resource(service_name: &str, instance: &str, fleet: Option<&str>) -> Resource {
    let fleet = fleet.map(|fleet| KeyValue::new("muster.fleet", fleet.to_owned()));
    Resource::builder()
        .with_service_name(service_name.to_owned())
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(fleet)
        .build()
}

/// How each exporter reaches the collector.
fn set<B: WithExportConfig>(builder: B, endpoint: &Endpoint, signal: Signal) -> B {
    builder.with_protocol(Protocol::HttpBinary).with_endpoint(endpoint.url(signal)).with_timeout(EXPORT_LIMIT)
}

/// What may leave: everything of note but what an export itself says.
fn exported() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(EXPORT_TARGETS.map(|target| (target, LevelFilter::OFF)))
        .with_target(crate::LINES_ONLY, LevelFilter::OFF)
}
