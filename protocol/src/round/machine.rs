//! The machine itself: the phases of a round as a whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::alert::Code;
use crate::document::{Excuse, ManifestSlice};
use crate::ids::ServiceName;
use crate::log::Outcome;
use crate::message::CutOrder;
use crate::retry::Retry;
use crate::round::cut::{Cut, CutPolicy};
use crate::round::event::{Deadline, Effect, Event, Failure};
use crate::round::member::{Member, MemberPhase, MemberView};
use crate::round::phase::Phase;
use crate::round::timers::Timers;
use crate::service_policy::ServicePolicy;
use crate::time::Time;
use crate::units::format_duration;

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
    /// How long a tier may keep the next one waiting.
    pub tier_wait: Duration,
    /// The cut, if there is to be one.
    pub cut: Option<CutPolicy>,
}

/// How a machine begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A new round: the `open` record is yet to be appended.
    Fresh,
    /// A round that the log says is open: another leader, or this one before it stopped, began it.
    Resume,
}

/// A manifest on its way to the share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Draft {
    /// None is.
    None,
    /// It is being written.
    Out,
    /// It is being written, and holds what does not count any more.
    Outdated,
}

/// The coordinator's side of one round.
#[derive(Debug)]
pub struct Machine {
    pub(super) policy: Policy,
    pub(super) phase: Phase,
    pub(super) members: BTreeMap<ServiceName, Member>,
    pub(super) unsettled: usize,
    /// The highest tier that has begun, services that wait for theirs, and those that are at their first attempt.
    pub(super) tier: u8,
    pub(super) queued: usize,
    pub(super) first_tries: usize,
    /// Grows with every tier that begins.
    pub(super) turn: u32,
    pub(super) cut: Option<Cut>,
    /// Services that the cut waits for.
    pub(super) awaited: BTreeSet<ServiceName>,
    pub(super) timers: Timers,
    pub(super) effects: VecDeque<Effect>,
    pub(super) began: Time,
    deadline: Time,
    stage_failures: u32,
    pub(super) draft: Draft,
    random: u64,
}

