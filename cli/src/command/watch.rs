//! `muster watch [ROUND]`: follows a round to its end. Without a name it is the newest open one.

use std::sync::OnceLock;

use crate::args::Watch;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::fleet::{self, Fleet};
use crate::follow::{self, Show};
use crate::leader::Leader;
use crate::screen;

/// Follows it.
pub(crate) async fn run(args: Watch) -> Outcome {
    let followed = OnceLock::new();
    follow::until_interrupted(watch(args, &followed), &followed).await
}

async fn watch(args: Watch, followed: &OnceLock<String>) -> Outcome {
    let operator = fleet::operator(args.contact.config.as_deref())?;
    let leader = match Leader::connect(&operator).await {
        Ok(leader) => Some(leader),
        Err(failure) => {
            screen::aside(failure.to_string());
            screen::aside("only what the log on the share says is shown");
            None
        }
    };
    let mut fleet = Fleet::of(operator).await?;
    let round = match &args.round {
        Some(name) => Some(name.find_to_follow(fleet.state())?.open.round),
        None => fleet.state().open_rounds().last().map(|round| round.open.round),
    };
    let show = if args.contact.json { Show::Json } else { Show::People };
    let Some(round) = round else {
        if !args.contact.json {
            screen::line("no round is open");
            screen::line("→ muster start --wait");
        }
        return Ok(Exit::Done);
    };
    let number = fleet.state().rounds.get(&round).map(|state| state.open.number.to_string());
    drop(followed.set(number.unwrap_or_else(|| round.to_string())));
    let view = follow::follow(&mut fleet, leader.as_ref(), round, None, args.timeout.0, show).await?;
    Ok(follow::finish(&view, show))
}
