//! A shell never meets what its machine promises never to ask.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

pub(crate) struct MachinesKeepTheirWord;

impl Invariant for MachinesKeepTheirWord {
    fn name(&self) -> &'static str {
        "machines keep their word"
    }

    fn after(&mut self, _: &World, facts: &[Fact]) -> Result<(), String> {
        for fact in facts {
            if let Fact::Impossible { what } = fact {
                return Err(what.clone());
            }
        }
        Ok(())
    }
}
