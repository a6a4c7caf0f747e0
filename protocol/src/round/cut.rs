//! The cut: who holds, when the capture was announced, and who was still holding when everything was read.
//!
//! ```text
//! Gathering ──all required hold, or the barrier──▶ Announced{nonce, at} ──▶ members say Snapped{nonce}
//!     │                                                │
//!     └── a required one is missing, or loses its place later: broken (ROUND-05), or goes on without it
//! ```
//!
//! A place in the cut is only ever proved: by the agent's word that it still held when everything was read, and by a
//! receipt with the announcement's nonce. Whoever began anew has neither.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::document::{CutAccount, CutOutsider};
use crate::ids::{Nonce, ServiceName};
use crate::log::OnBreak;
use crate::message::CutOrder;
use crate::time::Time;

/// The terms of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutPolicy {
    /// The announcement's nonce, random.
    pub nonce: Nonce,
    /// From opening until the capture is announced, whoever holds by then.
    pub barrier: Duration,
    /// What happens when a required service loses its place.
    pub on_break: OnBreak,
}

/// A cut under way.
#[derive(Debug)]
pub(super) struct Cut {
    policy: CutPolicy,
    /// Services that say they hold.
    held: BTreeSet<ServiceName>,
    /// Services that did, and began anew.
    anew: BTreeSet<ServiceName>,
    announced: Option<Time>,
    /// Services that still held when they had read everything, and how long after the announcement that was known.
    snapped: BTreeMap<ServiceName, Duration>,
    broken: Option<String>,
}

impl Cut {
    pub(super) fn new(policy: CutPolicy) -> Self {
        let (held, anew, snapped) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Self { policy, held, anew, announced: None, snapped, broken: None }
    }

    pub(super) fn barrier(&self) -> Duration {
        self.policy.barrier
    }

    pub(super) fn holds(&mut self, service: &ServiceName) {
        self.anew.remove(service);
        self.held.insert(service.clone());
    }

    /// Whether its agent says that it holds.
    pub(super) fn is_held(&self, service: &ServiceName) -> bool {
        self.held.contains(service)
    }

    pub(super) fn announce(&mut self, now: Time) {
        self.announced = Some(now);
    }

    /// The first reason stays.
    pub(super) fn break_it(&mut self, reason: impl FnOnce() -> String) {
        self.broken.get_or_insert_with(reason);
    }

    /// A required service has no place when the capture is announced: the cut breaks, where that is the policy.
    pub(super) fn lose(&mut self, service: &ServiceName, why: &str) {
        self.held.remove(service);
        match self.policy.on_break {
            OnBreak::Break => self.break_it(|| format!("{service} lost its place: {why}")),
            OnBreak::GoOn => {}
        }
    }

    /// Its agent begins anew: whatever it says of holding from here on is said of another hold, which may have begun after
    /// the announcement, as an agent may hear of that late.
    pub(super) fn begins_anew(&mut self, service: &ServiceName) {
        if self.held.remove(service) {
            self.anew.insert(service.clone());
        }
        self.snapped.remove(service);
    }

    pub(super) fn snapped(&mut self, service: &ServiceName, nonce: Nonce, now: Time) {
        if let Some(announced) = self.announced
            && nonce == self.policy.nonce
            && self.held.contains(service)
        {
            self.snapped.entry(service.clone()).or_insert_with(|| now.since(announced));
        }
    }

    /// What agents are asked to do about it.
    pub(super) fn order(&self) -> Option<CutOrder> {
        match (self.announced, &self.broken) {
            (_, Some(_)) => None,
            (None, None) => Some(CutOrder::Hold),
            (Some(_), None) => Some(CutOrder::Capture { nonce: self.policy.nonce }),
        }
    }

    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The account of services with (`Some`: the nonce of the receipt) or without (`None`) a slice; of each whether the
    /// cut needs it.
    pub(super) fn account<'a>(
        &self,
        services: impl IntoIterator<Item = (&'a ServiceName, bool, Option<Option<Nonce>>)>,
    ) -> CutAccount {
        let mut account = CutAccount {
            nonce: self.policy.nonce,
            skew_millis: 0,
            members: Vec::new(),
            outside: Vec::new(),
            broken: self.broken.clone(),
        };
        let mut missing = None;
        for (service, needed, receipt) in services {
            let reason = match (receipt, self.snapped.get(service)) {
                (Some(Some(nonce)), Some(after)) if nonce == self.policy.nonce => {
                    let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                    account.skew_millis = account.skew_millis.max(millis);
                    account.members.push(service.clone());
                    continue;
                }
                (None, _) => "it gave no slice",
                (Some(_), None) if self.anew.contains(service) => {
                    "it began anew, and was held for another time"
                }
                (Some(_), None) if !self.held.contains(service) => {
                    "it did not hold when the cut was announced"
                }
                (Some(_), None) => "it did not hold until everything was read",
                (Some(_), Some(_)) => "its slice was captured again, outside the cut",
            };
            if needed {
                missing.get_or_insert_with(|| format!("{service} is outside: {reason}"));
            }
            account.outside.push(CutOutsider { service: service.clone(), reason: reason.to_owned() });
        }
        if self.policy.on_break == OnBreak::Break && account.broken.is_none() {
            account.broken = missing;
        }
        if account.members.is_empty() && account.broken.is_none() {
            account.broken = Some("no slice is in it".to_owned());
        }
        account
    }
}
