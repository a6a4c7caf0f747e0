//! What a long command tells a collector: one trace, if the environment names where. Daemons have it in their configuration; a
//! recovery may have nothing but a share and a kit.

use std::future::Future;

use muster_protocol::config::{LogConfig, TelemetryConfig};
use tracing::{Instrument, Span};

use crate::failure::{Failure, Outcome};

/// As it overrides `[telemetry] otlp_endpoint` of daemons.
const ENDPOINT: &str = "MUSTER_TELEMETRY_OTLP_ENDPOINT";
const SAMPLE: &str = "MUSTER_TELEMETRY_SAMPLE";

/// Runs a command within the span that `root` makes. What it told is on its way when this returns.
///
/// # Errors
/// Those of the command; exit 2 when the environment names no collector that could be.
pub(crate) async fn told(root: impl FnOnce() -> Span, work: impl Future<Output = Outcome>) -> Outcome {
    let Some(endpoint) = std::env::var(ENDPOINT).ok().filter(|endpoint| !endpoint.is_empty()) else {
        return work.await;
    };
    let sample = match std::env::var(SAMPLE) {
        Ok(sample) => sample.parse().map_err(|_| {
            Failure::usage(format!("{SAMPLE} is no number")).next("give one from 0 to 1, or leave it out")
        })?,
        Err(_) => TelemetryConfig::default().sample,
    };
    let config = TelemetryConfig { otlp_endpoint: endpoint, sample, ..TelemetryConfig::default() };
    // Nothing on standard error but what the command says itself.
    let log = LogConfig { filter: "off".to_owned(), ..LogConfig::default() };
    let telemetry = muster_telemetry::Config::of(&log, &config, "muster", "muster", "").build();
    let telemetry = telemetry.map_err(|error| Failure::usage(error.to_string()).caused_by(&error))?;
    let outcome = work.instrument(root()).await;
    // The collector may be away: nothing was promised.
    drop(tokio::task::spawn_blocking(move || telemetry.shutdown()).await);
    outcome
}
