//! 18: what nobody references is deleted in the end.

use super::Invariant;
use crate::fact::Fact;
use crate::plan::DEADLINE;
use crate::world::World;

/// From the last record about a round until nothing is left to do: a prune goes through both passes.
const LIMIT: u64 = DEADLINE + 60_000;

/// When something was last said about a round.
#[derive(Default)]
pub(crate) struct WasteGoes(u64);

impl Invariant for WasteGoes {
    fn name(&self) -> &'static str {
        "18 what nobody references goes"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        let about_a_round =
            |fact: &Fact| matches!(fact, Fact::Appended { kind: "open" | "commit" | "verified" | "end", .. });
        if facts.iter().any(about_a_round) || world.calm_since.is_none() {
            self.0 = world.now;
        }
        if world.now <= self.0 + LIMIT {
            return Ok(());
        }
        Err(format!("{} objects are there, and still nothing has come to rest", world.share.objects.len()))
    }
}
