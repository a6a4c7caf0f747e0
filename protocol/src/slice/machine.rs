//! The machine itself.

use std::collections::VecDeque;

use crate::alert::Code;
use crate::document::SliceTotals;
use crate::ids::{Nonce, ObjectId, RoundId};
use crate::message::{CutOrder, Verdict};
use crate::retry::Retry;
use crate::time::Time;

/// How patient an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Delays between hellos, and between notices, that nobody answers.
    pub resend: Retry,
    /// Whether the service has hooks: then it is held quiesced while its sources are read, in a cut or not.
    pub hooks: bool,
}

/// What the agent tells the leader about the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The service is quiesced and waits.
    Quiesced,
    /// Everything was read while it was still held.
    Snapped {
        /// The announcement's nonce.
        nonce: Nonce,
    },
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
        /// Grows whenever further services may begin.
        turn: u32,
        /// What the cut asks for.
        cut: Option<CutOrder>,
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
    /// The watchdog is armed and the service is quiesced.
    Quiesced {
        /// The round.
        round: RoundId,
    },
    /// It could not be quiesced; whatever was, is released.
    QuiesceFailed {
        /// The round.
        round: RoundId,
        /// The reason's code.
        code: Code,
        /// The native error.
        reason: String,
        /// True when another attempt would fail as well.
        permanent: bool,
    },
    /// The watchdog has released the service, or is about to: its time is over.
    HoldLost {
        /// The round.
        round: RoundId,
    },
    /// The leader has taken note of the standing.
    StandingNoted {
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
    },
    /// The leader did not answer the standing in time.
    StandingUnanswered,
    /// Every source is read: nothing more of the service is needed.
    Read {
        /// The round.
        round: RoundId,
    },
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
    /// Arm the watchdog, then quiesce the service; then report [`Event::Quiesced`] or [`Event::QuiesceFailed`], and
    /// [`Event::HoldLost`] when its time is over before [`Effect::Release`].
    Quiesce {
        /// The round.
        round: RoundId,
    },
    /// Release the service, also one that is only being quiesced.
    Release {
        /// The round.
        round: RoundId,
    },
    /// Tell the leader about the cut, then report [`Event::StandingNoted`] or [`Event::StandingUnanswered`].
    Tell {
        /// The leader's epoch.
        epoch: u64,
        /// The round.
        round: RoundId,
        /// The attempt.
        attempt: u32,
        /// What.
        standing: Standing,
    },
    /// Capture the sources, upload the packs; report [`Event::Read`] once every source is read, then
    /// [`Event::Captured`] or [`Event::CaptureFailed`].
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
        /// The nonce of the cut that it was captured in.
        cut: Option<Nonce>,
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
    /// The standing is told again.
    Standing,
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
struct Work {
    epoch: u64,
    round: RoundId,
    attempt: u32,
    /// The highest attempt that this leader has ordered; the agent may be ahead by a former leader's order.
    ordered: u32,
    turn: u32,
    /// What the cut asks for.
    cut: Option<CutOrder>,
    hold: Hold,
    /// The nonce of the cut that the capture is in, while nothing speaks against it.
    place: Option<Nonce>,
    /// Whether every source is read.
    read: bool,
    /// Whether the leader knows that the place was kept.
    told: bool,
    capture: Capture,
}

