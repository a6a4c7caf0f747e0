//! 15: every hold is released within its limit, whatever is killed or stopped.

use super::Invariant;
use crate::fact::Fact;
use crate::founding::SERVICES;
use crate::plan::MAX_HOLD;
use crate::world::World;

pub(crate) struct HoldsEnd;

impl Invariant for HoldsEnd {
    fn name(&self) -> &'static str {
        "15 every hold ends within its limit"
    }

    fn after(&mut self, world: &World, _: &[Fact]) -> Result<(), String> {
        for (hold, service) in world.holds.iter().zip(SERVICES) {
            if let Some(hold) = hold.as_ref().filter(|hold| world.now > hold.since + MAX_HOLD) {
                return Err(format!("{service} is held for {} ms", world.now - hold.since));
            }
        }
        Ok(())
    }
}
