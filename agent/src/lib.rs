//! The agent beside a service: captures its sources, seals and uploads the slice, and recovers it.
//!
//! Holds no key that can read a past backup.

pub mod config;
pub mod daemon;
pub mod engine;
pub mod hold;
mod process;
pub mod recover;
mod restore;
pub mod source;
pub mod state;
