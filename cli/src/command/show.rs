//! `muster show ROUND`: one round, as log and manifest tell it. Needs only the share.

use muster_protocol::log::{RoundPhase, RoundState};
use muster_protocol::units::format_size;

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
                service.entries.to_string(),
                format_size(service.source_bytes),
                format_size(service.added_bytes),
                format_size(service.stored_bytes),
            ]
        })
        .collect();
    screen::line(screen::table(
        &["service", "state", "attempts", "entries", "source", "added", "stored"],
        rows,
    ));
    for trouble in view.troubles() {
        screen::line(format!("  {trouble}"));
    }
}
