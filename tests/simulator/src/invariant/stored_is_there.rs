//! 14: what an agent reports as stored is on the share.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

pub(crate) struct StoredIsThere;

impl Invariant for StoredIsThere {
    fn name(&self) -> &'static str {
        "14 what is reported as stored is there"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        for fact in facts {
            if let Fact::Noticed { receipt } = fact
                && world.share.receipt(receipt).is_none()
                && !world.deleted_receipts.contains(receipt)
            {
                return Err(format!("receipt {receipt} is not on the share"));
            }
        }
        Ok(())
    }
}
