//! Holding a service: its hooks quiesce it while it is captured, and release it in any case.
//!
//! ```text
//! agent                                   watchdog (a process and session of its own)
//!   record that a hold begins
//!   Hold{hooks, limit}  ────────────────▶ arms its deadline, locks its memory
//!                       ◀──────────────── Armed
//!                                         quiesce hook
//!                       ◀──────────────── Quiesced, or Failed
//!   … captures …
//!   Release             ────────────────▶ release hook: when told, when the time is over (Expired),
//!                       ◀──────────────── Released           or when the agent is gone
//!   the record goes
//! ```
//!
//! Both hooks run in the watchdog, so that it knows what is under way whatever becomes of the agent: a quiesce hook that
//! still runs when its agent is killed is ended before the service is released. If it is the watchdog that dies, the agent
//! releases; if both die, the next agent does, by the record. The release hook may therefore run more than once, and also
//! after a quiesce hook that failed.
//!
//! Nothing here writes to a file while the service is held, or waits without a limit.

mod config;
mod conversation;
mod hook;
mod keeper;
mod record;
#[cfg(test)]
mod tests;
mod watchdog;
mod words;

pub use config::HooksConfig;
pub(crate) use keeper::{HoldError, Keeper, Said};
pub use watchdog::{COMMAND, run as run_watchdog};
