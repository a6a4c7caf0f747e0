//! Telling people of alerts: what is told over a channel and when, and how a message reads in each form.
//!
//! ```text
//! Book (what is wrong) ─┐
//! Ledger (what was told)┴─ Ledger::next ─▶ Notification ─ form::* ─▶ bytes ─ a channel of the shell ─▶ Ledger::take
//! ```
//!
//! Level-triggered: what a channel has to say is the difference between the book and its ledger. Nothing queues, so nothing
//! overflows; a channel that was dead for a day says how things stand, not everything that happened meanwhile. Nothing here asks
//! a clock: calendar time comes in, as for the book.

pub mod form;
mod ledger;
mod notification;
mod pace;
mod ready;
mod signature;
#[cfg(test)]
mod tests;

pub use ledger::{CALM, Ledger, Repeat, SETTLE, Terms};
pub use notification::{Event, Kind, Notification, What};
pub use pace::{MOST_A_MINUTE, Pace};
pub use ready::{Unready, ready};
pub use signature::{SIGNATURE_HEADER, signature};
