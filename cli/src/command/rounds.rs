//! `muster rounds`: the rounds in the log, newest first. Needs only the share.

use muster_protocol::log::{Outcome as RoundOutcome, RoundPhase, RoundState};
use serde::Serialize;

use crate::args::Rounds;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::fleet::Fleet;
use crate::round_view::HeadView;
use crate::screen;

#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    fleet_id: String,
    share: String,
    head: HeadView,
    rounds: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    round: String,
    number: u64,
    state: &'static str,
    outcome: Option<&'static str>,
    trigger: String,
    opened: String,
    committed: Option<String>,
    verified: Option<String>,
    held: bool,
    hold_reason: Option<String>,
    swept: bool,
}

/// Lists them.
pub(crate) async fn run(args: Rounds) -> Outcome {
    let fleet = Fleet::open(&args.reading).await?;
    let mut rounds = fleet.state().rounds_by_number();
    rounds.reverse();
    if args.last > 0 {
        rounds.truncate(args.last);
    }
    if args.reading.json {
        let head = fleet.log.head();
        screen::json(&View {
            schema: "muster.rounds/1",
            fleet: fleet.name(),
            fleet_id: fleet.state().fleet.to_string(),
            share: fleet.share.url.clone(),
            head: HeadView { number: head.number, hash: head.hash.to_string() },
            rounds: rounds.into_iter().map(line).collect(),
        });
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
    Ok(Exit::Done)
}

fn line(round: &RoundState) -> Line {
    let (committed, verified) = match &round.phase {
        RoundPhase::Committed { commit, verified, .. } => {
            (Some(screen::rfc3339(commit.at)), verified.as_ref().map(|verified| screen::rfc3339(verified.at)))
        }
        RoundPhase::Open | RoundPhase::Ended(_) => (None, None),
    };
    Line {
        round: round.open.round.to_string(),
        number: round.open.number,
        state: round.word(),
        outcome: round.outcome().map(RoundOutcome::as_str),
        trigger: round.open.trigger.clone(),
        opened: screen::rfc3339(round.open.at),
        committed,
        verified,
        held: round.hold.is_some(),
        hold_reason: round.hold.as_ref().and_then(|hold| hold.reason.clone()),
        swept: round.swept,
    }
}
