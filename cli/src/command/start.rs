//! `muster start`: asks the leading coordinator for a round, signed by the operator, and follows it with `--wait`.

use std::sync::OnceLock;

use muster_coordinator::view::acts::StartView;
use muster_protocol::entropy::random;
use muster_protocol::ids::hex;
use muster_protocol::message::{Trigger, TriggerReply, TriggerState};
use muster_protocol::service_policy::is_label;
use muster_share::entropy::OsEntropy;
use muster_share::secret_file;

use crate::args::Start;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::follow::{self, Show};
use crate::leader::{Leader, Order};
use crate::reason::Reason;
use crate::screen;

/// Asks.
pub(crate) async fn run(args: Start) -> Outcome {
    let followed = OnceLock::new();
    follow::until_interrupted(ask(args, &followed), &followed).await
}

async fn ask(args: Start, followed: &OnceLock<String>) -> Outcome {
    let operator = fleet::operator(args.contact.config.as_deref())?;
    if args.request.as_ref().is_some_and(|id| id.is_empty() || id.len() > 128) {
        return Err(Failure::usage("--request must have 1 to 128 bytes"));
    }
    if let Some(bad) = args.labels.iter().flatten().find(|label| !is_label(label)) {
        return Err(Failure::usage(format!("{bad:?} is no label: labels are written as service names are")));
    }
    // The share may be away while the bus is there; a round may be asked for all the same.
    let fleet = match Fleet::to_change(operator.clone()).await {
        // The round would be one of the share itself, and never be seen from here.
        Err(failure) if failure.exit() == Exit::Refused => return Err(failure),
        opened => opened.ok(),
    };
    if let Some(fleet) = &fleet {
        fleet.operator_may(&operator, "start rounds")?;
    }
    let leader = Leader::connect(&operator).await?;
    let trigger = Trigger {
        services: args.services,
        labels: args.labels,
        // One of our own: the same request delivered twice must not become two rounds.
        request: Some(args.request.unwrap_or_else(|| hex(&random::<16>(&mut OsEntropy)))),
        reason: args.reason.map(Reason::into_text),
    };
    let signer = secret_file::read_signing_key(&operator.operator.key)?;
    let state = fleet.as_ref().map(Fleet::state);
    let order = Order::new(trigger, args.force, signer, operator.fleet.id, state)?;
    let trigger = &order.trigger;
    let reply = leader.start(&order).await?;
    if let Some(round) = reply.round {
        drop(followed.set(reply.number.map_or_else(|| round.to_string(), |number| number.to_string())));
    }
    let request = trigger.request.as_deref().unwrap_or_default();
    let exit = report(&reply, request, args.contact.json);
    if reply.state == TriggerState::Queued && !args.wait && !args.contact.json {
        screen::line(
            "it waits in the leader's memory: after a change of leader ask again, it is the same round",
        );
        screen::line(format!("→ {}", again(trigger, request, args.force)));
    }
    let (true, Some(round), Exit::Done) = (args.wait, reply.round, exit) else { return Ok(exit) };
    let show = if args.contact.json { Show::Json } else { Show::People };
    let mut fleet = Fleet::of(operator).await?;
    let view = follow::follow(&mut fleet, Some(&leader), round, Some(&order), args.timeout.0, show).await?;
    Ok(follow::finish(&view, show))
}

/// The command that asks for the same round.
fn again(trigger: &Trigger, request: &str, force: bool) -> String {
    let mut command = format!("muster start --request {request}");
    if let Some(services) = &trigger.services {
        let names: Vec<_> = services.iter().map(ToString::to_string).collect();
        command.push_str(&format!(" --services {}", names.join(",")));
    }
    if let Some(labels) = &trigger.labels {
        command.push_str(&format!(" --labels {}", labels.join(",")));
    }
    if force {
        command.push_str(" --force");
    }
    command
}

fn report(reply: &TriggerReply, request: &str, json: bool) -> Exit {
    if json {
        screen::json(&StartView::of(reply, request));
    } else {
        screen::line(said(reply));
    }
    match reply.state {
        TriggerState::Opened | TriggerState::Running | TriggerState::Ended | TriggerState::Queued => {
            Exit::Done
        }
        TriggerState::Skipped | TriggerState::Refused => Exit::Refused,
    }
}

/// What came of it, with the round's whole id: a trace viewer takes no part of it.
fn said(reply: &TriggerReply) -> String {
    let mut line = match (reply.number, reply.round) {
        (Some(number), Some(round)) => format!("round {number} · {round} · "),
        (None, Some(round)) => format!("round {round} · "),
        (_, None) => String::new(),
    };
    line.push_str(match reply.state {
        TriggerState::Opened => "opened",
        TriggerState::Running => "runs already: the same request came before",
        TriggerState::Ended => "has ended: the same request came before",
        TriggerState::Queued => "waits for another round to end",
        TriggerState::Skipped => "skipped",
        TriggerState::Refused => "refused",
    });
    if let Some(reason) = &reply.reason {
        line.push_str(&format!(": {reason}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{report, said};
    use crate::exit::Exit;
    use muster_protocol::ids::RoundId;
    use muster_protocol::message::{TriggerReply, TriggerState};

    #[test]
    fn skipped_and_refused_exit_with_7() {
        for (state, exit) in [
            (TriggerState::Opened, Exit::Done),
            (TriggerState::Queued, Exit::Done),
            (TriggerState::Skipped, Exit::Refused),
            (TriggerState::Refused, Exit::Refused),
        ] {
            let reply = TriggerReply { round: None, number: None, state, reason: None };
            assert_eq!(report(&reply, "r", true), exit);
        }
    }

    #[test]
    fn the_whole_id_is_said_as_a_trace_viewer_takes_it() {
        let round = Some(RoundId::from_bytes([0xab; 16]));
        let reply = |number| TriggerReply { round, number, state: TriggerState::Opened, reason: None };
        assert_eq!(said(&reply(Some(7))), format!("round 7 · {} · opened", "ab".repeat(16)));
        assert_eq!(said(&reply(None)), format!("round {} · opened", "ab".repeat(16)));
    }
}
