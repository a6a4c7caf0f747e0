//! `muster agents`: who is in the roster, and who is there. The roster comes from the share, the rest from the leader.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_coordinator::query::AgentView;
use muster_protocol::units::format_duration;
use serde::Serialize;

use crate::args::{Contact, ExpectHead, Reading};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::screen;

#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    bus: bool,
    agents: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    service: String,
    key: String,
    /// `online`, `offline`, `never-seen`; `unknown` while nobody leads.
    state: String,
    seen_secs: Option<u64>,
    version: Option<String>,
    round: Option<String>,
}

/// Lists them.
pub(crate) async fn run(args: Contact) -> Outcome {
    let operator = fleet::operator(args.config.as_deref())?;
    let heard = heard(&operator).await;
    let reading =
        Reading { config: args.config, share: None, expect: ExpectHead::default(), json: args.json };
    let fleet = Fleet::open(&reading).await;
    let (agents, failure) = match (heard, fleet) {
        (Ok(agents), _) => {
            (agents.into_iter().map(|agent| (agent.service.to_string(), line(agent))).collect(), None)
        }
        (Err(failure), Ok(fleet)) => (roster(&fleet), Some(failure)),
        (Err(failure), Err(_)) => return Err(failure),
    };
    let agents: Vec<Line> = agents.into_values().collect();
    if args.json {
        screen::json(&View {
            schema: "muster.agents/1",
            fleet: operator.fleet.name.to_string(),
            bus: failure.is_none(),
            agents,
        });
    } else {
        let rows = agents
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

fn roster(fleet: &Fleet) -> BTreeMap<String, Line> {
    let unknown = |service: String, key: String| Line {
        service,
        key,
        state: "unknown".to_owned(),
        seen_secs: None,
        version: None,
        round: None,
    };
    let agents = fleet.state().agents();
    agents
        .map(|(service, member)| (service.to_string(), unknown(service.to_string(), member.key.to_string())))
        .collect()
}

fn line(agent: AgentView) -> Line {
    Line {
        service: agent.service.to_string(),
        key: agent.key,
        state: agent.state,
        seen_secs: agent.seen_secs,
        version: agent.version,
        round: agent.round.map(|round| round.to_string()),
    }
}
