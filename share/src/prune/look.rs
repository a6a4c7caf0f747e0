//! The listing, compared with what is needed: first that all of it is there, then what else is.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt, stream};
use muster_protocol::ids::ServiceName;
use muster_protocol::log::State;
use muster_protocol::prune::{Sight, Stock};

use super::choose::{Rounds, Slices};
use super::error::PruneError;
use super::survey::{Scope, Survey};
use crate::layout::{ObjectPath, Prefix};
use crate::needs::{named, needed};
use crate::store::{Listed, Store, StoreError};
use crate::verify::{Damage, Fault};

/// Objects whose locks are asked for at once.
const AT_ONCE: usize = 16;

/// Why an object is there that nothing needs.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// A round that goes names it: its place in [`Survey::going`].
    Round(usize),
    Orphan,
    /// The account of a round that ended without a commit, which is still among those that stay.
    Account,
    Configuration,
    List,
    Grant,
}

/// A look at the share under way.
pub(super) struct Look<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) state: &'a State,
    pub(super) scope: Scope<'a>,
    pub(super) rounds: &'a Rounds<'a>,
    pub(super) survey: Survey,
    /// What may go, as far as no lock keeps it.
    pub(super) candidates: Vec<Candidate>,
}

/// An object that may go.
pub(super) struct Candidate {
    path: ObjectPath,
    size: u64,
    origin: Origin,
}

