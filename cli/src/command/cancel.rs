//! `muster cancel ROUND`: ends an open round without a commit. What agents have uploaded stays for the next one.

use muster_coordinator::view::acts::CancelView;
use muster_protocol::ids::RoundId;
use muster_protocol::message::{CommandState, Demand};
use muster_share::secret_file;

use crate::args::Cancel;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::reason::Reason;
use crate::round_name::RoundName;
use crate::screen;

/// Cancels it.
pub(crate) async fn run(args: Cancel) -> Outcome {
    let operator = fleet::operator(args.contact.config.as_deref())?;
    let fleet = Fleet::to_change(operator.clone()).await?;
    fleet.operator_may(&operator, "cancel rounds")?;
    let signer = secret_file::read_signing_key(&operator.operator.key)?;
    let round = find(&args.round, &fleet)?;
    let leader = Leader::connect(&operator).await?;
    let reason = args.reason.map(Reason::into_text).unwrap_or_default();
    let reply = leader.demand(&fleet, &signer, Demand::Cancel { round, reason }).await?;
    if args.contact.json {
        screen::json(&CancelView::of(&reply, round));
    } else {
        screen::line(&reply.reason);
    }
    Ok(match reply.state {
        CommandState::Done => Exit::Done,
        CommandState::Nothing | CommandState::Refused => Exit::Refused,
    })
}

/// The round that is meant. `latest` is the newest open one here, and a request that waits for its services is in no log
/// yet: only its whole id names it.
fn find(name: &RoundName, fleet: &Fleet) -> Result<RoundId, Failure> {
    match name {
        RoundName::Latest => {
            let open = fleet.state().open_rounds();
            open.last()
                .map(|round| round.open.round)
                .ok_or_else(|| Failure::new(Exit::Refused, "no round is open").next("muster rounds"))
        }
        RoundName::Number(_) => Ok(name.find(fleet.state())?.open.round),
        RoundName::Prefix(prefix) => match (prefix.parse(), name.find(fleet.state())) {
            (_, Ok(known)) => Ok(known.open.round),
            (Ok(whole), Err(_)) => Ok(whole),
            (Err(_), Err(error)) => Err(error.into()),
        },
    }
}
