//! The machine itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::alert::Code;
use crate::document::{Absentee, ManifestSlice};
use crate::ids::{ObjectId, ServiceName};
use crate::log::Outcome;
use crate::message::Verdict;
use crate::retry::Retry;
use crate::round::event::{CheckFailure, Deadline, Effect, Event, Failure};
use crate::round::member::{Member, MemberPhase, MemberView};
use crate::round::phase::Phase;
use crate::round::timers::Timers;
use crate::time::Time;

/// How patient a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// From opening to the deadline.
    pub deadline: Duration,
    /// How long an agent may take to say hello.
    pub recruit: Duration,
    /// How long a working agent may be silent.
    pub offline_after: Duration,
    /// Attempts per service and the delays between them.
    pub retry: Retry,
}

/// How a machine begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A new round: the `open` record is yet to be appended.
    Fresh,
    /// A round that the log says is open: another leader, or this one before it stopped, began it.
    Resume,
}

/// The coordinator's side of one round.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    phase: Phase,
    members: BTreeMap<ServiceName, Member>,
    unsettled: usize,
    timers: Timers,
    effects: VecDeque<Effect>,
    deadline: Time,
    stage_failures: u32,
    random: u64,
}

impl Machine {
    /// The machine of a round over `services`, at `now`. `seed` is random and spreads the retries.
    #[must_use]
    pub fn start(
        start: Start,
        services: impl IntoIterator<Item = ServiceName>,
        policy: Policy,
        seed: u64,
        now: Time,
    ) -> Self {
        let member =
            Member { phase: MemberPhase::Waiting, attempt: 1, seen: now, rechecks: 0, refused: None };
        let members: BTreeMap<_, _> = services.into_iter().map(|service| (service, member.clone())).collect();
        let mut machine = Self {
            policy,
            phase: Phase::Opening,
            unsettled: members.len(),
            members,
            timers: Timers::default(),
            effects: VecDeque::new(),
            deadline: now.after(policy.deadline),
            stage_failures: 0,
            random: seed,
        };
        machine.timers.arm(Deadline::Round, machine.deadline);
        match start {
            Start::Fresh => machine.effects.push_back(Effect::AppendOpen),
            Start::Resume => {
                machine.begin(now);
                machine.effects.push_back(Effect::FindReceipts);
            }
        }
        machine
    }

    /// The machine of a round that the log says is committed but not verified: it reads the new objects again.
    /// `slices` are the manifest's.
    #[must_use]
    pub fn verify(
        outcome: Outcome,
        slices: impl IntoIterator<Item = ManifestSlice>,
        policy: Policy,
        seed: u64,
        now: Time,
    ) -> Self {
        let mut machine = Self::start(Start::Fresh, [], policy, seed, now);
        machine.effects.clear();
        machine.timers.disarm(&Deadline::Round);
        for slice in slices {
            let (service, attempt) = (slice.service.clone(), slice.attempts);
            let phase = MemberPhase::Stored(Box::new(slice));
            machine.members.insert(service, Member { phase, attempt, seen: now, rechecks: 0, refused: None });
        }
        machine.enter(Phase::Verifying { outcome });
        machine
    }

    /// Takes an event in. Events that do not fit the phase change nothing: messages come late, twice and out of order.
    pub fn handle(&mut self, event: Event, now: Time) {
        match event {
            Event::Opened if self.phase == Phase::Opening => self.begin(now),
            Event::Hello { service, attempt } => self.hello(&service, attempt, now),
            Event::Seen { service } => self.seen(&service, now),
            Event::Stored { service, attempt, receipt, receipt_size } => {
                self.stored(&service, attempt, receipt, receipt_size, now);
            }
            Event::Failed { service, attempt, failure } => self.failed(&service, attempt, failure, now),
            Event::Checked { service, receipt, result } => self.checked(&service, receipt, result, now),
            Event::ManifestWritten { manifest, manifest_size } if self.phase == Phase::Writing => {
                let outcome = self.outcome();
                self.enter(Phase::Committing { outcome, manifest, manifest_size });
            }
            Event::Committed => {
                if let Phase::Committing { outcome, .. } = self.phase {
                    self.enter(Phase::Verifying { outcome });
                }
            }
            Event::Reread { objects, bytes } => {
                if let Phase::Verifying { outcome } = self.phase {
                    self.enter(Phase::Confirming { outcome, objects, bytes });
                }
            }
            Event::RereadFailed { .. } => {
                if let Phase::Verifying { outcome } = self.phase {
                    self.enter(Phase::Ended { outcome, verified: false });
                }
            }
            Event::VerifiedAppended => {
                if let Phase::Confirming { outcome, .. } = self.phase {
                    self.enter(Phase::Ended { outcome, verified: true });
                }
            }
            Event::EndAppended => {
                if let Phase::Ending { outcome, .. } = self.phase {
                    self.enter(Phase::Ended { outcome, verified: false });
                }
            }
            Event::StageFailed { .. } => {
                if !matches!(self.phase, Phase::Capturing | Phase::Ended { .. }) {
                    self.stage_failures += 1;
                    let random = self.next_random();
                    let wait = self.policy.retry.delay(self.stage_failures, random);
                    self.timers.arm(Deadline::Stage, now.after(wait));
                }
            }
            Event::Disowned { service, failure } => self.disowned(&service, failure, now),
            Event::Cancel { reason } => {
                if matches!(self.phase, Phase::Opening | Phase::Capturing | Phase::Writing) {
                    self.enter(Phase::Ending { outcome: Outcome::Cancelled, reason });
                }
            }
            Event::Opened | Event::ManifestWritten { .. } => {}
        }
    }

