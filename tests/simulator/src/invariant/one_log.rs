//! 7: one record for each number, no gap and no fork; at most one commit for each round; a leader that lost its epoch
//! appends nothing.

use std::collections::BTreeSet;

use muster_protocol::ids::RoundId;
use muster_protocol::log::Effect;

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

/// Rounds that were committed.
#[derive(Default)]
pub(crate) struct OneLog {
    commits: BTreeSet<RoundId>,
    next: u64,
}

impl Invariant for OneLog {
    fn name(&self) -> &'static str {
        "7 one log, and one leader that writes it"
    }

    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String> {
        for fact in facts {
            let Fact::Appended { slot, signer, kind, result } = fact else { continue };
            match result {
                Ok(Effect::Applied) => {}
                Ok(Effect::WithoutEffect(why) | Effect::Void(why)) => {
                    return Err(format!(
                        "{kind} of {} in slot {slot} counts for nothing: {why}",
                        signer.short()
                    ));
                }
                Err(error) => return Err(format!("slot {slot}: {error}")),
            }
            let state = world.share.truth();
            if state.next <= self.next {
                return Err(format!("the log does not grow: {} after {}", state.next, self.next));
            }
            self.next = state.next;
            for (id, round) in &state.rounds {
                let committed = round.commit().is_some();
                if committed {
                    self.commits.insert(*id);
                } else if self.commits.contains(id) {
                    return Err(format!("round {id} was committed, and is not"));
                }
            }
        }
        Ok(())
    }
}
