//! The two passes: what one run of a pruner does, from where the log stands.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::{Prune, Pruned, Role, State, Sweep};
use muster_protocol::prune::{Next, Terms, Wait, next};
use muster_protocol::time::UnixMillis;
use tracing::Instrument;

use super::error::PruneError;
use super::frozen::{Frozen, Thermometer};
use super::lists::read_object_list;
use super::survey::{Locked, Scope, Survey, Tally, survey};
use crate::layout::ObjectPath;
use crate::lists::write_object_list;
use crate::log::{AppendError, Log};
use crate::store::{Store, StoreError, put_and_read_back};

/// Most rounds of one mark: their ids must fit into a record.
pub const MAX_MARKED_ROUNDS: usize = 2_000;
/// Most objects of one mark: a pruner keeps their names in memory.
pub const MAX_MARKED_OBJECTS: usize = 500_000;
/// Tries for one record: each lost slot is somebody else's record, after which everything is looked at again.
const TRIES: usize = 10;
/// Objects that are deleted at once.
const AT_ONCE: usize = 8;

/// What a prune would do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the log asks for.
    pub next: Next,
    /// Why none of it happens before this is over.
    pub frozen: Vec<Frozen>,
    /// What would be marked; where a mark or a sweep is under way, what would go with it.
    pub survey: Survey,
}

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its log number.
    pub number: u64,
    /// Its list.
    pub list: ObjectId,
    /// What would go.
    pub survey: Survey,
}

/// A sweep that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Its log number.
    pub number: u64,
    /// Numbers of the rounds that are gone, oldest first.
    pub rounds: Vec<u64>,
    /// What was deleted by this run. One that was interrupted before had deleted the rest.
    pub deleted: Tally,
    /// What its list names and a lock still keeps: no round needs it, and a later prune takes it.
    pub locked: Locked,
    /// Objects of its list that something needs none the less: they stay.
    pub kept_back: Vec<ObjectPath>,
    /// Whether an earlier run began it.
    pub resumed: bool,
}

/// What one run did.
#[derive(Debug, Default)]
pub struct Report {
    /// Sweeps that it ended, in order.
    pub swept: Vec<Swept>,
    /// The mark that it made.
    pub marked: Option<Marked>,
    /// What would have been marked but for its lock.
    pub locked: Locked,
    /// The mark that waits: its log number, and for what.
    pub waits: Option<(u64, Wait)>,
    /// Why it did not go on behind these sweeps.
    pub stopped: Option<PruneError>,
}

/// What a prune would do, without doing it.
///
/// # Errors
/// As [`prune`].
pub async fn plan(log: &Log, now: UnixMillis) -> Result<Plan, PruneError> {
    let (store, state) = (&log.sure(), log.state());
    let terms = terms(state)?;
    let next = next(state, terms.grace, now);
    let survey = match next {
        Next::Finish { sweep } => unfinished(store, state, terms, now, sweep).await?.1,
        Next::Sweep { mark } => still_due(store, state, terms, now, mark).await?,
        Next::Wait { .. } | Next::Mark => survey(store, state, terms, now, DUE).await?,
    };
    let frozen = Thermometer::default().read(store, state).await?;
    Ok(Plan { next, frozen, survey })
}

/// Goes on with whatever the log asks for: ends a sweep that was interrupted, sweeps a mark whose time has come, and
/// marks what is due then. `now` is calendar time; a wrong one deletes nothing that a right one would keep for more than
/// one promised interval ([`muster_protocol::prune::Ages`]).
///
/// # Errors
/// See [`PruneError`]. Nothing was deleted then, unless it is [`PruneError::Delete`] or [`PruneError::Append`]: what goes
/// wrong behind a sweep that has ended is [`Report::stopped`].
pub async fn prune(log: &mut Log, signer: &Signer, now: UnixMillis) -> Result<Report, PruneError> {
    let mut report = Report::default();
    let (mut lost, mut thermometer) = (0, Thermometer::default());
    let error = loop {
        match step(log, signer, now, &mut thermometer, &mut report).await {
            Ok(true) => return Ok(report),
            Ok(false) => {}
            Err(PruneError::Append(AppendError::Lost)) if lost < TRIES => lost += 1,
            Err(error) => break error,
        }
    };
    if report.swept.is_empty() {
        return Err(error);
    }
    report.stopped = Some(error);
    Ok(report)
}

