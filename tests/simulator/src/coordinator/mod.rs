//! A coordinator: the process around the lead and the desk, as `coordinator/src/daemon.rs` has it.

mod append;
mod carry;
mod check;
mod desk;
mod lead;
mod requests;
mod talk;

use std::collections::BTreeMap;
use std::rc::Rc;

use muster_protocol::ids::KeyId;
use muster_protocol::log::State;
use muster_protocol::time::{Time, UnixMillis};

use crate::fault::Fault;
use crate::happening::coordinator::Step;
use crate::happening::{self, Happening, Party};
use crate::world::World;

pub(crate) use desk::Desk;
use lead::Lead;
pub(crate) use requests::Wish;

/// A coordinator's process and what its disk keeps.
pub(crate) struct Coordinator {
    pub(crate) key: KeyId,
    pub(crate) up: bool,
    /// Grows with every start and every death: what was under way for a former life comes to nothing.
    pub(crate) life: u32,
    pub(crate) stopped_until: u64,
    /// Stops so far, in milliseconds.
    pub(crate) stopped: u64,
    /// Where its monotonic clock began.
    origin: u64,
    /// How far its wall clock is off.
    pub(crate) wall: i64,
    /// Records that its disk knows of.
    pub(crate) remembered: usize,
    /// Records that this process has read.
    pub(crate) view: usize,
    lead: Option<Lead>,
    pub(crate) desk: Option<Desk>,
    wake_at: Option<u64>,
}

impl Coordinator {
    pub(crate) fn new(key: KeyId) -> Self {
        Self {
            key,
            up: false,
            life: 0,
            stopped_until: 0,
            stopped: 0,
            origin: 0,
            wall: 0,
            remembered: 0,
            view: 0,
            lead: None,
            desk: None,
            wake_at: None,
        }
    }
}

impl World {
    pub(crate) fn coordinator_starts(&mut self, c: usize) {
        let now = self.now;
        let it = &mut self.coordinators[c];
        if it.up {
            return;
        }
        (it.up, it.origin, it.view, it.desk, it.wake_at) = (true, now, it.remembered, None, None);
        it.life += 1;
        self.start_lead(c);
        self.carry_out_lead(c);
    }

    pub(crate) fn coordinator_dies(&mut self, c: usize) {
        let it = &mut self.coordinators[c];
        if !it.up {
            return;
        }
        it.up = false;
        it.life += 1;
        (it.desk, it.lead) = (None, None);
        let wiped = self.strikes(Fault::CoordinatorDiskWiped);
        if wiped {
            self.coordinators[c].remembered = 0;
            self.facts.push(crate::fact::Fact::Forgot { party: Party::Coordinator(c) });
        }
        let after = self.rng.between(200, 12_000);
        self.after(after, Happening::Start(Party::Coordinator(c)));
    }

    pub(crate) fn for_coordinator(&mut self, c: usize, after: u64, step: Step) {
        let life = self.coordinators[c].life;
        let step = happening::Step::Coordinator(step);
        self.after(after, Happening::For(Party::Coordinator(c), life, step));
    }

    pub(crate) fn coordinator_step(&mut self, c: usize, step: Step) {
        match step {
            Step::LeadWake => self.wake_lead(c),
            Step::Lease(event) => self.tell_lead(c, event),
            Step::Wake => self.wake(c),
            Step::Heard(said) => self.heard(c, &said),
            Step::Appended { entry, round, outcome } => self.appended(c, entry, round, outcome),
            Step::Report { epoch, round, event } => {
                if self.leads(c, epoch) {
                    self.tell(c, &round, event);
                }
            }
            Step::Check { epoch, round, check } => {
                if self.leads(c, epoch) {
                    self.check(c, round, &check);
                }
            }
            Step::Find { epoch, round, service } => {
                if self.leads(c, epoch) {
                    self.find(c, round, service);
                }
            }
            Step::Reread { epoch, round } => {
                if self.leads(c, epoch) {
                    self.reread(c, round);
                }
            }
            Step::VerifyLater { epoch, round } => {
                if self.leads(c, epoch) {
                    self.verify_later(c, round);
                }
            }
        }
        self.carry_out_lead(c);
        self.carry_out(c);
    }

    /// Whether this coordinator believes that it leads this epoch.
    pub(crate) fn leads(&self, c: usize, epoch: u64) -> bool {
        self.coordinators[c].desk.as_ref().is_some_and(|desk| desk.epoch == epoch)
    }

    /// Reads the log on; false when it cannot be read.
    pub(crate) fn refresh(&mut self, c: usize) -> bool {
        let remembered = self.coordinators[c].remembered;
        let Some(view) = self.read_log(Party::Coordinator(c), remembered) else { return false };
        self.knows(c, view);
        true
    }

    /// The coordinator has read this many records: whether it still leads is the lead machine's to say.
    pub(crate) fn knows(&mut self, c: usize, view: usize) {
        let it = &mut self.coordinators[c];
        it.view = it.view.max(view);
        it.remembered = it.view;
        self.tell_lead_of_log(c);
    }

    pub(crate) fn deposed(&mut self, c: usize) {
        self.note(|_| format!("  coordinator {c} leads no longer"));
        self.coordinators[c].desk = None;
    }

    /// Lets every deadline that has passed act.
    fn wake(&mut self, c: usize) {
        let now = self.time_of(c);
        self.coordinators[c].wake_at = None;
        if let Some(desk) = &mut self.coordinators[c].desk {
            for seat in desk.rounds.values_mut() {
                seat.machine.handle_timeout(now);
            }
        }
    }

    /// Sees to it that the process is woken for its machines' next deadline.
    fn set_alarm(&mut self, c: usize) {
        let it = &self.coordinators[c];
        let Some(desk) = &it.desk else { return };
        let due =
            desk.rounds.values().filter_map(|seat| seat.machine.poll_timeout()).map(|(due, _)| due).min();
        let Some(due) = due else { return };
        let due = (due.0 + it.origin).max(self.now);
        if it.wake_at.is_none_or(|at| at > due) {
            self.coordinators[c].wake_at = Some(due);
            self.for_coordinator(c, due - self.now, Step::Wake);
        }
    }

    /// What its monotonic clock says.
    pub(crate) fn time_of(&self, c: usize) -> Time {
        Time(self.now - self.coordinators[c].origin)
    }

    /// What its wall clock says.
    pub(crate) fn wall_of(&self, c: usize) -> UnixMillis {
        UnixMillis(1_700_000_000_000 + self.now as i64 + self.coordinators[c].wall)
    }

    pub(crate) fn view_of(&self, c: usize) -> Rc<State> {
        Rc::clone(self.share.state(self.coordinators[c].view))
    }

    /// How far every round of a coordinator is, to compare.
    pub(crate) fn stand_of(&self, c: usize) -> BTreeMap<String, String> {
        let desk = self.coordinators[c].desk.iter();
        desk.flat_map(|desk| &desk.rounds)
            .map(|(id, seat)| {
                let mut stand = seat.machine.phase().word().to_owned();
                for member in seat.machine.members() {
                    stand.push_str(&format!(
                        " {}:{}:{}",
                        member.service,
                        member.phase.word(),
                        member.attempt
                    ));
                }
                (id.short(), stand)
            })
            .collect()
    }
}
