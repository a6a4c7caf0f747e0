//! Which pack lists and chunk indexes a receipt names: those of the last slice that counted, as far as they still hold,
//! and a new pair for what they lack. Small ones are merged into it, so that there are few, and what a round writes
//! follows what has changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::state::ListPair;

/// Pairs that a receipt names at most, unless single ones would get too long.
pub(super) const MAX_PAIRS: usize = 8;

/// Chunks of one pair at most, unless a single pack has more: about 20 MB of chunk index.
pub(super) const MAX_PAIR_CHUNKS: usize = 512 * 1024;

/// What to name and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Pairs that stay, oldest first.
    pub(super) keep: Vec<ListPair>,
    /// Packs for new pairs.
    pub(super) write: Vec<u64>,
}

/// Plans for a slice that needs `referenced` packs, on top of `old` pairs that are all on the share; `size` gives the
/// stored bytes of a pack.
///
/// What a pair names cannot be pruned: one is written anew when the packs that nobody needs any more are larger than its
/// lists. The last pairs are merged into the new one as long as they are not longer than it: lengths double from pair to
/// pair, so each pack is written a number of times that is logarithmic in the number of packs.
pub(super) fn plan(old: Vec<ListPair>, referenced: &HashMap<u64, u64>, size: impl Fn(u64) -> u64) -> Plan {
    let needed = |number: &u64| referenced.contains_key(number);
    let dead = |pair: &ListPair| -> u64 {
        pair.numbers.iter().filter(|number| !needed(number)).map(|number| size(*number)).sum()
    };
    let mut keep: Vec<ListPair> =
        old.into_iter().filter(|pair| dead(pair) <= pair.packs.size + pair.chunks.size).collect();
    let covered: HashSet<u64> = keep.iter().flat_map(|pair| pair.numbers.iter().copied()).collect();
    let mut write: Vec<u64> = referenced.keys().filter(|number| !covered.contains(number)).copied().collect();
    while let Some(last) = keep.last() {
        let merge = !write.is_empty() && (last.numbers.len() <= write.len() || keep.len() >= MAX_PAIRS);
        if !merge {
            break;
        }
        write.extend(last.numbers.iter().filter(|number| needed(number)));
        keep.pop();
    }
    write.sort_unstable();
    Plan { keep, write }
}

/// Cuts `write` into the packs of single pairs, by the chunks that each pack has.
pub(super) fn pairs(write: &[u64], chunks: &BTreeMap<u64, usize>) -> Vec<Vec<u64>> {
    let mut all: Vec<Vec<u64>> = Vec::new();
    let mut count = 0;
    for number in write {
        let more = chunks.get(number).copied().unwrap_or(0);
        match all.last_mut() {
            Some(pair) if count + more <= MAX_PAIR_CHUNKS => {
                pair.push(*number);
                count += more;
            }
            Some(_) | None => {
                all.push(vec![*number]);
                count = more;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{ListPair, MAX_PAIR_CHUNKS, MAX_PAIRS, Plan, pairs, plan};
    use muster_protocol::document::ObjectRef;
    use muster_protocol::ids::{ObjectId, RoundId};
    use std::collections::{BTreeMap, HashMap};

    fn pair(numbers: impl IntoIterator<Item = u64>) -> ListPair {
        let object = ObjectRef { round: RoundId::from_bytes([1; 16]), id: ObjectId::of(b"x"), size: 1 };
        ListPair { packs: object, chunks: object, numbers: numbers.into_iter().collect() }
    }

    fn all(numbers: impl IntoIterator<Item = u64>) -> HashMap<u64, u64> {
        numbers.into_iter().map(|number| (number, 1)).collect()
    }

    fn after(plan: Plan) -> Vec<ListPair> {
        let mut all = plan.keep;
        if !plan.write.is_empty() {
            all.push(pair(plan.write));
        }
        all
    }

    #[test]
    fn nothing_new_writes_nothing() {
        let old = vec![pair(1..9), pair(9..11)];
        assert_eq!(plan(old.clone(), &all(1..11), |_| 9), Plan { keep: old, write: vec![] });
    }

    #[test]
    fn many_rounds_name_few_pairs_and_write_little() {
        let (mut lists, mut written) = (vec![pair(1..1001)], 0);
        for round in 0..500u64 {
            let next = 1001 + round * 2;
            let referenced = all(1..next + 2);
            let planned = plan(lists, &referenced, |_| 9);
            written += planned.write.len();
            lists = after(planned);
            assert!(lists.len() <= MAX_PAIRS + 1, "{}", lists.len());
            let named: Vec<u64> = lists.iter().flat_map(|pair| pair.numbers.clone()).collect();
            assert_eq!(named.len(), referenced.len(), "each pack is named once");
            assert!(named.iter().all(|number| referenced.contains_key(number)));
        }
        assert!(written < 500 * 2 * 12, "{written}");
    }

    #[test]
    fn pairs_of_dead_packs_are_written_anew_without_them() {
        // The lists of a pair are 2 bytes long here.
        let planned = plan(vec![pair(1..11), pair(11..15)], &all(7..15), |_| 1);
        assert_eq!(planned, Plan { keep: vec![], write: (7..15).collect() });
        let planned = plan(vec![pair(1..11)], &all(3..11), |_| 1);
        assert_eq!(planned.keep.len(), 1, "dead ones that are shorter than the lists may stay");
    }

    #[test]
    fn long_pairs_are_cut() {
        let chunks: BTreeMap<u64, usize> = (1..=5).map(|number| (number, MAX_PAIR_CHUNKS / 2)).collect();
        assert_eq!(pairs(&[1, 2, 3, 4, 5], &chunks), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(pairs(&[9], &BTreeMap::from([(9, MAX_PAIR_CHUNKS * 3)])), [[9]]);
        assert!(pairs(&[], &chunks).is_empty());
    }
}
