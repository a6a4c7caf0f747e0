//! The handle on running telemetry, and its end.
//!
//! Must never hold up the end of a process for longer than [`SHUTDOWN_LIMIT`], whatever the collector does.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;

use crate::listen::Listening;

/// How long the end of a process waits for what is queued to be exported.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

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
        type End = Box<dyn FnOnce() -> Result<(), OTelSdkError> + Send>;
        let spans =
            traces.map(|all| ("spans", Box::new(move || all.shutdown_with_timeout(SHUTDOWN_LIMIT)) as End));
        let figures = metrics
            .map(|all| ("figures", Box::new(move || all.shutdown_with_timeout(SHUTDOWN_LIMIT)) as End));
        let records = logs
            .map(|all| ("log records", Box::new(move || all.shutdown_with_timeout(SHUTDOWN_LIMIT)) as End));
        // Beside one another, and left to themselves when the time is over: the limit is the SDK's to keep, and its reader of
        // figures does not.
        let until = Instant::now() + SHUTDOWN_LIMIT;
        let (mut ending, (told, ends)) = (Vec::new(), channel());
        for (what, end) in [spans, figures, records].into_iter().flatten() {
            let told = told.clone();
            // Nobody listens any more once the time is over. Without a thread for it, the last of it is lost.
            let begun = thread::Builder::new().spawn(move || drop(told.send((what, end()))));
            if begun.is_ok() {
                ending.push(what);
            }
        }
        drop(told);
        let mut outcome = Ok(());
        while !ending.is_empty() {
            let Ok((what, done)) = ends.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                break;
            };
            ending.retain(|other| *other != what);
            outcome = outcome.and(done.map_err(|source| ShutdownError { what, source }));
        }
        let late =
            |what: &&'static str| ShutdownError { what, source: OTelSdkError::Timeout(SHUTDOWN_LIMIT) };
        outcome.and(ending.first().map(late).map_or(Ok(()), Err))
    }
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
