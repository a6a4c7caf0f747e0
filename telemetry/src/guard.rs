//! The handle on running telemetry, and its end.
//!
//! Must never hold up the end of a process for longer than [`SHUTDOWN_LIMIT`], whatever the collector does.

use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;

use crate::listen::Listening;

/// How long the end of a process waits for what is queued to be exported.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// Running telemetry. Dropping it does what [`Telemetry::shutdown`] does, without telling the outcome.
#[derive(Debug, Default)]
#[must_use = "dropping it ends the export"]
pub struct Telemetry {
    pub(crate) traces: Option<SdkTracerProvider>,
    pub(crate) metrics: Option<SdkMeterProvider>,
    pub(crate) logs: Option<SdkLoggerProvider>,
    pub(crate) listening: Option<Listening>,
}

/// Something did not reach the collector.
#[derive(Debug, Error)]
#[error("the last {what} were not exported within {} s", SHUTDOWN_LIMIT.as_secs())]
pub struct ShutdownError {
    what: &'static str,
    source: OTelSdkError,
}

impl Telemetry {
    /// Exports what is queued and ends the exporters, all at once. Blocks the calling thread for at most [`SHUTDOWN_LIMIT`].
    /// Lines on standard error go on.
    ///
    /// # Errors
    ///
    /// The collector did not take the last of it in time; it is lost, which harms nothing but the picture.
    pub fn shutdown(mut self) -> Result<(), ShutdownError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ShutdownError> {
        drop(self.listening.take());
        let (traces, metrics, logs) = (self.traces.take(), self.metrics.take(), self.logs.take());
        // Beside one another, so that a collector that hangs takes no longer than the limit of one.
        let ended = std::thread::scope(|scope| {
            let figures = metrics.map(|provider| {
                scope.spawn(move || ended("figures", provider.shutdown_with_timeout(SHUTDOWN_LIMIT)))
            });
            let records = logs.map(|provider| {
                scope.spawn(move || ended("log records", provider.shutdown_with_timeout(SHUTDOWN_LIMIT)))
            });
            let spans = traces.map(|provider| ended("spans", provider.shutdown_with_timeout(SHUTDOWN_LIMIT)));
            let joined = [figures, records].into_iter().flatten().filter_map(|thread| thread.join().ok());
            spans.into_iter().chain(joined).collect::<Vec<_>>()
        });
        ended.into_iter().collect()
    }
}

fn ended(what: &'static str, done: Result<(), OTelSdkError>) -> Result<(), ShutdownError> {
    done.map_err(|source| ShutdownError { what, source })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "telemetry ended with something unsent"
            );
        }
    }
}
