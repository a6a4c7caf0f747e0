//! What a process tells about itself, as data, and the one place where that becomes a running subscriber.
//!
//! Must never be called twice in a process: the subscriber is process-wide, the second call is an error.

use std::time::Duration;

use muster_protocol::config::{LogConfig, LogFormat, TelemetryConfig};
use opentelemetry::trace::TracerProvider;
use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::endpoint::{Endpoint, EndpointError};
use crate::export::{self, ExporterError};
use crate::guard::Telemetry;
use crate::lines::{self, Fold, Format};
use crate::listen::{ListenError, Listening};
use crate::span::{self, Telling};
use crate::tls::{self, TlsProviderError};

/// The telemetry of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which events reach standard error, as directives of `tracing-subscriber`'s `EnvFilter`
    /// (`info`, `info,muster_share=debug`). Traces are not subject to it.
    pub filter: String,
    /// How lines on standard error look.
    pub format: Format,
    /// Base URL of an OTLP/HTTP collector, e.g. `http://127.0.0.1:4318`; the path of each signal is added.
    /// `None`: nothing leaves the process by itself.
    pub otlp_endpoint: Option<String>,
    /// How often figures are pushed there.
    pub interval: Duration,
    /// `HOST:PORT` where `/metrics` answers; `None`: nowhere.
    pub metrics: Option<String>,
    /// Share of new traces that is exported, from 0 to 1. A trace that came with a parent follows its parent.
    pub sample: f64,
    /// The `service.name` of the exported spans, e.g. `muster-agent`.
    pub service_name: String,
    /// The `service.instance.id`: which of the processes of that name this is.
    pub instance: String,
    /// The fleet's name, `muster.fleet`.
    pub fleet: Option<String>,
}

/// Why telemetry did not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter holds a directive that does not parse.
    #[error(
        "log filter `{filter}` is not valid: write directives such as `info` or `info,muster_share=debug`"
    )]
    Filter {
        /// The filter as configured.
        filter: String,
        /// What the parser said.
        source: ParseError,
    },
    /// The ratio is not a number from 0 to 1.
    #[error("telemetry sample {sample} is not valid: give a number from 0 (no new trace) to 1 (every trace)")]
    Sample {
        /// The ratio as configured.
        sample: f64,
    },
    /// The collector's address is no base URL.
    #[error("[telemetry] otlp_endpoint, or MUSTER_TELEMETRY_OTLP_ENDPOINT, cannot be used")]
    Endpoint(#[from] EndpointError),
    /// No TLS provider could be installed.
    #[error("no TLS provider for the telemetry exporter")]
    Tls(#[from] TlsProviderError),
    /// The exporter could not be built.
    #[error("the telemetry exporter did not start")]
    Exporter(#[from] ExporterError),
    /// Figures cannot be kept for whoever asks.
    #[error("the figures for /metrics cannot be kept")]
    Figures(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// `/metrics` does not answer.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Something installed a subscriber before.
    #[error("tracing is already set up in this process: build telemetry once, in main")]
    AlreadyInstalled,
}

impl Config {
    /// The defaults of every binary: `info`, no collector, no `/metrics`, every trace sampled.
    pub fn new(service_name: impl Into<String>, instance: impl Into<String>) -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::default(),
            otlp_endpoint: None,
            interval: Duration::from_secs(15),
            metrics: None,
            sample: 1.0,
            service_name: service_name.into(),
            instance: instance.into(),
            fleet: None,
        }
    }

    /// As the configuration file of a daemon has it.
    pub fn of(
        log: &LogConfig,
        telemetry: &TelemetryConfig,
        service_name: &str,
        instance: &str,
        fleet: &str,
    ) -> Self {
        Self {
            filter: log.filter.clone(),
            format: match log.format {
                LogFormat::Auto => Format::Auto,
                LogFormat::Text => Format::Text,
                LogFormat::Json => Format::Json,
            },
            otlp_endpoint: telemetry.endpoint().map(str::to_owned),
            interval: telemetry.interval.0,
            metrics: telemetry.listen().map(str::to_owned),
            sample: telemetry.sample,
            fleet: Some(fleet.to_owned()).filter(|fleet| !fleet.is_empty()),
            ..Self::new(service_name, instance)
        }
    }

    /// Starts telemetry for the whole process. Keep the result until the process ends: dropping it exports what
    /// is still queued, within [`SHUTDOWN_LIMIT`](crate::SHUTDOWN_LIMIT).
    ///
    /// # Errors
    ///
    /// A part of the configuration is not valid, the exporter could not start, or tracing is already set up.
    /// Nothing is installed then, except possibly the TLS provider. An absent collector is no error.
    pub fn build(self) -> Result<Telemetry, TelemetryError> {
        let (subscriber, telemetry) = self.assemble()?;
        subscriber.try_init().map_err(|_| TelemetryError::AlreadyInstalled)?;
        Ok(telemetry)
    }

    /// Everything but the process-wide installation, so that a test can have a subscriber of its own.
    pub(crate) fn assemble(
        self,
    ) -> Result<(impl Subscriber + Send + Sync + use<>, Telemetry), TelemetryError> {
        let filter = || {
            EnvFilter::builder()
                .parse(&self.filter)
                .map_err(|source| TelemetryError::Filter { filter: self.filter.clone(), source })
        };
        let (for_lines, for_records) = (filter()?, filter()?);
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(TelemetryError::Sample { sample: self.sample });
        }
        let endpoint = self.otlp_endpoint.as_deref().map(Endpoint::parse).transpose()?;
        let resource = export::resource(&self.service_name, &self.instance, self.fleet.as_deref());

        let mut telemetry = Telemetry::default();
        if let Some(endpoint) = &endpoint {
            tls::install_ring()?;
            telemetry.traces = Some(export::traces(endpoint, self.sample, resource.clone())?);
            telemetry.logs = Some(export::logs(endpoint, resource.clone())?);
        }
        if endpoint.is_some() || self.metrics.is_some() {
            let (provider, figures) =
                export::metrics(endpoint.as_ref(), self.interval, self.metrics.is_some(), resource)?;
            telemetry.metrics = Some(provider);
            telemetry.listening = match (&self.metrics, figures) {
                (Some(address), Some(figures)) => Some(Listening::start(address, figures)?),
                (Some(_), None) | (None, Some(_) | None) => None,
            };
        }
        if let Some(provider) = &telemetry.traces {
            span::install(Telling { tracer: provider.tracer("muster"), sample: self.sample });
        }
        let spans = telemetry.traces.as_ref().map(export::span_layer);
        let records = telemetry.logs.as_ref().map(|logs| export::log_layer(logs, for_records));
        let lines = lines::layer(self.format, for_lines);
        // Its filter keeps what is below it from being made at all, where nobody wants it.
        let fold = Fold::default().with_filter(LevelFilter::WARN);
        // Spans first: what is said within one is told with its ids.
        let subscriber = Registry::default().with(spans).with(records).with(lines).with(fold);
        Ok((subscriber, telemetry))
    }
}

