//! What a fleet shows of itself: the shapes of every `--json` and of the HTTP API, which are the same types, and how each is read
//! off the log and its manifests.
//!
//! ```text
//! log (Shown) ──▶ status, rounds, round, audit, settings, timetable
//! leader (query) ─▶ agents, alerts, live
//! ```
//!
//! Nothing here asks anybody: what is read comes in a [`Shown`], what the leader said comes as an argument. Holds no words for
//! terminals but those that several commands share.

use muster_protocol::log::{Head, State};
use muster_protocol::time::UnixMillis;
use muster_share::log::{Log, LogError};
use muster_share::store::Store;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

use crate::scribe;

pub mod acts;
pub mod agents;
pub mod alerts;
pub mod audit;
pub mod drill;
pub mod live;
pub mod manifest;
pub mod round;
pub mod round_name;
pub mod rounds;
pub mod scrub;
pub mod settings;
pub mod standing;
pub mod status;
pub mod timetable;

/// A log that was read, and how its share is called.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The log, as far as it was read.
    pub log: &'a Log,
    /// The share's address, as whoever reads it was given it.
    pub share: &'a str,
}

impl<'a> Shown<'a> {
    /// What the log says.
    #[must_use]
    pub fn state(&self) -> &'a State {
        self.log.state()
    }

    /// The share itself.
    #[must_use]
    pub fn store(&self) -> &'a dyn Store {
        self.log.store().as_ref()
    }

    /// The fleet's name.
    #[must_use]
    pub fn fleet(&self) -> String {
        self.state().name.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// The head of the log.
    #[must_use]
    pub fn head(&self) -> HeadView {
        HeadView::of(self.log.head())
    }
}

/// `head`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HeadView {
    /// The number of the newest record of the log.
    pub number: u64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

impl HeadView {
    /// That of a head.
    #[must_use]
    pub fn of(head: Head) -> Self {
        Self { number: head.number, hash: head.hash.to_string() }
    }
}

/// Why something cannot be read off the share.
#[derive(Debug, thiserror::Error)]
pub enum ShownError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The manifest of a round.
    #[error(transparent)]
    Manifest(#[from] manifest::ManifestError),
}

/// A time for machines: RFC 3339 in UTC; empty for one beyond the calendar.
#[must_use]
pub fn rfc3339(at: UnixMillis) -> String {
    at.rfc3339().unwrap_or_default()
}

/// How long ago a time was, on this machine's calendar.
#[must_use]
pub fn age(at: UnixMillis) -> Duration {
    Duration::from_millis(u64::try_from(scribe::unix_now().0.saturating_sub(at.0)).unwrap_or(0))
}

/// `1 service`, `2 services`.
#[must_use]
pub fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
