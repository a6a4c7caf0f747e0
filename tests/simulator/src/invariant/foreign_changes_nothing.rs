//! 9: a message changes only what its signer may change: a stranger's, another agent's, a former leader's change nothing.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

pub(crate) struct ForeignChangesNothing;

impl Invariant for ForeignChangesNothing {
    fn name(&self) -> &'static str {
        "9 foreign messages change nothing"
    }

    fn after(&mut self, _: &World, facts: &[Fact]) -> Result<(), String> {
        for fact in facts {
            if let Fact::Foreign { what, changed: true } = fact {
                return Err(format!("something changed: {what}"));
            }
        }
        Ok(())
    }
}
