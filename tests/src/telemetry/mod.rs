//! What tests know of telemetry: what arrives behind a collector, what Prometheus answers, what dashboards and rules ask, and
//! fleets whose processes tell of themselves.

mod board;
mod metrics;
mod otlp;
mod prom;
mod rules;
mod spans;
mod wired;

pub use board::{Board, Grid, Kind, Panel, Query, Step, Variables, boards};
pub use metrics::{known_names, named_in};
pub use otlp::{Attributes, Line, Point, Sink, Span, SpanEvent};
pub use prom::{Alert, Prom, Series};
pub use rules::{Rule, rules};
pub use spans::Trace;
pub use wired::{Wired, deploy, set_telemetry};
