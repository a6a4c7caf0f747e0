//! Holds: a service is quiesced, and a watchdog that is a process of its own releases it when its time is over.

use muster_protocol::alert::Code;
use muster_protocol::ids::RoundId;
use muster_protocol::slice::Event;

use crate::fault::Fault;
use crate::happening::{self, Happening, Party, agent::Step};
use crate::plan::MAX_HOLD;
use crate::planted::Planted;
use crate::world::World;

/// What a service is held by.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) id: u64,
    pub(crate) round: RoundId,
    /// The life of the agent that holds it.
    life: u32,
    /// When its hooks began to run.
    pub(crate) since: u64,
    /// Whether a hook hangs.
    hung: bool,
}

impl World {
    /// Arms the watchdog, then runs the hooks. What a former life of the agent still held is released first.
    pub(crate) fn quiesce(&mut self, a: usize, round: RoundId) {
        self.sequence_of_holds += 1;
        let (id, life, since) = (self.sequence_of_holds, self.agents[a].life, self.now);
        let hung = self.strikes(Fault::HookHung);
        self.holds[a] = Some(Hold { id, round, life, since, hung });
        if !self.has(Planted::HoldWithoutWatchdog) {
            self.after(MAX_HOLD, Happening::Watchdog { service: a, hold: id });
        }
        if !hung {
            let fails = self.strikes(Fault::QuiesceFailed);
            let after = self.rng.between(50, 1_500);
            self.for_agent(a, after, Step::Hooked { hold: id, fails });
        }
    }

    /// The hooks have run.
    pub(crate) fn hooked(&mut self, a: usize, id: u64, fails: bool) {
        let Some(hold) = self.holds[a].clone().filter(|hold| hold.id == id) else { return };
        let round = hold.round;
        if fails {
            self.holds[a] = None;
            let (code, reason) = (Code::Agent03, "the hook failed".to_owned());
            self.tell_slice(a, Event::QuiesceFailed { round, code, reason, permanent: false });
        } else {
            self.tell_slice(a, Event::Quiesced { round });
        }
    }

    /// Releases the service; where that fails, the watchdog does it when the time is over.
    pub(crate) fn release(&mut self, a: usize) {
        let own = |hold: &Hold| hold.life == self.agents[a].life;
        if self.holds[a].as_ref().is_some_and(own) && !self.strikes(Fault::ReleaseFailed) {
            self.holds[a] = None;
        }
    }

    /// The time of a hold is over, whatever has become of its agent.
    pub(crate) fn watchdog(&mut self, service: usize, id: u64) {
        let Some(hold) = self.holds[service].take_if(|hold| hold.id == id) else { return };
        self.note(|_| format!("  the watchdog releases service {service}"));
        let step = Step::HoldOver { round: hold.round, hung: hold.hung };
        let step = happening::Step::Agent(step);
        self.after(5, Happening::For(Party::Agent(service), hold.life, step));
    }

    /// The agent hears from its watchdog.
    pub(crate) fn hold_over(&mut self, a: usize, round: RoundId, hung: bool) {
        if hung {
            let (code, reason) = (Code::Agent03, "the hook hung and was killed".to_owned());
            self.tell_slice(a, Event::QuiesceFailed { round, code, reason, permanent: false });
        } else {
            self.tell_slice(a, Event::HoldLost { round });
        }
    }
}
