//! What becomes of each service: its hellos, notices, checks and attempts.

use crate::document::ManifestSlice;
use crate::ids::{Nonce, ObjectId, ServiceName};
use crate::message::{Stage, Verdict};
use crate::round::event::{CheckFailure, Deadline, Effect, Failure};
use crate::round::machine::{Draft, Machine};
use crate::round::member::MemberPhase;
use crate::round::phase::Phase;
use crate::time::Time;

impl Machine {
    /// Asks for a service's first attempt.
    pub(super) fn ask_for(&mut self, service: &ServiceName, now: Time) {
        let Some(member) = self.members.get_mut(service) else { return };
        member.phase = MemberPhase::Waiting;
        if !std::mem::replace(&mut member.fresh, true) {
            self.first_tries += 1;
        }
        self.timers.arm(Deadline::Recruit(service.clone()), now.after(self.policy.recruit));
        if let Some(limit) = member.policy.deadline {
            self.timers.arm(Deadline::Service(service.clone()), now.after(limit));
        }
    }

    /// Its first attempt is over, well or not, and the cut waits for it no longer.
    fn tried(&mut self, service: &ServiceName) {
        if let Some(member) = self.members.get_mut(service)
            && std::mem::replace(&mut member.fresh, false)
        {
            self.first_tries -= 1;
        }
        self.awaited.remove(service);
    }

