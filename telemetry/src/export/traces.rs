//! Spans.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, Key};
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};
use tracing_subscriber::{Layer, Registry};

use super::counted::{Room, SPARE};
use super::{BATCH, DELAY, ExporterError, QUEUE, exported, set};
use crate::endpoint::{Endpoint, Signal};
use crate::span::Ids;

/// Starts the exporter's thread. The collector need not be there.
pub(crate) fn provider(
    endpoint: &Endpoint,
    sample: f64,
    resource: Resource,
) -> Result<SdkTracerProvider, ExporterError> {
    let exporter = set(Otlp::builder().with_http(), endpoint, Signal::Traces)
        .build()
        .map_err(ExporterError::at(endpoint, Signal::Traces))?;
    let room = Room::new("traces");
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE + SPARE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let exporter = Counting { exporter, room: room.clone() };
    let queue = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_id_generator(Ids::default())
        .with_sampler(sampler(sample))
        .with_span_processor(Bounded { queue, room })
        .build())
}

/// A trace is exported whole or not at all: whoever starts it decides, by the ratio; everyone else follows.
pub(crate) fn sampler(sample: f64) -> Sampler {
    Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample)))
}

/// The layer that turns `tracing` spans into exported ones.
pub(crate) fn layer(provider: &SdkTracerProvider) -> impl Layer<Registry> + Send + Sync + use<> {
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("muster"))
        .with_location(false)
        .with_threads(false)
        .with_filter(exported())
}

/// Fields that stand on lines, too, where they are short, and what they are called as attributes: by one name in all spans.
const NAMES: [(&str, &str); 3] =
    [("service", "muster.service"), ("round", "muster.round"), ("attempt", "muster.attempt")];

/// Gives attributes their names.
fn name(span: &mut SpanData) {
    for attribute in &mut span.attributes {
        if let Some((_, name)) = NAMES.iter().find(|(field, _)| attribute.key.as_str() == *field) {
            attribute.key = Key::from_static_str(name);
        }
    }
}

/// Lets into the queue what there is room for.
#[derive(Debug)]
struct Bounded {
    queue: BatchSpanProcessor,
    room: Room,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, mut span: SpanData) {
        if span.span_context.is_sampled() && self.room.enter() {
            name(&mut span);
            self.queue.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Counts what the collector did not take.
#[derive(Debug)]
struct Counting {
    exporter: Otlp,
    room: Room,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let items = batch.len();
        let done = self.exporter.export(batch).await;
        self.room.leave(items);
        if done.is_err() {
            self.room.lost(items);
            self.room.tell();
        }
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
