//! Anomalies as the share tells them: the manifests of the newest thousand verified rounds or so that are there, oldest first, and
//! what operators accepted. Leader and pruner read the same, and come to the same.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use muster_protocol::anomaly::{Anomalies, Anomaly};
use muster_protocol::document::Manifest;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{RoundState, State};

use crate::store::{Store, StoreError};
use crate::verify::Trouble;
use crate::verify::chain::read_manifest;

/// Manifests that are read at once.
const AT_ONCE: usize = 4;

/// Rounds that are looked at: at least so many, if there are, and half as many more. What is older tells nothing any more; the step
/// keeps what was read from being read again with each new round.
const LOOKED_AT: usize = 1_000;
const STEP: usize = LOOKED_AT / 2;

/// How many of so many rounds, the oldest, are not looked at.
fn too_old(rounds: usize) -> usize {
    rounds.saturating_sub(LOOKED_AT) / STEP * STEP
}

/// Looks at the rounds of a log, and only at those that are new when it looks again.
#[derive(Debug, Default)]
pub struct Watch {
    anomalies: Anomalies,
    /// What it rests on: rounds that were taken in, in order, and what was accepted.
    taken: Vec<u64>,
    accepted: BTreeMap<ServiceName, u64>,
}

impl Watch {
    /// What stands out now, by service, of the services of the roster. A manifest that is damaged is passed over: it is told by
    /// itself (VERIFY-02).
    ///
    /// # Errors
    /// When the share fails; what was read by then is not read again.
    pub async fn look(&mut self, store: &dyn Store, state: &State) -> Result<Vec<Anomaly>, StoreError> {
        let mut rounds: Vec<&RoundState> = state.rounds_by_number();
        rounds.retain(|round| round.is_recoverable() && round.is_verified());
        rounds.drain(..too_old(rounds.len()));
        let goes_on = rounds
            .iter()
            .map(|round| round.open.number)
            .take(self.taken.len())
            .eq(self.taken.iter().copied());
        // Whatever changes what was taken in already, a sweep, an acceptance, a round that is verified late: it is told anew.
        if !goes_on || self.accepted != state.accepted {
            *self = Self {
                anomalies: Anomalies::new(state.accepted.clone()),
                taken: Vec::new(),
                accepted: state.accepted.clone(),
            };
        }
        let new = rounds.split_off(self.taken.len());
        // Each future of one type: a borrowing closure makes the whole no longer `Send`.
        let reads: Vec<_> = new.into_iter().map(|round| read(store, state, round)).collect();
        let mut manifests = stream::iter(reads).buffered(AT_ONCE);
        while let Some((number, read)) = manifests.next().await {
            match read {
                Ok(manifest) => self.anomalies.take(&manifest),
                Err(Trouble::Damaged(_)) => {}
                Err(Trouble::Store(error)) => return Err(error),
            }
            self.taken.push(number);
        }
        Ok(self.anomalies.open().filter(|anomaly| state.agent(&anomaly.service).is_some()).collect())
    }
}

async fn read<'a>(
    store: &'a dyn Store,
    state: &'a State,
    round: &'a RoundState,
) -> (u64, Result<Manifest, Trouble>) {
    (round.open.number, read_manifest(store, state, round).await)
}

#[cfg(test)]
mod tests {
    use super::{LOOKED_AT, STEP, too_old};

    #[test]
    fn what_is_looked_at_is_bounded_and_moves_in_steps() {
        for rounds in 0..LOOKED_AT + STEP {
            assert_eq!(too_old(rounds), 0, "{rounds}");
        }
        assert_eq!(too_old(LOOKED_AT + STEP), STEP);
        for rounds in LOOKED_AT..20 * LOOKED_AT {
            let looked_at = rounds - too_old(rounds);
            assert!((LOOKED_AT..LOOKED_AT + STEP).contains(&looked_at), "{rounds}: {looked_at}");
        }
        assert_eq!(too_old(10_000), too_old(10_499), "a new round seldom moves the rest");
    }
}
