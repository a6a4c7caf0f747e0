//! Anomalies: slices that are not like those before them (ROUND-06). Data that shrank to half, that is suddenly all new, or that takes
//! hours instead of minutes, is seldom what anybody meant; and while nobody has looked, no older round goes.
//!
//! ```text
//! manifests of verified rounds, oldest first ─▶ Sample ─▶ Anomalies: each service against its own last ordinary slices ─▶ Anomaly
//! log: accept ──────────────────────────────────────────────┘
//! ```
//!
//! A pure function of the log and of the manifests that it names: whoever reads them, leader or pruner, comes to the same
//! anomalies. Memory is bounded by [`USUAL`] slices of each service.

mod follow;
mod oddity;
mod sample;
#[cfg(test)]
mod tests;
mod usual;

pub use follow::{Anomalies, Anomaly};
pub use oddity::Oddity;
pub use sample::Sample;
pub use usual::{LEAST, USUAL};
