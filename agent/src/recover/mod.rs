//! Recovery: from share and kit alone back to folders, with everything else dead.
//!
//! ```text
//! log ─▶ manifest ─▶ receipts ─▶ pack lists, index ─▶ entries: surveyed whole, nothing written yet
//!                                                        └─▶ again, in batches: folders ─▶ packs ─▶ files ─▶ links ─▶ times
//! ```
//!
//! Decrypts nothing that the chain from the root key does not name, writes no byte whose chunk does not have its name,
//! and takes no older round silently. What is damaged is left out and named; everything else still comes back. Memory
//! does not grow with the slice.

mod batch;
mod conduct;
mod error;
mod existing;
mod fill;
mod filter;
#[cfg(test)]
mod fixture;
pub mod look;
pub mod path;
pub mod plan;
mod request;
mod slice;
mod spans;
mod stop;
mod survey;
mod target;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;
use std::sync::Arc;

use muster_protocol::document::ManifestSlice;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::RoundState;
use muster_share::verify::chain::{read_manifest, wanted_keys};
use muster_share::verify::{
    Damage, Ledger, LedgerError, RoundSelector, SelectError, Trouble, newest_intact, read_ledger,
};
use tokio::sync::Semaphore;

pub use error::RecoverError;
pub use existing::Existing;
pub use request::{Begun, Outcome, Request, ServiceOutcome, Watch};
pub use write::WriteError;

use conduct::Conductor;
use fill::{Filler, SEALED_BYTES_MAX};
use filter::Filter;
use slice::Prepared;
use stop::{Halt, Stop, StopOnDrop};
use survey::Survey;
use target::Target;
use write::Writer;
use write::owner::Owners;

/// Recovers one round, or part of it.
///
/// # Errors
/// See [`RecoverError`]. Damage of single services or files is no error: it is in the outcome.
pub async fn recover(request: &Request, watch: &Watch) -> Result<Outcome, RecoverError> {
    let unfinished = target::check(request)?;
    let stop = Stop::default();
    // Threads that write must not outlive whoever asked.
    let _stop = StopOnDrop(stop.clone());
    let ledger = trusted_log(request).await?;
    let round = select(request, &ledger).await?;
    let (state, store) = (&ledger.state, request.store.as_ref());
    let number = round.open.number;
    let manifest = match read_manifest(store, state, round).await {
        Ok(manifest) => manifest,
        Err(Trouble::Store(error)) => return Err(error.into()),
        Err(Trouble::Damaged(damage)) => {
            let damaged = [ledger.damaged.clone(), vec![damage]].concat();
            return Err(damaged_round(request, &ledger, Some(number), damaged).await?);
        }
    };
    if let Some(wanted) = wanted_keys(state, manifest.keyset, &request.keys) {
        return Err(RecoverError::Key { number, wanted });
    }
    let asked = |service: &ServiceName| request.services.is_empty() || request.services.contains(service);
    let names: Vec<_> = manifest
        .slices
        .iter()
        .map(|s| &s.service)
        .chain(manifest.absent.iter().map(|a| &a.service))
        .collect();
    if let Some(service) = request.services.iter().find(|service| !names.contains(service)) {
        let known: Vec<_> = names.iter().map(|name| name.as_str()).collect();
        return Err(RecoverError::Service { number, service: service.clone(), known: known.join(", ") });
    }

    let mut damaged = ledger.damaged.clone();
    let mut services = Vec::new();
    let mut ready = Vec::new();
    for slice in manifest.slices.iter().filter(|slice| asked(&slice.service)) {
        let mut outcome = ServiceOutcome::default();
        match begin(request, &ledger, round, slice, &stop).await? {
            Ok((prepared, survey)) => {
                outcome.damaged = !prepared.damaged.is_empty();
                damaged.extend(prepared.damaged.iter().cloned());
                ready.push((services.len(), prepared, survey));
            }
            Err(found) => {
                outcome.damaged = true;
                damaged.extend(found);
            }
        }
        services.push((slice.service.clone(), outcome));
    }
    if ready.is_empty() && !services.is_empty() {
        return Err(damaged_round(request, &ledger, Some(number), damaged).await?);
    }
    if let Some(path) = &request.path {
        ready.retain(|(.., survey)| survey.has_any());
        if ready.is_empty() {
            return Err(RecoverError::Path { number, path: path.clone() });
        }
    }
    let begun = Begun {
        fleet: state.name.clone(),
        head: state.head,
        round: round.open.round,
        number,
        outcome: manifest.outcome,
        committed: round.commit().map_or(manifest.assembled, |commit| commit.at),
        services: ready.len(),
        bytes: ready.iter().map(|(.., survey)| survey.bytes).sum(),
    };
    watch.progress.expect(begun.bytes);
    drop(watch.begun.set(begun.clone()));

    if !ready.is_empty() {
        let names = ready.iter().map(|(_, prepared, _)| prepared.receipt.service.clone()).collect::<Vec<_>>();
        let target = Arc::new(target::open(request, unfinished, &begun, &names)?);
        for (at, prepared, survey) in ready {
            let (service, outcome) = &mut services[at];
            let found = write_slice(request, watch, &target, &stop, prepared, survey, outcome).await?;
            outcome.damaged |= !found.is_empty();
            tracing::info!(%service, files = outcome.files, lost = outcome.lost, "service recovered");
            damaged.extend(found);
        }
        target.finish()?;
    }
    let mut seen = HashSet::new();
    damaged.retain(|damage| seen.insert(damage.object.clone()));
    let newest_intact =
        if damaged.is_empty() { None } else { newest_intact(store, state, number, &seen).await? };
    let absent = manifest.absent.into_iter().filter(|absentee| asked(&absentee.service)).collect();
    Ok(Outcome { begun, services, absent, damaged, newest_intact })
}

