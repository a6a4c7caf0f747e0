//! What a process tells about itself, as data, and the one place where that becomes a running subscriber.
//!
//! Must never be called twice in a process: the subscriber is process-wide, the second call is an error.

use std::io::IsTerminal;

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::endpoint::{Endpoint, EndpointError};
use crate::guard::Telemetry;
use crate::otlp::{self, ExporterError};
use crate::tls::{self, TlsProviderError};

/// How lines on standard error look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line for people, coloured only on a terminal.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// The telemetry of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which events reach standard error, as directives of `tracing-subscriber`'s `EnvFilter`
    /// (`info`, `info,muster_share=debug`). Traces are not subject to it.
    pub filter: String,
    /// How lines on standard error look.
    pub format: Format,
    /// Base URL of an OTLP/HTTP collector, e.g. `http://127.0.0.1:4318`; the path of the traces signal is added.
    /// `None`: nothing leaves the process.
    pub otlp_endpoint: Option<String>,
    /// Share of new traces that is exported, from 0 to 1. A trace that came with a parent follows its parent.
    pub sample: f64,
    /// The `service.name` of the exported spans, e.g. `muster-agent`.
    pub service_name: String,
    /// The `service.instance.id`: which of the processes of that name this is.
    pub instance: String,
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
    #[error("telemetry otlp_endpoint is not valid")]
    Endpoint(#[from] EndpointError),
    /// No TLS provider could be installed.
    #[error("no TLS provider for the telemetry exporter")]
    Tls(#[from] TlsProviderError),
    /// The exporter could not be built.
    #[error("the telemetry exporter did not start")]
    Exporter(#[from] ExporterError),
    /// Something installed a subscriber before.
    #[error("tracing is already set up in this process: build telemetry once, in main")]
    AlreadyInstalled,
}

impl Config {
    /// The defaults of every binary: `info` as text, no collector, every trace sampled.
    pub fn new(service_name: impl Into<String>, instance: impl Into<String>) -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::default(),
            otlp_endpoint: None,
            sample: 1.0,
            service_name: service_name.into(),
            instance: instance.into(),
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
        let filter = EnvFilter::builder()
            .parse(&self.filter)
            .map_err(|source| TelemetryError::Filter { filter: self.filter.clone(), source })?;
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(TelemetryError::Sample { sample: self.sample });
        }
        let endpoint = self.otlp_endpoint.as_deref().map(Endpoint::parse).transpose()?;

        let provider = match &endpoint {
            None => None,
            Some(endpoint) => {
                tls::install_ring()?;
                Some(otlp::provider(endpoint, self.sample, &self.service_name, &self.instance)?)
            }
        };
        let spans = provider.as_ref().map(otlp::layer);
        let lines = lines(self.format).with_filter(filter);
        Ok((Registry::default().with(spans).with(lines), Telemetry::new(provider)))
    }
}

fn lines<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => layer.json().boxed(),
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
