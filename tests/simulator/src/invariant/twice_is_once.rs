//! 8: what comes twice changes nothing the second time, and what a round has come to stays.

use std::collections::BTreeMap;

use muster_protocol::ids::RoundId;

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

/// What each round had come to.
#[derive(Default)]
pub(crate) struct TwiceIsOnce(BTreeMap<RoundId, &'static str>);

impl Invariant for TwiceIsOnce {
    fn name(&self) -> &'static str {
        "8 twice is once"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        for fact in facts {
            if let Fact::Twice { what, changed: true } = fact {
                return Err(format!("the second time changed something: {what}"));
            }
            if let Fact::Appended { .. } = fact {
                for (id, round) in &world.share.truth().rounds {
                    let word = round.word();
                    let before = self.0.insert(*id, word);
                    let goes_on =
                        matches!((before, word), (None | Some("open"), _) | (Some("committed"), "verified"));
                    if !goes_on && before != Some(word) {
                        return Err(format!("round {id} was {before:?}, and is {word}"));
                    }
                }
            }
        }
        Ok(())
    }
}
