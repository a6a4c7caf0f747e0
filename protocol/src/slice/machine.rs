//! The machine itself.

use std::collections::VecDeque;

use crate::ids::{Nonce, RoundId};
use crate::message::{CutOrder, Verdict};
use crate::retry::Retry;
use crate::slice::event::{Deadline, Effect, Event, Reported};
use crate::time::Time;

/// How patient an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Delays between hellos, and between notices, that nobody answers.
    pub resend: Retry,
    /// Whether the service has hooks: then it is held quiesced while its sources are read, in a cut or not.
    pub hooks: bool,
}

/// How far the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing to do.
    Idle,
    /// Hello said, not answered.
    Greeting,
    /// The service is being quiesced.
    Quiescing,
    /// Held for the cut, until the capture is announced.
    Holding,
    /// Capturing.
    Capturing,
    /// Writing the receipt.
    Receipting,
    /// Telling the leader.
    Noticing(Reported),
    /// Told and answered.
    Settled(Reported),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) epoch: u64,
    pub(super) round: RoundId,
    pub(super) attempt: u32,
    /// The highest attempt that this leader has ordered; the agent may be ahead by a former leader's order.
    ordered: u32,
    turn: u32,
    /// What the cut asks for.
    pub(super) cut: Option<CutOrder>,
    pub(super) hold: Hold,
    /// The nonce of the cut that the capture is in, while nothing speaks against it.
    pub(super) place: Option<Nonce>,
    /// Whether every source is read.
    pub(super) read: bool,
    /// Whether the leader knows that the place was kept.
    pub(super) told: bool,
    pub(super) capture: Capture,
}

/// Whether the service is quiesced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Free,
    /// Its hooks run; what they did is not known yet.
    Quiescing,
    Held,
}

/// The capture outlives attempts: a retry of an agent that was only unheard goes on with what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capture {
    NotBegun,
    Running,
    Done,
}

/// The agent's side of one round at a time.
#[derive(Debug)]
pub struct Machine {
    pub(super) policy: Policy,
    pub(super) phase: Phase,
    pub(super) work: Option<Work>,
    resends: u32,
    pub(super) timer: Option<(Time, Deadline)>,
    pub(super) effects: VecDeque<Effect>,
    random: u64,
}

