//! Holding: the service is quiesced for its hooks and for the cut, keeps its place there or loses it, and is free again as soon as
//! everything is read.

use crate::ids::RoundId;
use crate::message::CutOrder;
use crate::slice::event::{Effect, Standing};
use crate::slice::machine::{Capture, Hold, Machine, Phase, Work};

impl Machine {
    /// Takes in what the cut asks for. Whoever holds when the capture is announced has a place in it, and nobody else.
    pub(super) fn cut(&mut self, round: &RoundId, epoch: u64, cut: Option<CutOrder>) {
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

    /// Quiesces where there is something to quiesce, then waits for the cut where there is one.
    pub(super) fn hold(&mut self) {
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

    pub(super) fn held(&mut self) {
        let Some(work) = self.work else { return };
        if work.cut == Some(CutOrder::Hold) {
            self.enter(Phase::Holding);
            self.tell();
        } else {
            self.capture();
        }
    }

    pub(super) fn quiesced(&mut self, round: &RoundId) {
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
    pub(super) fn capture(&mut self) {
        let Some(work) = self.work.as_mut() else { return };
        if self.policy.hooks && work.hold == Hold::Free {
            return self.hold();
        }
        (work.capture, work.read) = (Capture::Running, false);
        self.enter(Phase::Capturing);
    }

    /// Everything is read: the service is free again, and a place in the cut was kept if there was one.
    pub(super) fn read(&mut self, round: &RoundId) {
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

    pub(super) fn release(&mut self) {
        if let Some(work) = self.work.as_mut()
            && work.hold != Hold::Free
        {
            work.hold = Hold::Free;
            self.effects.push_back(Effect::Release { round: work.round });
        }
    }

    /// What the leader should know about the cut and may not know yet.
    pub(super) fn standing(&self) -> Option<Standing> {
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

    pub(super) fn tell(&mut self) {
        let Some(Work { epoch, round, attempt, .. }) = self.work else { return };
        if let Some(standing) = self.standing() {
            self.effects.push_back(Effect::Tell { epoch, round, attempt, standing });
        }
    }

    pub(super) fn standing_noted(&mut self, round: &RoundId, attempt: u32) {
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
    pub(super) fn wait_for_place(&mut self) {
        let Some(work) = self.work else { return };
        let known = work.place.is_none() || work.told;
        if self.phase == Phase::Capturing && work.capture == Capture::Done && known {
            self.enter(Phase::Receipting);
        }
    }
}
