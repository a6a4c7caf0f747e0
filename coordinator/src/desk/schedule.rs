//! The schedule: a slot that is due becomes a round, once.
//!
//! The clock of the wall comes in here and nowhere else at the desk. Before a slot is acted on the log is read, so that what an
//! admin said a moment ago holds, and a leader that was paused learns of its successor; the log then takes the round of a slot once
//! and never again.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::RoundId;
use muster_protocol::log::{RoundPhase, Scope, State};
use muster_protocol::message::TriggerState;
use muster_protocol::round::Overlap;
use muster_protocol::schedule::{Due, Follower, Plan, Standing, differs};
use muster_protocol::time::UnixMillis;

use crate::daemon::Slots;
use crate::lead::Trust;
use crate::scribe::unix_now;

use super::requests::Origin;
use super::{Desk, Report};

/// How often the clock is looked at: it may jump.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// Longest that a slot waits for the log to be read; then it is judged by what is known.
const LIMIT: Duration = Duration::from_secs(5);

/// The plan in force, and how far it was followed.
#[derive(Default)]
pub(super) struct Timetable {
    clear: BTreeMap<String, String>,
    plan: Option<Plan>,
    follower: Follower,
    /// A slot is on its way: the log is being read for it.
    pending: bool,
}

impl Timetable {
    /// Takes the settings over as they are now.
    fn update(&mut self, clear: &BTreeMap<String, String>) {
        if !differs(&self.clear, clear) {
            return;
        }
        self.plan = match Plan::of(clear) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(%error, "SCHED-01: the schedule cannot be followed");
                None
            }
        };
        self.clear.clone_from(clear);
        self.follower.replan();
    }
}

impl Desk {
    /// Looks whether a slot is due.
    pub(super) fn look_at_the_clock(&mut self) {
        let (state, now) = (self.state(), unix_now());
        let clear = state.settings();
        self.timetable.update(clear);
        if self.timetable.pending || self.setting.slots == Slots::Leave {
            return;
        }
        let paused_until = match Standing::of(clear, now) {
            Standing::Disabled { .. } => return self.timetable.follower.pass(now),
            Standing::Enabled { paused_until } => paused_until,
            Standing::Never => None,
        };
        let Timetable { plan, follower, .. } = &mut self.timetable;
        let Some(plan) = plan else { return follower.pass(now) };
        if self.setting.standing.trust() == Trust::Over {
            return;
        }
        let since = state.scheduled.max(paused_until);
        let Some(due) = follower.tick(plan, &state.fleet, since, now) else { return };
        self.timetable.pending = true;
        let (scribe, reports) = (self.setting.scribe.clone(), self.reports.clone());
        tokio::spawn(async move {
            drop(tokio::time::timeout(LIMIT, scribe.read()).await);
            // The desk may be gone: then another leader finds the slot.
            reports.send(Report::Slot(due)).await.ok();
        });
    }

    /// Makes a slot's round of it, unless it was disabled or planned otherwise meanwhile.
    pub(super) fn scheduled(&mut self, due: Due) {
        self.timetable.pending = false;
        let state = self.state();
        let clear = state.config.as_ref().map(|config| &config.clear);
        if clear.is_none_or(|clear| differs(clear, &self.timetable.clear)) {
            return;
        }
        if due.missed && was_met(&state, due.slot, self.setting.overlap) {
            tracing::info!(slot = due.slot.0, "a slot that passed is not made up for: a round came since");
            return;
        }
        let id = RoundId::of_slot(&state.fleet, due.slot);
        let (answer, _) = self.ask(id, Scope::All, "", &Origin::Schedule(due), None);
        let reason = answer.reason.unwrap_or_default();
        match answer.state {
            TriggerState::Opened => {
                tracing::info!(slot = due.slot.0, missed = due.missed, "the schedule begins a round")
            }
            TriggerState::Running | TriggerState::Ended => {
                tracing::debug!(slot = due.slot.0, "the slot has its round already");
            }
            TriggerState::Queued | TriggerState::Skipped => {
                tracing::warn!(slot = due.slot.0, state = ?answer.state, reason, "ROUND-03: a slot met another round");
            }
            TriggerState::Refused => {
                tracing::warn!(slot = due.slot.0, reason, "the schedule begins no round");
            }
        }
    }
}

/// Whether a round of everything began since a slot that passed, or was under way then where what overlaps is skipped: there is
/// nothing to make up for.
fn was_met(state: &State, slot: UnixMillis, overlap: Overlap) -> bool {
    let ended = |phase: &RoundPhase| match phase {
        RoundPhase::Open => None,
        RoundPhase::Committed { commit, .. } => Some(commit.at),
        RoundPhase::Ended(end) => Some(end.at),
    };
    let all = state.rounds.values().filter(|round| round.open.scope == Scope::All);
    let mut since = all.filter(|round| {
        let under_way = ended(&round.phase).is_none_or(|at| at >= slot);
        round.open.at >= slot || (overlap == Overlap::Skip && under_way)
    });
    since.next().is_some()
}
