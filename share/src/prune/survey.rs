//! One look at the whole share: what every round that stays needs is there, and what nobody needs is named.
//!
//! Service by service, so that memory holds the names of one service's objects, and of those that may go.

use std::collections::BTreeSet;
use std::time::SystemTime;

use muster_protocol::ids::{RoundId, ServiceName};
use muster_protocol::log::{Role, State};
use muster_protocol::prune::{Kept, Terms};
use muster_protocol::time::UnixMillis;

use super::choose::choose;
use super::error::PruneError;
use super::look::Look;
use crate::layout::ObjectPath;
use crate::store::Store;

/// A number of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub objects: u64,
    /// Their length in bytes, all together.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Objects that may go, and that their locks keep until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Locked {
    /// How many, and their length.
    pub kept: Tally,
    /// When the last of these locks ends.
    pub until: Option<SystemTime>,
}

impl Locked {
    pub(super) fn add(&mut self, bytes: u64, until: SystemTime) {
        self.kept.add(bytes);
        self.until = self.until.max(Some(until));
    }
}

/// A round that goes, and what it alone needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// The round.
    pub round: RoundId,
    /// Its number.
    pub number: u64,
    /// Objects that only it, or only rounds that go, name; each is counted with the newest of them.
    pub frees: Tally,
}

/// What a look at the share found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Rounds that stay, newest first, and why.
    pub staying: Vec<(u64, Kept)>,
    /// Rounds that go, oldest first.
    pub going: Vec<Going>,
    /// Rounds that nothing keeps either, and that wait for the next prune because this one is full.
    pub more_rounds: u64,
    /// Objects that no round ever counted: torn, of slices that failed, or left by a prune that was full.
    pub orphans: Tally,
    /// Sealed configurations that a later one superseded, or that no record ever named.
    pub configurations: Tally,
    /// Object lists of marks that are over. They go along with others, and are not worth a mark: each leaves one.
    pub lists: Tally,
    /// Recovery grants.
    pub grants: Tally,
    /// Objects that nobody needs so far, but an open round may: they are left alone.
    pub in_use: Tally,
    /// Everything that stays because a round or the log names it.
    pub kept: Tally,
    /// Names that are none of the share's layout. They are never touched.
    pub foreign: u64,
    /// What may go: path and length in bytes, sorted.
    pub objects: Vec<(ObjectPath, u64)>,
    /// Whether a mark left objects out because there were too many.
    pub more_objects: bool,
    /// What could go as well, but for its lock; it goes with a later prune.
    pub locked: Locked,
    /// Of a sweep: objects of the list that something needs none the less.
    pub kept_back: Vec<ObjectPath>,
}

impl Survey {
    /// All that may go.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.objects.iter().for_each(|(_, size)| total.add(*size));
        total
    }

    /// Whether anything may go but the lists that prunes themselves leave.
    #[must_use]
    pub fn is_worth_a_mark(&self) -> bool {
        !self.going.is_empty() || self.total().objects > self.lists.objects
    }
}

/// What the survey is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Pass one: whatever is due, the oldest rounds first, so many rounds and objects at most. What an open round may
    /// need is left alone.
    Due {
        /// Most rounds.
        rounds: usize,
        /// Most objects.
        objects: usize,
    },
    /// Pass two: only these rounds and objects, as far as they are still due.
    Within {
        /// Rounds that were marked.
        rounds: &'a BTreeSet<RoundId>,
        /// Objects that were marked.
        objects: &'a BTreeSet<ObjectPath>,
        /// The log number of the mark, or of the sweep: the list has nothing that an earlier round needed, of those that
        /// are not among `rounds`.
        since: u64,
    },
}

/// Looks at the share, whose log says `state`.
///
/// # Errors
/// When anything that stays is damaged or not listed, or the share fails: then nothing is known, and nothing may go.
pub(super) async fn survey(
    store: &dyn Store,
    state: &State,
    terms: Terms,
    now: UnixMillis,
    scope: Scope<'_>,
) -> Result<Survey, PruneError> {
    let rounds = choose(store, state, terms, now, scope).await?;
    let mut look =
        Look { store, state, scope, rounds: &rounds, survey: Survey::default(), candidates: Vec::new() };
    look.survey.staying.clone_from(&rounds.reasons);
    look.survey.more_rounds = rounds.more;
    look.survey.going = rounds
        .going
        .iter()
        .map(|round| Going { round: round.open.round, number: round.open.number, frees: Tally::default() })
        .collect();
    let everyone: BTreeSet<&ServiceName> = services(state).chain(rounds.slices.keys()).collect();
    for service in everyone {
        look.service(service).await?;
    }
    look.fleet().await?;
    let mut survey = look.end().await?;
    survey.objects.sort();
    survey.kept_back.sort();
    Ok(survey)
}

/// Every service that ever had an agent.
fn services(state: &State) -> impl Iterator<Item = &ServiceName> {
    state.members.values().filter_map(|member| match &member.member.role {
        Role::Agent { service, .. } => Some(service),
        Role::Coordinator
        | Role::Viewer
        | Role::Operator
        | Role::Admin
        | Role::Pruner
        | Role::Enroller { .. } => None,
    })
}