impl Machine {
    /// The machine of a round over `services` and what is expected of each, at `now`. `seed` is random and spreads the
    /// retries. A cut that another leader was about to make is broken: nobody knows any more who held.
    #[must_use]
    pub fn start(
        start: Start,
        services: impl IntoIterator<Item = (ServiceName, ServicePolicy)>,
        policy: Policy,
        seed: u64,
        now: Time,
    ) -> Self {
        let members: BTreeMap<_, _> =
            services.into_iter().map(|(service, expected)| (service, Member::new(expected, now))).collect();
        let mut machine = Self {
            policy,
            phase: Phase::Opening,
            unsettled: members.len(),
            members,
            tier: 0,
            queued: 0,
            first_tries: 0,
            turn: 0,
            cut: policy.cut.map(Cut::new),
            awaited: BTreeSet::new(),
            timers: Timers::default(),
            effects: VecDeque::new(),
            began: now,
            deadline: now.after(policy.deadline),
            stage_failures: 0,
            draft: Draft::None,
            random: seed,
        };
        machine.timers.arm(Deadline::Round, machine.deadline);
        match start {
            Start::Fresh => machine.effects.push_back(Effect::AppendOpen),
            Start::Resume => {
                if let Some(cut) = &mut machine.cut {
                    cut.break_it(|| "another coordinator took the lead before it was made".to_owned());
                }
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
            machine
                .members
                .insert(service, Member { phase, attempt, ..Member::new(ServicePolicy::default(), now) });
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
            Event::AtWork { service, stage } => self.at_work(&service, stage, now),
            Event::Quiesced { service, attempt } => self.quiesced(&service, attempt, now),
            Event::Snapped { service, attempt, nonce } => self.snapped(&service, attempt, nonce, now),
            Event::Stored { service, attempt, receipt, receipt_size } => {
                self.stored(&service, attempt, receipt, receipt_size, now);
            }
            Event::Failed { service, attempt, failure } => self.failed(&service, attempt, failure, now),
            Event::Checked { service, receipt, result } => self.checked(&service, receipt, result, now),
            Event::ManifestWritten { .. }
                if self.phase == Phase::Writing && self.draft == Draft::Outdated =>
            {
                self.conclude();
            }
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
            Event::StageFailed { .. } if self.phase == Phase::Writing && self.draft == Draft::Outdated => {
                self.conclude();
            }
            Event::StageFailed { .. } => {
                self.draft = Draft::None;
                if !matches!(self.phase, Phase::Gathering | Phase::Capturing | Phase::Ended { .. }) {
                    self.stage_failures += 1;
                    let random = self.next_random();
                    let wait = self.policy.retry.delay(self.stage_failures, random);
                    self.timers.arm(Deadline::Stage, now.after(wait));
                }
            }
            Event::Disowned { service, failure } => self.disowned(&service, failure, now),
            Event::Cancel { reason } => {
                if self.can_be_cancelled() {
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
        self.members.iter().map(|(service, member)| member.view(service))
    }

    /// One service's place.
    #[must_use]
    pub fn member(&self, service: &ServiceName) -> Option<MemberView<'_>> {
        self.members.get_key_value(service).map(|(service, member)| member.view(service))
    }

    /// Whether the agent of `service` may be at this attempt; one that nobody ordered is not believed.
    #[must_use]
    pub fn may_be_at(&self, service: &ServiceName, attempt: u32) -> bool {
        self.members.get(service).is_some_and(|member| member.may_be_at(attempt, self.policy.retry))
    }

    /// How long until the deadline.
    #[must_use]
    pub fn remaining(&self, now: Time) -> Duration {
        self.deadline.since(now)
    }

    /// Whether agents should still work for this round.
    #[must_use]
    pub fn wants_slices(&self) -> bool {
        self.phase.takes_slices()
    }

    /// Whether an operator can still end the round: its commit is not under way.
    #[must_use]
    pub fn can_be_cancelled(&self) -> bool {
        self.phase.takes_slices() || matches!(self.phase, Phase::Opening | Phase::Writing)
    }

    /// Grows whenever further services may begin.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.turn
    }

    /// What the cut asks of the agents now; none: there is no cut, or it is broken.
    #[must_use]
    pub fn cut_order(&self) -> Option<CutOrder> {
        self.cut.as_ref().and_then(Cut::order)
    }

    /// Why the cut is broken, if it is.
    #[must_use]
    pub fn cut_broken(&self) -> Option<&str> {
        self.cut.as_ref().and_then(Cut::broken)
    }

    fn begin(&mut self, now: Time) {
        self.open_first_tier(now);
        match &self.cut {
            Some(cut) if cut.broken().is_none() => {
                self.timers.arm(Deadline::Barrier, self.began.after(cut.barrier()));
                self.await_members();
                self.enter(Phase::Gathering);
                self.gather(now);
            }
            Some(_) | None => self.enter(Phase::Capturing),
        }
        self.settle();
    }

    /// Whom the cut waits for: those that it needs, or all where it needs nobody.
    fn await_members(&mut self) {
        let unsettled = |needed: bool| {
            let members = self.members.iter().filter(move |(_, member)| !needed || member.is_needed());
            members
                .filter(|(_, member)| !member.phase.is_settled())
                .map(|(service, _)| service.clone())
                .collect()
        };
        self.awaited = unsettled(true);
        if self.awaited.is_empty() {
            self.awaited = unsettled(false);
        }
    }

    /// Announces the capture once nobody is waited for any more, or the cut is broken.
    pub(super) fn gather(&mut self, now: Time) {
        let broken = self.cut_broken().is_some();
        if self.phase == Phase::Gathering && (broken || self.awaited.is_empty()) {
            self.announce(now);
        }
    }

    fn announce(&mut self, now: Time) {
        self.timers.disarm(&Deadline::Barrier);
        self.awaited.clear();
        let Some(cut) = &mut self.cut else { return };
        for (service, member) in &mut self.members {
            if member.phase == MemberPhase::Holding {
                member.phase = MemberPhase::Working;
            }
            if member.is_needed() && !cut.is_held(service) {
                cut.lose(service, &format!("it was {} when the capture was announced", member.phase.word()));
            }
        }
        cut.announce(now);
        self.enter(Phase::Capturing);
        self.settle();
    }

    /// Goes on to the manifest once nothing more is expected of anyone.
    pub(super) fn settle(&mut self) {
        if self.phase.takes_slices() && self.unsettled == 0 {
            self.conclude();
        }
    }

    /// Goes on with what there is: to a manifest of it, or to the end where there is nothing.
    pub(super) fn conclude(&mut self) {
        if self.members.values().any(|member| member.phase.slice().is_some()) {
            return self.enter(Phase::Writing);
        }
        let told = |excused: bool| {
            let members = self.members.iter().filter(move |(_, m)| m.excuse().is_some() == excused);
            members
                .filter_map(|(service, m)| {
                    m.phase.failure().map(|f| format!("{service}: {} {}", f.code, f.reason))
                })
                .next()
        };
        let nobody = !self.members.is_empty()
            && self.members.values().all(|member| member.excuse() == Some(Excuse::NotPresent));
        let (outcome, reason) = if nobody {
            (Outcome::Skipped, "none of its services is present".to_owned())
        } else {
            let reason = told(false).or_else(|| told(true));
            (Outcome::Failed, reason.unwrap_or_else(|| "no service is in its scope".to_owned()))
        };
        self.enter(Phase::Ending { outcome, reason });
    }

    fn enter(&mut self, phase: Phase) {
        let leaving_capture = self.phase.takes_slices() && !phase.takes_slices();
        let over = matches!(phase, Phase::Ended { .. });
        self.phase = phase;
        self.stage_failures = 0;
        self.draft = Draft::None;
        if leaving_capture || over {
            self.timers.clear();
        }
        self.timers.disarm(&Deadline::Stage);
        match self.phase {
            Phase::Gathering | Phase::Capturing | Phase::Verifying { .. } | Phase::Ended { .. } => {
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
            Phase::Gathering | Phase::Capturing => return,
            Phase::Writing => {
                self.draft = Draft::Out;
                let outcome = self.outcome();
                let (slices, absent) = self.account();
                Effect::WriteManifest { outcome, slices, absent, cut: self.cut_account() }
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
                let (outcome, reason) = (*outcome, reason.clone());
                let (slices, absent) = self.account();
                Effect::AppendEnd { outcome, reason, slices, absent, cut: self.cut_account() }
            }
            Phase::Ended { .. } => Effect::Finished,
        };
        self.effects.push_back(effect);
    }

    fn expire(&mut self, deadline: Deadline, now: Time) {
        match deadline {
            Deadline::Recruit(service) => {
                let reason = format!("no hello within {}", format_duration(self.policy.recruit));
                let away = self.members.get(&service).is_some_and(|m| m.excuse() == Some(Excuse::NotPresent));
                if away {
                    let failure = Failure { code: Code::Agent01, reason, permanent: true };
                    return self.give_up(&service, failure, now);
                }
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
                let reason =
                    format!("silent for {} in mid-slice", format_duration(self.policy.offline_after));
                self.retry_or_give_up(
                    &service,
                    Failure { code: Code::Agent02, reason, permanent: false },
                    now,
                );
            }
            Deadline::Service(service) => {
                let Some(member) = self.members.get_mut(&service) else { return };
                member.expired = true;
                // A check that runs is let finish: the slice is there.
                if !member.phase.is_settled() && !matches!(member.phase, MemberPhase::Checking { .. }) {
                    let limit = member.policy.deadline.map(format_duration).unwrap_or_default();
                    let reason = format!("its own deadline of {limit} passed while {}", member.stage(now));
                    self.give_up(&service, Failure { code: Code::Round02, reason, permanent: true }, now);
                }
            }
            Deadline::Barrier => {
                if self.phase == Phase::Gathering {
                    self.announce(now);
                }
            }
            Deadline::Tier => {
                self.open_next_tier(now);
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
            Deadline::Round => self.deadline_passed(now),
        }
    }

    /// The round's time is over: what is there is committed, everything else is absent with its slowest stage.
    fn deadline_passed(&mut self, now: Time) {
        match self.phase {
            Phase::Opening => {
                let reason = "ROUND-02 the share took no open record before the deadline".to_owned();
                self.enter(Phase::Ending { outcome: Outcome::Failed, reason });
                return;
            }
            Phase::Gathering | Phase::Capturing => {}
            Phase::Writing
            | Phase::Committing { .. }
            | Phase::Verifying { .. }
            | Phase::Confirming { .. }
            | Phase::Ending { .. }
            | Phase::Ended { .. } => return,
        }
        for member in self.members.values_mut() {
            if member.phase.is_settled() {
                continue;
            }
            let reason = format!("deadline passed while {}", member.stage(now));
            member.phase = MemberPhase::Absent(Failure { code: Code::Round02, reason, permanent: true });
        }
        self.unsettled = 0;
        self.settle();
    }

    /// splitmix64 (Steele, Lea, Flood 2014): spreads retries, guards nothing.
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
