//! Restores into the running service, ordered by an operator over the bus.
//!
//! ```text
//! desk     asks, orders and queries of one subject; one offer, one restore at a time
//! trust    who may restore, and what a receipt is worth: by the log that is read after the question came
//! carry    from an order to its end: grant ─▶ slice ─▶ plan ─▶ files in place, dumps through the spool
//! plan     what is put where, by the kind of source; refuses before anything is changed
//! gate     a capture and a restore never run together
//! ```
//!
//! The agent holds no key that reads a backup. What a grant gives it lives in memory while that restore runs, and opens
//! what the grant names and nothing else. Must never act for anybody but a current operator or admin, and never write
//! a byte that was not compared with the signed index.

mod carry;
mod desk;
mod gate;
mod plan;
mod trust;

pub(crate) use desk::{Desk, Settings};
pub(crate) use gate::Gate;