impl Machine {
    /// An idle machine. `seed` is random and spreads the repetitions.
    #[must_use]
    pub fn start(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            phase: Phase::Idle,
            work: None,
            resends: 0,
            timer: None,
            effects: VecDeque::new(),
            random: seed,
        }
    }

    /// Takes an event in. Events of another round or attempt change nothing.
    pub fn handle(&mut self, event: Event, now: Time) {
        match event {
            Event::Order { epoch, round, attempt, turn, cut } => {
                self.order(epoch, round, attempt, turn);
                self.cut(&round, epoch, cut);
            }
            Event::NoOrder => self.stop(),
            Event::Welcomed { round, attempt } => self.welcomed(&round, attempt),
            Event::HelloUnanswered if self.phase == Phase::Greeting => self.resend(Deadline::Hello, now),
            Event::Quiesced { round } => self.quiesced(&round),
            Event::QuiesceFailed { round, code, reason, permanent } => {
                let quiescing = |w: &&mut Work| w.round == round && w.hold == Hold::Quiescing;
                if let Some(work) = self.work.as_mut().filter(quiescing) {
                    work.hold = Hold::Free;
                    if self.phase == Phase::Quiescing {
                        self.notice(Reported::Failed { code, reason, permanent });
                    }
                }
            }
            Event::HoldLost { round } => {
                if let Some(work) = self.work.as_mut().filter(|w| w.round == round && w.hold == Hold::Held) {
                    (work.hold, work.place) = (Hold::Free, None);
                    self.wait_for_place();
                }
            }
            Event::StandingNoted { round, attempt } => self.standing_noted(&round, attempt),
            Event::StandingUnanswered => {
                if self.standing().is_some() {
                    self.resend(Deadline::Standing, now);
                }
            }
            Event::Read { round } => self.read(&round),
            Event::Captured { round } => self.captured(&round),
            Event::CaptureFailed { round, code, reason, permanent } => {
                let receipting = self.phase == Phase::Receipting;
                let current =
                    |w: &&mut Work| w.round == round && (w.capture == Capture::Running || receipting);
                if let Some(work) = self.work.as_mut().filter(current) {
                    (work.capture, work.place) = (Capture::NotBegun, None);
                    self.release();
                    self.notice(Reported::Failed { code, reason, permanent });
                }
            }
            Event::ReceiptWritten { round, attempt, receipt, receipt_size, totals } => {
                if self.phase == Phase::Receipting && self.is_current(&round, attempt) {
                    self.notice(Reported::Stored { receipt, receipt_size, totals });
                }
            }
            Event::Acknowledged { round, attempt, verdict } => self.acknowledged(&round, attempt, &verdict),
            Event::NoticeUnanswered if matches!(self.phase, Phase::Noticing(_)) => {
                self.resend(Deadline::Notice, now)
            }
            Event::HelloUnanswered | Event::NoticeUnanswered => {}
        }
    }

    /// Lets the deadline act if it is at or before `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some((_, deadline)) = self.timer.filter(|(due, _)| *due <= now) {
            self.timer = None;
            match deadline {
                Deadline::Hello | Deadline::Notice => self.ask(),
                Deadline::Standing => self.tell(),
            }
        }
    }

    /// The next point in time at which [`Machine::handle_timeout`] must be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Deadline)> {
        self.timer
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// How far the agent is.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The round and attempt that it is busy with, for heartbeats; none while it is not wanted or has had its answer,
    /// so that a leader that believes otherwise notices.
    #[must_use]
    pub fn work(&self) -> Option<(RoundId, u32)> {
        match self.phase {
            Phase::Idle | Phase::Settled(_) => None,
            Phase::Greeting
            | Phase::Quiescing
            | Phase::Holding
            | Phase::Capturing
            | Phase::Receipting
            | Phase::Noticing(_) => self.work.map(|work| (work.round, work.attempt)),
        }
    }

    fn order(&mut self, epoch: u64, round: RoundId, attempt: u32, turn: u32) {
        match self.work {
            Some(work) if work.round == round => {
                let newer = epoch > work.epoch;
                let more = attempt > work.attempt;
                // What was not wanted at first is wanted now.
                let again = self.phase == Phase::Idle && (attempt > work.ordered || turn > work.turn);
                if epoch < work.epoch || !(newer || more || again) {
                    return;
                }
                let ordered = if newer { attempt } else { attempt.max(work.ordered) };
                let turn = if newer { turn } else { turn.max(work.turn) };
                self.work = Some(Work { epoch, attempt: attempt.max(work.attempt), ordered, turn, ..work });
                match std::mem::replace(&mut self.phase, Phase::Idle) {
                    // A new leader knows nothing of this slice yet; the receipt stays what it is.
                    Phase::Settled(reported) | Phase::Noticing(reported) if !more => self.notice(reported),
                    Phase::Idle
                    | Phase::Greeting
                    | Phase::Quiescing
                    | Phase::Holding
                    | Phase::Capturing
                    | Phase::Receipting
                    | Phase::Noticing(_)
                    | Phase::Settled(_) => self.enter(Phase::Greeting),
                }
            }
            Some(_) | None => {
                self.stop();
                self.work = Some(Work {
                    epoch,
                    round,
                    attempt,
                    ordered: attempt,
                    turn,
                    cut: None,
                    hold: Hold::Free,
                    place: None,
                    read: false,
                    told: false,
                    capture: Capture::NotBegun,
                });
                self.enter(Phase::Greeting);
            }
        }
    }

    fn stop(&mut self) {
        self.release();
        if let Some(work) = self.work.take() {
            self.effects.push_back(Effect::Drop { round: work.round });
        }
        self.timer = None;
        self.phase = Phase::Idle;
    }

    fn welcomed(&mut self, round: &RoundId, attempt: Option<u32>) {
        if self.phase != Phase::Greeting {
            return;
        }
        let Some(work) = self.work.as_mut().filter(|w| w.round == *round) else { return };
        let Some(attempt) = attempt else {
            // Not wanted now: stay with the order, so that only a higher attempt, turn or epoch greets again.
            self.timer = None;
            self.phase = Phase::Idle;
            self.release();
            return;
        };
        work.attempt = work.attempt.max(attempt);
        match work.capture {
            Capture::NotBegun => self.hold(),
            Capture::Running | Capture::Done => {
                self.timer = None;
                self.phase = Phase::Capturing;
                self.tell();
                self.wait_for_place();
            }
        }
    }

    fn captured(&mut self, round: &RoundId) {
        let running = |w: &&mut Work| w.round == *round && w.capture == Capture::Running;
        let Some(work) = self.work.as_mut().filter(running) else { return };
        work.capture = Capture::Done;
        self.read(round);
        self.wait_for_place();
    }

    fn acknowledged(&mut self, round: &RoundId, attempt: u32, verdict: &Verdict) {
        if !self.is_current(round, attempt) {
            return;
        }
        let Phase::Noticing(reported) = &self.phase else { return };
        let reported = reported.clone();
        match (verdict, &reported) {
            (Verdict::Accepted, Reported::Stored { receipt, .. }) => {
                self.effects.push_back(Effect::Keep { round: *round, receipt: *receipt });
            }
            // What was refused is captured anew in the next attempt.
            (Verdict::Refused { .. }, _) => {
                if let Some(work) = self.work.as_mut() {
                    (work.capture, work.place) = (Capture::NotBegun, None);
                }
            }
            (Verdict::Accepted, Reported::Failed { .. }) | (Verdict::Over, _) => {}
        }
        self.timer = None;
        self.phase = Phase::Settled(reported);
    }

    pub(super) fn is_current(&self, round: &RoundId, attempt: u32) -> bool {
        self.work.is_some_and(|w| w.round == *round && w.attempt == attempt)
    }

    fn notice(&mut self, reported: Reported) {
        self.enter(Phase::Noticing(reported));
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.resends = 0;
        self.timer = None;
        if let Some(work) = self.work.as_mut() {
            work.told = work.told && self.phase == Phase::Receipting;
        }
        self.ask();
    }

    fn ask(&mut self) {
        let Some(Work { epoch, round, attempt, place, .. }) = self.work else { return };
        let effect = match &self.phase {
            Phase::Idle | Phase::Holding | Phase::Settled(_) => return,
            Phase::Quiescing => Effect::Quiesce { round },
            Phase::Greeting => Effect::Hello { epoch, round, attempt },
            Phase::Capturing => Effect::Capture { round },
            Phase::Receipting => Effect::WriteReceipt { round, attempt, cut: place },
            Phase::Noticing(reported) => Effect::Notice { epoch, round, attempt, reported: reported.clone() },
        };
        self.effects.push_back(effect);
    }

    fn resend(&mut self, deadline: Deadline, now: Time) {
        self.resends += 1;
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = self.policy.resend.delay(self.resends, self.random >> 33);
        self.timer = Some((now.after(wait), deadline));
    }
}
