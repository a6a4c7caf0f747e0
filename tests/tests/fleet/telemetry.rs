//! Telemetry before real servers: a collector that hands on what it takes, Prometheus with the rules that are shipped.

mod away;
mod collector;
mod figures;
mod judged;
mod rules;
mod scene;
mod traces;
