//! When the next round begins by itself, and whether any may begin: as `status`, `enable`, `disable` and `config` show it. Read
//! off the settings in the log; no leader is asked.

use std::collections::BTreeMap;

use muster_protocol::log::State;
use muster_protocol::schedule::{Plan, Standing};
use muster_protocol::settings;
use muster_protocol::time::UnixMillis;
use schemars::JsonSchema;
use serde::Serialize;

use super::rfc3339;

/// `schedule` of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Timetable {
    /// `never` (nobody enabled it yet), `enabled` or `disabled`.
    pub state: &'static str,
    /// The setting: `off`, `every 12h`, `0 3 * * *`.
    pub schedule: String,
    /// The zone of its calendar.
    pub zone: String,
    /// When the next round begins by itself; null: none does.
    pub next: Option<String>,
    /// Seconds until then.
    pub next_in_secs: Option<u64>,
    /// Why there is none although there is a schedule.
    pub error: Option<String>,
    /// Since when it is disabled.
    pub since: Option<String>,
    /// When it is enabled again by itself.
    pub until: Option<String>,
    /// Why it is disabled.
    pub reason: Option<String>,
    /// The same moments, for people.
    #[serde(skip)]
    #[schemars(skip)]
    pub times: Times,
}

/// The moments of a timetable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was read.
    pub now: UnixMillis,
    /// When the next round begins by itself.
    pub next: Option<UnixMillis>,
    /// Since when it is disabled.
    pub since: Option<UnixMillis>,
    /// When it is enabled again by itself.
    pub until: Option<UnixMillis>,
}

/// A setting's value, or what holds where nobody set it.
#[must_use]
pub fn value<'a>(clear: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    clear.get(key).map(String::as_str).or_else(|| settings::default_of(key)).unwrap_or_default()
}

/// The settings of a log.
#[must_use]
pub fn clear(state: &State) -> BTreeMap<String, String> {
    state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default()
}

impl Timetable {
    /// That of the fleet at `now`.
    #[must_use]
    pub fn of(state: &State, now: UnixMillis) -> Self {
        let clear = clear(state);
        let (plan, error) = match Plan::of(&clear) {
            Ok(plan) => (plan, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let after = |from: UnixMillis| plan.as_ref().and_then(|plan| plan.next_due(&state.fleet, from));
        let (word, next, since, until, reason) = match Standing::of(&clear, now) {
            Standing::Never => ("never", after(now), None, None, None),
            Standing::Enabled { .. } => ("enabled", after(now), None, None, None),
            Standing::Disabled { since, until, reason } => {
                ("disabled", until.and_then(after), since, until, reason)
            }
        };
        let in_secs = |next: UnixMillis| u64::try_from(next.0.saturating_sub(now.0) / 1_000).unwrap_or(0);
        Self {
            state: word,
            schedule: value(&clear, "schedule").to_owned(),
            zone: value(&clear, "schedule.zone").to_owned(),
            next: next.map(rfc3339),
            next_in_secs: next.map(in_secs),
            error,
            since: since.map(rfc3339),
            until: until.map(rfc3339),
            reason,
            times: Times { now, next, since, until },
        }
    }
}
