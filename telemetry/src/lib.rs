//! Tracing and OpenTelemetry set-up, shared by every binary of Muster.
//!
//! A binary calls [`Config::build`] once, keeps the returned [`Telemetry`] until it ends, and from then on uses plain `tracing`
//! macros, the rows of [`metrics`], and [`span`]s for what no function's run is. Diagnostics go to standard error; with a
//! collector configured, spans, figures and log records also leave by OTLP over HTTP; with an address, `/metrics` answers. [`place`]
//! and [`set_parent`] carry one trace through the headers of a NATS message.
//!
//! This crate must never decide what is worth telling, must never be needed for a backup to succeed (a dead
//! collector costs spans, not rounds), and must never read the environment for its filter: what a process does
//! is in its configuration.

/// Target of spans that stand on lines and are told to no collector: what they are around has no end that anybody waits for.
pub const LINES_ONLY: &str = "muster::lines";

pub mod called;
mod config;
mod endpoint;
mod export;
mod guard;
mod lines;
mod listen;
pub mod metrics;
mod propagation;
pub mod service_manager;
pub mod span;
mod tls;

pub use config::{Config, TelemetryError};
pub use endpoint::EndpointError;
pub use export::ExporterError;
pub use guard::{SHUTDOWN_LIMIT, ShutdownError, Telemetry};
pub use lines::Format;
pub use listen::ListenError;
pub use propagation::{place, set_parent};
pub use tls::{TlsProviderError, install_ring};
