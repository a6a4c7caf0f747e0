//! How far the stored objects have been read again, and what of them is in quarantine: as the log has it.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::log::{ScrubPass, State};
use muster_protocol::scrub::Terms;
use muster_protocol::time::UnixMillis;
use schemars::JsonSchema;
use serde::Serialize;

use super::rfc3339;

/// `scrub` of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ScrubView {
    /// Every object is promised to be read again in each, in seconds; null: the scrub is off.
    pub within_secs: Option<u64>,
    /// The last pass that came to its end.
    pub last: Option<PassView>,
    /// The one under way.
    pub current: Option<PassView>,
    /// No pass came to its end in the promised time.
    pub overdue: bool,
    /// What is damaged, by service.
    pub quarantine: BTreeMap<String, QuarantineView>,
}

/// Damaged objects of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QuarantineView {
    /// How many.
    pub objects: usize,
    /// When the newest of them was found.
    pub found: String,
    /// The newest verified round that holds a slice which was made without them; null: there is none, and the service is not
    /// recovery-ready.
    pub healed_by: Option<u64>,
}

/// A pass over all stored objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PassView {
    /// Its number, from 1 on.
    pub pass: u64,
    /// When it began.
    pub began: String,
    /// When it ended, or was last told of.
    pub at: String,
    /// Objects read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl PassView {
    fn of(pass: &ScrubPass) -> Self {
        let ScrubPass { pass, began, at, objects, bytes } = *pass;
        Self { pass, began: rfc3339(began), at: rfc3339(at), objects, bytes }
    }
}

impl ScrubView {
    /// What the log says, at `now`.
    #[must_use]
    pub fn of(state: &State, now: UnixMillis) -> Self {
        let clear = state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default();
        let within = Terms::of(&clear).ok().and_then(|terms| terms.within);
        let (last, current) = (state.scrub.last.as_ref(), state.scrub.current.as_ref().map(|(pass, _)| pass));
        // A pass takes less than half of the time: where none has ended for as long, some object waits too long.
        let since = last.map(|last| last.at).or_else(|| current.map(|pass| pass.began));
        let age =
            |at: UnixMillis| Duration::from_millis(u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0));
        let quarantine = state.quarantine.iter().map(|(service, of)| {
            let view = QuarantineView { objects: of.objects.len(), found: rfc3339(of.at), healed_by: None };
            (service.to_string(), view)
        });
        Self {
            within_secs: within.map(|within| within.as_secs()),
            last: last.map(PassView::of),
            current: current.map(PassView::of),
            overdue: within.zip(since).is_some_and(|(within, since)| age(since) > within),
            quarantine: quarantine.collect(),
        }
    }
}
