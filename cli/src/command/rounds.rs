//! `muster rounds`: the rounds in the log, newest first. Needs only the share.

use muster_coordinator::view::rounds::{RoundLine, RoundsView, page};
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
    let view = RoundsView::read(&fleet.shown(), &rounds, next).await?;
    if args.reading.json {
        screen::json(&view);
        return Ok(Exit::Done);
    }
    if rounds.is_empty() {
        nothing(fleet.name().as_str(), args.before).into_iter().for_each(screen::line);
        return Ok(Exit::Done);
    }
    let rows = rounds
        .iter()
        .zip(&view.rounds)
        .map(|(round, line)| {
            let end = match &round.phase {
                RoundPhase::Open => "-".to_owned(),
                RoundPhase::Committed { commit, .. } => screen::time(commit.at),
                RoundPhase::Ended(end) => screen::time(end.at),
            };
            let mut state = round.word().to_owned();
            if line.is_damaged() {
                state.push_str(", damaged");
            }
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
                services(line),
                screen::time(round.open.at),
                end,
                round.open.trigger.clone(),
            ]
        })
        .collect();
    screen::lines(screen::table(
        &["round", "id", "outcome", "state", "services", "opened", "ended", "trigger"],
        rows,
    ));
    for (line, why) in view.rounds.iter().filter_map(|line| Some((line, line.fault.as_ref()?))) {
        screen::line(format!("  round {}: {why}", line.number));
    }
    if let Some(line) = view.rounds.iter().find(|line| line.is_damaged()) {
        screen::line(format!(
            "→ muster show {}   tells which services; muster verify, what is damaged",
            line.number
        ));
    }
    if let Some(next) = next {
        screen::line(further(next));
    }
    Ok(Exit::Done)
}

/// Where there is nothing to list.
fn nothing(fleet: &str, before: Option<u64>) -> [String; 2] {
    match before {
        Some(before) => {
            [format!("{fleet} has no round before {before}"), "→ muster rounds   shows the newest".to_owned()]
        }
        None => [
            format!("{fleet} has no rounds yet"),
            "→ muster start --wait, or without NATS: muster once DIR".to_owned(),
        ],
    }
}

/// How to see those that are older than what was shown.
fn further(next: u64) -> String {
    format!("→ muster rounds --before {next}   goes on from here; --last 0 shows all")
}

/// `3 of 4`
fn services(line: &RoundLine) -> String {
    match (line.stored, line.expected) {
        (Some(stored), Some(expected)) => format!("{stored} of {expected}"),
        (_, _) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{further, nothing};

    #[test]
    fn what_is_not_shown_is_told_with_the_command_that_shows_it() {
        assert!(further(17).starts_with("→ muster rounds --before 17 "), "{}", further(17));
        let [none, next] = nothing("prod", Some(1));
        assert_eq!(none, "prod has no round before 1");
        assert!(next.contains("muster rounds"), "{next}");
        assert!(nothing("prod", None)[0].ends_with("no rounds yet"));
    }
}
