//! The passes of one copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use muster_protocol::document::ManifestSlice;
use muster_protocol::ids::ObjectId;
use muster_protocol::log::{Head, MAX_RECORD_LEN, Pin, RoundState, State};

use super::error::CopyError;
use super::mark::{is_copy, mark};
use super::object::{Brought, bring, place};
use super::present::Present;
use crate::layout::{ObjectPath, Prefix};
use crate::log::{Format, Log, LogError};
use crate::needs::{Slice, named};
use crate::prune::{Tally, read_object_list, swept_since};
use crate::store::{Listed, Store, StoreError};
use crate::verify::chain::{ReceiptName, read_manifest};
use crate::verify::{Damage, Fault, Progress, Trouble};

/// Objects that are under way at once; each is in memory whole, twice for a moment.
const AT_ONCE: usize = 8;
/// Manifests, and then slices' receipts and pack lists, that are read ahead: small ones, of every round that is kept.
const READ_AHEAD: usize = 16;
/// Rounds whose objects are brought together, and bytes after which no more are added: small ones would otherwise wait for
/// each other, and the records of large ones shall not wait for long, for they are what makes a copy of use.
const ROUNDS: usize = 16;
const TOGETHER: u64 = 256 << 20;
/// Looks at a log that grows while it is copied. What comes later is the next run's.
const PASSES: usize = 3;

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The head that the copy holds now.
    pub head: Head,
    /// Slots of the log that were copied.
    pub records: u64,
    /// Objects that were copied.
    pub copied: Tally,
    /// How many of them replace torn ones on the copy.
    pub mended: u64,
    /// Objects that were on the copy already, as far as the first share lists them.
    pub present: Tally,
    /// Objects that were deleted on the copy, because the first share pruned them.
    pub deleted: Tally,
    /// Objects that the first share does not have whole, sorted. They are missing on the copy.
    pub damaged: Vec<Damage>,
}

/// Copies what `source` holds to `target`, and its log up to the head, which is read on meanwhile. `prune`: objects that
/// the source's pruner deleted are deleted on the copy, too. `progress` counts bytes of objects.
///
/// # Errors
/// See [`CopyError`]. An object that the source lacks is none: [`Report::damaged`] names it.
pub async fn copy(
    source: &mut Log,
    target: &Arc<dyn Store>,
    prune: bool,
    progress: &Progress,
) -> Result<Report, CopyError> {
    let begun = source.head();
    let mut next = begin(source, target).await?;
    // What rounds of former runs need is looked at again: the share may have lost it before it was copied.
    let mut from = 0;
    let present = Present::list(target.as_ref()).await.map_err(CopyError::Target)?;
    let mut work = Work {
        // What the source lacks is told as damage, and deleted from the copy.
        source: Arc::new(source.sure()),
        target: Arc::clone(target),
        present,
        progress,
        records: 0,
        copied: Tally::default(),
        mended: 0,
        damaged: BTreeMap::new(),
    };
    let mut listed = Tally::default();
    let mut head = begun;
    for pass in 1.. {
        head = source.head();
        work.lists(source.state()).await?;
        work.listed(&[Prefix::Lists, Prefix::Manifests]).await?;
        next = work.records(source, from, next).await?;
        from = next;
        listed = work.listed(&[Prefix::Everything]).await?;
        if source.refresh().await? == 0 || pass >= PASSES {
            break;
        }
    }
    // Records that came in behind the last pass are not on the copy; sweeps among them explain what is gone all the same.
    let swept = swept_since(source.store().as_ref(), source.state(), begun.number).await?;
    let gone = |damage: &Damage| damage.fault == Fault::Missing && swept.contains(&damage.object);
    work.damaged.retain(|_, damage| !gone(damage));
    let deleted = if prune { work.prune(source.state()).await? } else { Tally::default() };
    let Work { records, copied, mended, damaged, .. } = work;
    let present = Tally {
        objects: listed.objects.saturating_sub(copied.objects),
        bytes: listed.bytes.saturating_sub(copied.bytes),
    };
    Ok(Report { head, records, copied, mended, present, deleted, damaged: damaged.into_values().collect() })
}

