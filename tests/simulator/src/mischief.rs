//! The hand that reaches into the world from time to time, and the calm after it.

use std::rc::Rc;

use muster_protocol::message::{NoticeOutcome, StateDocument};

use crate::fault::Fault;
use crate::founding::Founding;
use crate::happening::{self, Content, Happening, Paper, Party, Said, Words, agent, coordinator};
use crate::world::World;

/// Ten years.
const FAR: u64 = 10 * 365 * 24 * 3_600_000;

impl World {
    pub(crate) fn mischief(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        let after = self.rng.between(300, 2_500);
        self.after(after, Happening::Mischief);
        let weights: u64 = Fault::MISCHIEF.iter().map(|fault| self.plan.rate(*fault)).sum();
        if weights == 0 {
            return;
        }
        let mut drawn = self.rng.below(weights);
        for fault in Fault::MISCHIEF {
            let weight = self.plan.rate(fault);
            if drawn < weight {
                if self.bring_about(fault) {
                    self.struck(fault);
                }
                return;
            }
            drawn -= weight;
        }
    }

    /// Nothing fails any more.
    pub(crate) fn calm_down(&mut self) {
        self.note(|_| "  calm".to_owned());
        self.calm_since = Some(self.now);
        self.off_bus = [self.now; Party::COUNT];
        self.off_share = [self.now; Party::COUNT];
    }

    /// True if there was something to break.
    fn bring_about(&mut self, fault: Fault) -> bool {
        let c = self.rng.index(self.coordinators.len());
        let a = self.rng.index(self.agents.len());
        let until = self.now + self.rng.between(500, 15_000);
        match fault {
            Fault::CoordinatorPartitioned => self.off_bus[Party::Coordinator(c).index()] = until,
            Fault::AgentPartitioned => self.off_bus[Party::Agent(a).index()] = until,
            Fault::BusWiped => {
                self.last_values.fill(None);
                self.lease = None;
            }
            Fault::ShareCut => self.off_share[self.rng.index(Party::COUNT - 1)] = until,
            Fault::CoordinatorCrashed if self.coordinators[c].up => self.coordinator_dies(c),
            Fault::CoordinatorPaused if self.coordinators[c].up => {
                let it = &mut self.coordinators[c];
                it.stopped += until - self.now.max(it.stopped_until.min(until));
                it.stopped_until = it.stopped_until.max(until);
            }
            Fault::AgentCrashed if self.agents[a].up => self.agent_dies(a),
            Fault::AgentPaused if self.agents[a].up => {
                self.agents[a].stopped_until = self.agents[a].stopped_until.max(until);
            }
            Fault::PrunerCrashed if self.pruner.up => self.pruner_dies(),
            Fault::ClockJumped => {
                let far = self.rng.below(2 * FAR) as i64 - FAR as i64;
                if self.rng.percent(30) {
                    self.pruner.wall = far;
                } else {
                    self.coordinators[c].wall = far;
                }
            }
            Fault::Replayed => return self.replay(),
            Fault::Forged => return self.forge(c, a),
            Fault::Cancelled => {
                let running = self.coordinators[c].up && self.coordinators[c].stopped_until <= self.now;
                return running && self.cancel(c);
            }
            Fault::CoordinatorCrashed
            | Fault::CoordinatorPaused
            | Fault::AgentCrashed
            | Fault::AgentPaused
            | Fault::PrunerCrashed => return false,
            Fault::Delayed
            | Fault::Dropped
            | Fault::Doubled
            | Fault::Reordered
            | Fault::ShareRefused
            | Fault::AnswerLost
            | Fault::StaleLog
            | Fault::SlotSquatted
            | Fault::ObjectLost
            | Fault::ObjectShort
            | Fault::ObjectRotten
            | Fault::ListingShort
            | Fault::CoordinatorDiskWiped
            | Fault::AgentStateLost
            | Fault::AgentGone
            | Fault::CaptureFailed
            | Fault::QuiesceFailed
            | Fault::HookHung
            | Fault::ReleaseFailed
            | Fault::TriggeredAgain => return false,
        }
        true
    }

    fn life(&self, party: Party) -> u32 {
        match party {
            Party::Coordinator(c) => self.coordinators[c].life,
            Party::Agent(a) => self.agents[a].life,
            Party::Pruner => self.pruner.life,
            Party::Bus => 0,
        }
    }

    /// Says again what was said before, to whoever is there now.
    fn replay(&mut self) -> bool {
        if self.history.is_empty() {
            return false;
        }
        let at = self.rng.index(self.history.len());
        let Some((to, Happening::For(_, _, step))) = self.history.get(at).cloned() else { return false };
        let message = Happening::For(to, self.life(to), step);
        let after = self.latency();
        self.after(after, message);
        true
    }

    /// Says something that its signer may not say, or that was true once.
    fn forge(&mut self, c: usize, a: usize) -> bool {
        let founding = Founding::get();
        let state = Rc::clone(self.share.truth());
        let Some(round) = state.open_rounds().first().map(|round| (round.open.round, round.position)) else {
            return false;
        };
        let current = state.epoch.map_or(0, |epoch| epoch.epoch);
        let other = founding.agents[(a + 1) % founding.agents.len()];
        let signer = if self.rng.percent(50) { founding.stranger } else { other };
        let (receipt, attempt) = (self.rng.object(), 1 + self.rng.below(3) as u32);
        let message = if self.rng.percent(60) {
            let what = match self.rng.below(3) {
                0 => Words::Hello,
                1 => Words::Notice(NoticeOutcome::Stored {
                    receipt,
                    receipt_size: 300,
                    totals: muster_protocol::document::SliceTotals::default(),
                }),
                _ => Words::Notice(NoticeOutcome::Failed {
                    code: muster_protocol::alert::Code::Agent03,
                    reason: "forged".to_owned(),
                    permanent: true,
                }),
            };
            // The agent's own key, but to a former leader; else somebody else's key.
            let stale = what == Words::Hello && current > 1 && self.rng.percent(50);
            let (signer, epoch) = if stale { (founding.agents[a], current - 1) } else { (signer, current) };
            let said = Said { signer, service: a, epoch, round: round.0, attempt, request: 0, what };
            let step = happening::Step::Coordinator(coordinator::Step::Heard(Rc::new(said)));
            Happening::For(Party::Coordinator(c), self.life(Party::Coordinator(c)), step)
        } else {
            // No rounds at all: whoever believed it would drop its work.
            let stale = current > 1 && self.rng.percent(50);
            let (signer, epoch) = if stale {
                (founding.coordinators[c], current - 1)
            } else {
                (signer, current + self.rng.below(3))
            };
            let document = StateDocument { epoch, revision: u64::MAX, rounds: Vec::new() };
            let paper = Paper { signer, content: Rc::new(Content::Fleet(document)) };
            let step = happening::Step::Agent(agent::Step::Document(paper));
            Happening::For(Party::Agent(a), self.life(Party::Agent(a)), step)
        };
        let after = self.latency();
        self.after(after, message);
        true
    }
}
