//! `muster rounds`: the rounds in the log, newest first. Needs only the share.

use muster_coordinator::view::rounds::{RoundsView, page};
use muster_protocol::log::{Outcome as RoundOutcome, RoundPhase};

use crate::args::Rounds;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::fleet::Fleet;
use crate::screen;

/// Lists them.
pub(crate) async fn run(args: Rounds) -> Outcome {
    let fleet = Fleet::open(&args.reading).await?;
    let limit = Some(args.last).filter(|last| *last > 0);
    let (rounds, next) = page(&fleet.shown(), limit, args.before);
    if args.reading.json {
        screen::json(&RoundsView::of(&fleet.shown(), &rounds, next));
        return Ok(Exit::Done);
    }
    if rounds.is_empty() {
        screen::line(format!("{} has no rounds yet", fleet.name()));
        screen::line("→ muster start --wait, or without NATS: muster once DIR");
        return Ok(Exit::Done);
    }
    let rows = rounds
        .iter()
        .map(|round| {
            let end = match &round.phase {
                RoundPhase::Open => "-".to_owned(),
                RoundPhase::Committed { commit, .. } => screen::time(commit.at),
                RoundPhase::Ended(end) => screen::time(end.at),
            };
            let mut state = round.word().to_owned();
            if round.swept {
                state.push_str(", pruned");
            }
            if round.hold.is_some() {
                state.push_str(", held");
            }
            vec![
                round.open.number.to_string(),
                round.open.round.short(),
                round.outcome().map_or("-", RoundOutcome::as_str).to_owned(),
                state,
                screen::time(round.open.at),
                end,
                round.open.trigger.clone(),
            ]
        })
        .collect();
    screen::lines(screen::table(&["round", "id", "outcome", "state", "opened", "ended", "trigger"], rows));
    if let Some(next) = next {
        screen::line(format!("→ --before {next}   goes on from here; --last 0 shows all"));
    }
    Ok(Exit::Done)
}
