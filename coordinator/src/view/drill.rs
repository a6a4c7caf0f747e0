//! Whether, when and how fast a round was recovered to see whether that goes: as the log has it.

use std::time::Duration;

use muster_protocol::alert::{DrillTerms, drill_failure};
use muster_protocol::log::State;
use muster_protocol::time::UnixMillis;
use schemars::JsonSchema;
use serde::Serialize;

use super::rfc3339;

/// `drill` of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DrillView {
    /// A whole round is promised to be recovered in so many seconds; null: nothing is promised.
    pub promised_secs: Option<u64>,
    /// A whole round is to be recovered in a drill in each so many seconds; null: nobody is waited for.
    pub within_secs: Option<u64>,
    /// The last drill of a whole round; null: there was none.
    pub last: Option<Drill>,
    /// How long the newest round would take at the speed of the last drill that passed, in seconds; null: nobody can tell.
    pub expected_secs: Option<u64>,
    /// Why a recovery is not to be relied on: the last drill failed; null: it did not.
    pub failure: Option<String>,
    /// Whether the last one took longer than promised (DRILL-01); null: it did not.
    pub complaint: Option<String>,
}

/// One drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Drill {
    /// The round's id.
    pub round: String,
    /// The round's number.
    pub number: u64,
    /// `passed`, `failed`
    pub outcome: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    /// When it ended.
    pub at: String,
    /// Seconds since then.
    pub age_secs: u64,
    /// How long it took, in milliseconds.
    pub took_millis: u64,
    /// Files that came out.
    pub files: u64,
    /// Their bytes.
    pub source_bytes: u64,
    /// Who did it.
    pub by: String,
}

impl DrillView {
    /// What the log tells of them; `newest` is how many bytes a recovery of everything would write now.
    #[must_use]
    pub fn of(state: &State, newest: u64, now: UnixMillis) -> Self {
        let terms = DrillTerms::of(state.settings());
        let secs = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
        let last = state.drilled.as_ref().map(|drilled| {
            let at = state.drilled_at(drilled);
            let age = u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0);
            Drill {
                round: drilled.drill.round.to_string(),
                number: drilled.number,
                outcome: drilled.drill.outcome.as_str(),
                reason: drilled.drill.reason.clone(),
                at: rfc3339(at),
                age_secs: age / 1_000,
                took_millis: drilled.drill.took_millis,
                files: drilled.drill.files,
                source_bytes: drilled.drill.bytes,
                by: state.name_of(&drilled.by),
            }
        });
        let expected_secs = state.drill_passed.as_ref().and_then(|passed| {
            let (took, bytes) = (u128::from(passed.drill.took_millis), u128::from(passed.drill.bytes));
            let millis = (u128::from(newest) * took).checked_div(bytes)?;
            u64::try_from(millis / 1_000).ok()
        });
        Self {
            promised_secs: secs(terms.promised),
            within_secs: secs(terms.within),
            last,
            expected_secs,
            failure: drill_failure(state).map(|(_, why)| why),
            complaint: terms.shortfall(state, false, now),
        }
    }
}