impl Look<'_> {
    /// What lies below `agents/<service>/`.
    ///
    /// # Errors
    /// When anything that stays is damaged or not listed, or the share fails.
    pub(super) async fn service(&mut self, service: &ServiceName) -> Result<(), PruneError> {
        let Self { store, state, rounds, .. } = *self;
        let mut stock = Stock::default();
        let none = Slices::default();
        let Slices { staying, going } = rounds.slices.get(service).unwrap_or(&none);
        let quarantined =
            |object: &ObjectPath| object.id().is_some_and(|id| state.is_quarantined(service, id));
        needed(store, state, service, staying, |object, size| {
            if !quarantined(&object) {
                return need(&mut stock, object, Some(size));
            }
            // Known to be damaged: it stays as it is, if it is there at all.
            need(&mut stock, object.clone(), None)?;
            stock.see(&object, size);
            Ok(())
        })
        .await?;
        let mut origins = BTreeMap::new();
        for slice in going {
            let objects = named(store, state, service, slice).await?;
            let at = rounds.going.iter().position(|round| std::ptr::eq(*round, slice.round));
            let at = at.expect("its round goes");
            origins.extend(objects.into_iter().map(|(object, _)| (object, Origin::Round(at))));
        }
        let in_use = state.open_rounds().iter().any(|round| round.open.scope.contains(service));
        let prefix = Prefix::Agent(service.clone());
        let origin = |object: &ObjectPath| origins.get(object).copied().unwrap_or(Origin::Orphan);
        self.list(&prefix, &mut stock, in_use, origin).await?;
        complete(store, &stock).await
    }

    /// What belongs to the whole fleet: manifests, lists, grants, and what tests of the share left.
    ///
    /// # Errors
    /// As [`Look::service`].
    pub(super) async fn fleet(&mut self) -> Result<(), PruneError> {
        let Self { store, state, rounds, .. } = *self;
        let mut stock = Stock::default();
        for commit in rounds.staying.iter().filter_map(|round| round.commit()) {
            need(&mut stock, ObjectPath::Manifest(commit.manifest), Some(commit.manifest_size))?;
        }
        let sealed = state.config.as_ref().and_then(|config| config.sealed);
        // The lists of sweeps stay: commits and agents compare with them for ever.
        let swept = state.sweeps.values().map(|(sweep, _)| sweep.list);
        let marked = state.prunes.values().map(|prune| prune.list);
        for list in swept.chain(marked).chain(sealed) {
            need(&mut stock, ObjectPath::List(list), None)?;
        }
        let mut origins = BTreeMap::new();
        for (at, round) in rounds.going.iter().enumerate() {
            origins.extend(round.commit().map(|commit| (commit.manifest, Origin::Round(at))));
        }
        // No recovery needs an account, so that a lost one is no damage; it stays as long as the rounds around it.
        let oldest = rounds.staying.iter().map(|round| round.open.number).min().unwrap_or_default();
        for round in state.rounds.values().filter(|round| round.open.number >= oldest) {
            let account = round.end().and_then(|end| end.account);
            origins.extend(account.map(|account| (account.object, Origin::Account)));
        }
        let in_use = !state.open_rounds().is_empty();
        for (prefix, in_use) in [
            (Prefix::Manifests, in_use),
            (Prefix::Lists, false),
            (Prefix::Grants, false),
            (Prefix::Probes, false),
        ] {
            let origin = |object: &ObjectPath| match object {
                ObjectPath::Manifest(id) => origins.get(id).copied().unwrap_or(Origin::Orphan),
                ObjectPath::List(_) => Origin::List,
                ObjectPath::Grant(_) => Origin::Grant,
                ObjectPath::Format
                | ObjectPath::LogRecord(_)
                | ObjectPath::LogSegment(_)
                | ObjectPath::Probe(_)
                | ObjectPath::Copy(_)
                | ObjectPath::Pack { .. }
                | ObjectPath::Slice { .. } => Origin::Orphan,
            };
            self.list(&prefix, &mut stock, in_use, origin).await?;
        }
        complete(store, &stock).await
    }

    /// Compares a listing with what is needed. `in_use`: an open round may need what nobody else does.
    async fn list(
        &mut self,
        prefix: &Prefix,
        stock: &mut Stock<ObjectPath>,
        in_use: bool,
        origin: impl Fn(&ObjectPath) -> Origin,
    ) -> Result<(), PruneError> {
        let (store, scope) = (self.store, self.scope);
        let mut listing = store.list(prefix);
        while let Some(listed) = listing.next().await {
            let (path, size) = match listed? {
                Listed::Object { path, size } => (path, size),
                Listed::Foreign { .. } => {
                    self.survey.foreign += 1;
                    continue;
                }
            };
            match (stock.see(&path, size), scope) {
                (Sight::OtherLength { want }, _) => {
                    return Err(PruneError::Damaged(Damage::new(path, Fault::Length { have: size, want })));
                }
                (Sight::Needed, Scope::Due { .. }) => self.survey.kept.add(size),
                (Sight::Needed, Scope::Within { objects, .. }) => {
                    self.survey.kept.add(size);
                    if objects.contains(&path) {
                        self.survey.kept_back.push(path);
                    }
                }
                (Sight::Unneeded, Scope::Due { objects, .. }) => {
                    let origin = origin(&path);
                    match origin {
                        Origin::Account => self.survey.kept.add(size),
                        Origin::Orphan if in_use => self.survey.in_use.add(size),
                        Origin::Orphan
                        | Origin::Round(_)
                        | Origin::Configuration
                        | Origin::List
                        | Origin::Grant => self.goes(path, size, origin, objects).await?,
                    }
                }
                (Sight::Unneeded, Scope::Within { objects, .. }) => {
                    let origin = origin(&path);
                    if objects.contains(&path) && !matches!(origin, Origin::Account) {
                        self.goes(path, size, origin, usize::MAX).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn goes(
        &mut self,
        path: ObjectPath,
        size: u64,
        origin: Origin,
        most: usize,
    ) -> Result<(), PruneError> {
        if self.candidates.len() >= most {
            self.survey.more_objects = true;
            return Ok(());
        }
        let is_configuration = matches!(origin, Origin::List) && is_sealed(self.store, &path, size).await?;
        let origin = if is_configuration { Origin::Configuration } else { origin };
        self.candidates.push(Candidate { path, size, origin });
        Ok(())
    }

    /// Sets aside what a lock keeps, and counts the rest.
    ///
    /// # Errors
    /// When the share does not tell how long something is locked.
    pub(super) async fn end(self) -> Result<Survey, PruneError> {
        let Self { store, mut survey, candidates, .. } = self;
        let (has_locks, now) = (store.lock().is_some(), SystemTime::now());
        let mut looked = stream::iter(candidates)
            .map(|candidate| async move {
                let until = match has_locks {
                    true => locked_until(store, &candidate.path).await?,
                    false => None,
                };
                Ok::<_, StoreError>((candidate, until))
            })
            .buffer_unordered(AT_ONCE);
        while let Some((Candidate { path, size, origin }, until)) = looked.try_next().await? {
            if let Some(until) = until.filter(|until| *until > now) {
                survey.locked.add(size, until);
                continue;
            }
            match origin {
                Origin::Round(at) => survey.going[at].frees.add(size),
                Origin::Orphan | Origin::Account => survey.orphans.add(size),
                Origin::Configuration => survey.configurations.add(size),
                Origin::List => survey.lists.add(size),
                Origin::Grant => survey.grants.add(size),
            }
            survey.objects.push((path, size));
        }
        drop(looked);
        Ok(survey)
    }
}

/// When the lock of an object ends; nothing where it is gone by now.
async fn locked_until(store: &dyn Store, path: &ObjectPath) -> Result<Option<SystemTime>, StoreError> {
    match store.locked_until(path).await {
        Err(StoreError::NotFound { .. }) => Ok(None),
        told => told,
    }
}

/// Whether an object of `lists/` is an age file, as sealed configurations are and object lists are not.
async fn is_sealed(store: &dyn Store, path: &ObjectPath, size: u64) -> Result<bool, StoreError> {
    const AGE: &[u8] = b"age-encryption.org/v1\n";
    if size < AGE.len() as u64 {
        return Ok(false);
    }
    match store.get_range(path, 0..AGE.len() as u64).await {
        Ok(bytes) => Ok(bytes == AGE),
        // Another pruner was quicker.
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn need(stock: &mut Stock<ObjectPath>, object: ObjectPath, size: Option<u64>) -> Result<(), PruneError> {
    stock.need(object.clone(), size).map_err(|contradiction| PruneError::Contradiction {
        object,
        one: contradiction.one,
        other: contradiction.other,
    })
}

/// Everything that is needed was listed. What was not is either gone, or the listing is not to be believed.
async fn complete(store: &dyn Store, stock: &Stock<ObjectPath>) -> Result<(), PruneError> {
    let Some(object) = stock.missing().next() else { return Ok(()) };
    match store.head(object).await {
        Ok(_) => Err(PruneError::Listing { object: object.clone() }),
        Err(StoreError::NotFound { .. }) => {
            Err(PruneError::Damaged(Damage::new(object.clone(), Fault::Missing)))
        }
        Err(error) => Err(error.into()),
    }
}
