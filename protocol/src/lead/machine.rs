//! The machine itself.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::{KeyId, Nonce};
use crate::lead::event::{Deadline, Effect, Event, Stop};
use crate::lead::lease::Lease;
use crate::lead::vacancy::Vacancy;
use crate::lead::view::{EpochView, LogView};
use crate::time::Time;

/// Takeovers without an ended round double the wait for the next one, up to this often.
const MAX_DOUBLINGS: u32 = 3;
/// The wait after a new epoch is at least this many times the slowest append, or a slow share would see duels.
const SLOWEST_APPENDS: u32 = 10;

/// How patient a coordinator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A lease that was not written for so long is given up. Written every third of it.
    pub lease: Duration,
    /// How long after a new epoch nobody but its holder takes the lead.
    pub takeover: Duration,
    /// How often the log is read on.
    pub look: Duration,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Another coordinator leads, or nobody does yet.
    Follower,
    /// The lease is being written.
    Claiming,
    /// The lease is ours; the log is read again before anything is appended.
    Reading {
        /// Since when the lease is ours.
        since: Time,
    },
    /// The `epoch` record is being appended.
    Appending {
        /// The epoch.
        epoch: u64,
        /// Since when.
        since: Time,
    },
    /// The log says that this process leads.
    Leader {
        /// Its epoch.
        epoch: u64,
    },
    /// For good.
    Stopped(Stop),
}

/// One coordinator's side.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    own: Lease,
    phase: Phase,
    log: Option<LogView>,
    /// Whether this process may go on with its coordinator's own epoch at once: until it has seen another's.
    fresh: bool,
    /// When the newest epoch was first seen.
    epoch_seen: Time,
    doublings: u32,
    slowest_append: Duration,
    vacancy: Vacancy,
    /// The revision that we wrote last, while nobody else has written.
    held: Option<u64>,
    /// A pause after a lost claim: what is read from a replica may be older than what was lost against.
    not_before: Time,
    /// When we last knew that nobody had taken our place.
    proof: Time,
    reading_log: bool,
    asking_lease: bool,
    next_look: Time,
    next_lease: Time,
    effects: VecDeque<Effect>,
    random: u64,
}

impl Machine {
    /// A follower that knows nothing yet. `instance` is this process's own; `seed` is random and spreads candidates.
    #[must_use]
    pub fn start(own: KeyId, instance: Nonce, policy: Policy, seed: u64, now: Time) -> Self {
        let mut machine = Self {
            policy,
            own: Lease::of(own, instance),
            phase: Phase::Follower,
            log: None,
            fresh: true,
            epoch_seen: now,
            doublings: 0,
            slowest_append: Duration::ZERO,
            vacancy: Vacancy::unknown(now),
            held: None,
            not_before: now,
            proof: now,
            reading_log: false,
            asking_lease: false,
            next_look: now,
            next_lease: now,
            effects: VecDeque::new(),
            random: seed,
        };
        machine.read_log(now);
        machine.ask_lease(now);
        machine
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Until when a leader may act without reading the log again; none unless it leads. Whoever acts compares it with
    /// the clock at that very moment: a paused process is past it before any timer of its own can tell.
    #[must_use]
    pub fn trusted_until(&self) -> Option<Time> {
        match self.phase {
            Phase::Leader { .. } => Some(self.proof.after(self.policy.lease)),
            Phase::Follower
            | Phase::Claiming
            | Phase::Reading { .. }
            | Phase::Appending { .. }
            | Phase::Stopped(_) => None,
        }
    }

    /// What a leader that ends in good order writes as its last word on the lease, and the revision that it replaces.
    #[must_use]
    pub fn last_word(&self) -> Option<(u64, Lease)> {
        self.held.map(|revision| (revision, self.own.given_back()))
    }

    /// What is to be done next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Machine::handle_timeout`], and why; none once stopped.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Deadline)> {
        if matches!(self.phase, Phase::Stopped(_)) {
            return None;
        }
        let look = (!self.reading_log).then_some((self.next_look, Deadline::Look));
        let lease = (!self.asking_lease).then_some((self.next_lease, Deadline::Lease));
        let claim = self.claim_at().map(|at| (at, Deadline::Claim));
        look.into_iter().chain(lease).chain(claim).min()
    }

