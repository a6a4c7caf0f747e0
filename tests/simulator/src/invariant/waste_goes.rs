//! 18: what nobody references is deleted in the end.

use super::Invariant;
use crate::fact::Fact;
use crate::plan::DEADLINE;
use crate::world::World;

/// Rounds that were open when faults stopped end, then a prune goes through both passes.
const LIMIT: u64 = 3 * DEADLINE;

pub(crate) struct WasteGoes;

impl Invariant for WasteGoes {
    fn name(&self) -> &'static str {
        "18 what nobody references goes"
    }

    fn after(&mut self, world: &World, _: &[Fact]) -> Result<(), String> {
        match world.calm_since {
            Some(calm) if world.now > calm + LIMIT => Err(format!(
                "{} objects are there, and still nothing has come to rest",
                world.share.objects.len()
            )),
            Some(_) | None => Ok(()),
        }
    }
}
