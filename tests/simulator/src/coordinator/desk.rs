//! The desk: the open rounds' machines while a coordinator leads.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_protocol::ids::RoundId;
use muster_protocol::log::{End, Open};
use muster_protocol::round::{CutPolicy, Event, Machine, Phase, Policy, Start};
use muster_protocol::service_policy::ServicePolicy;

use crate::founding::Founding;
use crate::happening::coordinator::Step;
use crate::happening::{Entry, Paper};
use crate::world::World;

use super::requests::Wish;

/// Ended rounds that are still at the desk.
const KEPT: usize = 4;
/// Successors that restart a round's deadline in full.
const MAX_RESTARTS: u64 = 2;

/// One round at the desk.
pub(crate) struct Seat {
    pub(crate) machine: Machine,
    pub(crate) open: Open,
    /// Log number of its `open` record; 0 until that is in the log.
    pub(crate) position: u64,
    /// Requests that wait for an answer, by service.
    pub(crate) hellos: BTreeMap<usize, u64>,
    pub(crate) notices: BTreeMap<usize, u64>,
    pub(crate) finished: bool,
    /// When its machine began to ask services, and how long its coordinator had been stopped by then.
    pub(crate) asked: Option<(u64, u64)>,
}

/// What a leader works at.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) epoch: u64,
    pub(crate) rounds: BTreeMap<RoundId, Seat>,
    pub(crate) waiting: VecDeque<Wish>,
    pub(crate) revision: u64,
    pub(crate) scribe: VecDeque<(Entry, Option<RoundId>)>,
    pub(crate) writing: bool,
    /// What the publisher keeps on the bus, by subject.
    pub(crate) values: BTreeMap<usize, Paper>,
    /// Values that may not be there.
    pub(crate) unpublished: bool,
    pub(crate) published_at: u64,
}

impl World {
    /// The coordinator leads: it takes up what is open.
    pub(crate) fn take_desk(&mut self, c: usize, epoch: u64) {
        let state = self.view_of(c);
        self.note(|_| format!("  coordinator {c} leads epoch {epoch}"));
        self.coordinators[c].desk = Some(Desk { epoch, ..Desk::default() });
        for round in state.open_rounds() {
            self.begin(c, round.open.clone(), round.position, Start::Resume);
        }
        for (id, round) in &state.rounds {
            if round.is_recoverable() && round.word() == "committed" {
                let after = self.latency();
                self.for_coordinator(c, after, Step::VerifyLater { epoch, round: *id });
            }
        }
        self.publish(c);
    }

    /// Seats a round.
    pub(crate) fn begin(&mut self, c: usize, open: Open, position: u64, start: Start) {
        let Some(epoch) = self.coordinators[c].desk.as_ref().map(|desk| desk.epoch) else { return };
        let services = self.expected(&open);
        let leaders = epoch.saturating_sub(open.epoch);
        let halvings = u32::try_from(leaders.saturating_sub(MAX_RESTARTS)).unwrap_or(u32::MAX).min(63);
        let deadline = Duration::from_millis(open.deadline_millis >> halvings).max(Duration::from_secs(1));
        let cut = open.cut.map(|terms| CutPolicy {
            nonce: self.rng.nonce(),
            barrier: Duration::from_millis(terms.barrier_millis),
            on_break: terms.on_break,
        });
        let policy = Policy { deadline, cut, ..self.plan.policy() };
        let (seed, now) = (self.rng.next(), self.time_of(c));
        let machine = Machine::start(start, services, policy, seed, now);
        self.seat(c, machine, open, position);
    }

    /// The services of a round, and what is expected of each.
    fn expected(&self, open: &Open) -> Vec<(muster_protocol::ids::ServiceName, ServicePolicy)> {
        let services = Founding::get().services.iter().zip(&self.plan.services);
        services
            .filter(|(service, _)| open.scope.contains(service))
            .map(|(service, (_, policy))| (service.clone(), policy.clone()))
            .collect()
    }

    pub(crate) fn seat(&mut self, c: usize, machine: Machine, open: Open, position: u64) {
        let since = (self.now, self.coordinators[c].stopped);
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        let id = open.round;
        let seat = Seat {
            machine,
            open,
            position,
            hellos: BTreeMap::new(),
            notices: BTreeMap::new(),
            finished: false,
            asked: (position > 0).then_some(since),
        };
        desk.rounds.insert(id, seat);
        let ended: Vec<_> = desk.rounds.iter().filter(|(_, seat)| seat.finished).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(KEPT)) {
            desk.rounds.remove(id);
        }
    }

    /// Tells a round's machine what has happened.
    pub(crate) fn tell(&mut self, c: usize, round: &RoundId, event: Event) {
        let now = self.time_of(c);
        let since = (self.now, self.coordinators[c].stopped);
        let desk = self.coordinators[c].desk.as_mut();
        if let Some(seat) = desk.and_then(|desk| desk.rounds.get_mut(round)) {
            if event == Event::Opened {
                seat.asked.get_or_insert(since);
            }
            seat.machine.handle(event, now);
        }
    }

    /// Looks for rounds that the log says are open and that nobody works at: an `open` record may get through whose round
    /// was ended here in the belief that it had not. Those are ended as was decided.
    pub(crate) fn reconcile(&mut self, c: usize) {
        let (state, at) = (self.view_of(c), self.wall_of(c));
        for round in state.open_rounds() {
            let id = round.open.round;
            let Some(desk) = &self.coordinators[c].desk else { return };
            let epoch = desk.epoch;
            match desk.rounds.get(&id).map(|seat| (seat.finished, seat.machine.phase().clone())) {
                Some((true, Phase::Ended { outcome, .. })) => {
                    let reason = "ended before its record was seen".to_owned();
                    self.write(
                        c,
                        Entry::End(End { epoch, round: id, outcome, reason, at, account: None }),
                        None,
                    );
                }
                None => self.begin(c, round.open.clone(), round.position, Start::Resume),
                Some(_) => {}
            }
        }
    }
}
