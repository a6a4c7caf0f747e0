//! 10: a head of the log that was seen never goes back.

use std::collections::BTreeMap;

use super::Invariant;
use crate::fact::Fact;
use crate::happening::Party;
use crate::world::World;

/// The longest log that each reader has seen since its disk was last wiped.
#[derive(Default)]
pub(crate) struct HeadNeverGoesBack(BTreeMap<Party, usize>);

impl Invariant for HeadNeverGoesBack {
    fn name(&self) -> &'static str {
        "10 a seen head never goes back"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        for fact in facts {
            if let Fact::Forgot { party } = fact {
                self.0.remove(party);
            }
            if let Fact::Read { party, view } = fact {
                let seen = self.0.entry(*party).or_default();
                if view < seen {
                    return Err(format!("{party:?} believes a log of {view} records after one of {seen}"));
                }
                if *view > world.share.len() {
                    return Err(format!("{party:?} believes in {view} records"));
                }
                *seen = *view;
            }
        }
        Ok(())
    }
}
