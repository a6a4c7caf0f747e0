//! What a seed decides before anything happens: who is there, what is expected, and what may go wrong how often.

use std::time::Duration;

use muster_protocol::log::{CutTerms, OnBreak};
use muster_protocol::prune::{Calendar, Terms};
use muster_protocol::retry::{Attempts, Retry};
use muster_protocol::round::{Overlap, Policy};
use muster_protocol::service_policy::{Expected, ServicePolicy};

use crate::fault::Fault;
use crate::founding::SERVICES;
use crate::rng::Rng;

/// From opening to the deadline.
pub(crate) const DEADLINE: u64 = 40_000;
/// A lease that was not written for so long is given up.
pub(crate) const LEASE: u64 = 5_000;
/// How long after a new epoch nobody but its holder takes the lead.
pub(crate) const TAKEOVER: u64 = 5_000;
/// Between two readings of the log by a coordinator.
pub(crate) const LOOK: u64 = 2_000;
/// The longest that a service may be held.
pub(crate) const MAX_HOLD: u64 = 6_000;
/// How long a tier may keep the next one waiting.
pub(crate) const TIER_WAIT: u64 = 8_000;

/// A seed's world.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) coordinators: usize,
    /// Of each service: whether it has hooks, and what is expected of it.
    pub(crate) services: Vec<(bool, ServicePolicy)>,
    /// Terms of the cut of those rounds that have one.
    pub(crate) cut: Option<CutTerms>,
    pub(crate) overlap: Overlap,
    pub(crate) attempts: Attempts,
    /// The retention.
    pub(crate) min_verified: u32,
    pub(crate) keep_last: u32,
    pub(crate) keep_days: u32,
    /// How often each fault strikes, in a thousand, or its weight; zero for those that this seed spares.
    rates: [u64; Fault::ALL.len()],
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let coordinators = if rng.percent(25) { 3 } else { 2 };
        let tiers = rng.percent(40);
        let services = SERVICES.map(|_| {
            let policy = ServicePolicy {
                required: !rng.percent(20),
                expected: if rng.percent(20) { Expected::WhilePresent } else { Expected::Always },
                tier: if tiers { rng.between(1, 3) as u8 } else { 5 },
                attempts: rng.percent(15).then_some(2),
                deadline: rng.percent(15).then_some(Duration::from_secs(20)),
                ..ServicePolicy::default()
            };
            (rng.percent(60), policy)
        });
        let cut = rng.percent(50).then(|| CutTerms {
            barrier_millis: 5_000,
            on_break: if rng.percent(50) { OnBreak::Break } else { OnBreak::GoOn },
        });
        // Each seed spares some faults: what all of them together hide, some of them show.
        let spared = rng.between(0, 60);
        let rates = Fault::ALL.map(|fault| {
            if rng.percent(spared) {
                0
            } else if Fault::MISCHIEF.contains(&fault) {
                rng.between(1, 4)
            } else {
                rng.between(fault.usual() / 3, fault.usual() * 2)
            }
        });
        Self {
            coordinators,
            services: services.into(),
            cut,
            overlap: if rng.percent(70) { Overlap::Queue } else { Overlap::Skip },
            attempts: if rng.percent(50) { Attempts::AtMost(3) } else { Attempts::Unlimited },
            min_verified: rng.below(2) as u32 + 1,
            keep_last: rng.below(3) as u32,
            keep_days: rng.below(5) as u32 / 4,
            rates,
        }
    }

    pub(crate) fn rate(&self, fault: Fault) -> u64 {
        self.rates[fault as usize]
    }

    /// How patient rounds are; the cut comes with each.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            deadline: Duration::from_millis(DEADLINE),
            recruit: Duration::from_secs(4),
            offline_after: Duration::from_secs(6),
            retry: retry(500, 4_000, self.attempts),
            tier_wait: Duration::from_millis(TIER_WAIT),
            cut: None,
        }
    }

    /// What is kept.
    pub(crate) fn terms(&self, grace: Duration) -> Terms {
        let day = Duration::from_secs(86_400);
        let (keep_last, min_verified) = (self.keep_last, self.min_verified);
        let calendar = Calendar::default();
        Terms { keep_last, keep_days: self.keep_days, calendar, min_verified, interval: day, grace }
    }

    /// How patient agents are.
    pub(crate) fn resend() -> Retry {
        retry(500, 3_000, Attempts::Unlimited)
    }
}

fn retry(first: u64, longest: u64, attempts: Attempts) -> Retry {
    let millis = Duration::from_millis;
    Retry::new(millis(first), millis(longest), attempts).expect("these delays are in order")
}
