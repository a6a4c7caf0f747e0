//! Tracing and OpenTelemetry set-up, shared by every binary of Muster.
//!
//! A binary calls [`Config::build`] once, keeps the returned [`Telemetry`] until it ends, and from then on uses
//! plain `tracing` macros. Diagnostics go to standard error; with a collector configured, spans also leave by
//! OTLP over HTTP. [`inject`] and [`set_parent`] carry one trace through the headers of a NATS message.
//!
//! This crate must never decide what is worth logging, must never be needed for a backup to succeed (a dead
//! collector costs spans, not rounds), and must never read the environment for its filter: what a process does
//! is in its configuration.

mod config;
mod endpoint;
mod guard;
mod otlp;
mod propagation;
pub mod service_manager;
mod tls;

pub use config::{Config, Format, TelemetryError};
pub use endpoint::EndpointError;
pub use guard::{SHUTDOWN_LIMIT, ShutdownError, Telemetry};
pub use otlp::ExporterError;
pub use propagation::{inject, set_parent};
pub use tls::{TlsProviderError, install_ring};
