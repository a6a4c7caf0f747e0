//! When the next round begins by itself, and whether any may begin: as `status`, `enable`, `disable` and `config` tell people.

use std::time::Duration;

use muster_protocol::units::format_duration;

use crate::screen;

pub(crate) use muster_coordinator::view::timetable::{Timetable, clear, value};

/// A timetable in words.
pub(crate) trait InWords {
    /// `disabled since …, until …: reason`; none where it is not.
    fn pause(&self) -> Option<String>;

    /// When the next round begins by itself, or why none does.
    fn next_round(&self) -> String;
}

impl InWords for Timetable {
    fn pause(&self) -> Option<String> {
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

    fn next_round(&self) -> String {
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
