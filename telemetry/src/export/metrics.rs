//! Figures: pushed to the collector, and kept for whoever asks `/metrics`.

use std::time::Duration;

use opentelemetry_otlp::MetricExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};

use super::counted::Room;
use super::{ExporterError, set};
use crate::endpoint::{Endpoint, Signal};
use crate::metrics::{self, DROPPED, FOLDED, Views};

/// Figures of this process for `/metrics`.
#[derive(Clone, Debug)]
pub(crate) struct Figures(prometheus::Registry);

impl Figures {
    /// In Prometheus' text format 0.0.4.
    pub(crate) fn text(&self) -> Result<String, prometheus::Error> {
        prometheus::TextEncoder::new().encode_to_string(&self.0.gather())
    }
}

/// Has every metric collected: for the collector, each `interval`, and for whoever asks.
pub(crate) fn provider(
    endpoint: Option<&Endpoint>,
    interval: Duration,
    is_asked: bool,
    resource: Resource,
) -> Result<(SdkMeterProvider, Option<Figures>), StartError> {
    let mut builder = SdkMeterProvider::builder().with_resource(resource).with_view(Views::stream);
    if let Some(endpoint) = endpoint {
        let exporter = set(Otlp::builder().with_http(), endpoint, Signal::Metrics)
            .build()
            .map_err(ExporterError::at(endpoint, Signal::Metrics))?;
        let exporter = Counting { exporter, room: Room::new("metrics") };
        builder = builder.with_reader(PeriodicReader::builder(exporter).with_interval(interval).build());
    }
    let mut figures = None;
    if is_asked {
        let registry = prometheus::Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(StartError::Figures)?;
        builder = builder.with_reader(reader);
        figures = Some(Figures(registry));
    }
    let provider = builder.build();
    metrics::install(&provider);
    metrics::feed_process();
    DROPPED.begin(["traces", "metrics", "logs"]);
    FOLDED.add(0.0, Vec::new());
    Ok((provider, figures))
}

/// Why figures are not collected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    #[error("the figures for /metrics cannot be kept")]
    Figures(#[source] OTelSdkError),
}

/// Counts what the collector did not take.
struct Counting {
    exporter: Otlp,
    room: Room,
}

impl PushMetricExporter for Counting {
    async fn export(&self, all: &ResourceMetrics) -> OTelSdkResult {
        let done = self.exporter.export(all).await;
        if done.is_err() {
            self.room.lost(all.scope_metrics().map(|scope| scope.metrics().count()).sum());
            self.room.tell();
        }
        done
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
