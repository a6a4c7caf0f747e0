//! 16: once faults stop, every round reaches an end by its deadline and a grace, and a round that begins then is complete.

use muster_protocol::log::{Outcome, RoundPhase};

use super::Invariant;
use crate::fact::Fact;
use crate::plan::{DEADLINE, TAKEOVER};
use crate::world::World;

/// Stops that were under way when faults stopped, restarts, and the time in which somebody leads again.
const GRACE: u64 = 30_000 + 2 * TAKEOVER;

pub(crate) struct RoundsEnd;

impl Invariant for RoundsEnd {
    fn name(&self) -> &'static str {
        "16 every round ends"
    }

    fn after(&mut self, world: &World, _: &[Fact]) -> Result<(), String> {
        let Some(calm) = world.calm_since else { return Ok(()) };
        if world.now <= calm + DEADLINE {
            return Ok(());
        }
        for round in world.share.truth().rounds.values().filter(|round| round.phase == RoundPhase::Open) {
            let opened = world.opened.get(&round.open.round).copied().unwrap_or(0);
            if world.now > opened.max(calm) + DEADLINE + GRACE {
                let id = round.open.round;
                return Err(format!("round {id} is open {} ms after its beginning", world.now - opened));
            }
        }
        Ok(())
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        if world.agents.iter().any(|agent| !agent.up) {
            return Ok(());
        }
        let round = world.last_round.and_then(|id| world.share.truth().rounds.get(&id));
        match round.and_then(|round| round.outcome()) {
            Some(Outcome::Complete) => Ok(()),
            other => Err(format!("the last round, in which nothing failed, is {other:?}")),
        }
    }
}
