//! The lead machine's shell: the log is read, the lease is asked for over the bus, epochs are appended.

use muster_protocol::ids::Nonce;
use muster_protocol::lead::{Effect, Event, Lease, LeaseSeen, LogView, Machine, Policy};
use muster_protocol::log::Epoch;
use muster_protocol::time::Time;

use crate::fact::Fact;
use crate::fault::Fault;
use crate::happening::coordinator::{Append, Step};
use crate::happening::{self, Entry, Happening, Party};
use crate::plan::{LEASE, LOOK, TAKEOVER};
use crate::planted::Planted;
use crate::world::World;

/// How long a coordinator waits for the bus to say something about the lease.
const UNKNOWN: u64 = 1_000;

/// A coordinator's way to the lead.
pub(crate) struct Lead {
    machine: Machine,
    /// Its process, as its `epoch` records name it.
    instance: Nonce,
    wake_at: Option<u64>,
}

impl World {
    pub(crate) fn start_lead(&mut self, c: usize) {
        let millis = std::time::Duration::from_millis;
        let policy = Policy { lease: millis(LEASE), takeover: millis(TAKEOVER), look: millis(LOOK) };
        let (instance, seed, own) = (self.rng.nonce(), self.rng.next(), self.coordinators[c].key);
        let machine = Machine::start(own, instance, policy, seed, Time(0));
        self.coordinators[c].lead = Some(Lead { machine, instance, wake_at: None });
    }

    /// Tells the machine what has happened; it may be told in the middle of carrying out.
    pub(crate) fn tell_lead(&mut self, c: usize, event: Event) {
        let now = self.time_of(c);
        if let Some(lead) = &mut self.coordinators[c].lead {
            lead.machine.handle(event, now);
        }
    }

    /// Tells the machine what this coordinator has just read of the log.
    pub(crate) fn tell_lead_of_log(&mut self, c: usize) {
        let log = LogView::of(&self.view_of(c), &self.coordinators[c].key);
        let asked = self.time_of(c);
        self.tell_lead(c, Event::LogRead { asked, log });
    }

    /// Whether a leader may act without reading the log again.
    pub(crate) fn is_trusted(&self, c: usize) -> bool {
        let lead = self.coordinators[c].lead.as_ref();
        let until = lead.and_then(|lead| lead.machine.trusted_until());
        until.is_some_and(|until| self.time_of(c) < until)
    }

    pub(crate) fn wake_lead(&mut self, c: usize) {
        let now = self.time_of(c);
        if let Some(lead) = &mut self.coordinators[c].lead {
            lead.wake_at = None;
            lead.machine.handle_timeout(now);
        }
        if self.coordinators[c].desk.is_some() {
            self.publish_again(c);
            self.reconcile(c);
        }
    }

    /// Carries out what the machine wants.
    pub(crate) fn carry_out_lead(&mut self, c: usize) {
        while let Some(effect) =
            self.coordinators[c].lead.as_mut().and_then(|lead| lead.machine.poll_effect())
        {
            if self.dies(Fault::CoordinatorCrashed) {
                return self.coordinator_dies(c);
            }
            self.note(|_| format!("  coordinator {c}: {effect:?}"));
            match effect {
                Effect::ReadLog => {
                    if !self.refresh(c) {
                        self.tell_lead(c, Event::LogUnread);
                    }
                }
                Effect::ReadLease => self.ask_lease(c, None),
                Effect::WriteLease { expected, lease } => self.ask_lease(c, Some((expected, lease))),
                Effect::AppendEpoch { epoch } => {
                    let Some(instance) = self.coordinators[c].lead.as_ref().map(|lead| lead.instance) else {
                        return;
                    };
                    let epoch = Epoch { epoch, instance, at: self.wall_of(c) };
                    self.append(c, Entry::Epoch(epoch), None);
                }
                Effect::Lead { epoch } => self.take_desk(c, epoch),
                Effect::StepDown { .. } if self.has(Planted::CommitWithoutEpoch) => {}
                Effect::StepDown { .. } => self.deposed(c),
                Effect::Stop(why) => {
                    let what = format!("coordinator {c} stops for good: {why:?}");
                    self.facts.push(Fact::Impossible { what });
                }
            }
        }
        let (now, origin) = (self.now, self.coordinators[c].origin);
        let Some(lead) = &mut self.coordinators[c].lead else { return };
        if let Some((due, _)) = lead.machine.poll_timeout() {
            let due = (due.0 + origin).max(now);
            if lead.wake_at.is_none_or(|at| at > due) {
                lead.wake_at = Some(due);
                self.for_coordinator(c, due - now, Step::LeadWake);
            }
        }
    }

    /// How the append of an `epoch` record went.
    pub(crate) fn epoch_appended(&mut self, c: usize, outcome: Append) {
        self.tell_lead(
            c,
            match outcome {
                Append::Stands(_) => Event::EpochAppended,
                Append::Taken => Event::EpochLost,
                Append::Unknown => Event::EpochFailed,
            },
        );
    }

    /// Sends a question about the lease, or a new one in place of that of a revision.
    fn ask_lease(&mut self, c: usize, write: Option<(Option<u64>, Lease)>) {
        let (party, life, asked) = (Party::Coordinator(c), self.coordinators[c].life, self.time_of(c));
        if self.off_bus[party.index()] > self.now || self.strikes(Fault::Dropped) {
            return self.for_coordinator(c, UNKNOWN, Step::Lease(Event::LeaseUnknown));
        }
        let mut after = self.latency();
        if self.strikes(Fault::Delayed) {
            after += self.rng.between(200, 9_000);
        }
        self.after(after, Happening::Leased { coordinator: c, life, asked, write });
    }

    /// The question arrives at the bus.
    pub(crate) fn leased(&mut self, c: usize, life: u32, asked: Time, write: Option<(Option<u64>, Lease)>) {
        let event = match write {
            None => {
                let seen = self.lease.map(|(revision, lease)| LeaseSeen { revision, lease: Some(lease) });
                Event::LeaseRead { seen }
            }
            Some((expected, lease)) if self.lease.map(|(revision, _)| revision) == expected => {
                self.revisions += 1;
                self.lease = Some((self.revisions, lease));
                Event::LeaseWritten { asked, revision: self.revisions }
            }
            Some(_) => Event::LeaseLost,
        };
        let lost = self.strikes(Fault::Dropped);
        let (after, event) = if lost { (UNKNOWN, Event::LeaseUnknown) } else { (5, event) };
        let step = happening::Step::Coordinator(Step::Lease(event));
        self.after(after, Happening::For(Party::Coordinator(c), life, step));
    }
}
