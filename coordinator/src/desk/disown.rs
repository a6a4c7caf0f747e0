//! Revocation while rounds run: what the roster says now is compared with the agents that each round was begun with.
//!
//! Receipts count by the position of the commit, so that what a revoked agent gave must be out of the manifest before
//! the round is committed. A committed round is never touched.

use std::collections::BTreeMap;

use muster_protocol::alert::Code;
use muster_protocol::ids::{KeyId, RoundId, ServiceName};
use muster_protocol::log::{Open, RoundPhase, State};
use muster_protocol::round::{Event, Failure, Machine};

use super::Desk;

/// The services that a round is over, with the agents that they have or, if they were revoked after the round was
/// opened, had. `position` is 0 while the round's record is not in the log.
pub(super) fn expected(state: &State, open: &Open, position: u64) -> BTreeMap<ServiceName, KeyId> {
    let mut agents = BTreeMap::new();
    let since = state.members.values().filter(|member| {
        let revoked = member.revoked.is_some_and(|revoked| position > 0 && revoked > position);
        member.since < position && revoked
    });
    let now = state.members.values().filter(|member| member.revoked.is_none());
    for member in since.chain(now) {
        if let Some(service) = member.member.role.service().filter(|service| open.scope.contains(service)) {
            agents.insert(service.clone(), member.member.key);
        }
    }
    agents
}

/// The agents whose slices count.
pub(super) fn stored(machine: &Machine) -> Vec<KeyId> {
    machine.members().filter_map(|member| member.phase.slice()).map(|slice| slice.agent).collect()
}

impl Desk {
    /// Tells every open round which of its agents count no longer.
    pub(super) fn disown(&mut self) {
        let state = self.state();
        let mut gone: Vec<(RoundId, ServiceName, Failure)> = Vec::new();
        for (id, round) in &mut self.rounds {
            let open = state.rounds.get(id).is_none_or(|logged| logged.phase == RoundPhase::Open);
            if !open || round.finished {
                continue;
            }
            let mut replaced = Vec::new();
            for (service, agent) in &round.agents {
                let now = state.agent(service).map(|member| member.key);
                if now == Some(*agent) {
                    continue;
                }
                let what = if now.is_some() { "replaced" } else { "revoked" };
                let record = state.members.get(agent).and_then(|member| member.revoked).unwrap_or_default();
                let reason = format!("its agent was {what} by log record {record}");
                tracing::warn!(%service, number = round.open.number, reason, "{}", Code::Key03);
                gone.push((
                    *id,
                    service.clone(),
                    Failure { code: Code::Key03, reason, permanent: now.is_none() },
                ));
                replaced.push((service.clone(), now));
            }
            for (service, now) in replaced {
                match now {
                    Some(agent) => round.agents.insert(service, agent),
                    None => round.agents.remove(&service),
                };
            }
        }
        for (id, service, failure) in gone {
            self.event(&id, Event::Disowned { service, failure });
        }
    }
}
