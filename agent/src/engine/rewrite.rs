//! Compaction without reading: which packs are mostly dead, so that what lives in them is uploaded again from the source and
//! the packs can be pruned. A bounded amount in each slice.

use std::collections::HashMap;

use crate::state::PackRow;

/// A pack is mostly dead when fewer than one in so many of its bytes are named.
const LIVE_ONE_IN: u64 = 4;

/// Numbers of the packs to give up, those with the least life first. `live` says how many bytes of which packs the last
/// slice named; the chosen ones have at most `budget_bytes` of them.
pub(super) fn mostly_dead(packs: &HashMap<u64, PackRow>, live: &[(u64, u64)], budget_bytes: u64) -> Vec<u64> {
    let mut dying: Vec<(u64, u64)> = live
        .iter()
        .filter(|(number, live)| {
            packs.get(number).is_some_and(|row| live.saturating_mul(LIVE_ONE_IN) < row.plain_bytes)
        })
        .map(|(number, live)| (*live, *number))
        .collect();
    dying.sort_unstable();
    let mut left = budget_bytes;
    let chosen = dying.into_iter().map_while(|(live, number)| {
        left = left.checked_sub(live)?;
        Some(number)
    });
    if budget_bytes == 0 { Vec::new() } else { chosen.collect() }
}

#[cfg(test)]
mod tests {
    use super::mostly_dead;
    use crate::state::PackRow;
    use muster_protocol::ids::ObjectId;

    #[test]
    fn the_deadest_packs_go_first_and_within_the_budget() {
        let row = |plain_bytes| PackRow { id: ObjectId::of(b"x"), size: 1, plain_bytes };
        let packs = [(1, row(100)), (2, row(100)), (3, row(1000)), (4, row(100))].into_iter().collect();
        let live = [(1, 25), (2, 24), (3, 200), (4, 3), (5, 1)];
        assert_eq!(mostly_dead(&packs, &live, 1000), [4, 2, 3]);
        assert_eq!(mostly_dead(&packs, &live, 226), [4, 2]);
        assert_eq!(mostly_dead(&packs, &live, 2), Vec::<u64>::new());
        assert_eq!(mostly_dead(&packs, &live, 0), Vec::<u64>::new());
    }
}