/// Looks whether `target` may become, or go on as, a copy; marks it and founds it. The first slot that it lacks.
async fn begin(source: &Log, target: &Arc<dyn Store>) -> Result<u64, CopyError> {
    let state = source.state();
    let share = state.share.expect("genesis names the share");
    let describe = || target.describe();
    let store = target.as_ref();
    let format = source.store().get(&ObjectPath::Format, Format::MAX_LEN).await.map_err(CopyError::Source)?;
    let is_marked = is_copy(store, &share).await.map_err(CopyError::Target)?;
    match store.get(&ObjectPath::Format, Format::MAX_LEN).await {
        Ok(bytes) => match Format::parse(&bytes) {
            Ok(there) if there.fleet == state.fleet => {}
            Ok(_) => return Err(CopyError::OtherFleet { share: describe() }),
            // Torn, behind the mark and before the first record.
            Err(_) if is_marked && !has_record(source, store).await? => {}
            Err(source) => return Err(CopyError::Format { share: describe(), source }),
        },
        Err(StoreError::NotFound { .. }) if !is_marked && holds_anything(store).await? => {
            return Err(CopyError::NotEmpty { share: describe() });
        }
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(CopyError::Target(error)),
    }
    if !has_record(source, store).await? {
        mark(store, &share).await.map_err(CopyError::Target)?;
        place(store, &ObjectPath::Format, format).await?;
        return Ok(0);
    }
    let pin = Pin { root: state.root, fleet: Some(state.fleet), head: None };
    let log = match Log::open(Arc::clone(target), pin).await {
        Ok(log) => log,
        Err(LogError::Store(error)) => return Err(CopyError::Target(error)),
        Err(source) => return Err(CopyError::TargetLog { share: describe(), source }),
    };
    let copy = log.head();
    // Records name the hash of the one before: if the last is the same, all are.
    let same = match source.slot(copy.number).await? {
        Some(bytes) => ObjectId::of(&bytes) == copy.hash,
        None => false,
    };
    if !same {
        return Err(CopyError::Parted { share: describe(), copy, head: source.head() });
    }
    if !is_marked {
        // Another name: the root gave the first share its own since, so that this one is out of use.
        if log.state().share == Some(share) {
            return Err(CopyError::NotACopy { share: describe() });
        }
        mark(store, &share).await.map_err(CopyError::Target)?;
    }
    Ok(copy.number + 1)
}

/// Whether anything but what `share test` leaves where it may not delete lies there.
async fn holds_anything(store: &dyn Store) -> Result<bool, CopyError> {
    let mut listing = store.list(&Prefix::Everything);
    while let Some(listed) = listing.try_next().await.map_err(CopyError::Target)? {
        match listed {
            Listed::Object { path: ObjectPath::Probe(_), .. } => {}
            Listed::Object { .. } | Listed::Foreign { .. } => return Ok(true),
        }
    }
    Ok(false)
}

/// Whether the copy has more of the log than a torn first slot.
async fn has_record(source: &Log, target: &dyn Store) -> Result<bool, CopyError> {
    let first = ObjectPath::LogRecord(0);
    match target.get(&first, MAX_RECORD_LEN as u64).await {
        Ok(bytes) if Some(&bytes) == source.slot(0).await?.as_ref() => Ok(true),
        Ok(_) | Err(StoreError::TooLong { .. } | StoreError::Damaged { .. }) => {
            // Where others follow, it is not a crash of ours that damaged it.
            match target.head(&ObjectPath::LogRecord(1)).await {
                Ok(_) => Ok(true),
                Err(StoreError::NotFound { .. }) => Ok(false),
                Err(error) => Err(CopyError::Target(error)),
            }
        }
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(CopyError::Target(error)),
    }
}

/// How it is known of an object that it is on the source.
#[derive(Debug, Clone, Copy)]
enum Named {
    /// A round or the log needs it: without it, the copy lacks something.
    ByRecords,
    /// It is there; perhaps nobody needs it.
    ByTheListing,
}

struct Work<'a> {
    source: Arc<dyn Store>,
    target: Arc<dyn Store>,
    present: Present,
    progress: &'a Progress,
    records: u64,
    copied: Tally,
    mended: u64,
    damaged: BTreeMap<ObjectPath, Damage>,
}

