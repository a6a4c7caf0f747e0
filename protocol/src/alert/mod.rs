//! Alerts: what can be wrong, what is wrong now, and when it counts as mended (DESIGN section 9).
//!
//! [`Code`] is the vocabulary. [`Book`] keeps what is wrong, each condition once, however often it is told. [`Rounds`] reads
//! off the log and its manifests what rounds say of their services, so that this part of a book can be written again from the
//! share alone. Nothing here asks a clock: calendar time comes in, is kept for people, and ends quiet periods.

mod about;
mod anomalies;
mod book;
mod closing;
mod code;
mod drill;
mod keys;
mod prune;
mod quarantine;
mod room;
mod rounds;
mod schedule;
#[cfg(test)]
mod tests;

pub use about::{About, AlertId, AlertRef, IdError, Part};
pub use anomalies::judge_anomalies;
pub use book::{
    Acknowledged, Alert, Basis, Book, Change, ClosedBy, Finding, MAX_CAUSE_LEN, MAX_HISTORY, MAX_KEYS,
    MAX_OPEN, NotOpen,
};
pub use closing::Closing;
pub use code::{Code, Severity, UnknownCode};
pub use drill::{DrillTerms, drill_failure, judge_drills};
pub use keys::judge_keys;
pub use prune::{judge_prune, judge_retention};
pub use room::judge_room;
pub use rounds::{Account, MAX_TOLD, Rounds};
pub use schedule::{Begun, judge_schedule};