/// One step; whether it was the last.
async fn step(
    log: &mut Log,
    signer: &Signer,
    now: UnixMillis,
    thermometer: &mut Thermometer,
    report: &mut Report,
) -> Result<bool, PruneError> {
    let key = signer.key_id();
    if !matches!(log.state().role(&key), Some(Role::Pruner)) {
        return Err(PruneError::NotPruner { key });
    }
    let terms = terms(log.state())?;
    // Of the very log that the record follows: what is committed meanwhile makes the slot a lost one.
    let look = tracing::info_span!("look for damage");
    thermometer.none(&log.sure(), log.state()).instrument(look).await?;
    match next(log.state(), terms.grace, now) {
        Next::Finish { sweep } => {
            let span = tracing::info_span!("finish", sweep);
            report.swept.push(finish(log, signer, terms, now, sweep).instrument(span).await?);
        }
        Next::Sweep { mark } => {
            let span = tracing::info_span!("sweep", mark);
            report.swept.push(sweep(log, signer, terms, now, mark).instrument(span).await?);
        }
        Next::Wait { mark, why } => {
            report.waits = Some((mark, why));
            return Ok(true);
        }
        Next::Mark => {
            let marking = mark(log, signer, terms, now).instrument(tracing::info_span!("mark"));
            (report.marked, report.locked) = marking.await?;
            return Ok(true);
        }
    }
    Ok(false)
}

const DUE: Scope<'static> = Scope::Due { rounds: MAX_MARKED_ROUNDS, objects: MAX_MARKED_OBJECTS };

fn terms(state: &State) -> Result<Terms, PruneError> {
    Ok(Terms::of(&state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default())?)
}

/// Pass one. None when nothing is due.
async fn mark(
    log: &mut Log,
    signer: &Signer,
    terms: Terms,
    now: UnixMillis,
) -> Result<(Option<Marked>, Locked), PruneError> {
    let survey = survey(&log.sure(), log.state(), terms, now, DUE).await?;
    let locked = survey.locked;
    if !survey.is_worth_a_mark() {
        return Ok((None, locked));
    }
    let list = write_list(&log.sure(), &survey).await?;
    let rounds = survey.going.iter().map(|going| going.round).collect();
    let epoch = log.state().epoch.map_or(0, |epoch| epoch.epoch);
    let head = log.append(signer, &Prune { epoch, rounds, list, at: Some(now) }).await?;
    Ok((Some(Marked { number: head.number, list, survey }), locked))
}

/// Pass two: what was marked and is still due is swept, then deleted. The look at the share and the record follow each
/// other in the log, so nothing that anyone committed in between is overlooked.
async fn sweep(
    log: &mut Log,
    signer: &Signer,
    terms: Terms,
    now: UnixMillis,
    mark: u64,
) -> Result<Swept, PruneError> {
    let survey = still_due(&log.sure(), log.state(), terms, now, mark).await?;
    let list = write_list(&log.sure(), &survey).await?;
    let rounds: Vec<RoundId> = survey.going.iter().map(|going| going.round).collect();
    let head = log.append(signer, &Sweep { rounds, list }).await?;
    let deleting = delete(log, signer, head.number, &survey).instrument(tracing::info_span!("delete"));
    let (deleted, locked) = deleting.await?;
    let rounds = survey.going.iter().map(|going| going.number).collect();
    let Survey { kept_back, .. } = survey;
    Ok(Swept { number: head.number, rounds, deleted, locked, kept_back, resumed: false })
}

