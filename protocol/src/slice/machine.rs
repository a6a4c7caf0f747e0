//! The machine itself.

use std::collections::VecDeque;

use crate::alert::Code;
use crate::document::SliceTotals;
use crate::ids::{ObjectId, RoundId};
use crate::message::Verdict;
use crate::retry::Retry;
use crate::time::Time;

/// How patient an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Delays between hellos, and between notices, that nobody answers.
    pub resend: Retry,
}

/// What an agent reports of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The receipt is on the share.
    Stored {
        /// Its hash.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
        /// Its totals.
        totals: SliceTotals,
    },
    /// There is no slice.
    Failed {
        /// The reason's code.
        code: Code,
        /// The native error.
        reason: String,
        /// True when another attempt would fail as well.
        permanent: bool,
    },
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A believed state document asks this service for a slice. Without a retry order the attempt is 1.
    Order {
        /// The leader's epoch.
        epoch: u64,
        /// The round.
        round: RoundId,
        /// The attempt that is wanted at least.
        attempt: u32,
    },
    /// A believed state document asks this service for nothing.
    NoOrder,
    /// The hello was answered.
    Welcomed {
        /// The round.
        round: RoundId,
        /// The attempt; none: nothing is wanted.
        attempt: Option<u32>,
    },
    /// Nobody answered the hello in time.
    HelloUnanswered,
    /// Everything is captured and uploaded but for the receipt.
    Captured {
        /// The round.
        round: RoundId,
    },
    /// The capture failed, or its receipt could not be written.
    CaptureFailed {
        /// The round.
        round: RoundId,
        /// The reason's code.
        code: Code,
        /// The native error.
        reason: String,
        /// True when another attempt would fail as well.
        permanent: bool,
    },
    /// The receipt is on the share.
    ReceiptWritten {
        /// The round.
        round: RoundId,
        /// The attempt it is for.
        attempt: u32,
        /// Its hash.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
        /// Its totals.
        totals: SliceTotals,
    },
    /// The notice was answered.
    Acknowledged {
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
        /// What became of it.
        verdict: Verdict,
    },
    /// Nobody answered the notice in time.
    NoticeUnanswered,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say hello, then report [`Event::Welcomed`] or [`Event::HelloUnanswered`].
    Hello {
        /// The leader's epoch.
        epoch: u64,
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
    },
    /// Capture the sources, upload the packs; then report [`Event::Captured`] or [`Event::CaptureFailed`].
    Capture {
        /// The round.
        round: RoundId,
    },
    /// Write the receipt of what was captured, for this attempt.
    WriteReceipt {
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
    },
    /// Tell the leader, then report [`Event::Acknowledged`] or [`Event::NoticeUnanswered`].
    Notice {
        /// The leader's epoch.
        epoch: u64,
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
        /// What.
        reported: Reported,
    },
    /// Stop whatever is being done for this round, and forget what was captured.
    Drop {
        /// The round.
        round: RoundId,
    },
    /// The slice counts: remember its receipt as the service's last.
    Keep {
        /// The round.
        round: RoundId,
        /// The receipt.
        receipt: ObjectId,
    },
}

/// Why a machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// The hello is said again.
    Hello,
    /// The notice is sent again.
    Notice,
}

/// How far the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing to do.
    Idle,
    /// Hello said, not answered.
    Greeting,
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
struct Work {
    epoch: u64,
    round: RoundId,
    attempt: u32,
    /// The highest attempt that this leader has ordered; the agent may be ahead by a former leader's order.
    ordered: u32,
    capture: Capture,
}

/// The capture outlives attempts: a retry of an agent that was only unheard goes on with what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capture {
    NotBegun,
    Running,
    Done,
}

