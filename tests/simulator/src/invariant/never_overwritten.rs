//! 4: nothing is ever written over: every name is created once, every slot filled once.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

/// The last slot that was filled.
#[derive(Default)]
pub(crate) struct NeverOverwritten(usize);

impl Invariant for NeverOverwritten {
    fn name(&self) -> &'static str {
        "4 nothing is written over"
    }

    fn after(&mut self, _: &World, facts: &[Fact]) -> Result<(), String> {
        for fact in facts {
            if let Fact::Written { id, fresh: false } = fact {
                return Err(format!("object {id} was written twice"));
            }
            if let Fact::Appended { slot, .. } = fact {
                if *slot <= self.0 {
                    return Err(format!("slot {slot} was filled after slot {}", self.0));
                }
                self.0 = *slot;
            }
        }
        Ok(())
    }
}
