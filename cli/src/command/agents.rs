//! `muster agents`: who is in the roster, and who is there. The roster comes from the share, the rest from the leader.

use std::time::Duration;

use muster_coordinator::query::AgentView;
use muster_coordinator::view::agents::AgentsView;
use muster_protocol::units::format_duration;

use crate::args::{Contact, ExpectHead, Reading};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::screen;

/// Lists them.
pub(crate) async fn run(args: Contact) -> Outcome {
    let operator = fleet::operator(args.config.as_deref())?;
    let heard = heard(&operator).await;
    let reading =
        Reading { config: args.config, share: None, expect: ExpectHead::default(), json: args.json };
    let fleet = Fleet::open(&reading).await;
    let name = operator.fleet.name.to_string();
    let (view, failure) = match (heard, fleet) {
        (Ok(agents), _) => (AgentsView::of(name, Some(agents), None), None),
        (Err(failure), Ok(fleet)) => (AgentsView::of(name, None, Some(fleet.state())), Some(failure)),
        (Err(failure), Err(_)) => return Err(failure),
    };
    if args.json {
        screen::json(&view);
    } else {
        let rows = view
            .agents
            .into_iter()
            .map(|agent| {
                let seen =
                    agent.seen_secs.map(|secs| format!("{} ago", format_duration(Duration::from_secs(secs))));
                vec![
                    agent.service,
                    agent.state,
                    seen.unwrap_or_else(|| "-".to_owned()),
                    agent.version.unwrap_or_else(|| "-".to_owned()),
                    agent.round.map_or_else(|| "-".to_owned(), |round| round.chars().take(8).collect()),
                    agent.key.chars().take(8).collect(),
                ]
            })
            .collect();
        screen::lines(screen::table(&["service", "state", "seen", "version", "works for", "key"], rows));
    }
    match failure {
        None => Ok(Exit::Done),
        Some(failure) => {
            Err(failure.because("The roster above is the share's; who is there, only the leader knows."))
        }
    }
}

async fn heard(operator: &crate::operator::Operator) -> Result<Vec<AgentView>, Failure> {
    Leader::connect(operator).await?.agents().await
}
