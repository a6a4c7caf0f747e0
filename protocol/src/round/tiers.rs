//! Tiers: who begins first.

use crate::round::event::{Deadline, Effect};
use crate::round::machine::Machine;
use crate::round::member::MemberPhase;
use crate::round::phase::Phase;
use crate::time::Time;

impl Machine {
    /// Opens the first tier, or all of them where there is a cut; the others wait.
    pub(super) fn open_first_tier(&mut self, now: Time) {
        let unsettled = || self.members.values().filter(|member| !member.phase.is_settled());
        let tiers = unsettled().map(|member| member.policy.tier);
        let first = if self.cut.is_some() { tiers.max() } else { tiers.min() };
        let Some(first) = first else { return };
        for member in self.members.values_mut() {
            if !member.phase.is_settled() && member.policy.tier > first {
                member.phase = MemberPhase::Queued;
            }
        }
        self.tier = first;
        let names: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| !member.phase.is_settled() && member.policy.tier <= first)
            .map(|(service, _)| service.clone())
            .collect();
        for service in names {
            self.ask_for(&service, now);
        }
        self.arm_tier(now);
    }

    /// Opens the next tier if nobody in the ones before it is at its first attempt.
    pub(super) fn advance_tiers(&mut self, now: Time) {
        while self.phase == Phase::Capturing && self.first_tries == 0 && self.open_next_tier(now) {}
    }

    /// Opens the next tier; false if there is none.
    pub(super) fn open_next_tier(&mut self, now: Time) -> bool {
        if self.queued == 0 {
            return false;
        }
        let queued = |phase: &MemberPhase| *phase == MemberPhase::Queued;
        let next = self.members.values().filter(|m| queued(&m.phase)).map(|m| m.policy.tier).min();
        let Some(next) = next else { return false };
        self.tier = next;
        self.turn += 1;
        let names: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| queued(&member.phase) && member.policy.tier == next)
            .map(|(service, _)| service.clone())
            .collect();
        for service in names {
            self.ask_for(&service, now);
        }
        self.arm_tier(now);
        self.effects.push_back(Effect::Publish);
        true
    }

    fn arm_tier(&mut self, now: Time) {
        self.queued = self.members.values().filter(|m| m.phase == MemberPhase::Queued).count();
        if self.queued > 0 {
            self.timers.arm(Deadline::Tier, now.after(self.policy.tier_wait));
        } else {
            self.timers.disarm(&Deadline::Tier);
        }
    }
}