    pub(super) fn hello(&mut self, service: &ServiceName, attempt: u32, now: Time) {
        let capturing = self.phase.takes_slices();
        let Some(member) = self.members.get_mut(service) else { return };
        (member.seen, member.at) = (now, None);
        // Once the manifest is made, nothing that it says may change.
        member.present |= capturing;
        if let Some(cut) = &mut self.cut {
            cut.begins_anew(service);
        }
        let asked = matches!(member.phase, MemberPhase::Waiting | MemberPhase::Holding);
        if self.phase == Phase::Gathering && asked && member.is_needed() {
            // Of one that is expected while it is present, only its hello says that it is needed.
            self.awaited.insert(service.clone());
        }
        let attempt = member.claimed(attempt, self.policy.retry);
        let wanted = match &member.phase {
            MemberPhase::Waiting | MemberPhase::Working if capturing => {
                // An agent that was asked twice, or that a former leader asked, may be ahead.
                member.attempt = member.attempt.max(attempt);
                member.phase = MemberPhase::Working;
                Some(member.attempt)
            }
            // By an agent that began anew: it has to say again that it holds.
            MemberPhase::Holding if capturing => {
                member.phase = MemberPhase::Working;
                Some(member.attempt)
            }
            MemberPhase::BackingOff { .. } if capturing && attempt >= member.attempt => {
                member.attempt = attempt;
                member.phase = MemberPhase::Working;
                Some(attempt)
            }
            MemberPhase::Queued
            | MemberPhase::Waiting
            | MemberPhase::Working
            | MemberPhase::Holding
            | MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_)
            | MemberPhase::Absent(_) => None,
        };
        if wanted.is_some() {
            member.greeted.get_or_insert(now);
            self.timers.disarm_service(service);
            self.timers.arm(Deadline::Silence(service.clone()), now.after(self.policy.offline_after));
        }
        self.effects.push_back(Effect::Welcome { service: service.clone(), attempt: wanted });
    }

    pub(super) fn seen(&mut self, service: &ServiceName, now: Time) {
        if let Some(member) = self.members.get_mut(service) {
            member.seen = now;
        }
    }

    pub(super) fn at_work(&mut self, service: &ServiceName, stage: Stage, now: Time) {
        self.seen(service, now);
        if let Some(member) = self.members.get_mut(service) {
            member.at = Some(stage);
        }
    }

    pub(super) fn quiesced(&mut self, service: &ServiceName, attempt: u32, now: Time) {
        let Some(member) = self.members.get_mut(service) else { return };
        member.seen = now;
        let current = self.phase == Phase::Gathering && attempt == member.attempt;
        let verdict = match member.phase {
            MemberPhase::Working if current => {
                member.phase = MemberPhase::Holding;
                member.quiesced = Some(now);
                if let Some(cut) = &mut self.cut {
                    cut.holds(service);
                }
                self.awaited.remove(service);
                Verdict::Accepted
            }
            MemberPhase::Holding if current => Verdict::Accepted,
            MemberPhase::Queued
            | MemberPhase::Waiting
            | MemberPhase::Working
            | MemberPhase::Holding
            | MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_)
            | MemberPhase::Absent(_) => Verdict::Over,
        };
        self.effects.push_back(Effect::Acknowledge {
            service: service.clone(),
            attempt,
            receipt: None,
            verdict,
        });
        self.gather(now);
    }

    pub(super) fn snapped(&mut self, service: &ServiceName, attempt: u32, nonce: Nonce, now: Time) {
        let Some(member) = self.members.get_mut(service) else { return };
        member.seen = now;
        if attempt == member.attempt
            && self.phase == Phase::Capturing
            && let Some(cut) = &mut self.cut
        {
            cut.snapped(service, nonce, now);
        }
        let verdict = Verdict::Accepted;
        self.effects.push_back(Effect::Acknowledge {
            service: service.clone(),
            attempt,
            receipt: None,
            verdict,
        });
    }

    pub(super) fn stored(
        &mut self,
        service: &ServiceName,
        attempt: u32,
        receipt: ObjectId,
        receipt_size: u64,
        now: Time,
    ) {
        let capturing = self.phase.takes_slices();
        let Some(member) = self.members.get_mut(service) else { return };
        member.seen = now;
        member.present |= capturing;
        member.noticed = Some(now);
        let verdict = match &member.phase {
            MemberPhase::Queued
            | MemberPhase::Waiting
            | MemberPhase::Working
            | MemberPhase::Holding
            | MemberPhase::BackingOff { .. }
                if capturing =>
            {
                if let Some((_, reason)) = member.refused.as_ref().filter(|(refused, _)| *refused == receipt)
                {
                    Verdict::Refused { reason: reason.clone() }
                } else {
                    return self.check(service, attempt, receipt, receipt_size);
                }
            }
            // Only a resumed round can meet the receipt of an older attempt first.
            MemberPhase::Checking { attempt: older, .. } if capturing && *older < attempt => {
                return self.check(service, attempt, receipt, receipt_size);
            }
            MemberPhase::Checking { .. } if capturing => return,
            MemberPhase::Stored(slice) if slice.receipt == receipt => Verdict::Accepted,
            MemberPhase::Queued
            | MemberPhase::Waiting
            | MemberPhase::Working
            | MemberPhase::Holding
            | MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_)
            | MemberPhase::Absent(_) => Verdict::Over,
        };
        let service = service.clone();
        self.effects.push_back(Effect::Acknowledge { service, attempt, receipt: Some(receipt), verdict });
    }

    pub(super) fn check(
        &mut self,
        service: &ServiceName,
        attempt: u32,
        receipt: ObjectId,
        receipt_size: u64,
    ) {
        self.timers.disarm_service(service);
        let Some(member) = self.members.get_mut(service) else { return };
        member.attempt = member.attempt.max(member.claimed(attempt, self.policy.retry));
        member.phase = MemberPhase::Checking { receipt, receipt_size, attempt };
        member.rechecks = 0;
        self.effects.push_back(Effect::Check { service: service.clone(), receipt, receipt_size, attempt });
    }

    pub(super) fn failed(&mut self, service: &ServiceName, attempt: u32, failure: Failure, now: Time) {
        let capturing = self.phase.takes_slices();
        let Some(member) = self.members.get_mut(service) else { return };
        member.seen = now;
        member.present |= capturing;
        member.noticed = Some(now);
        let ordered = member.may_be_at(attempt, self.policy.retry);
        let verdict = if ordered { Verdict::Accepted } else { Verdict::Over };
        self.effects.push_back(Effect::Acknowledge {
            service: service.clone(),
            attempt,
            receipt: None,
            verdict,
        });
        let working = match member.phase {
            MemberPhase::Waiting | MemberPhase::Working | MemberPhase::Holding => self.phase.takes_slices(),
            MemberPhase::Queued
            | MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_)
            | MemberPhase::Absent(_) => false,
        };
        if working && ordered && attempt >= member.attempt {
            member.attempt = attempt;
            self.retry_or_give_up(service, failure, now);
        } else if working {
            // Late, of an attempt that nobody ordered, or from an agent that was started anew and never heard of the attempt
            // that is wanted.
            let attempt = member.attempt;
            self.effects.push_back(Effect::PublishRetry { service: service.clone(), attempt });
        }
    }

    pub(super) fn checked(
        &mut self,
        service: &ServiceName,
        receipt: ObjectId,
        result: Result<Box<ManifestSlice>, CheckFailure>,
        now: Time,
    ) {
        if !self.phase.takes_slices() {
            return;
        }
        let began = self.began;
        let Some(member) = self.members.get_mut(service) else { return };
        let attempt = match member.phase {
            MemberPhase::Checking { receipt: current, attempt, .. } if current == receipt => attempt,
            MemberPhase::Queued
            | MemberPhase::Waiting
            | MemberPhase::Working
            | MemberPhase::Holding
            | MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_)
            | MemberPhase::Absent(_) => return,
        };
        let acknowledge = |verdict| Effect::Acknowledge {
            service: service.clone(),
            attempt,
            receipt: Some(receipt),
            verdict,
        };
        match result {
            Ok(mut slice) => {
                slice.attempts = member.attempt;
                slice.timing = Some(member.timing(began, now));
                slice.tries.clone_from(&member.tries);
                member.phase = MemberPhase::Stored(slice);
                self.unsettled -= 1;
                self.effects.push_back(acknowledge(Verdict::Accepted));
                self.timers.disarm(&Deadline::Service(service.clone()));
                self.go_on(service, now);
            }
            Err(CheckFailure::Refused(failure)) => {
                member.refused = Some((receipt, failure.reason.clone()));
                self.effects.push_back(acknowledge(Verdict::Refused { reason: failure.reason.clone() }));
                self.retry_or_give_up(service, failure, now);
            }
            Err(CheckFailure::Unavailable { .. }) => {
                member.rechecks += 1;
                let rechecks = member.rechecks;
                let random = self.next_random();
                let wait = self.policy.retry.delay(rechecks, random);
                self.timers.arm(Deadline::Recheck(service.clone()), now.after(wait));
            }
        }
    }

    pub(super) fn disowned(&mut self, service: &ServiceName, failure: Failure, now: Time) {
        let Some(member) = self.members.get_mut(service) else { return };
        let stored = matches!(member.phase, MemberPhase::Stored(_));
        if matches!(member.phase, MemberPhase::Absent(_)) {
            return;
        }
        match self.phase {
            Phase::Opening if !failure.permanent => {}
            Phase::Opening | Phase::Gathering | Phase::Capturing => {
                self.unsettled += usize::from(stored);
                self.retry_or_give_up(service, failure, now);
            }
            // Its slice is in the manifest that was to be committed: there must be another one without it.
            // One is being written: its answer could not be told from that to another, so this is waited for.
            Phase::Writing if stored && self.draft != Draft::None => {
                member.phase = MemberPhase::Absent(failure);
                self.draft = Draft::Outdated;
            }
            Phase::Writing | Phase::Committing { .. } if stored => {
                member.phase = MemberPhase::Absent(failure);
                self.conclude();
            }
            Phase::Writing
            | Phase::Committing { .. }
            | Phase::Verifying { .. }
            | Phase::Confirming { .. }
            | Phase::Ending { .. }
            | Phase::Ended { .. } => {}
        }
    }

    pub(super) fn retry_or_give_up(&mut self, service: &ServiceName, failure: Failure, now: Time) {
        self.timers.disarm_service(service);
        let (random, began, retry) = (self.next_random(), self.began, self.policy.retry);
        let Some(member) = self.members.get_mut(service) else { return };
        // Agents say which attempt they are at, so it may be any number.
        let next = member.attempt.saturating_add(1);
        if failure.permanent || member.expired || !member.allows(next, retry.allows(next)) {
            return self.give_up(service, failure, now);
        }
        member.note(&failure, began, now);
        let wait = retry.delay(member.attempt, random);
        member.attempt = next;
        if let Some(cut) = &mut self.cut {
            cut.begins_anew(service);
            // Once the capture is announced, the account says who has no place.
            if self.phase == Phase::Gathering && member.is_needed() {
                cut.lose(service, &format!("{} {}", failure.code, failure.reason));
            }
        }
        member.phase = MemberPhase::BackingOff { failure };
        self.timers.arm(Deadline::Backoff(service.clone()), now.after(wait));
        self.go_on(service, now);
    }

    pub(super) fn give_up(&mut self, service: &ServiceName, failure: Failure, now: Time) {
        self.timers.disarm_service(service);
        self.timers.disarm(&Deadline::Service(service.clone()));
        let began = self.began;
        if let Some(member) = self.members.get_mut(service) {
            member.note(&failure, began, now);
            if self.phase == Phase::Gathering
                && member.is_needed()
                && let Some(cut) = &mut self.cut
            {
                cut.lose(service, &format!("{} {}", failure.code, failure.reason));
            }
            if member.phase == MemberPhase::Queued {
                self.queued -= 1;
            }
            member.phase = MemberPhase::Absent(failure);
            self.unsettled -= 1;
        }
        self.go_on(service, now);
    }

    /// A service has been through an attempt: the cut, the next tier or the round may go on.
    fn go_on(&mut self, service: &ServiceName, now: Time) {
        self.tried(service);
        self.gather(now);
        self.advance_tiers(now);
        self.settle();
    }
}