    /// Takes an event in.
    pub fn handle(&mut self, event: Event, now: Time) {
        if matches!(self.phase, Phase::Stopped(_)) {
            return;
        }
        match event {
            Event::LogRead { asked, log } => self.log_read(asked, log, now),
            Event::LogUnread => {
                self.reading_log = false;
                if matches!(self.phase, Phase::Reading { .. }) {
                    self.phase = Phase::Follower;
                }
            }
            Event::LogBroken { reason } => self.stop(Stop::Broken { reason }),
            Event::LeaseRead { seen } => {
                self.asking_lease = false;
                let random = self.draw();
                self.vacancy.saw(seen, now, random);
            }
            Event::LeaseWritten { asked, revision } => self.lease_written(asked, revision, now),
            Event::LeaseLost => {
                self.asking_lease = false;
                self.held = None;
                self.back_from_claim();
                self.not_before = now.after(self.policy.lease / 20);
                self.ask_lease(now);
                // Somebody may be about to take our place.
                self.read_log(now);
            }
            Event::LeaseUnknown => {
                self.asking_lease = false;
                self.vacancy.lose_sight(now);
                self.back_from_claim();
                self.next_lease = now.after(self.policy.lease / 10);
                self.read_log(now);
            }
            Event::Reconnected => self.next_lease = now,
            Event::EpochAppended => {
                if let Phase::Appending { epoch, since } = self.phase {
                    self.slowest_append = self.slowest_append.max(now.since(since));
                    // What the slot says was decided after the append began.
                    self.lead(epoch, since, now);
                }
            }
            Event::EpochLost => {
                if let Phase::Appending { since, .. } = self.phase {
                    self.phase = Phase::Reading { since };
                    self.read_log(now);
                }
            }
            Event::EpochFailed => {
                if let Phase::Appending { since, .. } = self.phase {
                    self.slowest_append = self.slowest_append.max(now.since(since));
                    self.phase = Phase::Follower;
                    self.read_log(now);
                }
            }
        }
        self.claim(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        if matches!(self.phase, Phase::Stopped(_)) {
            return;
        }
        if now >= self.next_look {
            self.read_log(now);
        }
        if now >= self.next_lease {
            self.ask_lease(now);
        }
        self.claim(now);
    }

    fn log_read(&mut self, asked: Time, log: LogView, now: Time) {
        self.reading_log = false;
        self.next_look = now.after(self.policy.look);
        let before = self.log.replace(log);
        if !log.member {
            return self.stop(Stop::Revoked);
        }
        let (current, known) = (epoch_of(Some(log)), epoch_of(before));
        let settled = before.is_some_and(|before| log.settled > before.settled);
        if before.is_none() || current > known {
            self.epoch_seen = now;
            let again = before.is_some() && !settled;
            self.doublings = if again { (self.doublings + 1).min(MAX_DOUBLINGS) } else { 0 };
        } else if settled {
            self.doublings = 0;
        }
        let ours = log.epoch.filter(|e| self.is_ours(e));
        if log.epoch.is_some_and(|e| e.holder != self.own.holder) {
            self.fresh = false;
        }
        match (&self.phase, ours) {
            (Phase::Leader { epoch }, Some(mine)) if mine.epoch == *epoch => {
                self.proof = self.proof.max(asked);
            }
            (Phase::Leader { epoch }, _) if current >= *epoch => {
                self.phase = Phase::Follower;
                self.fresh = false;
                self.effects.push_back(Effect::StepDown { epoch: current });
            }
            // Read before our own record was there.
            (Phase::Leader { .. } | Phase::Appending { .. }, _) => {}
            // An append that was reported as failed got through.
            (Phase::Follower | Phase::Claiming | Phase::Reading { .. }, Some(mine)) => {
                self.lead(mine.epoch, asked, now);
            }
            (Phase::Claiming | Phase::Reading { .. }, None) if current > known => {
                self.phase = Phase::Follower
            }
            (Phase::Reading { since }, None) => {
                if asked < *since {
                    self.read_log(now);
                } else if now < self.proof.after(self.policy.lease) {
                    self.phase = Phase::Appending { epoch: current + 1, since: now };
                    self.effects.push_back(Effect::AppendEpoch { epoch: current + 1 });
                } else {
                    self.phase = Phase::Follower;
                }
            }
            (Phase::Follower | Phase::Claiming | Phase::Stopped(_), _) => {}
        }
    }

    fn lease_written(&mut self, asked: Time, revision: u64, now: Time) {
        self.asking_lease = false;
        self.held = Some(revision);
        self.next_lease = now.after(self.policy.lease / 3);
        let seen = crate::lead::LeaseSeen { revision, lease: Some(self.own) };
        self.vacancy.saw(Some(seen), now, 0);
        match self.phase {
            Phase::Claiming => {
                self.proof = asked;
                self.phase = Phase::Reading { since: asked };
                // What is being read was asked for before: it is read again after that.
                self.read_log(now);
            }
            // Nobody else had the lease in between, so nobody else took the lead by it.
            Phase::Reading { .. } | Phase::Appending { .. } | Phase::Leader { .. } => {
                self.proof = self.proof.max(asked);
            }
            Phase::Follower | Phase::Stopped(_) => {}
        }
    }

    fn lead(&mut self, epoch: u64, proof: Time, now: Time) {
        self.phase = Phase::Leader { epoch };
        self.proof = proof;
        self.next_look = now.after(self.policy.look);
        let own = EpochView { epoch, holder: self.own.holder, instance: self.own.instance, counts: true };
        if let Some(log) = &mut self.log {
            log.epoch = Some(own);
        }
        self.effects.push_back(Effect::Lead { epoch });
        self.ask_lease(now);
    }

    fn is_ours(&self, epoch: &EpochView) -> bool {
        epoch.holder == self.own.holder && epoch.instance == self.own.instance
    }

    fn back_from_claim(&mut self) {
        match self.phase {
            Phase::Claiming | Phase::Reading { .. } => self.phase = Phase::Follower,
            Phase::Follower | Phase::Appending { .. } | Phase::Leader { .. } | Phase::Stopped(_) => {}
        }
    }

    /// When this coordinator may claim the lease, by what it knows now.
    fn claim_at(&self) -> Option<Time> {
        let log = self.log.filter(|_| !self.asking_lease && self.held.is_none())?;
        let free = |at_once| {
            let free = self.vacancy.free_at(&self.own, self.fresh, self.policy.lease, at_once)?;
            Some(free.max(self.not_before))
        };
        match self.phase {
            Phase::Follower => {
                let at_once =
                    log.epoch.is_none_or(|e| !e.counts || e.holder == self.own.holder && self.fresh);
                let patience = self.policy.takeover * (1 << self.doublings);
                let floor = self.epoch_seen.after(patience.max(self.slowest_append * SLOWEST_APPENDS));
                free(at_once).map(|free| if at_once { free } else { free.max(floor) })
            }
            // A leader without the lease takes it back once nobody holds it; it never fights for it.
            Phase::Leader { .. } if self.vacancy.is_unknown() => None,
            Phase::Leader { .. } => free(true),
            Phase::Claiming | Phase::Reading { .. } | Phase::Appending { .. } | Phase::Stopped(_) => None,
        }
    }

    /// Claims the lease if it is free for us.
    fn claim(&mut self, now: Time) {
        if self.claim_at().is_some_and(|at| now >= at) {
            if self.vacancy.is_unknown() {
                self.proof = now;
                self.phase = Phase::Reading { since: now };
                return self.read_log(now);
            }
            if self.phase == Phase::Follower {
                self.phase = Phase::Claiming;
            }
            self.write_lease(self.vacancy.revision(), now);
        }
    }

    /// Looks at the lease, or writes it again if it is ours.
    fn ask_lease(&mut self, now: Time) {
        if self.asking_lease {
            return;
        }
        self.next_lease = now.after(self.policy.lease / 3);
        match (self.held, &self.phase) {
            (Some(_), Phase::Reading { .. } | Phase::Appending { .. } | Phase::Leader { .. }) => {
                self.write_lease(self.held, now);
            }
            // One that we still hold and do not need expires by itself.
            (
                Some(_) | None,
                Phase::Follower
                | Phase::Claiming
                | Phase::Reading { .. }
                | Phase::Appending { .. }
                | Phase::Leader { .. }
                | Phase::Stopped(_),
            ) => {
                self.held = None;
                self.asking_lease = true;
                // Looking costs little, and one that was given back is seen soon.
                self.next_lease = now.after((self.policy.lease / 3).min(self.policy.look));
                self.effects.push_back(Effect::ReadLease);
            }
        }
    }

    fn write_lease(&mut self, expected: Option<u64>, now: Time) {
        self.asking_lease = true;
        self.next_lease = now.after(self.policy.lease / 3);
        self.effects.push_back(Effect::WriteLease { expected, lease: self.own });
    }

    fn read_log(&mut self, now: Time) {
        if !self.reading_log {
            self.reading_log = true;
            self.next_look = now.after(self.policy.look);
            self.effects.push_back(Effect::ReadLog);
        }
    }

    fn stop(&mut self, why: Stop) {
        self.phase = Phase::Stopped(why.clone());
        self.held = None;
        // Whatever was still to be done must not be done any more.
        self.effects.clear();
        self.effects.push_back(Effect::Stop(why));
    }

    /// splitmix64 over the seed: spreads, and is the same on every machine.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn epoch_of(log: Option<LogView>) -> u64 {
    log.and_then(|log| log.epoch).map_or(0, |epoch| epoch.epoch)
}
