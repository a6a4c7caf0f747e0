//! Following a plan: which slot is due now.
//!
//! Made for clocks that jump. At most one slot comes out at a time: of several that passed, the newest. A clock that goes back
//! begins anew from where it stands, and what was a round already stays that one round, because the slot names it.

use std::time::Duration;

use super::plan::{Missed, Plan};
use crate::ids::FleetId;
use crate::time::UnixMillis;

/// A slot that is so late is on time: a leader changed, or was busy.
pub const ON_TIME: Duration = Duration::from_secs(60);
/// A slot that is older than this is made up for no more.
pub const MISSED_FOR: Duration = Duration::from_secs(7 * 86_400);
/// A clock that goes back by less is being adjusted.
const ADJUSTED_MILLIS: i64 = 60_000;

/// A slot whose round is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The slot.
    pub slot: UnixMillis,
    /// Nobody was there at its time: it is made up for.
    pub missed: bool,
}

/// How far a plan was followed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Follower {
    /// Every slot up to here was dealt with.
    dealt: Option<UnixMillis>,
    /// Nothing is due before; good as long as the plan stays the same.
    quiet_until: Option<UnixMillis>,
}

impl Follower {
    /// The plan is another one now.
    pub fn replan(&mut self) {
        self.quiet_until = None;
    }

    /// There is no plan, or none is to be followed: what passes now is never made up for.
    pub fn pass(&mut self, now: UnixMillis) {
        *self = Self { dealt: Some(now), quiet_until: None };
    }

    /// The slot that is due at `now`, once. `since` is when the plan began to count, as far as that is known: what would have been due
    /// before is none of its slots. Whoever asks looks up whether the round of a missed slot was made up for already.
    pub fn tick(
        &mut self,
        plan: &Plan,
        fleet: &FleetId,
        since: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Option<Due> {
        let back = |by: Duration| UnixMillis(now.0.saturating_sub(millis(by)));
        let dealt = match self.dealt {
            // The clock was put back: nothing of what it will say again is owed.
            Some(dealt) if dealt.0.saturating_sub(now.0) > ADJUSTED_MILLIS => {
                self.quiet_until = None;
                now
            }
            Some(dealt) => dealt,
            None => beginning(plan, since, now),
        };
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        let mut newest = None;
        let mut from = dealt.max(back(MISSED_FOR));
        let next = loop {
            let Some(slot) = plan.next(from) else { break None };
            let due = plan.due(fleet, slot);
            if due > now {
                break Some(due);
            }
            newest = Some((slot, due));
            from = slot;
        };
        self.quiet_until = next;
        let Some((slot, due)) = newest else {
            self.dealt = Some(dealt);
            return None;
        };
        self.dealt = Some(slot);
        let missed = now.0.saturating_sub(due.0) > millis(ON_TIME);
        match plan.missed() {
            Missed::Skip if missed => None,
            // A plan that counts only since the slot passed does not owe it; a clock that is years behind knows nothing of that.
            Missed::RunOnce if missed && since.is_some_and(|since| slot < since && since <= now) => None,
            Missed::RunOnce | Missed::Skip => Some(Due { slot, missed }),
        }
    }
}

/// From where a leader that has just begun looks: it owes what passed while nobody led, and what is on time.
fn beginning(plan: &Plan, since: Option<UnixMillis>, now: UnixMillis) -> UnixMillis {
    let back = |by: Duration| UnixMillis(now.0.saturating_sub(millis(by)));
    match (plan.missed(), since) {
        (Missed::RunOnce, Some(since)) => back(MISSED_FOR).max(since).min(now),
        (Missed::Skip, Some(since)) => back(ON_TIME + plan.jitter()).max(since).min(now),
        (Missed::RunOnce | Missed::Skip, None) => now,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