impl From<export::StartError> for TelemetryError {
    fn from(error: export::StartError) -> Self {
        match error {
            export::StartError::Exporter(error) => Self::Exporter(error),
            export::StartError::Figures(error) => Self::Figures(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: Config) -> TelemetryError {
        match config.assemble() {
            Ok(_) => panic!("a bad configuration was accepted"),
            Err(error) => error,
        }
    }

    #[test]
    fn defaults_assemble() {
        assert!(Config::new("muster-agent", "a").assemble().is_ok());
        let json = Config { format: Format::Json, ..Config::new("muster-agent", "a") };
        assert!(json.assemble().is_ok());
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = refused(Config { filter: "info,=x=".to_owned(), ..Config::new("muster-agent", "a") });
        assert!(matches!(error, TelemetryError::Filter { .. }), "{error:?}");
        assert!(error.to_string().contains("info,=x="));
    }

    #[test]
    fn a_ratio_outside_zero_to_one_is_refused() {
        for sample in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let error = refused(Config { sample, ..Config::new("muster-agent", "a") });
            assert!(matches!(error, TelemetryError::Sample { .. }), "{sample}: {error:?}");
        }
    }

    #[test]
    fn a_bad_endpoint_is_refused() {
        let error = refused(Config {
            otlp_endpoint: Some("127.0.0.1:4318".to_owned()),
            ..Config::new("muster-agent", "a")
        });
        assert!(matches!(error, TelemetryError::Endpoint(_)), "{error:?}");
    }

    #[test]
    fn the_second_build_in_a_process_is_an_error() {
        let first = Config::new("muster-agent", "a").build();
        let second = Config::new("muster-agent", "a").build();
        assert!(first.is_ok());
        assert!(matches!(second, Err(TelemetryError::AlreadyInstalled)));
    }
}
