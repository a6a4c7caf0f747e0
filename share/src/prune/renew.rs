//! Locks that must not run out: everything that rounds which stay need is locked anew in time.
//!
//! Whoever prunes does it, because nobody else knows what stays. It looks at every needed object in each run and renews
//! what has less than half of its time left: a pruner may miss runs for half of the lock's length before anything is free.
//! Damage and failures stop nothing: what can be renewed is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt, stream};
use muster_protocol::config::Lock;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::State;
use muster_protocol::prune::{Chooser, Terms, Verdict};
use muster_protocol::time::UnixMillis;

use super::choose::damaged;
use super::error::PruneError;
use crate::layout::{ObjectPath, Prefix};
use crate::log::Log;
use crate::needs::{Slice, named};
use crate::store::{Listed, Store, StoreError};
use crate::verify::Trouble;
use crate::verify::chain::{ReceiptName, read_manifest};

/// Objects whose locks are looked at, and slices that are read, at once.
const AT_ONCE: usize = 16;

/// What became of the locks.
#[derive(Debug, Default)]
pub struct Renewed {
    /// Objects that were locked anew.
    pub renewed: u64,
    /// Objects whose locks last long enough.
    pub lasting: u64,
    /// Objects that are needed and not there.
    pub missing: u64,
    /// Objects that could not be locked anew.
    pub failed: u64,
    /// The first of these, and why.
    pub failure: Option<(ObjectPath, StoreError)>,
}

/// Locks what stays anew, as far as its lock runs out. `None` on a share without locks. `now` is the calendar time that
/// retention goes by, as for [`super::prune`].
///
/// # Errors
/// When the signed retention cannot be used, or it cannot be found out what stays.
pub async fn renew(log: &Log, now: UnixMillis) -> Result<Option<Renewed>, PruneError> {
    let (store, state) = (&log.sure(), log.state());
    let Some(lock) = store.lock() else { return Ok(None) };
    let terms = Terms::of(&state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default())?;
    let mut renewed = Renewed::default();
    let mut fleets = BTreeSet::from([ObjectPath::Format]);
    let mut records = store.list(&Prefix::Log);
    while let Some(line) = records.next().await {
        match line? {
            Listed::Object { path, .. } => fleets.extend([path]),
            Listed::Foreign { .. } => {}
        }
    }
    drop(records);
    let swept = state.sweeps.values().map(|(sweep, _)| sweep.list);
    let marked = state.prunes.values().map(|prune| prune.list);
    let sealed = state.config.as_ref().and_then(|config| config.sealed);
    fleets.extend(swept.chain(marked).chain(sealed).map(ObjectPath::List));
    let slices = staying(store, state, terms, now, &mut fleets).await?;
    extend(store, lock, fleets, &mut renewed).await;
    // Service by service, so that memory holds the names of one.
    for (service, slices) in &slices {
        let mut objects = BTreeSet::new();
        let mut names =
            stream::iter(slices).map(|slice| named(store, state, service, slice)).buffer_unordered(AT_ONCE);
        while let Some(slice) = names.try_next().await? {
            objects.extend(slice.into_iter().map(|(path, _)| path));
        }
        drop(names);
        extend(store, lock, objects, &mut renewed).await;
    }
    Ok(Some(renewed))
}

/// The slices of rounds that stay, by service; their manifests go to `fleets`.
async fn staying<'a>(
    store: &dyn Store,
    state: &'a State,
    terms: Terms,
    now: UnixMillis,
    fleets: &mut BTreeSet<ObjectPath>,
) -> Result<BTreeMap<ServiceName, Vec<Slice<'a>>>, PruneError> {
    let mut chooser = Chooser::new(state, terms, now);
    let mut slices: BTreeMap<ServiceName, Vec<Slice<'a>>> = BTreeMap::new();
    for round in chooser.order() {
        let manifest = match round.is_recoverable() {
            true => match read_manifest(store, state, round).await {
                Ok(manifest) => Some(manifest.slices),
                Err(Trouble::Damaged(_)) => None,
                Err(Trouble::Store(error)) => return Err(error.into()),
            },
            false => Some(Vec::new()),
        };
        let names: Option<Vec<ServiceName>> =
            manifest.as_ref().map(|slices| slices.iter().map(|slice| slice.service.clone()).collect());
        let damaged = damaged(store, state, round, manifest.as_deref().unwrap_or_default()).await?;
        match chooser.judge(round, names.as_deref(), &damaged) {
            Verdict::Goes | Verdict::Empty => continue,
            Verdict::Stays(_) => {}
        }
        fleets.extend(round.commit().map(|commit| ObjectPath::Manifest(commit.manifest)));
        for slice in manifest.unwrap_or_default() {
            let receipt = ReceiptName::from(&slice);
            slices.entry(slice.service).or_default().push(Slice { round, receipt });
        }
    }
    Ok(slices)
}

/// Locks these objects anew, as far as they need it.
async fn extend(store: &dyn Store, lock: Lock, objects: BTreeSet<ObjectPath>, renewed: &mut Renewed) {
    let now = SystemTime::now();
    let mut done = stream::iter(objects)
        .map(|path| async move {
            let done = match store.locked_until(&path).await {
                Ok(Some(until)) if until > now + lock.retain / 2 => Ok(false),
                Ok(_) => store.lock_until(&path, now + lock.retain).await.map(|()| true),
                Err(error) => Err(error),
            };
            (path, done)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((path, done)) = done.next().await {
        match done {
            Ok(true) => renewed.renewed += 1,
            Ok(false) => renewed.lasting += 1,
            Err(StoreError::NotFound { .. }) => renewed.missing += 1,
            Err(error) => {
                renewed.failed += 1;
                renewed.failure.get_or_insert((path, error));
            }
        }
    }
}
