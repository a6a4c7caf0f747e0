//! What a scrub reads: every object that a round which can be recovered names, service by service and in the order of their ids.
//!
//! Knows no time and no log record: when an object is due, [`muster_protocol::scrub`] says, and what becomes of a damaged one is
//! the leader's business.

mod inventory;
#[cfg(test)]
mod tests;

pub use inventory::{Inventory, Slices, fleet, slices};
