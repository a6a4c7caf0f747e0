//! When the next round begins by itself, and whether any may begin: as `status`, `enable`, `disable` and `config` show it. Read
//! off the settings in the log; no leader is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::log::State;
use muster_protocol::schedule::{Plan, Standing};
use muster_protocol::settings;
use muster_protocol::time::UnixMillis;
use muster_protocol::units::format_duration;
use serde::Serialize;

use crate::screen;

/// `schedule` of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Timetable {
    /// `never` (nobody enabled it yet), `enabled` or `disabled`.
    state: &'static str,
    /// The setting: `off`, `every 12h`, `0 3 * * *`.
    schedule: String,
    zone: String,
    /// When the next round begins by itself; null: none does.
    next: Option<String>,
    next_in_secs: Option<u64>,
    /// Why there is none although there is a schedule.
    error: Option<String>,
    /// Of a disabled fleet.
    since: Option<String>,
    until: Option<String>,
    reason: Option<String>,
    #[serde(skip)]
    times: Times,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    now: UnixMillis,
    next: Option<UnixMillis>,
    since: Option<UnixMillis>,
    until: Option<UnixMillis>,
}

/// A setting's value, or what holds where nobody set it.
pub(crate) fn value<'a>(clear: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    clear.get(key).map(String::as_str).or_else(|| settings::default_of(key)).unwrap_or_default()
}

/// The settings of a log.
pub(crate) fn clear(state: &State) -> BTreeMap<String, String> {
    state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default()
}

impl Timetable {
    /// That of the fleet at `now`.
    pub(crate) fn of(state: &State, now: UnixMillis) -> Self {
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
            next: next.map(screen::rfc3339),
            next_in_secs: next.map(in_secs),
            error,
            since: since.map(screen::rfc3339),
            until: until.map(screen::rfc3339),
            reason,
            times: Times { now, next, since, until },
        }
    }

    /// `disabled since …, until …: reason`; none where it is not.
    pub(crate) fn pause(&self) -> Option<String> {
        if self.state != "disabled" {
            return None;
        }
        let mut said = "disabled".to_owned();
        if let Some(since) = self.times.since {
            said.push_str(&format!(" since {}", screen::time(since)));
        }
        match self.times.until {
            Some(until) => said.push_str(&format!(", until {}", screen::time(until))),
            None => said.push_str(", until somebody enables it"),
        }
        if let Some(reason) = &self.reason {
            said.push_str(&format!(": {reason}"));
        }
        Some(said)
    }

    /// When the next round begins by itself, or why none does.
    pub(crate) fn next_round(&self) -> String {
        if let Some(error) = &self.error {
            return format!("none: {error}");
        }
        match self.times.next {
            Some(next) => {
                let left = u64::try_from(next.0.saturating_sub(self.times.now.0)).unwrap_or(0);
                let left = format_duration(Duration::from_millis(left / 1_000 * 1_000));
                format!("{} (in {left}), by schedule {}", screen::time(next), self.schedule)
            }
            None if self.state == "disabled" => "none while it is disabled".to_owned(),
            None if self.schedule == "off" => "none: the schedule is off".to_owned(),
            None => "none: the calendar ends".to_owned(),
        }
    }
}