    /// Lets every deadline at or before `now` act.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((due, deadline)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.disarm(&deadline);
            self.expire(deadline, now);
        }
    }

    /// The next point in time at which [`Machine::handle_timeout`] must be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Deadline)> {
        self.timers.first()
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// How far the round is.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Every service's place, sorted by name.
    pub fn members(&self) -> impl Iterator<Item = MemberView<'_>> {
        self.members.iter().map(|(service, m)| MemberView { service, phase: &m.phase, attempt: m.attempt })
    }

    /// How long until the deadline.
    #[must_use]
    pub fn remaining(&self, now: Time) -> Duration {
        self.deadline.since(now)
    }

    /// Whether agents should still work for this round.
    #[must_use]
    pub fn wants_slices(&self) -> bool {
        self.phase == Phase::Capturing
    }

    fn begin(&mut self, now: Time) {
        self.enter(Phase::Capturing);
        let due = now.after(self.policy.recruit);
        for (service, member) in &self.members {
            if !member.phase.is_settled() {
                self.timers.arm(Deadline::Recruit(service.clone()), due);
            }
        }
        self.settle();
    }

    fn hello(&mut self, service: &ServiceName, attempt: u32, now: Time) {
        let capturing = self.phase == Phase::Capturing;
        let Some(member) = self.members.get_mut(service) else { return };
        member.seen = now;
        let wanted = match &member.phase {
            MemberPhase::Waiting | MemberPhase::Working if capturing => {
                // An agent that was asked twice, or that a former leader asked, may be ahead.
                member.attempt = member.attempt.max(attempt);
                member.phase = MemberPhase::Working;
                Some(member.attempt)
            }
            MemberPhase::BackingOff { .. } if capturing && attempt >= member.attempt => {
                member.attempt = attempt;
                member.phase = MemberPhase::Working;
                Some(attempt)
            }
            MemberPhase::Waiting
            | MemberPhase::Working
            | MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_)
            | MemberPhase::Absent(_) => None,
        };
        if wanted.is_some() {
            self.timers.disarm_service(service);
            self.timers.arm(Deadline::Silence(service.clone()), now.after(self.policy.offline_after));
        }
        self.effects.push_back(Effect::Welcome { service: service.clone(), attempt: wanted });
    }

    fn seen(&mut self, service: &ServiceName, now: Time) {
        if let Some(member) = self.members.get_mut(service) {
            member.seen = now;
        }
    }

    fn stored(
        &mut self,
        service: &ServiceName,
        attempt: u32,
        receipt: ObjectId,
        receipt_size: u64,
        now: Time,
    ) {
        let capturing = self.phase == Phase::Capturing;
        let Some(member) = self.members.get_mut(service) else { return };
        member.seen = now;
        let verdict = match &member.phase {
            MemberPhase::Waiting | MemberPhase::Working | MemberPhase::BackingOff { .. } if capturing => {
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
            MemberPhase::Waiting
            | MemberPhase::Working
            | MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_)
            | MemberPhase::Absent(_) => Verdict::Over,
        };
        let service = service.clone();
        self.effects.push_back(Effect::Acknowledge { service, attempt, receipt: Some(receipt), verdict });
    }

    fn check(&mut self, service: &ServiceName, attempt: u32, receipt: ObjectId, receipt_size: u64) {
        self.timers.disarm_service(service);
        let Some(member) = self.members.get_mut(service) else { return };
        member.attempt = member.attempt.max(attempt);
        member.phase = MemberPhase::Checking { receipt, receipt_size, attempt };
        member.rechecks = 0;
        self.effects.push_back(Effect::Check { service: service.clone(), receipt, receipt_size, attempt });
    }

    fn failed(&mut self, service: &ServiceName, attempt: u32, failure: Failure, now: Time) {
        let Some(member) = self.members.get_mut(service) else { return };
        member.seen = now;
        let verdict = Verdict::Accepted;
        self.effects.push_back(Effect::Acknowledge {
            service: service.clone(),
            attempt,
            receipt: None,
            verdict,
        });
        let working = match member.phase {
            MemberPhase::Waiting | MemberPhase::Working => self.phase == Phase::Capturing,
            MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_)
            | MemberPhase::Absent(_) => false,
        };
        if working && attempt >= member.attempt {
            member.attempt = attempt;
            self.retry_or_give_up(service, failure, now);
        } else if working {
            // Late, or from an agent that was started anew and never heard of the attempt that is wanted.
            let attempt = member.attempt;
            self.effects.push_back(Effect::PublishRetry { service: service.clone(), attempt });
        }
    }

    fn checked(
        &mut self,
        service: &ServiceName,
        receipt: ObjectId,
        result: Result<ManifestSlice, CheckFailure>,
        now: Time,
    ) {
        if self.phase != Phase::Capturing {
            return;
        }
        let Some(member) = self.members.get_mut(service) else { return };
        let attempt = match member.phase {
            MemberPhase::Checking { receipt: current, attempt, .. } if current == receipt => attempt,
            MemberPhase::Waiting
            | MemberPhase::Working
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
                member.phase = MemberPhase::Stored(Box::new(slice));
                self.unsettled -= 1;
                self.effects.push_back(acknowledge(Verdict::Accepted));
                self.settle();
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

    fn disowned(&mut self, service: &ServiceName, failure: Failure, now: Time) {
        let Some(member) = self.members.get_mut(service) else { return };
        let stored = matches!(member.phase, MemberPhase::Stored(_));
        if matches!(member.phase, MemberPhase::Absent(_)) {
            return;
        }
        match self.phase {
            Phase::Opening if !failure.permanent => {}
            Phase::Opening | Phase::Capturing => {
                self.unsettled += usize::from(stored);
                self.retry_or_give_up(service, failure, now);
            }
            // Its slice is in the manifest that was to be committed: there must be another one without it.
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

    fn retry_or_give_up(&mut self, service: &ServiceName, failure: Failure, now: Time) {
        self.timers.disarm_service(service);
        let random = self.next_random();
        let Some(member) = self.members.get_mut(service) else { return };
        // Agents say which attempt they are at, so it may be any number.
        let next = member.attempt.saturating_add(1);
        if failure.permanent || !self.policy.retry.allows(next) {
            self.give_up(service, failure);
            return;
        }
        let wait = self.policy.retry.delay(member.attempt, random);
        member.attempt = next;
        member.phase = MemberPhase::BackingOff { failure };
        self.timers.arm(Deadline::Backoff(service.clone()), now.after(wait));
    }

    fn give_up(&mut self, service: &ServiceName, failure: Failure) {
        if let Some(member) = self.members.get_mut(service) {
            member.phase = MemberPhase::Absent(failure);
            self.unsettled -= 1;
        }
        self.settle();
    }

    /// Goes on to the manifest once nothing more is expected of anyone.
    fn settle(&mut self) {
        if self.phase == Phase::Capturing && self.unsettled == 0 {
            self.conclude();
        }
    }

    /// Goes on with what there is: to a manifest of it, or to the end where there is nothing.
    fn conclude(&mut self) {
        let mut failures = self.members.iter().filter_map(|(service, m)| match &m.phase {
            MemberPhase::Absent(failure) => Some(format!("{service}: {} {}", failure.code, failure.reason)),
            MemberPhase::Waiting
            | MemberPhase::Working
            | MemberPhase::Checking { .. }
            | MemberPhase::BackingOff { .. }
            | MemberPhase::Stored(_) => None,
        });
        let first = failures.next();
        let absent = usize::from(first.is_some()) + failures.count();
        if absent < self.members.len() {
            self.enter(Phase::Writing);
        } else {
            let reason = first.unwrap_or_else(|| "no service is in its scope".to_owned());
            self.enter(Phase::Ending { outcome: Outcome::Failed, reason });
        }
    }

    fn enter(&mut self, phase: Phase) {
        let leaving_capture = self.phase == Phase::Capturing;
        let over = matches!(phase, Phase::Ended { .. });
        self.phase = phase;
        self.stage_failures = 0;
        if leaving_capture || over {
            self.timers.clear();
        }
        self.timers.disarm(&Deadline::Stage);
        match self.phase {
            Phase::Capturing | Phase::Verifying { .. } | Phase::Ended { .. } => {
                self.effects.push_back(Effect::Publish);
            }
            Phase::Opening
            | Phase::Writing
            | Phase::Committing { .. }
            | Phase::Confirming { .. }
            | Phase::Ending { .. } => {}
        }
        self.ask();
    }

    /// Asks for what the phase waits for.
    fn ask(&mut self) {
        let effect = match &self.phase {
            Phase::Opening => Effect::AppendOpen,
            Phase::Capturing => return,
            Phase::Writing => {
                let outcome = self.outcome();
                let (slices, absent) = self.account();
                Effect::WriteManifest { outcome, slices, absent }
            }
            Phase::Committing { outcome, manifest, manifest_size } => {
                let (outcome, manifest, manifest_size) = (*outcome, *manifest, *manifest_size);
                Effect::AppendCommit { outcome, manifest, manifest_size }
            }
            Phase::Verifying { .. } => Effect::Reread { slices: self.account().0 },
            Phase::Confirming { objects, bytes, .. } => {
                Effect::AppendVerified { objects: *objects, bytes: *bytes }
            }
            Phase::Ending { outcome, reason } => {
                Effect::AppendEnd { outcome: *outcome, reason: reason.clone() }
            }
            Phase::Ended { .. } => Effect::Finished,
        };
        self.effects.push_back(effect);
    }

    fn outcome(&self) -> Outcome {
        if self.members.values().all(|m| matches!(m.phase, MemberPhase::Stored(_))) {
            Outcome::Complete
        } else {
            Outcome::Partial
        }
    }

    fn account(&self) -> (Vec<ManifestSlice>, Vec<Absentee>) {
        let (mut slices, mut absent) = (Vec::new(), Vec::new());
        for (service, member) in &self.members {
            match &member.phase {
                MemberPhase::Stored(slice) => slices.push(slice.as_ref().clone()),
                MemberPhase::Absent(failure) => absent.push(Absentee {
                    service: service.clone(),
                    attempts: member.attempt,
                    code: failure.code,
                    reason: failure.reason.clone(),
                }),
                MemberPhase::Waiting
                | MemberPhase::Working
                | MemberPhase::Checking { .. }
                | MemberPhase::BackingOff { .. } => {}
            }
        }
        (slices, absent)
    }

    fn expire(&mut self, deadline: Deadline, now: Time) {
        match deadline {
            Deadline::Recruit(service) => {
                let reason = format!("no hello within {} s", self.policy.recruit.as_secs_f32());
                self.retry_or_give_up(
                    &service,
                    Failure { code: Code::Agent01, reason, permanent: false },
                    now,
                );
            }
            Deadline::Silence(service) => {
                let Some(member) = self.members.get(&service) else { return };
                let due = member.seen.after(self.policy.offline_after);
                if due > now {
                    self.timers.arm(Deadline::Silence(service), due);
                    return;
                }
                let reason = format!("silent for {} s in mid-slice", self.policy.offline_after.as_secs_f32());
                self.retry_or_give_up(
                    &service,
                    Failure { code: Code::Agent02, reason, permanent: false },
                    now,
                );
            }
            Deadline::Backoff(service) => {
                let Some(member) = self.members.get_mut(&service) else { return };
                member.phase = MemberPhase::Waiting;
                let attempt = member.attempt;
                self.timers.arm(Deadline::Recruit(service.clone()), now.after(self.policy.recruit));
                self.effects.push_back(Effect::PublishRetry { service, attempt });
            }
            Deadline::Recheck(service) => {
                let Some(member) = self.members.get(&service) else { return };
                if let MemberPhase::Checking { receipt, receipt_size, attempt } = member.phase {
                    self.effects.push_back(Effect::Check { service, receipt, receipt_size, attempt });
                }
            }
            Deadline::Stage => self.ask(),
            Deadline::Round => self.deadline_passed(),
        }
    }

    /// The round's time is over: what is there is committed, everything else is absent with its slowest stage.
    fn deadline_passed(&mut self) {
        match self.phase {
            Phase::Opening => {
                let reason = "ROUND-02 the share took no open record before the deadline".to_owned();
                self.enter(Phase::Ending { outcome: Outcome::Failed, reason });
                return;
            }
            Phase::Capturing => {}
            Phase::Writing
            | Phase::Committing { .. }
            | Phase::Verifying { .. }
            | Phase::Confirming { .. }
            | Phase::Ending { .. }
            | Phase::Ended { .. } => return,
        }
        for member in self.members.values_mut() {
            let reason = match &member.phase {
                MemberPhase::Stored(_) | MemberPhase::Absent(_) => continue,
                MemberPhase::BackingOff { failure } => {
                    format!(
                        "deadline passed while waiting to retry after: {} {}",
                        failure.code, failure.reason
                    )
                }
                MemberPhase::Waiting | MemberPhase::Working | MemberPhase::Checking { .. } => {
                    format!("deadline passed while {}", member.phase.word())
                }
            };
            member.phase = MemberPhase::Absent(Failure { code: Code::Round02, reason, permanent: true });
        }
        self.unsettled = 0;
        self.settle();
    }

    /// splitmix64 (Steele, Lea, Flood 2014): spreads retries, guards nothing.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
