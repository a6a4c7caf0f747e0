//! 2: once a round is committed, all of it stays on the share until a sweep names the round.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

pub(crate) struct CommittedStays;

impl Invariant for CommittedStays {
    fn name(&self) -> &'static str {
        "2 a committed round stays restorable"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        let touched = |fact: &Fact| matches!(fact, Fact::Deleted { .. } | Fact::Restored { .. });
        if facts.iter().any(touched) { self.at_end(world) } else { Ok(()) }
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        for (id, round) in world.share.truth().rounds.iter().filter(|(_, round)| round.is_recoverable()) {
            let Some(commit) = round.commit() else { continue };
            let named = world.share.named_by(&commit.manifest, commit.manifest_size);
            if let Some((gone, _)) = named.iter().find(|(object, size)| !world.share.holds(object, *size)) {
                return Err(format!("round {id} has lost object {gone}"));
            }
        }
        Ok(())
    }
}
