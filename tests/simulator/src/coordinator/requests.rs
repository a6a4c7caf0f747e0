//! Requests: what becomes of them, and of those that wait for their services.

use muster_protocol::ids::RoundId;
use muster_protocol::log::{Open, Scope};
use muster_protocol::round::{Admission, Event, Overlap, Phase, Start, admit};

use crate::plan::DEADLINE;
use crate::world::World;

/// A round that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) round: RoundId,
    pub(crate) scope: Scope,
}

impl World {
    /// Decides on a request.
    pub(crate) fn request(&mut self, c: usize, wish: Wish) {
        let state = self.view_of(c);
        let overlap = self.plan.overlap;
        self.note(|_| {
            format!("  asked of coordinator {c}: {:?}", admit(&state, &wish.round, &wish.scope, overlap))
        });
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        if desk.rounds.get(&wish.round).is_some_and(|seat| !seat.finished) {
            return;
        }
        // A round whose record is still on its way to the log holds its services already.
        let opening = desk
            .rounds
            .values()
            .any(|seat| *seat.machine.phase() == Phase::Opening && seat.open.scope.overlaps(&wish.scope));
        match admit(&state, &wish.round, &wish.scope, overlap) {
            Admission::Open { .. } if !opening => self.open(c, wish),
            Admission::Open { .. } if overlap == Overlap::Skip => {}
            Admission::Open { .. } | Admission::Queue { .. } => {
                if !desk.waiting.iter().any(|known| known.round == wish.round) {
                    desk.waiting.push_back(wish);
                }
            }
            Admission::Known { .. } | Admission::Skip { .. } | Admission::Refuse { .. } => {}
        }
    }

    fn open(&mut self, c: usize, wish: Wish) {
        let Some(epoch) = self.coordinators[c].desk.as_ref().map(|desk| desk.epoch) else { return };
        let cut = self.plan.cut.filter(|_| self.rng.percent(70));
        let open = Open {
            epoch,
            round: wish.round,
            number: 0,
            scope: wish.scope,
            nonce: self.rng.nonce(),
            trigger: "message".to_owned(),
            deadline_millis: DEADLINE,
            at: self.wall_of(c),
            cut,
        };
        self.begin(c, open, 0, Start::Fresh);
    }

    /// Opens the requests whose services are free now, in their order.
    pub(crate) fn wake_waiting(&mut self, c: usize) {
        let state = self.view_of(c);
        let Some(desk) = &mut self.coordinators[c].desk else { return };
        for wish in std::mem::take(&mut desk.waiting) {
            let Some(desk) = &mut self.coordinators[c].desk else { return };
            let opening = desk.rounds.values().any(|seat| *seat.machine.phase() == Phase::Opening);
            match admit(&state, &wish.round, &wish.scope, Overlap::Queue) {
                Admission::Open { .. } if !opening => self.open(c, wish),
                Admission::Open { .. } | Admission::Queue { .. } => desk.waiting.push_back(wish),
                Admission::Known { .. } | Admission::Skip { .. } | Admission::Refuse { .. } => {}
            }
        }
    }

    /// An operator ends a round that this coordinator has at its desk.
    pub(crate) fn cancel(&mut self, c: usize) -> bool {
        let desk = self.coordinators[c].desk.as_ref();
        let open = desk.into_iter().flat_map(|desk| &desk.rounds);
        let Some(round) = open.filter(|(_, seat)| seat.machine.can_be_cancelled()).map(|(id, _)| *id).next()
        else {
            return false;
        };
        self.tell(c, &round, Event::Cancel { reason: "by the operator".to_owned() });
        self.carry_out(c);
        true
    }
}
