//! Prune, the deciding part: which rounds go by the signed retention, which objects nobody needs, and what the log asks
//! of a pruner next.
//!
//! ```text
//! settings ─▶ Terms ─┐
//! log ─▶ Ages ───────┴▶ Chooser ─▶ which rounds stay, and why     (pass one marks the others, pass two chooses again)
//! manifests ─────────┘                 │
//! receipts, pack lists of what stays ─▶ Stock ◀─ listing          (what is listed and not needed may go)
//! log ─▶ next                          finish a sweep, sweep a mark, wait, or mark
//! ```
//!
//! Nothing here asks a clock to be right. What protects a round or an object is its place in the log; calendar time only
//! makes rounds old, and by a bounded step for each round ([`Ages`]).

mod age;
mod calendar;
mod choice;
mod pass;
#[cfg(test)]
mod properties;
mod stock;
mod terms;

pub use age::Ages;
pub use calendar::{Calendar, Span};
pub use choice::{Chooser, Kept, Verdict};
pub use pass::{Next, Wait, next, sweeps_after};
pub use stock::{Contradiction, Sight, Stock};
pub use terms::Terms;
