//! How far the stored objects have been read again, and what of them is in quarantine: as the log has it, for screens and JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::log::State;
use muster_protocol::scrub::Terms;
use muster_protocol::time::UnixMillis;
use muster_protocol::units::{format_duration, format_size};
use serde::Serialize;

use crate::screen;

/// The scrub.
#[derive(Debug, Serialize)]
pub(crate) struct ScrubView {
    /// Every object is promised to be read again in each; null: the scrub is off.
    within_secs: Option<u64>,
    /// The last pass that came to its end.
    last: Option<PassView>,
    /// The one under way.
    current: Option<PassView>,
    /// No pass came to its end in the promised time.
    overdue: bool,
    /// Objects that are damaged, by service.
    quarantine: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct PassView {
    pass: u64,
    began: String,
    /// When it ended, or was last told of.
    at: String,
    objects: u64,
    bytes: u64,
}

impl ScrubView {
    pub(crate) fn of(state: &State, now: UnixMillis) -> Self {
        let clear = state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default();
        let within = Terms::of(&clear).ok().and_then(|terms| terms.within);
        let view = |pass: &muster_protocol::log::ScrubPass| PassView {
            pass: pass.pass,
            began: screen::rfc3339(pass.began),
            at: screen::rfc3339(pass.at),
            objects: pass.objects,
            bytes: pass.bytes,
        };
        let scrub = &state.scrub;
        // Since when the present objects may have been unread: the last pass began with what it read first.
        let since = scrub.last.as_ref().map(|last| last.at);
        let since = since.or_else(|| scrub.current.as_ref().map(|(pass, _)| pass.began));
        let age = |at: UnixMillis| u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0);
        let overdue = match (within, since) {
            (Some(within), Some(since)) => Duration::from_millis(age(since)) > within,
            (Some(_) | None, _) => false,
        };
        Self {
            within_secs: within.map(|within| within.as_secs()),
            last: scrub.last.as_ref().map(view),
            current: scrub.current.as_ref().map(|(pass, _)| view(pass)),
            overdue,
            quarantine: state
                .quarantine
                .iter()
                .map(|(service, of)| (service.to_string(), of.objects.len()))
                .collect(),
        }
    }

    /// For a screen.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("SCRUB            {}", self.line())];
        for (service, objects) in &self.quarantine {
            lines.push(format!(
                "QUARANTINE       {} of {service}: damaged, and named by nothing that is committed from now on",
                screen::plural(*objects, "object")
            ));
        }
        lines
    }

    fn line(&self) -> String {
        let Some(within) = self.within_secs.map(Duration::from_secs) else {
            return "off: stored objects are not read again (muster config set scrub.within 30d)".to_owned();
        };
        let read = |pass: &PassView| {
            let objects = screen::plural(usize::try_from(pass.objects).unwrap_or(usize::MAX), "object");
            format!("{objects}, {}", format_size(pass.bytes))
        };
        let overdue = if self.overdue { "OVERDUE: " } else { "" };
        let each = format_duration(within);
        match (&self.last, &self.current) {
            (Some(last), _) => {
                format!("{overdue}all read again by {}: {}; each object within {each}", last.at, read(last))
            }
            (None, Some(current)) => {
                format!(
                    "{overdue}{} read again since {}; each object within {each}",
                    read(current),
                    current.began
                )
            }
            (None, None) => format!("nothing read again yet; each object within {each}"),
        }
    }
}
