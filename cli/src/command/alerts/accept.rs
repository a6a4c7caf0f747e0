//! `muster alerts accept SERVICE`: an operator's word that what is odd about a service is meant. Goes straight to the log: the
//! leader closes ROUND-06 by it, and the pruner, who asks nobody, goes on.

use muster_protocol::ids::{RoundId, ServiceName};
use muster_protocol::log::{Accept, State};
use muster_share::anomaly::Watch;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::Fleet;
use crate::operator::Operator;
use crate::round_view::HeadView;
use crate::saying::{previous, say, signing_key};
use crate::screen;

/// `{"schema":"muster.alerts.accept/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    service: String,
    /// Up to this round, what was odd is meant.
    round: RoundId,
    number: u64,
    /// What was odd.
    cause: String,
    reason: String,
    head: HeadView,
}

/// Accepts what stands out about it now.
pub(super) async fn run(operator: Operator, service: &ServiceName, reason: &str, json: bool) -> Outcome {
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    fleet.operator_may(&operator, "accept what a service is like")?;
    let signer = signing_key(&operator.operator.key)?;
    let open = Watch::default().look(fleet.log.store().as_ref(), fleet.state()).await?;
    let Some(anomaly) = open.into_iter().find(|anomaly| anomaly.service == *service) else {
        return Err(nothing(&fleet, service));
    };
    // What is accepted is what was seen: a round that comes meanwhile is judged by it.
    let seen = fleet.state().rounds.values().find(|round| round.open.number == anomaly.newest);
    let Some(round) = seen.map(|round| round.open.round) else { return Err(nothing(&fleet, service)) };
    let make = |state: &State| {
        Ok(Accept {
            previous: previous::<Accept>(state),
            service: service.clone(),
            round,
            reason: Some(reason.to_owned()),
            at: Some(screen::now()),
        })
    };
    let stands = |state: &State| state.accepted.get(service).is_some_and(|number| *number >= anomaly.newest);
    let head = say::<Accept>(&mut fleet.log, &signer, make, stands).await?;
    fleet.remember()?;
    if json {
        screen::json(&View {
            schema: "muster.alerts.accept/1",
            service: service.to_string(),
            round,
            number: anomaly.newest,
            cause: anomaly.to_string(),
            reason: reason.to_owned(),
            head: HeadView { number: head.number, hash: head.hash.to_string() },
        });
        return Ok(Exit::Done);
    }
    screen::line(format!("{service}: accepted up to round {}: {reason}", anomaly.newest));
    screen::line(format!("  it was odd in {anomaly}"));
    screen::line(format!("signed by {} · log record {}", operator.operator.name, head.number));
    screen::line("→ muster prune     goes on, unless another service is odd");
    Ok(Exit::Done)
}

fn nothing(fleet: &Fleet, service: &ServiceName) -> Failure {
    let failure = match fleet.state().agent(service) {
        Some(_) => Failure::new(Exit::Refused, format!("nothing is odd about {service} now")),
        None => Failure::new(Exit::Usage, format!("{service} is no service of the fleet's roster")),
    };
    failure.next("muster alerts names what is open")
}