/// Whether the service is quiesced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Free,
    /// Its hooks run; what they did is not known yet.
    Quiescing,
    Held,
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

    /// Takes in what the cut asks for. Whoever holds when the capture is announced has a place in it, and nobody else.
    fn cut(&mut self, round: &RoundId, epoch: u64, cut: Option<CutOrder>) {
        let current = |work: &&mut Work| work.round == *round && work.epoch == epoch;
        let Some(work) = self.work.as_mut().filter(current) else { return };
        let before = std::mem::replace(&mut work.cut, cut);
        match cut {
            Some(CutOrder::Hold) => {}
            Some(CutOrder::Capture { nonce }) => {
                let holds = self.phase == Phase::Holding && (work.hold == Hold::Held || !self.policy.hooks);
                if before != cut && holds {
                    work.place = Some(nonce);
                }
            }
            // Broken, or another leader's round: what was captured is in no cut.
            None => work.place = None,
        }
        match self.phase {
            Phase::Holding if cut != Some(CutOrder::Hold) => self.capture(),
            Phase::Receipting => {}
            Phase::Capturing => self.wait_for_place(),
            Phase::Idle
            | Phase::Greeting
            | Phase::Quiescing
            | Phase::Holding
            | Phase::Noticing(_)
            | Phase::Settled(_) => {}
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

    /// Quiesces where there is something to quiesce, then waits for the cut where there is one.
    fn hold(&mut self) {
        let Some(work) = self.work.as_mut() else { return };
        match work.hold {
            Hold::Free if self.policy.hooks => {
                work.hold = Hold::Quiescing;
                self.enter(Phase::Quiescing);
            }
            // The hooks of the attempt before still run.
            Hold::Quiescing => {
                self.timer = None;
                self.phase = Phase::Quiescing;
            }
            Hold::Free | Hold::Held => self.held(),
        }
    }

    fn held(&mut self) {
        let Some(work) = self.work else { return };
        if work.cut == Some(CutOrder::Hold) {
            self.enter(Phase::Holding);
            self.tell();
        } else {
            self.capture();
        }
    }

    fn quiesced(&mut self, round: &RoundId) {
        let quiescing = |w: &&mut Work| w.round == *round && w.hold == Hold::Quiescing;
        let Some(work) = self.work.as_mut().filter(quiescing) else { return };
        work.hold = Hold::Held;
        match self.phase {
            Phase::Quiescing => self.held(),
            // Greeting again: the welcome goes on from here.
            Phase::Greeting => {}
            Phase::Idle
            | Phase::Holding
            | Phase::Capturing
            | Phase::Receipting
            | Phase::Noticing(_)
            | Phase::Settled(_) => self.release(),
        }
    }

    /// Captures; what was released in the meantime is quiesced anew, outside the cut.
    fn capture(&mut self) {
        let Some(work) = self.work.as_mut() else { return };
        if self.policy.hooks && work.hold == Hold::Free {
            return self.hold();
        }
        (work.capture, work.read) = (Capture::Running, false);
        self.enter(Phase::Capturing);
    }

    /// Everything is read: the service is free again, and a place in the cut was kept if there was one.
    fn read(&mut self, round: &RoundId) {
        let running = |w: &&mut Work| w.round == *round && w.capture != Capture::NotBegun && !w.read;
        let Some(work) = self.work.as_mut().filter(running) else { return };
        let held = work.hold == Hold::Held || !self.policy.hooks;
        if !held {
            work.place = None;
        }
        work.read = true;
        self.release();
        self.tell();
    }

    fn release(&mut self) {
        if let Some(work) = self.work.as_mut()
            && work.hold != Hold::Free
        {
            work.hold = Hold::Free;
            self.effects.push_back(Effect::Release { round: work.round });
        }
    }

    /// What the leader should know about the cut and may not know yet.
    fn standing(&self) -> Option<Standing> {
        let work = self.work?;
        match self.phase {
            Phase::Holding => (!work.told).then_some(Standing::Quiesced),
            Phase::Capturing if work.read => {
                work.place.filter(|_| !work.told).map(|nonce| Standing::Snapped { nonce })
            }
            Phase::Idle
            | Phase::Greeting
            | Phase::Quiescing
            | Phase::Capturing
            | Phase::Receipting
            | Phase::Noticing(_)
            | Phase::Settled(_) => None,
        }
    }

    fn tell(&mut self) {
        let Some(Work { epoch, round, attempt, .. }) = self.work else { return };
        if let Some(standing) = self.standing() {
            self.effects.push_back(Effect::Tell { epoch, round, attempt, standing });
        }
    }

    fn standing_noted(&mut self, round: &RoundId, attempt: u32) {
        if !self.is_current(round, attempt) || self.standing().is_none() {
            return;
        }
        if let Some(work) = self.work.as_mut() {
            work.told = true;
        }
        self.timer = None;
        self.wait_for_place();
    }

    /// Goes on to the receipt once everything is captured, and the leader knows of a place in the cut.
    fn wait_for_place(&mut self) {
        let Some(work) = self.work else { return };
        let known = work.place.is_none() || work.told;
        if self.phase == Phase::Capturing && work.capture == Capture::Done && known {
            self.enter(Phase::Receipting);
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
