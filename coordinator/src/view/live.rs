//! When a follower of JSON lines is told again: at once of what happened, of bytes and speed at a bounded rate.

use std::time::{Duration, Instant};

use muster_protocol::ids::RoundId;
use schemars::JsonSchema;
use serde::Serialize;

use crate::query::{RoundPage, ServiceView};

/// Shortest time between two lines that differ in figures alone. Agents tell their progress once a second, and a line names
/// every service: more would flood whoever reads it, and say nothing more.
const FIGURES: Duration = Duration::from_secs(1);

/// A line of progress.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProgressLine<'a> {
    /// `muster.progress/1`
    pub schema: &'static str,
    /// The round.
    #[schemars(with = "String")]
    pub round: RoundId,
    /// Its number.
    pub number: u64,
    /// `capturing`, `committing`, `verifying`, …
    pub state: &'a str,
    /// How it ended; null while it is open.
    pub outcome: Option<&'a str>,
    /// Seconds since it was opened.
    pub elapsed_secs: u64,
    /// Seconds until its deadline.
    pub remaining_secs: u64,
    /// All its services, sorted by name.
    pub services: &'a [ServiceView],
}

impl<'a> ProgressLine<'a> {
    /// What the leader tells of a round.
    #[must_use]
    pub fn of(page: &'a RoundPage) -> Self {
        let summary = &page.summary;
        Self {
            schema: "muster.progress/1",
            round: summary.round,
            number: summary.number,
            state: &summary.state,
            outcome: page.outcome.as_deref(),
            elapsed_secs: summary.elapsed_secs,
            remaining_secs: summary.remaining_secs,
            services: &page.services,
        }
    }
}

/// What the last line said.
#[derive(Debug, Default)]
pub struct Live {
    events: String,
    figures: String,
    told: Option<Instant>,
}

impl Live {
    /// Whether the page is worth a line now; it counts as told then. Time that passes is no change by itself.
    pub fn is_due(&mut self, page: &RoundPage, now: Instant) -> bool {
        let events: Vec<_> = page.services.iter().map(without_figures).collect();
        let events = format!("{}{:?}{events:?}", page.summary.state, page.outcome);
        let figures = format!("{:?}", page.services);
        let may = self.told.is_none_or(|told| now.saturating_duration_since(told) >= FIGURES);
        let due = events != self.events || (may && figures != self.figures);
        if due {
            (self.events, self.figures, self.told) = (events, figures, Some(now));
        }
        due
    }
}

/// What happened to a service, without how far and how fast it is.
fn without_figures(service: &ServiceView) -> ServiceView {
    ServiceView {
        source_bytes: 0,
        expected_bytes: None,
        added_bytes: 0,
        bytes_per_sec: None,
        secs_left: None,
        ..service.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use muster_protocol::ids::RoundId;

    use super::Live;
    use crate::query::{RoundPage, RoundSummary, ServiceView};

    fn page() -> RoundPage {
        let service = ServiceView {
            service: "dns".parse().expect("a name"),
            state: "capturing".to_owned(),
            stage: None,
            attempts: 1,
            reason: None,
            source_bytes: 10,
            expected_bytes: Some(100),
            added_bytes: 5,
            stored_bytes: None,
            bytes_per_sec: Some(10),
            secs_left: Some(9),
        };
        let summary = RoundSummary {
            round: RoundId::from_bytes([1; 16]),
            number: 1,
            state: "capturing".to_owned(),
            services: 1,
            stored: 0,
            absent: 0,
            elapsed_secs: 1,
            remaining_secs: 9,
        };
        RoundPage { summary, outcome: None, verified: false, services: vec![service], next: None }
    }

    #[test]
    fn what_happened_is_told_at_once_and_figures_once_a_second() {
        let (mut live, start, mut page) = (Live::default(), Instant::now(), page());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(live.is_due(&page, at(0)));
        page.summary.elapsed_secs = 2;
        assert!(!live.is_due(&page, at(5_000)), "time alone is no change");
        page.services[0].bytes_per_sec = Some(4);
        assert!(live.is_due(&page, at(5_000)), "it slows down, and nothing else");
        page.services[0].source_bytes = 20;
        assert!(!live.is_due(&page, at(5_900)), "too soon for figures");
        assert!(live.is_due(&page, at(6_000)));
        page.services[0].source_bytes = 30;
        page.services[0].attempts = 2;
        assert!(live.is_due(&page, at(6_001)), "an event waits for nothing");
    }
}
