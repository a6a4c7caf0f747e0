//! The contract of Muster: ids, subjects, signed messages and documents, the log's rules, age v1 sealing, and the
//! state machines: of a round, of a slice, and of who leads.
//!
//! Pure by construction: this crate names no async runtime, no NATS client, no file system, no clock and no source of
//! randomness. Time and random bytes are arguments, so a fleet can be simulated from one seed.

pub mod age;
pub mod alert;
pub mod anomaly;
pub mod causes;
pub mod config;
mod crypto;
pub mod document;
pub mod entropy;
pub mod envelope;
pub mod ids;
pub mod lead;
pub mod log;
pub mod message;
pub mod notify;
pub mod pem;
pub mod prune;
pub mod retry;
pub mod room;
pub mod round;
pub mod schedule;
pub mod scrub;
pub mod service_policy;
pub mod session;
pub mod settings;
pub mod slice;
pub mod subject;
pub mod time;
pub mod token;
pub mod units;
pub mod wire;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod seeds;
