//! The coordinator: runs rounds, commits them to the log, and answers who asks.
//!
//! Holds no key that can read a backup.

pub mod config;
pub mod query;
