//! What an operator reads of a recovery: which round it takes, and what came of each service.

use std::time::Duration;

use muster_agent::recover::{Begun, Outcome as Recovered, Request, ServiceOutcome};
use muster_protocol::units::{format_duration, format_size};

use super::damaged_within;
use super::missing::{Missing, missing_lines};
use crate::reading_back::{count, damage_line, intact, path_text};
use crate::screen;

/// Warnings that a screen shows of one service.
const WARNINGS_SHOWN: usize = 5;

/// The line before the first file: a recovery says which round it takes, and how new that is.
pub(super) fn announce(begun: &Begun, request: &Request) -> String {
    let fleet = begun.fleet.as_ref().map(ToString::to_string).unwrap_or_default();
    let at = screen::time(begun.committed);
    let mut text = format!(
        "round {} of fleet {fleet}, {at}, {} · log head {}",
        begun.number,
        begun.outcome.as_str(),
        begun.head.number
    );
    if let Some(known) = request.from.pin.head {
        text.push_str(&format!(" (known: {})", known.head.number));
    }
    text
}

/// The lines after the last one.
pub(super) fn print(request: &Request, recovered: &Recovered, missing: &[Missing], took: Duration) {
    for (service, outcome) in &recovered.services {
        tell(service.as_str(), outcome);
    }
    for absentee in &recovered.absent {
        screen::line(format!("absent   {}   {}: {}", absentee.service, absentee.code, absentee.reason));
    }
    for line in missing.iter().flat_map(missing_lines) {
        screen::line(line);
    }
    for damage in &recovered.damaged {
        screen::line(damage_line(damage));
    }
    let any = |outcome: &ServiceOutcome| outcome.files + outcome.others + outcome.kept > 0;
    let done = recovered.services.iter().filter(|(_, outcome)| any(outcome));
    let (mut services, mut files, mut bytes) = (0, 0, 0);
    for (_, outcome) in done {
        (services, files, bytes) = (services + 1, files + outcome.files, bytes + outcome.bytes);
    }
    screen::line(format!(
        "{}, {}, {} recovered and compared with the index in {}",
        count(services, "service"),
        count(files, "file"),
        format_size(bytes),
        format_duration(took)
    ));
    let into = request.into.display();
    if damaged_within(request, recovered).is_none() {
        screen::line(format!(
            "→ next: docs/recovery.md; what was recovered lies in {into}/<service>/<source>/"
        ));
        return;
    }
    screen::line(format!(
        "VERIFY-01: round {} is damaged; what it still holds lies in {into}",
        recovered.begun.number
    ));
    screen::line(format!("→ {}; and another --into", intact(recovered.newest_intact)));
}

fn tell(service: &str, outcome: &ServiceOutcome) {
    if outcome.lost > 0 {
        let first: Vec<_> = outcome.first_lost.iter().map(|path| path_text(path)).collect();
        screen::line(format!("left out {service}   {}: {}", count(outcome.lost, "file"), first.join(", ")));
    }
    if outcome.gaps > 0 {
        let first: Vec<_> =
            outcome.first_gaps.iter().map(|(path, what)| format!("{}: {what}", path_text(path))).collect();
        screen::line(format!(
            "gaps     {service}   {} that the backup does not hold whole: {}",
            entries(outcome.gaps),
            first.join("; ")
        ));
    }
    if outcome.kept > 0 {
        screen::line(format!("kept     {service}   {} that were there already", entries(outcome.kept)));
    }
    if outcome.blocked > 0 {
        let blocked = entries(outcome.blocked);
        screen::line(format!("left out {service}   {blocked}: something else is in the place, and stays"));
    }
    if outcome.owners_left > 0 {
        screen::line(format!(
            "owners   {service}   {} belong to whoever runs this: only root restores owners",
            entries(outcome.owners_left)
        ));
    }
    for (path, what) in outcome.warnings.iter().take(WARNINGS_SHOWN) {
        screen::aside(format!("warning: {service}/{}: {what}", path_text(path)));
    }
    let more = outcome.warnings.len().saturating_sub(WARNINGS_SHOWN) as u64 + outcome.more_warnings;
    if more > 0 {
        screen::aside(format!("warning: {service}: {more} more of these"));
    }
}

fn entries(number: u64) -> String {
    if number == 1 { "1 entry".to_owned() } else { format!("{number} entries") }
}
