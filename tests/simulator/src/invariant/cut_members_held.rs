//! A service is in a committed cut only if it was held from the announcement until everything was read; one without
//! hooks, only if it began to read after the announcement (DESIGN section 4).

use std::collections::BTreeMap;

use muster_protocol::ids::ObjectId;

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

/// What each receipt that claims a place tells against it; nothing: the place is its own.
#[derive(Default)]
pub(crate) struct CutMembersHeld(BTreeMap<ObjectId, Option<String>>);

impl Invariant for CutMembersHeld {
    fn name(&self) -> &'static str {
        "cut members held"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        for fact in facts {
            if let Fact::InCut { receipt, nonce, hooks, began, held_since } = fact {
                let announced = world.announced.get(nonce).copied();
                let within = announced.is_some_and(|at| {
                    if *hooks { held_since.is_some_and(|since| since <= at) } else { *began >= at }
                });
                let against = format!(
                    "announced at {announced:?}, it began to read at {began}, held since {held_since:?}"
                );
                self.0.insert(*receipt, (!within).then_some(against));
            }
            if let Fact::Appended { kind: "commit", .. } = fact {
                self.members(world)?;
            }
        }
        Ok(())
    }
}

impl CutMembersHeld {
    fn members(&self, world: &World) -> Result<(), String> {
        let commits = world.share.truth().rounds.values().filter(|round| !round.swept);
        for manifest in commits.filter_map(|r| r.commit()).filter_map(|c| world.share.manifest(&c.manifest)) {
            let Some(cut) = &manifest.cut else { continue };
            for member in &cut.members {
                let slice = manifest.slices.iter().find(|slice| slice.service == *member);
                let why = match slice.and_then(|slice| self.0.get(&slice.receipt)) {
                    Some(None) => continue,
                    Some(Some(against)) => against.as_str(),
                    None => "its receipt claims none",
                };
                return Err(format!("{member} has no place in the cut of round {}: {why}", manifest.round));
            }
        }
        Ok(())
    }
}
