//! 1: a committed manifest names only objects that are there with their length; a verified one, with their hash.

use std::collections::BTreeSet;

use muster_protocol::ids::RoundId;

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

/// Rounds that were looked at when they were committed, and when they were verified.
#[derive(Default)]
pub(crate) struct CommittedIsWhole {
    committed: BTreeSet<RoundId>,
    verified: BTreeSet<RoundId>,
}

impl Invariant for CommittedIsWhole {
    fn name(&self) -> &'static str {
        "1 a committed manifest names only what is there"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        if !facts.iter().any(|fact| matches!(fact, Fact::Appended { .. })) {
            return Ok(());
        }
        for (id, round) in &world.share.truth().rounds {
            let Some(commit) = round.commit() else { continue };
            let named = || world.share.named_by(&commit.manifest, commit.manifest_size);
            if self.committed.insert(*id) {
                let manifest = world.share.manifest(&commit.manifest);
                let manifest = manifest.ok_or_else(|| format!("round {id} has no manifest"))?;
                if manifest.round != *id || manifest.outcome != commit.outcome {
                    return Err(format!("the manifest of round {id} is another's"));
                }
                if let Some((gone, _)) =
                    named().iter().find(|(object, size)| !world.share.holds(object, *size))
                {
                    return Err(format!("round {id} is committed without object {gone}"));
                }
            }
            if round.word() == "verified" && self.verified.insert(*id) {
                let sound = |object| world.share.objects.get(object).is_some_and(|object| object.sound);
                if let Some((bad, _)) = named().iter().find(|(object, _)| !sound(object)) {
                    return Err(format!("round {id} is verified with object {bad}, which is damaged"));
                }
            }
        }
        Ok(())
    }
}