impl Work<'_> {
    /// The slots from `next` to the head, each behind everything that it names; and what rounds that were committed from `from`
    /// on name.
    async fn records(&mut self, log: &Log, from: u64, mut next: u64) -> Result<u64, CopyError> {
        let state = log.state();
        let rounds = state.rounds.values().filter(|round| round.is_recoverable());
        let commits: BTreeMap<u64, &RoundState> =
            rounds.filter_map(|round| Some((round.commit_position()?, round))).collect();
        let mut commits = commits.range(from..).map(|(position, round)| (*position, *round)).peekable();
        while next < state.next || commits.peek().is_some() {
            let (mut rounds, mut bytes, mut slices) = (0, 0, Vec::new());
            while rounds < ROUNDS && bytes < TOGETHER {
                let some: Vec<_> = commits.by_ref().take(READ_AHEAD).map(|(_, round)| round).collect();
                if some.is_empty() {
                    break;
                }
                rounds += some.len();
                slices.extend(self.manifests(state, some).await?);
                bytes = slices.iter().map(|(_, slice)| slice.totals.added_bytes).fold(0, u64::saturating_add);
            }
            self.slices(state, slices).await?;
            // Up to the first commit whose round is not there yet.
            let until = commits.peek().map_or(state.next, |(position, _)| *position);
            for number in next..until {
                let slot = log.slot(number).await?;
                let gap = || LogError::Gap { missing: number, newest: state.head.number };
                place(self.target.as_ref(), &ObjectPath::LogRecord(number), slot.ok_or_else(gap)?).await?;
                self.records += 1;
            }
            next = next.max(until);
        }
        Ok(next)
    }

    /// The slices of these rounds. A manifest that cannot be used is named as damaged by its own copy.
    async fn manifests<'s>(
        &mut self,
        state: &State,
        rounds: Vec<&'s RoundState>,
    ) -> Result<Vec<(&'s RoundState, ManifestSlice)>, CopyError> {
        let source = self.source.as_ref();
        let read = rounds.iter().map(|round| read_manifest(source, state, round));
        let manifests = futures::future::join_all(read).await;
        let mut slices = Vec::new();
        for (round, manifest) in rounds.into_iter().zip(manifests) {
            match manifest {
                Ok(manifest) => slices.extend(manifest.slices.into_iter().map(|slice| (round, slice))),
                Err(Trouble::Damaged(damage)) => {
                    match read_manifest(self.target.as_ref(), state, round).await {
                        // The share lost it since it was copied.
                        Ok(manifest) => {
                            slices.extend(manifest.slices.into_iter().map(|slice| (round, slice)))
                        }
                        Err(Trouble::Damaged(_)) => drop(self.damaged.insert(damage.object.clone(), damage)),
                        Err(Trouble::Store(error)) => return Err(CopyError::Target(error)),
                    }
                }
                Err(Trouble::Store(error)) => return Err(CopyError::Source(error)),
            }
        }
        Ok(slices)
    }

    /// Everything that these slices name.
    async fn slices(
        &mut self,
        state: &State,
        slices: Vec<(&RoundState, ManifestSlice)>,
    ) -> Result<(), CopyError> {
        let source = Arc::clone(&self.source);
        let named = stream::iter(slices)
            .map(|(round, slice)| {
                let source = Arc::clone(&source);
                async move {
                    let slice_of = Slice { round, receipt: ReceiptName::from(&slice) };
                    named(source.as_ref(), state, &slice.service, &slice_of).await
                }
            })
            .buffered(READ_AHEAD)
            .map_err(CopyError::Source);
        let objects = named.map_ok(|objects| stream::iter(objects.into_iter().map(Ok))).try_flatten();
        self.bring_all(objects.boxed_local(), Named::ByRecords).await.map(drop)
    }

    /// The lists that records name.
    async fn lists(&mut self, state: &State) -> Result<(), CopyError> {
        let sealed = state.config.as_ref().and_then(|config| config.sealed);
        let swept = state.sweeps.values().map(|(sweep, _)| sweep.list);
        let marked = state.prunes.values().map(|prune| prune.list);
        for path in swept.chain(marked).chain(sealed).map(ObjectPath::List) {
            if self.present.size(&path).is_some() {
                continue;
            }
            match self.source.head(&path).await {
                Ok(meta) => {
                    let object = stream::iter([Ok((path, meta.size))]);
                    let _named_if_lost = self.bring_all(object, Named::ByRecords).await?;
                }
                Err(StoreError::NotFound { .. }) => {
                    self.damaged.insert(path.clone(), Damage::new(path, Fault::Missing));
                }
                Err(error) => return Err(CopyError::Source(error)),
            }
        }
        Ok(())
    }

    /// Everything that the source lists below these prefixes, and that a copy keeps; how much of it is there then.
    async fn listed(&mut self, prefixes: &[Prefix]) -> Result<Tally, CopyError> {
        let source = Arc::clone(&self.source);
        let mut tally = Tally::default();
        for prefix in prefixes {
            let kept = source.list(prefix).map_err(CopyError::Source).try_filter_map(|listed| {
                let object = match listed {
                    Listed::Object { path, size } if is_kept(&path) => Some((path, size)),
                    Listed::Object { .. } | Listed::Foreign { .. } => None,
                };
                std::future::ready(Ok(object))
            });
            let counted = kept.inspect_ok(|(_, size)| tally.add(*size));
            let lost = self.bring_all(counted.boxed_local(), Named::ByTheListing).await?;
            tally.objects = tally.objects.saturating_sub(lost.objects);
            tally.bytes = tally.bytes.saturating_sub(lost.bytes);
        }
        Ok(tally)
    }

    /// Copies those that are not there; how much the source does not have whole.
    async fn bring_all(
        &mut self,
        objects: impl Stream<Item = Result<(ObjectPath, u64), CopyError>>,
        named: Named,
    ) -> Result<Tally, CopyError> {
        let Self { source, target, present, progress, copied, mended, damaged, .. } = self;
        let missing = objects.try_filter_map(|(path, size)| {
            let is_there = present.size(&path) == Some(size);
            if !is_there {
                progress.expect(size);
                // Each is asked for once, also where two slices name it.
                present.add(&path, size);
            }
            std::future::ready(Ok((!is_there).then_some((path, size))))
        });
        let mut brought = missing
            .map_ok(|(path, size)| {
                let (source, target) = (Arc::clone(source), Arc::clone(target));
                async move {
                    let brought = bring(source.as_ref(), target.as_ref(), &path, size).await?;
                    Ok((path, size, brought))
                }
            })
            .try_buffer_unordered(AT_ONCE)
            .boxed_local();
        let (mut lost, mut lacking) = (Vec::new(), Tally::default());
        while let Some((path, size, brought)) = brought.try_next().await? {
            progress.advance(size);
            match brought {
                Brought::Copied { mended: was_torn } => {
                    copied.add(size);
                    *mended += u64::from(was_torn);
                    damaged.remove(&path);
                }
                Brought::Damaged(damage) => {
                    lost.push(path.clone());
                    lacking.add(size);
                    match named {
                        Named::ByRecords => drop(damaged.insert(path, damage)),
                        // Torn, or still being written.
                        Named::ByTheListing => {}
                    }
                }
            }
        }
        drop(brought);
        lost.iter().for_each(|path| present.remove(path));
        Ok(lacking)
    }

    /// Deletes what sweeps that are done name, where the source does not have it any more.
    async fn prune(&mut self, state: &State) -> Result<Tally, CopyError> {
        let mut deleted = Tally::default();
        for (sweep, done) in state.sweeps.values() {
            if !*done {
                continue;
            }
            for path in read_object_list(self.source.as_ref(), sweep.list).await? {
                let Some(size) = self.present.size(&path) else { continue };
                match self.source.head(&path).await {
                    Err(StoreError::NotFound { .. }) => {}
                    Ok(_) => continue,
                    Err(error) => return Err(CopyError::Source(error)),
                }
                match self.target.delete(&path).await {
                    Ok(()) | Err(StoreError::NotFound { .. }) => deleted.add(size),
                    // A later run takes it.
                    Err(StoreError::Locked { .. }) => continue,
                    Err(error) => return Err(CopyError::Target(error)),
                }
                self.present.remove(&path);
            }
        }
        Ok(deleted)
    }
}

/// Whether a copy holds such objects. Records have their own way; the rest serves one restore, one test, or says what the
/// share itself is.
fn is_kept(path: &ObjectPath) -> bool {
    match path {
        ObjectPath::LogSegment(_)
        | ObjectPath::List(_)
        | ObjectPath::Manifest(_)
        | ObjectPath::Pack { .. }
        | ObjectPath::Slice { .. } => true,
        ObjectPath::Format
        | ObjectPath::LogRecord(_)
        | ObjectPath::Grant(_)
        | ObjectPath::Probe(_)
        | ObjectPath::Copy(_) => false,
    }
}
