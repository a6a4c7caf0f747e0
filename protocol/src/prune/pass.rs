//! What the log asks of a pruner next. A prune is two passes over many runs of a pruner, any of which may die: whatever
//! the log says is where the next one goes on.

use std::time::Duration;

use crate::ids::ObjectId;
use crate::log::State;
use crate::time::UnixMillis;

/// A mark is made anew when it seems to be of the future by more than this: its clock was wrong, and would let it wait for
/// years.
const AHEAD: Duration = Duration::from_secs(3_600);

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A sweep has begun and not ended: what its list names is deleted, and `pruned` appended.
    Finish {
        /// Its log number.
        sweep: u64,
    },
    /// This mark's time has come: pass two.
    Sweep {
        /// Its log number.
        mark: u64,
    },
    /// This mark waits.
    Wait {
        /// Its log number.
        mark: u64,
        /// For what.
        why: Wait,
    },
    /// Nothing is marked: pass one.
    Mark,
}

/// What a mark waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// This round, by number, was open when it was made, and still is: it may yet name what is marked.
    Round(u64),
    /// Its grace is not over yet.
    Grace {
        /// What is left of it.
        left: Duration,
    },
}

/// What there is to do at `now`, with this grace between the passes.
#[must_use]
pub fn next(state: &State, grace: Duration, now: UnixMillis) -> Next {
    if let Some((sweep, _)) = state.sweeps.iter().find(|(_, (_, done))| !done) {
        return Next::Finish { sweep: *sweep };
    }
    let oldest_open = state.open_rounds().into_iter().min_by_key(|round| round.position);
    let mut waiting = None;
    for (mark, prune) in state.prunes.iter().rev() {
        // Without its time nobody can tell when its grace is over.
        let Some(at) = prune.at else { continue };
        let ahead = Duration::from_millis(u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0));
        if ahead > AHEAD {
            continue;
        }
        let past = Duration::from_millis(u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0));
        let why = match oldest_open {
            Some(round) if round.position < *mark => Wait::Round(round.open.number),
            Some(_) | None if past < grace => Wait::Grace { left: grace.saturating_sub(past) },
            Some(_) | None => return Next::Sweep { mark: *mark },
        };
        waiting.get_or_insert(Next::Wait { mark: *mark, why });
    }
    waiting.unwrap_or(Next::Mark)
}

/// The lists of the sweeps behind log number `after`: whoever was sure before it that an object may be committed has to
/// look at these again.
pub fn sweeps_after(state: &State, after: u64) -> impl Iterator<Item = ObjectId> {
    let behind = state.sweeps.range(after.saturating_add(1)..);
    behind.map(|(_, (sweep, _))| sweep.list)
}

#[cfg(test)]
mod tests {
    use super::{Next, Wait, next, sweeps_after};
    use crate::ids::ObjectId;
    use crate::log::fixture::{FIRST, Fleet, PRUNER, commit, end, open, round};
    use crate::log::{Prune, Pruned, Sweep};
    use crate::time::UnixMillis;
    use std::time::Duration;

    const GRACE: Duration = Duration::from_secs(60);

    fn mark(fleet: &mut Fleet, at: Option<i64>) -> u64 {
        let (rounds, list) = (vec![round(1)], ObjectId::of(b"marked"));
        fleet.says(PRUNER, &Prune { epoch: 1, rounds, list, at: at.map(UnixMillis) });
        fleet.state.head.number
    }

    #[test]
    fn a_mark_waits_for_the_rounds_before_it_and_for_its_grace() {
        let mut fleet = Fleet::found();
        let at = |fleet: &Fleet, secs: i64| next(&fleet.state, GRACE, UnixMillis(secs * 1_000));
        assert_eq!(at(&fleet, 0), Next::Mark);
        fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
        fleet.says(FIRST, &commit(1, 1));
        fleet.says(FIRST, &open(1, 2, 2, &["dns"]));
        let mark = mark(&mut fleet, Some(1_000_000));
        assert_eq!(at(&fleet, 5_000), Next::Wait { mark, why: Wait::Round(2) });
        fleet.says(FIRST, &end(1, 2));
        fleet.says(FIRST, &open(1, 3, 3, &["dns"]));
        let left = Duration::from_secs(10);
        assert_eq!(at(&fleet, 1_050), Next::Wait { mark, why: Wait::Grace { left } });
        assert_eq!(at(&fleet, 999), Next::Wait { mark, why: Wait::Grace { left: GRACE } });
        assert_eq!(at(&fleet, 1_060), Next::Sweep { mark });
        assert_eq!(at(&fleet, -5_000), Next::Mark, "a mark of the future is made anew");
        let list = ObjectId::of(b"swept");
        fleet.says(PRUNER, &Sweep { rounds: vec![round(1)], list });
        let sweep = fleet.state.head.number;
        assert_eq!(at(&fleet, 0), Next::Finish { sweep });
        fleet.says(PRUNER, &Pruned { sweep });
        assert_eq!(at(&fleet, 0), Next::Mark);
        assert_eq!(sweeps_after(&fleet.state, sweep - 1).collect::<Vec<_>>(), [list]);
        assert_eq!(sweeps_after(&fleet.state, sweep).count(), 0);
        assert_eq!(sweeps_after(&fleet.state, u64::MAX).count(), 0);
    }

    #[test]
    fn the_newest_mark_whose_time_has_come_is_swept() {
        let mut fleet = Fleet::found();
        fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
        fleet.says(FIRST, &commit(1, 1));
        mark(&mut fleet, None);
        assert_eq!(next(&fleet.state, GRACE, UnixMillis(0)), Next::Mark);
        let old = mark(&mut fleet, Some(0));
        let new = mark(&mut fleet, Some(30_000));
        let at = |secs: i64| next(&fleet.state, GRACE, UnixMillis(secs * 1_000));
        assert_eq!(at(60), Next::Sweep { mark: old });
        assert_eq!(at(90), Next::Sweep { mark: new });
        assert!(matches!(at(59), Next::Wait { mark, .. } if mark == new));
    }
}