/// Everything of a slice that can be known before a file is written; or what is damaged.
async fn begin(
    request: &Request,
    ledger: &Ledger,
    round: &RoundState,
    slice: &ManifestSlice,
    stop: &Stop,
) -> Result<Result<(Arc<Prepared>, Survey), Vec<Damage>>, RecoverError> {
    let prepared = match Prepared::read(request, ledger, round, slice).await? {
        Ok(prepared) => prepared,
        Err(damaged) => return Ok(Err(damaged)),
    };
    let (prepared, filter) = (Arc::new(prepared), Filter::new(request.path.clone()));
    let (surveyed, stop) = (Arc::clone(&prepared), stop.clone());
    let survey = blocking(move || Survey::take(&surveyed, filter, &stop)).await;
    match survey {
        Ok(survey) => Ok(Ok((prepared, survey))),
        Err(Halt::Trouble(Trouble::Damaged(damage))) => {
            Ok(Err([prepared.damaged.clone(), vec![damage]].concat()))
        }
        Err(halt) => Err(failure(halt, &prepared)),
    }
}

/// Recovers one slice, and tells what is damaged.
async fn write_slice(
    request: &Request,
    watch: &Watch,
    target: &Arc<Target>,
    stop: &Stop,
    slice: Arc<Prepared>,
    survey: Survey,
    report: &mut ServiceOutcome,
) -> Result<Vec<Damage>, RecoverError> {
    let owners = if request.numeric_owner { Owners::by_number() } else { Owners::load() };
    let workers = request.workers.max(1);
    let (progress, target, stop, prepared) =
        (Arc::clone(&watch.progress), Arc::clone(target), stop.clone(), Arc::clone(&slice));
    let mut counted = std::mem::take(report);
    let (done, counted) = blocking(move || {
        let done = target.service(prepared.receipt.service.as_str()).map_err(Halt::from).and_then(
            |(handle, path)| {
                let writer = Writer::new(target.meeting, *prepared.receipt.round.as_bytes());
                let filler = Filler {
                    slice: &prepared,
                    writer: &writer,
                    progress: &progress,
                    stop: &stop,
                    workers,
                    budget: Arc::new(Semaphore::new(usize::try_from(SEALED_BYTES_MAX / 1024).unwrap_or(1))),
                };
                Conductor::new(filler, &survey, &owners, (&handle, &path), &mut counted).run()
            },
        );
        (done, counted)
    })
    .await;
    *report = counted;
    done.map_err(|halt| failure(halt, &slice))
}

fn failure(halt: Halt, slice: &Prepared) -> RecoverError {
    match halt {
        Halt::Trouble(Trouble::Store(error)) => RecoverError::Store(error),
        Halt::Write(error) => RecoverError::Write(error),
        Halt::CutLinks => RecoverError::CutLinks { service: slice.receipt.service.clone() },
        Halt::Trouble(Trouble::Damaged(damage)) => {
            RecoverError::Damaged { number: None, damaged: vec![damage], newest_intact: None }
        }
        // Only whoever dropped this very future stops it without a reason.
        Halt::Stopped => RecoverError::Stopped,
    }
}

/// Runs what computes or waits for files beside the tasks that wait for the share.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn trusted_log(request: &Request) -> Result<Ledger, RecoverError> {
    match read_ledger(&request.store, request.pin, false).await {
        Ok(ledger) => Ok(ledger),
        Err(LedgerError::Store(error)) => Err(RecoverError::Store(error)),
        Err(LedgerError::OtherRoot { found, want, recipients }) => {
            let known = request.keys.iter().any(|key| recipients.contains(&key.recipient()));
            let error = LedgerError::OtherRoot { found, want, recipients };
            Err(if known { RecoverError::Forged(error) } else { RecoverError::OtherFleet(error) })
        }
        Err(
            error @ (LedgerError::NotAShare { .. }
            | LedgerError::Version { .. }
            | LedgerError::UnknownKind(_)),
        ) => Err(RecoverError::Ledger(error)),
    }
}

/// The round that is meant. Behind a damaged log, the newest one is not known: it has to be named.
async fn select<'a>(request: &Request, ledger: &'a Ledger) -> Result<&'a RoundState, RecoverError> {
    let selected = match (&request.round, ledger.broken) {
        (RoundSelector::Latest, true) => Err(SelectError::None),
        (RoundSelector::Latest | RoundSelector::Number(_) | RoundSelector::Prefix(_), _) => {
            request.round.select(&ledger.state)
        }
    };
    match selected {
        // What is not there may be what the damage took.
        Err(SelectError::None | SelectError::Unknown { .. } | SelectError::NotCommitted { .. })
            if ledger.broken || !ledger.damaged.is_empty() =>
        {
            Err(damaged_round(request, ledger, None, ledger.damaged.clone()).await?)
        }
        selected => Ok(selected?),
    }
}

async fn damaged_round(
    request: &Request,
    ledger: &Ledger,
    number: Option<u64>,
    damaged: Vec<Damage>,
) -> Result<RecoverError, RecoverError> {
    let objects = damaged.iter().map(|damage| damage.object.clone()).collect();
    let before = number.unwrap_or(u64::MAX);
    let newest_intact = newest_intact(request.store.as_ref(), &ledger.state, before, &objects).await?;
    Ok(RecoverError::Damaged { number, damaged, newest_intact })
}
