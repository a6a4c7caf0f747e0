//! Bytes on the share: where objects lie, how the log grows, how packs, indexes and lists are written and read, and
//! the stores that carry them.
//!
//! Knows no bus and decides nothing about rounds: the machines of `muster-protocol` do.

pub mod anomaly;
pub mod chunk;
pub mod config_file;
pub mod copy;
pub mod core_dumps;
pub mod credentials;
pub mod entropy;
pub mod entry;
pub mod grant;
pub mod keys;
pub mod layout;
pub mod lists;
pub mod log;
mod needs;
pub mod pack;
pub mod probe;
pub mod prune;
pub mod reachable;
#[cfg(test)]
mod scene;
pub mod scrub;
pub mod sealed;
pub mod sealed_config;
pub mod secret_file;
pub mod store;
pub mod verify;
