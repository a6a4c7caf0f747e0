//! The handle on running telemetry, and its end.
//!
//! Must never hold up the end of a process for longer than [`SHUTDOWN_LIMIT`], whatever the collector does.

use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;

/// How long the end of a process waits for queued spans to be exported.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// Running telemetry. Dropping it does what [`Telemetry::shutdown`] does, without telling the outcome.
#[derive(Debug)]
#[must_use = "dropping it ends the export of spans"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Some spans did not reach the collector.
#[derive(Debug, Error)]
#[error("the last spans were not exported within {} s", SHUTDOWN_LIMIT.as_secs())]
pub struct ShutdownError {
    source: OTelSdkError,
}

impl Telemetry {
    pub(crate) fn new(provider: Option<SdkTracerProvider>) -> Self {
        Self { provider }
    }

    /// Exports what is queued and ends the exporter. Blocks the calling thread for at most [`SHUTDOWN_LIMIT`].
    /// Lines on standard error go on.
    ///
    /// # Errors
    ///
    /// The collector did not take the last spans in time; they are lost, which harms nothing but the trace.
    pub fn shutdown(mut self) -> Result<(), ShutdownError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ShutdownError> {
        match self.provider.take() {
            None => Ok(()),
            Some(provider) => {
                provider.shutdown_with_timeout(SHUTDOWN_LIMIT).map_err(|source| ShutdownError { source })
            }
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::debug!(error = &error as &dyn std::error::Error, "telemetry ended with spans unsent");
        }
    }
}
