//! The coordinator: runs rounds, commits them to the log, and answers who asks.
//!
//! ```text
//! bus ──intake──▶ desk (one loop, all machines) ──▶ scribe (the log)      appends, one at a time
//!                  ▲                            ──▶ publisher (the bus)   state document, retry orders
//!                  └──────── events ◀───────────── tasks: check, manifest, reread
//! alerts ──notify──▶ people: NATS, webhooks, mail, a ping outside
//! ```
//!
//! Holds no key that can read a backup. The log on the share decides; everything here can be lost at any moment.

pub mod alerts;
pub mod config;
pub mod daemon;
pub mod http;
pub mod query;
pub mod view;

mod answer;
mod check;
mod confided;
mod desk;
#[cfg(test)]
mod fixture;
mod gauges;
mod ignored;
mod intake;
mod lead;
mod manifest;
mod notify;
mod pace;
mod preflight;
mod publisher;
mod quarantine;
mod reread;
mod roll;
mod room;
mod scribe;
mod scrub;
mod sessions;
