//! 6: the newest verified rounds of every service survive, whatever any clock says.

use super::Invariant;
use crate::fact::Fact;
use crate::founding::Founding;
use crate::world::World;

pub(crate) struct MinimumSurvives;

impl Invariant for MinimumSurvives {
    fn name(&self) -> &'static str {
        "6 the newest verified rounds of every service survive"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        if !facts.iter().any(|fact| matches!(fact, Fact::Appended { kind: "sweep", .. })) {
            return Ok(());
        }
        // What was verified after the leader looked may be newer: it makes the swept ones no fewer.
        let rounds = world.share.truth().rounds_by_number();
        for service in &Founding::get().services {
            let with = rounds.iter().rev().filter(|round| {
                let manifest = round.commit().and_then(|commit| world.share.manifest(&commit.manifest));
                round.word() == "verified"
                    && manifest.is_some_and(|m| m.slices.iter().any(|slice| slice.service == *service))
            });
            if let Some(round) = with.take(world.plan.min_verified as usize).find(|round| round.swept) {
                return Err(format!("round {} of {service} was swept", round.open.number));
            }
        }
        Ok(())
    }
}
