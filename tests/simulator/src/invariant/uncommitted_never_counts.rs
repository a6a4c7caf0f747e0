//! 3: a round that is not committed is never restored from, and never counts in retention: only committed rounds go.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

pub(crate) struct UncommittedNeverCounts;

impl Invariant for UncommittedNeverCounts {
    fn name(&self) -> &'static str {
        "3 an uncommitted round never counts"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        let state = world.share.truth();
        for fact in facts {
            match fact {
                Fact::Restored { round } if state.rounds.get(round).and_then(|r| r.commit()).is_none() => {
                    return Err(format!("round {round} was restored from, and is not committed"));
                }
                Fact::Appended { kind: "sweep", .. } => {
                    let bad = state.rounds.iter().find(|(_, r)| r.swept && r.commit().is_none());
                    if let Some((id, _)) = bad {
                        return Err(format!("round {id} was swept as if it had been committed"));
                    }
                }
                Fact::Restored { .. }
                | Fact::Appended { .. }
                | Fact::Written { .. }
                | Fact::Deleted { .. }
                | Fact::Read { .. }
                | Fact::Forgot { .. }
                | Fact::Noticed { .. }
                | Fact::Twice { .. }
                | Fact::Foreign { .. }
                | Fact::Impossible { .. } => {}
            }
        }
        Ok(())
    }
}
