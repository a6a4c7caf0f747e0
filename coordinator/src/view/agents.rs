//! Who is in the roster, and who is there: `muster agents`. The roster comes from the log, the rest from the leader.

use muster_protocol::log::State;
use schemars::JsonSchema;
use serde::Serialize;

use crate::query::AgentView;

/// `{"schema":"muster.agents/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct AgentsView {
    /// `muster.agents/1`
    pub schema: &'static str,
    /// The fleet's name.
    pub fleet: String,
    /// Whether the leader answered. If not, only the roster is here.
    pub bus: bool,
    /// Sorted by service.
    pub agents: Vec<AgentLine>,
}

/// One of `agents[]`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AgentLine {
    /// Its service.
    pub service: String,
    /// Its key, in hexadecimal.
    pub key: String,
    /// `online`, `offline`, `never-seen`; `unknown` while nobody leads.
    pub state: String,
    /// Seconds since it was heard of.
    pub seen_secs: Option<u64>,
    /// Its product version.
    pub version: Option<String>,
    /// The round it works for.
    pub round: Option<String>,
}

impl AgentsView {
    /// What the leader told of the agents; none: it did not answer, and the roster is all that is known.
    #[must_use]
    pub fn of(fleet: String, heard: Option<Vec<AgentView>>, state: Option<&State>) -> Self {
        let bus = heard.is_some();
        let mut agents: Vec<AgentLine> = match heard {
            Some(heard) => heard.into_iter().map(line).collect(),
            None => state.into_iter().flat_map(roster).collect(),
        };
        agents.sort_by(|one, two| one.service.cmp(&two.service));
        Self { schema: "muster.agents/1", fleet, bus, agents }
    }
}

fn roster(state: &State) -> impl Iterator<Item = AgentLine> {
    state.agents().map(|(service, member)| AgentLine {
        service: service.to_string(),
        key: member.key.to_string(),
        state: "unknown".to_owned(),
        seen_secs: None,
        version: None,
        round: None,
    })
}

fn line(agent: AgentView) -> AgentLine {
    AgentLine {
        service: agent.service.to_string(),
        key: agent.key,
        state: agent.state,
        seen_secs: agent.seen_secs,
        version: agent.version,
        round: agent.round.map(|round| round.to_string()),
    }
}
