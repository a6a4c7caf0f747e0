//! What `muster status` tells people, on one screen.

use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::units::{format_duration, format_size};

use super::View;
use crate::timetable::InWords;
use crate::{drill_view, room, screen, scrub_view};

pub(super) fn print(view: &View, promised: Option<Duration>) {
    let leader = match &view.leader {
        Some(leader) => {
            let epoch = leader.epoch.map_or_else(|| "no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
            format!(
                "leader {} ({epoch}), {} of {} agents online",
                leader.coordinator, leader.online, leader.services
            )
        }
        None => "no leader answers".to_owned(),
    };
    let services = match view.recovery_ready {
        Some(_) => format!(" · {}", screen::plural(view.services.len(), "service")),
        None => String::new(),
    };
    screen::line(format!("{}{services} · share {} · {leader}", view.fleet, view.share));
    screen::line("");
    let age = |secs: u64| format_duration(Duration::from_secs(secs));
    let limit = promised.map_or_else(String::new, |most| format!(", promised {}", format_duration(most)));
    screen::line(match view.recovery_ready {
        None => format!("RECOVERY-READY   unknown: {}", view.reasons.join("; ")),
        Some(false) => format!("RECOVERY-READY   no: {}", view.reasons.join("; ")),
        Some(true) => {
            let oldest = view.services.iter().filter_map(|line| line.verified_age_secs).max();
            format!(
                "RECOVERY-READY   yes: {} verified, the oldest {} ago{limit}{}",
                screen::plural(view.services.len(), "service"),
                age(oldest.unwrap_or_default()),
                drill_view::passed(view.drill.as_ref())
            )
        }
    });
    if let Some(times) = &view.schedule {
        if let Some(pause) = times.pause() {
            screen::line(format!("DISABLED         {}", pause.trim_start_matches("disabled").trim_start()));
        }
        screen::line(format!("NEXT ROUND       {}", times.next_round()));
    }
    if let Some(latest) = &view.latest {
        screen::line(format!(
            "LAST VERIFIED    round {}, {}, {} ago",
            latest.number,
            latest.outcome.unwrap_or_default(),
            age(latest.age_secs)
        ));
    }
    if view.coordinators.len() > 1 {
        let named = view.coordinators.iter().map(|one| match one.epoch {
            Some(epoch) => format!("{} (leads, epoch {epoch})", one.name),
            None => one.name.clone(),
        });
        screen::line(format!("COORDINATORS     {}", named.collect::<Vec<_>>().join(", ")));
    }
    if let Some(leader) = &view.leader {
        for round in &leader.rounds {
            screen::line(format!(
                "OPEN ROUND       {}: {}, {} of {} stored, at most {} left",
                round.number,
                round.state,
                round.stored,
                round.services,
                age(round.remaining_secs)
            ));
        }
    }
    if let Some(queued) = view.leader.as_ref().map(|leader| leader.queued).filter(|queued| *queued > 0) {
        let requests = screen::plural(usize::try_from(queued).unwrap_or(usize::MAX), "request");
        screen::line(format!("QUEUED           {requests}: the services are in another round"));
    }
    if let Some(line) = view.drill.as_ref().and_then(drill_view::line) {
        screen::line(format!("DRILL            {line}"));
    }
    if let Some(head) = &view.head {
        screen::line(format!("LOG HEAD         {}:{}", head.number, head.hash));
    }
    if view.share_error.is_none() {
        screen::line(format!("SHARE            {}", room::words(view.room.as_ref())));
    }
    view.scrub.iter().flat_map(scrub_view::lines).for_each(screen::line);
    if let Some(error) = &view.bus_error {
        screen::line(match view.share_error {
            None => "NATS             no answer; what is said here comes from the share alone",
            Some(_) => "NATS             no answer either",
        });
        screen::line(error);
    }
    for alert in view.alerts.iter().filter(|alert| alert.code != Code::Bus01.as_str()) {
        screen::line(format!("ALERT            {}", alert.line()));
    }
    if view.services.is_empty() {
        return;
    }
    screen::line("");
    let rows = view
        .services
        .iter()
        .map(|line| {
            vec![
                line.service.clone(),
                line.verified_number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
                line.verified_age_secs.map_or_else(|| "-".to_owned(), age),
                format_size(line.source_bytes),
                format_size(line.added_bytes),
                format_size(line.stored_bytes),
                line.state.clone(),
            ]
        })
        .collect();
    screen::lines(screen::table(&["service", "verified", "age", "source", "added", "stored", "state"], rows));
}
