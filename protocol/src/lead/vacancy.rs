//! Whether the lease is free, judged by one candidate's own clock.

use std::time::Duration;

use crate::lead::lease::{Lease, LeaseSeen};
use crate::time::Time;

/// The lease as it was seen last, and since when it looks like that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vacancy {
    last: Last,
    since: Time,
    /// A candidate's own part of the pause, from 0 to 1023 of 1024, drawn anew for each thing seen.
    jitter: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Not read yet, or the bus was away since.
    Unknown,
    Absent,
    Seen(LeaseSeen),
}

impl Vacancy {
    /// Nothing seen yet.
    pub(super) fn unknown(now: Time) -> Self {
        Self { last: Last::Unknown, since: now, jitter: 0 }
    }

    /// The lease was read. What looks as before goes on standing still.
    pub(super) fn saw(&mut self, seen: Option<LeaseSeen>, now: Time, random: u64) {
        let last = seen.map_or(Last::Absent, Last::Seen);
        if last != self.last {
            let jitter = u32::try_from(random % 1024).unwrap_or_default();
            *self = Self { last, since: now, jitter };
        }
    }

    /// The bus was away: it was so for the holder as well, whose silence counts for nothing.
    pub(super) fn lose_sight(&mut self, now: Time) {
        if self.last != Last::Unknown {
            *self = Self::unknown(now);
        }
    }

    /// Whether nothing is known of the lease.
    pub(super) fn is_unknown(&self) -> bool {
        self.last == Last::Unknown
    }

    /// The revision that a claim must replace.
    pub(super) fn revision(&self) -> Option<u64> {
        match self.last {
            Last::Seen(seen) => Some(seen.revision),
            Last::Unknown | Last::Absent => None,
        }
    }

    /// When the process whose lease is `own` may claim it, if nothing changes until then; none while nothing is known.
    /// Where the log says that nobody leads, a bus that keeps no lease holds nobody up for longer than one.
    /// `fresh`: a former process of the same coordinator has no claim any more. `at_once`: the log says that nobody leads, so an absent lease is waited for by nobody.
    ///
    /// A living leader writes every third of a lease. An absent one is given half a lease and more, so that a leader
    /// whose bus was wiped comes first; candidates differ by their jitter.
    pub(super) fn free_at(&self, own: &Lease, fresh: bool, lease: Duration, at_once: bool) -> Option<Time> {
        let part = |of: Duration| of * self.jitter / 1024;
        let mine = |held: Lease| held.holder == own.holder && (fresh || held.instance == own.instance);
        let wait = match self.last {
            Last::Unknown if at_once => lease,
            Last::Unknown => return None,
            Last::Absent if at_once => Duration::ZERO,
            Last::Absent => lease / 2 + part(lease / 2),
            Last::Seen(LeaseSeen { lease: Some(held), .. }) if mine(held) => Duration::ZERO,
            Last::Seen(LeaseSeen { lease: Some(held), .. }) if !held.held => part(lease / 16),
            Last::Seen(_) => lease + part(lease / 2),
        };
        Some(self.since.after(wait))
    }
}
