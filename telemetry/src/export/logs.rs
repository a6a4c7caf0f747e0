//! Log records: what goes to standard error, with the ids of the trace it belongs to.

use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::LogRecord as _;
use opentelemetry_appender_tracing::layer::{OpenTelemetryTracingBridge, TracingSpanAttributes};
use opentelemetry_otlp::LogExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter, LogProcessor, SdkLogRecord,
    SdkLoggerProvider,
};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{EnvFilter, FilterExt};
use tracing_subscriber::registry::LookupSpan;

use super::counted::{Room, SPARE};
use super::{BATCH, DELAY, ExporterError, QUEUE, exported, set};
use crate::endpoint::{Endpoint, Signal};

/// Starts the exporter's thread. The collector need not be there.
pub(crate) fn provider(endpoint: &Endpoint, resource: Resource) -> Result<SdkLoggerProvider, ExporterError> {
    let exporter = set(Otlp::builder().with_http(), endpoint, Signal::Logs)
        .build()
        .map_err(ExporterError::at(endpoint, Signal::Logs))?;
    let room = Room::new("logs");
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE + SPARE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let exporter = Counting { exporter, room: room.clone() };
    let queue = BatchLogProcessor::builder(exporter).with_batch_config(batches).build();
    Ok(SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(Bounded { queue, room })
        .build())
}

/// The layer that turns events into log records, with the fields of the spans around them: those that the filter lets be said.
pub(crate) fn layer<S>(
    provider: &SdkLoggerProvider,
    filter: EnvFilter,
) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    OpenTelemetryTracingBridge::builder(provider)
        .with_tracing_span_attributes(TracingSpanAttributes::allowlist(["service", "round", "attempt"]))
        .build()
        .with_filter(exported().and(filter))
}

#[derive(Debug)]
struct Bounded {
    queue: BatchLogProcessor,
    room: Room,
}

impl LogProcessor for Bounded {
    fn emit(&self, data: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.room.enter() {
            // `event FILE:LINE`, unless somebody named it: a place on the machine that built it names no kind of event.
            if data.event_name().is_some_and(|name| name.starts_with("event ")) {
                data.set_event_name("");
            }
            self.queue.emit(data, scope);
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

#[derive(Debug)]
struct Counting {
    exporter: Otlp,
    room: Room,
}

impl LogExporter for Counting {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let items = batch.iter().count();
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

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