/// The agent's side of one round at a time.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    phase: Phase,
    work: Option<Work>,
    resends: u32,
    timer: Option<(Time, Deadline)>,
    effects: VecDeque<Effect>,
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
            Event::Order { epoch, round, attempt } => self.order(epoch, round, attempt),
            Event::NoOrder => self.stop(),
            Event::Welcomed { round, attempt } => self.welcomed(&round, attempt),
            Event::HelloUnanswered if self.phase == Phase::Greeting => self.resend(Deadline::Hello, now),
            Event::Captured { round } => self.captured(&round),
            Event::CaptureFailed { round, code, reason, permanent } => {
                let receipting = self.phase == Phase::Receipting;
                let current =
                    |w: &&mut Work| w.round == round && (w.capture == Capture::Running || receipting);
                if let Some(work) = self.work.as_mut().filter(current) {
                    work.capture = Capture::NotBegun;
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
        if self.timer.is_some_and(|(due, _)| due <= now) {
            self.timer = None;
            self.ask();
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
            Phase::Greeting | Phase::Capturing | Phase::Receipting | Phase::Noticing(_) => {
                self.work.map(|work| (work.round, work.attempt))
            }
        }
    }

    fn order(&mut self, epoch: u64, round: RoundId, attempt: u32) {
        match self.work {
            Some(work) if work.round == round => {
                let newer = epoch > work.epoch;
                let more = attempt > work.attempt;
                // What was not wanted at first is wanted now.
                let again = self.phase == Phase::Idle && attempt > work.ordered;
                if epoch < work.epoch || !(newer || more || again) {
                    return;
                }
                let ordered = if newer { attempt } else { attempt.max(work.ordered) };
                self.work = Some(Work { epoch, attempt: attempt.max(work.attempt), ordered, ..work });
                match std::mem::replace(&mut self.phase, Phase::Idle) {
                    // A new leader knows nothing of this slice yet; the receipt stays what it is.
                    Phase::Settled(reported) | Phase::Noticing(reported) if !more => self.notice(reported),
                    Phase::Idle
                    | Phase::Greeting
                    | Phase::Capturing
                    | Phase::Receipting
                    | Phase::Noticing(_)
                    | Phase::Settled(_) => self.enter(Phase::Greeting),
                }
            }
            Some(_) | None => {
                self.stop();
                self.work =
                    Some(Work { epoch, round, attempt, ordered: attempt, capture: Capture::NotBegun });
                self.enter(Phase::Greeting);
            }
        }
    }

    fn stop(&mut self) {
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
            // Not wanted now: stay with the order, so that only a higher attempt or epoch greets again.
            self.timer = None;
            self.phase = Phase::Idle;
            return;
        };
        work.attempt = work.attempt.max(attempt);
        match work.capture {
            Capture::NotBegun => {
                work.capture = Capture::Running;
                self.enter(Phase::Capturing);
            }
            Capture::Running => {
                self.timer = None;
                self.phase = Phase::Capturing;
            }
            Capture::Done => self.enter(Phase::Receipting),
        }
    }

    fn captured(&mut self, round: &RoundId) {
        let running = |w: &&mut Work| w.round == *round && w.capture == Capture::Running;
        let Some(work) = self.work.as_mut().filter(running) else { return };
        work.capture = Capture::Done;
        if self.phase == Phase::Capturing {
            self.enter(Phase::Receipting);
        }
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
                    work.capture = Capture::NotBegun;
                }
            }
            (Verdict::Accepted, Reported::Failed { .. }) | (Verdict::Over, _) => {}
        }
        self.timer = None;
        self.phase = Phase::Settled(reported);
    }

    fn is_current(&self, round: &RoundId, attempt: u32) -> bool {
        self.work.is_some_and(|w| w.round == *round && w.attempt == attempt)
    }

    fn notice(&mut self, reported: Reported) {
        self.enter(Phase::Noticing(reported));
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.resends = 0;
        self.timer = None;
        self.ask();
    }

    fn ask(&mut self) {
        let Some(Work { epoch, round, attempt, .. }) = self.work else { return };
        let effect = match &self.phase {
            Phase::Idle | Phase::Settled(_) => return,
            Phase::Greeting => Effect::Hello { epoch, round, attempt },
            Phase::Capturing => Effect::Capture { round },
            Phase::Receipting => Effect::WriteReceipt { round, attempt },
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
