//! `muster show ROUND`: one round, as log and manifest tell it. Needs only the share.

use std::time::Duration;

use muster_protocol::log::{RoundPhase, RoundState};
use muster_protocol::units::{format_duration, format_size};

use crate::args::Show;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::fleet::Fleet;
use crate::round_view::RoundView;
use crate::screen;

/// Shows it.
pub(crate) async fn run(args: Show) -> Outcome {
    let fleet = Fleet::open(&args.reading).await?;
    let round = args.round.find(fleet.state())?;
    let view = RoundView::read(&fleet, round).await?;
    if args.reading.json {
        screen::json(&view);
    } else {
        print(&fleet, round, &view);
    }
    Ok(Exit::Done)
}

fn print(fleet: &Fleet, round: &RoundState, view: &RoundView) {
    screen::line(view.summary());
    let mut times = format!("started by {} {}", view.trigger, screen::time(round.open.at));
    match &round.phase {
        RoundPhase::Open => times.push_str(" · open"),
        RoundPhase::Committed { commit, verified, .. } => {
            times.push_str(&format!(" · committed {}", screen::time(commit.at)));
            if let Some(verified) = verified {
                let read = format_size(verified.bytes);
                times.push_str(&format!(
                    " · verified {}: {} objects, {read} read again",
                    screen::time(verified.at),
                    verified.objects
                ));
            }
        }
        RoundPhase::Ended(end) => {
            times.push_str(&format!(" · ended {}: {}", screen::time(end.at), end.reason))
        }
    }
    screen::line(times);
    if let Some(hold) = &round.hold {
        let reason = hold.reason.as_deref().unwrap_or("no reason was given");
        screen::line(format!("held: {reason} · log record {}", hold.position));
    }
    if round.swept {
        screen::line("it was pruned: its objects are deleted, and it cannot be recovered");
        screen::line("→ muster rounds names those that are there");
        return;
    }
    if let Some(manifest) = &view.manifest {
        screen::line(format!(
            "manifest {} · log record {} · head {}",
            manifest.hash,
            manifest.log_number,
            fleet.log.head()
        ));
        if let Some(keyset) = fleet.state().keysets.get(&manifest.keyset) {
            let keys: Vec<_> =
                keyset.keys.iter().map(|key| format!("{} ({})", key.recipient, key.label)).collect();
            screen::line(format!("opens with: {}", keys.join(", ")));
        }
    }
    screen::line("");
    let rows = view
        .services
        .iter()
        .map(|service| {
            vec![
                service.service.clone(),
                service.state.to_owned(),
                service.attempts.to_string(),
                service.timing.as_ref().map_or_else(String::new, |timing| since(timing.checked_millis)),
                service.entries.to_string(),
                format_size(service.source_bytes),
                format_size(service.added_bytes),
                format_size(service.stored_bytes),
            ]
        })
        .collect();
    screen::lines(screen::table(
        &["service", "state", "attempts", "after", "entries", "source", "added", "stored"],
        rows,
    ));
    for trouble in view.troubles() {
        screen::line(format!("  {trouble}"));
    }
    let story = story(view);
    if !story.is_empty() {
        screen::line("");
        story.into_iter().for_each(screen::line);
    }
}

/// Time since the round began.
fn since(millis: u64) -> String {
    format_duration(Duration::from_millis(millis))
}

/// What a table cannot say: the cut, every attempt that failed, and who kept the round waiting.
fn story(view: &RoundView) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(cut) = &view.cut {
        let members = screen::plural(cut.members.len(), "service");
        lines.push(match &cut.broken {
            None => format!("cut: {members} within {}", since(cut.skew_millis)),
            Some(_) => format!("cut: broken, {members} kept their place"),
        });
        lines.extend(cut.outside.iter().map(|one| format!("  outside: {}: {}", one.service, one.reason)));
    }
    for service in &view.services {
        for failed in &service.tries {
            lines.push(format!(
                "{}: attempt {} failed after {}: {} {}",
                service.service,
                failed.attempt,
                since(failed.after_millis),
                failed.code,
                failed.reason
            ));
        }
    }
    lines.extend(slowest(view));
    lines
}

/// The service that was ready last, if it was much later than most.
fn slowest(view: &RoundView) -> Option<String> {
    let timed = view.services.iter().filter_map(|service| service.timing.as_ref().map(|t| (service, t)));
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(_, timing)| timing.checked_millis);
    let (_, middle) = *timed.get(timed.len() / 2)?;
    let (last, timing) = *timed.last()?;
    let late = timed.len() > 1 && timing.checked_millis > 2 * middle.checked_millis.max(500);
    late.then(|| {
        format!(
            "slowest: {}, whole after {} (half of the services after {}): hello after {}, last notice after {}",
            last.service,
            since(timing.checked_millis),
            since(middle.checked_millis),
            since(timing.greeted_millis),
            since(timing.noticed_millis),
        )
    })
}
