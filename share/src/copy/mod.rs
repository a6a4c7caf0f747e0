//! Copies: a second share that holds what the first one does, for the day the first one is gone.
//!
//! ```text
//! copy/<share> ─▶ FORMAT ─▶ lists, manifests ─▶ per commit: what its slices name, then the record ─▶ whatever else is there
//! ```
//!
//! Objects come before the record that names them, and records in the order of the log: at any moment the copy is a share
//! whose log ends earlier. So a run that was interrupted left something to recover from, and the next one goes on behind it.
//! What is copied is compared with its hash before it is written, and read back afterwards. What a crash left torn on the
//! copy is written anew.
//!
//! The copy carries a mark ([`ObjectPath::Copy`](crate::layout::ObjectPath::Copy)) for as long as the log names the share that
//! it is a copy of: [`Log`](crate::log::Log) appends nothing there but the root's `adopt`, which gives it a name of its own.

mod error;
mod mark;
mod object;
mod present;
mod run;
#[cfg(test)]
mod tests;

pub use error::CopyError;
pub use mark::is_copy;
pub use run::{Report, copy};