/// Ends a sweep that an earlier run, or another pruner, began.
async fn finish(
    log: &mut Log,
    signer: &Signer,
    terms: Terms,
    now: UnixMillis,
    sweep: u64,
) -> Result<Swept, PruneError> {
    let (rounds, survey) = unfinished(&log.sure(), log.state(), terms, now, sweep).await?;
    let (deleted, locked) = delete(log, signer, sweep, &survey).await?;
    let Survey { kept_back, .. } = survey;
    Ok(Swept { number: sweep, rounds, deleted, locked, kept_back, resumed: true })
}

/// What of a mark is still due.
async fn still_due(
    store: &dyn Store,
    state: &State,
    terms: Terms,
    now: UnixMillis,
    mark: u64,
) -> Result<Survey, PruneError> {
    let prune = &state.prunes[&mark];
    let objects: BTreeSet<_> = read_object_list(store, prune.list).await?.into_iter().collect();
    let rounds = prune.rounds.iter().copied().collect();
    let scope = Scope::Within { rounds: &rounds, objects: &objects, since: mark };
    survey(store, state, terms, now, scope).await
}

/// What of a sweep is still there, and the numbers of its rounds.
async fn unfinished(
    store: &dyn Store,
    state: &State,
    terms: Terms,
    now: UnixMillis,
    sweep: u64,
) -> Result<(Vec<u64>, Survey), PruneError> {
    let since = sweep;
    let (sweep, _) = &state.sweeps[&since];
    let objects: BTreeSet<_> = read_object_list(store, sweep.list).await?.into_iter().collect();
    let none = BTreeSet::new();
    let scope = Scope::Within { rounds: &none, objects: &objects, since };
    let survey = survey(store, state, terms, now, scope).await?;
    let rounds = sweep.rounds.iter().filter_map(|id| state.rounds.get(id));
    let mut rounds: Vec<u64> = rounds.map(|round| round.open.number).collect();
    rounds.sort_unstable();
    Ok((rounds, survey))
}

/// Writes the list of what goes. A list of the same name that a crash left torn is nobody's: the name is a hash.
async fn write_list(store: &dyn Store, survey: &Survey) -> Result<ObjectId, PruneError> {
    let paths = survey.objects.iter().map(|(path, _)| path.clone());
    let bytes = Bytes::from(write_object_list(paths).map_err(PruneError::List)?);
    let id = ObjectId::of(&bytes);
    let path = ObjectPath::List(id);
    match put_and_read_back(store, &path, &bytes).await {
        Ok(()) => return Ok(id),
        Err(StoreError::NotKept { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match store.delete(&path).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    put_and_read_back(store, &path, &bytes).await?;
    Ok(id)
}

/// Deletes what the survey found, and says so in the log. A lock that somebody made longer meanwhile is no failure.
async fn delete(
    log: &mut Log,
    signer: &Signer,
    sweep: u64,
    survey: &Survey,
) -> Result<(Tally, Locked), PruneError> {
    let store = &log.sure();
    let (mut deleted, mut locked) = (Tally::default(), survey.locked);
    let mut going = stream::iter(&survey.objects)
        .map(|(path, size)| async move {
            match store.delete(path).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => Ok((*size, None)),
                Err(StoreError::Locked { until, .. }) => Ok((*size, Some(until))),
                Err(source) => Err(PruneError::Delete { sweep, source }),
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((size, kept)) = going.try_next().await? {
        match kept {
            None => deleted.add(size),
            Some(until) => locked.add(size, until),
        }
    }
    drop(going);
    for _ in 0..TRIES {
        let result = log.append(signer, &Pruned { sweep }).await;
        let stands = log.state().sweeps.get(&sweep).is_some_and(|(_, done)| *done);
        match result {
            _ if stands => return Ok((deleted, locked)),
            Ok(_) | Err(AppendError::Lost) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppendError::Lost.into())
}
