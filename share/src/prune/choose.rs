//! Which rounds go, by their manifests and the signed retention.

use std::collections::BTreeMap;

use muster_protocol::document::ManifestSlice;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{RoundState, State};
use muster_protocol::prune::{Chooser, Kept, Terms, Verdict};
use muster_protocol::time::UnixMillis;

use super::error::PruneError;
use super::survey::Scope;
use crate::needs::{Slice, named};
use crate::store::Store;
use crate::verify::chain::{ReceiptName, read_manifest};
use crate::verify::{Damage, Trouble};

/// The rounds of a log, sorted out.
#[derive(Default)]
pub(super) struct Rounds<'a> {
    /// Committed ones that stay.
    pub(super) staying: Vec<&'a RoundState>,
    /// Those that go, oldest first.
    pub(super) going: Vec<&'a RoundState>,
    /// The slices of each service.
    pub(super) slices: BTreeMap<ServiceName, Slices<'a>>,
    /// Numbers of the rounds that stay, newest first, and why.
    pub(super) reasons: Vec<(u64, Kept)>,
    /// How many more are due, and stay because so many cannot go at once.
    pub(super) more: u64,
}

/// The slices of one service.
#[derive(Default)]
pub(super) struct Slices<'a> {
    /// Of rounds that stay.
    pub(super) staying: Vec<Slice<'a>>,
    /// Of rounds that go.
    pub(super) going: Vec<Slice<'a>>,
}

/// Which rounds go. A round whose manifest is damaged may go; one that stays with such a manifest ends the prune.
///
/// # Errors
/// When such a manifest is damaged, or the share fails.
pub(super) async fn choose<'a>(
    store: &dyn Store,
    state: &'a State,
    terms: Terms,
    now: UnixMillis,
    scope: Scope<'_>,
) -> Result<Rounds<'a>, PruneError> {
    let mut chooser = Chooser::new(state, terms, now);
    let mut due: Vec<(&RoundState, Result<Vec<ManifestSlice>, Damage>)> = Vec::new();
    let mut rounds = Rounds::default();
    for round in chooser.order() {
        let read = if round.is_recoverable() { Some(read_manifest(store, state, round).await) } else { None };
        let slices = match read {
            None => Ok(Vec::new()),
            Some(Ok(manifest)) => Ok(manifest.slices),
            Some(Err(Trouble::Damaged(damage))) => Err(damage),
            Some(Err(Trouble::Store(error))) => return Err(error.into()),
        };
        let names: Option<Vec<ServiceName>> =
            slices.as_ref().ok().map(|slices| slices.iter().map(|slice| slice.service.clone()).collect());
        let damaged = damaged(store, state, round, slices.as_deref().unwrap_or_default()).await?;
        let verdict = chooser.judge(round, names.as_deref(), &damaged);
        let marked = match scope {
            Scope::Due { .. } => true,
            Scope::Within { rounds, .. } => rounds.contains(&round.open.round),
        };
        let settled = match scope {
            Scope::Due { .. } => false,
            Scope::Within { since, .. } => round.commit_position().is_some_and(|position| position < since),
        };
        match (verdict, slices) {
            (Verdict::Empty, _) => {}
            (Verdict::Goes, slices) if marked => due.push((round, slices)),
            // Its manifest was whole when the list was made, and what it named is not on the list.
            (Verdict::Goes, Err(_)) if settled => {}
            (Verdict::Goes | Verdict::Stays(_), Err(damage)) => return Err(PruneError::Damaged(damage)),
            (Verdict::Goes, Ok(slices)) => rounds.keep(round, slices),
            (Verdict::Stays(why), Ok(slices)) => {
                rounds.reasons.push((round.open.number, why));
                rounds.keep(round, slices);
            }
        }
    }
    due.reverse();
    let most = match scope {
        Scope::Due { rounds, .. } => rounds,
        Scope::Within { .. } => usize::MAX,
    };
    for (at, (round, slices)) in due.into_iter().enumerate() {
        if at < most {
            for slice in slices.unwrap_or_default() {
                let receipt = ReceiptName::from(&slice);
                rounds.slices.entry(slice.service).or_default().going.push(Slice { round, receipt });
            }
            rounds.going.push(round);
        } else {
            // What it names must be known as long as it stays.
            rounds.keep(round, slices.map_err(PruneError::Damaged)?);
            rounds.more += 1;
        }
    }
    Ok(rounds)
}

/// The services whose slices of this round name what is in quarantine.
pub(super) async fn damaged(
    store: &dyn Store,
    state: &State,
    round: &RoundState,
    slices: &[ManifestSlice],
) -> Result<Vec<ServiceName>, PruneError> {
    let mut damaged = Vec::new();
    for slice in slices {
        let service = &slice.service;
        // What was committed behind the quarantine names nothing of it.
        let is_older = |position: u64| round.commit_position().is_some_and(|commit| commit < position);
        let Some(of) = state.quarantine.get(service).filter(|of| is_older(of.position)) else { continue };
        let slice = Slice { round, receipt: ReceiptName::from(slice) };
        let objects = named(store, state, service, &slice).await?;
        if objects.iter().any(|(path, _)| path.id().is_some_and(|id| of.objects.contains_key(id))) {
            damaged.push(service.clone());
        }
    }
    Ok(damaged)
}

impl<'a> Rounds<'a> {
    fn keep(&mut self, round: &'a RoundState, slices: Vec<ManifestSlice>) {
        if round.commit().is_none() {
            return;
        }
        for slice in slices {
            let receipt = ReceiptName::from(&slice);
            self.slices.entry(slice.service).or_default().staying.push(Slice { round, receipt });
        }
        self.staying.push(round);
    }
}
