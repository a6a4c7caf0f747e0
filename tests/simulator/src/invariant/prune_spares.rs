//! 5: prune deletes only what no retained, held or open round references.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

pub(crate) struct PruneSpares;

impl Invariant for PruneSpares {
    fn name(&self) -> &'static str {
        "5 prune spares what rounds reference"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        let deleted: Vec<_> = facts
            .iter()
            .filter_map(|fact| if let Fact::Deleted { id } = fact { Some(id) } else { None })
            .collect();
        if deleted.is_empty() {
            return Ok(());
        }
        let state = world.share.truth();
        for (id, round) in &state.rounds {
            let Some(commit) = round.commit().filter(|_| !round.swept || round.hold.is_some()) else {
                continue;
            };
            let named = world.share.named_by(&commit.manifest, commit.manifest_size);
            if let Some((gone, _)) = named.iter().find(|(object, _)| deleted.contains(&object)) {
                return Err(format!("{gone} is gone, which round {id} needs"));
            }
        }
        // Slices that were checked count for the round that is still open.
        let desks = world.coordinators.iter().filter_map(|coordinator| coordinator.desk.as_ref());
        let leading = desks.filter(|desk| state.epoch.is_some_and(|epoch| epoch.epoch == desk.epoch));
        for (id, seat) in leading.flat_map(|desk| &desk.rounds) {
            if state.rounds.get(id).is_none_or(|round| round.outcome().is_some()) {
                continue;
            }
            for slice in seat.machine.members().filter_map(|member| member.phase.slice()) {
                let packs = world.share.receipt(&slice.receipt).map(|receipt| receipt.packs.as_slice());
                let mut needed = packs.unwrap_or_default().iter().map(|(pack, _)| pack);
                if deleted.contains(&&slice.receipt) || needed.any(|pack| deleted.contains(&pack)) {
                    return Err(format!("something is gone that the open round {id} has counted"));
                }
            }
        }
        Ok(())
    }
}
