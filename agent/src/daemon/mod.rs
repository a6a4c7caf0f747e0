//! The agent's daemon: follows the state document, carries the slice machine's effects out, and says that it is there.
//!
//! ```text
//! run ─▶ share, bus (waited for) ─▶ run_on ─▶ Daemon: one loop over documents, reports, timers
//!          belief      what the documents ask for, as far as the log on the share confirms it
//!          reader      the log, its head remembered          refused      what is being deleted
//!          talk        hello and notice                      beat         heartbeat and progress
//!          capturer    what it wants of the engine           slice_task   one capture
//! ```
//!
//! Must never act on a document that the log does not bear out, and never end because share or bus are away.

mod beat;
mod belief;
mod capturer;
mod connect;
mod error;
mod event_loop;
mod identity;
mod lock;
mod reader;
mod refused;
mod said;
mod slice_task;
mod talk;
#[cfg(test)]
mod tests;

pub use error::DaemonError;
