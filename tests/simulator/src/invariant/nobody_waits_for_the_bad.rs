//! 17: a bad agent delays nobody beyond the wait of its tier.

use super::Invariant;
use crate::fact::Fact;
use crate::plan::TIER_WAIT;
use crate::world::World;

/// A timer may come a little late.
const SLACK: u64 = 100;

pub(crate) struct NobodyWaitsForTheBad;

impl Invariant for NobodyWaitsForTheBad {
    fn name(&self) -> &'static str {
        "17 nobody waits for the bad"
    }

    fn after(&mut self, world: &World, _: &[Fact]) -> Result<(), String> {
        for coordinator in &world.coordinators {
            // While it is stopped it lets nobody begin; its own time does not pass either.
            if coordinator.stopped_until > world.now {
                continue;
            }
            for (id, seat) in coordinator.desk.iter().flat_map(|desk| &desk.rounds) {
                let Some((since, stopped)) = seat.asked.filter(|_| seat.machine.wants_slices()) else {
                    continue;
                };
                let waited = (world.now - since).saturating_sub(coordinator.stopped - stopped);
                // Three tiers at most.
                if waited <= TIER_WAIT {
                    continue;
                }
                for member in seat.machine.members().filter(|member| member.phase.word() == "queued") {
                    let before = member.policy.tier;
                    let mut tiers: Vec<_> =
                        seat.machine.members().map(|m| m.policy.tier).filter(|tier| *tier < before).collect();
                    tiers.sort_unstable();
                    tiers.dedup();
                    if waited > tiers.len() as u64 * TIER_WAIT + SLACK {
                        return Err(format!("{} waits {waited} ms in round {id}", member.service));
                    }
                }
            }
        }
        Ok(())
    }
}
