//! `muster hold ROUND` and `muster unhold ROUND`: an operator's word that a round stays, whatever the retention says. Goes
//! straight to the log: no coordinator can withhold it.

use muster_protocol::ids::RoundId;
use muster_protocol::log::{Hold as Body, RoundPhase, RoundState, State};
use serde::Serialize;

use crate::args::{Contact, Hold, Unhold};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::round_name::RoundName;
use crate::round_view::HeadView;
use crate::saying::{previous, say, signing_key};
use crate::screen;

/// `{"schema":"muster.hold/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    round: RoundId,
    number: u64,
    held: bool,
    reason: Option<String>,
    /// The record that says so now; null when it was so already.
    head: Option<HeadView>,
}

/// Holds it.
pub(crate) async fn hold(args: Hold) -> Outcome {
    change(&args.round, Some(args.reason.into_text()), &args.contact).await
}

/// Lets it go.
pub(crate) async fn unhold(args: Unhold) -> Outcome {
    change(&args.round, None, &args.contact).await
}

async fn change(name: &RoundName, reason: Option<String>, contact: &Contact) -> Outcome {
    let operator = fleet::operator(contact.config.as_deref())?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    fleet.operator_may(&operator, "hold rounds")?;
    let signer = signing_key(&operator.operator.key)?;
    let round = name.find(fleet.state())?;
    let (id, number) = (round.open.round, round.open.number);
    may_change(round, reason.is_some())?;
    let stands = |state: &State| {
        let hold = state.rounds.get(&id).and_then(|round| round.hold.as_ref());
        match &reason {
            Some(reason) => hold.is_some_and(|hold| hold.reason.as_ref() == Some(reason)),
            None => hold.is_none(),
        }
    };
    let before = round.hold.as_ref().and_then(|hold| hold.reason.clone());
    let head = if stands(fleet.state()) {
        None
    } else {
        let make = |state: &State| {
            Ok(Body {
                previous: previous::<Body>(state),
                round: id,
                keep: reason.is_some(),
                reason: reason.clone(),
                at: Some(screen::now()),
            })
        };
        Some(say::<Body>(&mut fleet.log, &signer, make, stands).await?)
    };
    fleet.remember()?;
    let held = reason.is_some();
    if contact.json {
        let head = head.map(|head| HeadView { number: head.number, hash: head.hash.to_string() });
        screen::json(&View { schema: "muster.hold/1", round: id, number, held, reason, head });
        return Ok(Exit::Done);
    }
    let what = match (&reason, held) {
        (Some(reason), _) => match before.filter(|before| before != reason) {
            Some(before) => format!("is held: {reason} (before: {before})"),
            None => format!("is held: {reason}"),
        },
        (None, _) => "is not held: the retention decides".to_owned(),
    };
    screen::line(match head {
        Some(head) => format!(
            "round {number} {what} · signed by {} · log record {}",
            operator.operator.name, head.number
        ),
        None => format!("round {number} {what} (already)"),
    });
    if held && head.is_some() {
        screen::line(format!("→ muster unhold {number}     lets it go"));
    }
    Ok(Exit::Done)
}

/// Whether there is anything to hold.
fn may_change(round: &RoundState, hold: bool) -> Result<(), Failure> {
    let number = round.open.number;
    if round.swept {
        return Err(Failure::new(
            Exit::Refused,
            format!("round {number} was pruned: its objects are deleted"),
        )
        .next("muster rounds names those that are there"));
    }
    match &round.phase {
        RoundPhase::Ended(end) if hold => Err(Failure::new(
            Exit::Refused,
            format!("round {number} ended without a commit: there is nothing to hold"),
        )
        .because(end.reason.clone())
        .next("muster rounds names those that are committed")),
        RoundPhase::Open | RoundPhase::Committed { .. } | RoundPhase::Ended(_) => Ok(()),
    }
}
