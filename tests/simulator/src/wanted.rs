//! What people and schedules want.

use muster_protocol::ids::RoundId;
use muster_protocol::log::{Body, Hold, Scope, seal_statement, seal_with_statement};

use crate::coordinator::Wish;
use crate::fact::Fact;
use crate::fault::Fault;
use crate::founding::{Founding, operator};
use crate::happening::{Happening, Party, Wanted};
use crate::world::World;

impl World {
    pub(crate) fn wanted(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Round { request, services } => self.want_round(request, services),
            Wanted::Prune => {
                self.look_whether_at_rest = true;
                let after = self.rng.between(4_000, 10_000);
                self.after(after, Happening::Wanted(Wanted::Prune));
                self.pruner.wanted = true;
            }
            Wanted::Restore => {
                let after = self.rng.between(5_000, 15_000);
                self.after(after, Happening::Wanted(Wanted::Restore));
                if let Some(round) = self.share.truth().newest_recoverable().map(|round| round.open.round) {
                    self.facts.push(Fact::Restored { round });
                }
            }
            Wanted::Hold => self.want_hold(),
        }
    }

    /// A coordinator that says that it leads and hears the bus.
    fn some_leader(&mut self) -> Option<usize> {
        let leads = |c: &usize| {
            let it = &self.coordinators[*c];
            let hears = self.off_bus[Party::Coordinator(*c).index()] <= self.now;
            it.desk.is_some() && it.stopped_until <= self.now && hears
        };
        let leaders: Vec<_> = (0..self.coordinators.len()).filter(leads).collect();
        if leaders.is_empty() { None } else { Some(leaders[self.rng.index(leaders.len())]) }
    }

    fn want_round(&mut self, request: u64, services: Option<Vec<usize>>) {
        if self.calm_since.is_some() {
            return;
        }
        match self.some_leader() {
            Some(c) => {
                let founding = Founding::get();
                let scope = match &services {
                    None => Scope::All,
                    Some(some) => {
                        Scope::Services(some.iter().map(|s| founding.services[*s].clone()).collect())
                    }
                };
                let round = RoundId::derive(&founding.fleet, &request.to_string());
                self.request(c, Wish { round, scope });
                self.carry_out(c);
                if self.strikes(Fault::TriggeredAgain) {
                    let after = self.rng.between(10, 9_000);
                    self.after(after, Happening::Wanted(Wanted::Round { request, services }));
                    return;
                }
            }
            // Nobody leads: asked again.
            None => return self.after(1_500, Happening::Wanted(Wanted::Round { request, services })),
        }
        if request == self.requests {
            self.requests += 1;
            let services = self.rng.percent(40).then(|| {
                let left_out = self.rng.index(self.agents.len());
                (0..self.agents.len()).filter(|s| *s != left_out).collect()
            });
            let after = self.rng.between(1_500, 8_000);
            let request = self.requests;
            self.after(after, Happening::Wanted(Wanted::Round { request, services }));
        }
    }

    /// Everything has come to rest: one more round shows that the fleet works.
    pub(crate) fn want_last_round(&mut self) {
        let Some(c) = self.some_leader() else { return };
        let round = RoundId::derive(&Founding::get().fleet, "last");
        self.last_round = Some(round);
        self.request(c, Wish { round, scope: Scope::All });
        self.carry_out(c);
    }

    /// An operator keeps a committed round, or lets one go again.
    fn want_hold(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        let after = self.rng.between(8_000, 25_000);
        self.after(after, Happening::Wanted(Wanted::Hold));
        let state = std::rc::Rc::clone(self.share.truth());
        let rounds: Vec<_> = state.rounds.values().filter(|round| round.is_recoverable()).collect();
        if rounds.is_empty() {
            return;
        }
        let round = rounds[self.rng.index(rounds.len())];
        let previous = state.statements.get(Hold::KIND).copied();
        let hold =
            Hold { previous, round: round.open.round, keep: round.hold.is_none(), reason: None, at: None };
        let (who, fleet) = (operator(), state.fleet);
        let statement = seal_statement(&who, &fleet, &hold);
        let record = seal_with_statement(&who, &fleet, state.next, state.head, Hold::KIND, statement);
        if let Some(result) = self.share.append_bytes(self.share.len(), &record) {
            let (slot, signer, kind) = (self.share.len(), who.key_id(), Hold::KIND);
            self.facts.push(Fact::Appended { slot, signer, kind, result });
        }
    }
}
