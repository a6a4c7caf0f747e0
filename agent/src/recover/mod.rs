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
mod roots;
mod round;
mod selection;
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
use muster_share::verify::{Damage, Trouble};
use tokio::sync::Semaphore;
use tracing::Instrument;

pub use error::RecoverError;
pub use existing::Existing;
pub use request::{Begun, Outcome, Request, ServiceOutcome, Watch};
pub(crate) use roots::{OwnRoot, Roots};
pub use round::{Origin, Round, RoundError};
pub use selection::Selection;
pub(crate) use selection::was_single;
pub use slice::Slice;
pub use write::WriteError;

use conduct::Conductor;
use fill::{Filler, SEALED_BYTES_MAX};
use filter::Filter;
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
    let round = Round::open(request.from.clone()).instrument(tracing::info_span!("open")).await?;
    let (manifest, number) = (round.manifest(), round.state.open.number);
    let held = |service: &ServiceName| {
        manifest.slices.iter().any(|slice| slice.service == *service)
            || manifest.absent.iter().any(|absentee| absentee.service == *service)
    };
    if let Some(service) = request.services.iter().find(|service| !held(service)) {
        return Err(round.holds_no(service).into());
    }
    let asked = |service: &ServiceName| request.services.is_empty() || request.services.contains(service);

    let mut damaged = round.damaged().to_vec();
    let mut services = Vec::new();
    let mut ready = Vec::new();
    for slice in manifest.slices.iter().filter(|slice| asked(&slice.service)) {
        let mut outcome = ServiceOutcome::default();
        let span = tracing::info_span!("survey", service = slice.service.as_str());
        match begin(request, &round, slice, &stop).instrument(span).await? {
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
        let newest_intact = round.newest_intact(&request.services, &damaged).await?;
        return Err(RoundError::Damaged { number: Some(number), damaged, newest_intact }.into());
    }
    if let Some(path) = &request.path {
        ready.retain(|(.., survey)| survey.has_any());
        if ready.is_empty() {
            return Err(RecoverError::Path { number, path: path.clone() });
        }
    }
    let begun = Begun {
        fleet: round.ledger.state.name.clone(),
        head: round.ledger.state.head,
        round: round.state.open.round,
        number,
        outcome: manifest.outcome,
        committed: round.state.commit().map_or(manifest.assembled, |commit| commit.at),
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
            let span = tracing::info_span!("write", service = service.as_str());
            let writing = write_slice(request, watch, &target, &stop, prepared, survey, outcome);
            let found = writing.instrument(span).await?;
            outcome.damaged |= !found.is_empty();
            tracing::info!(%service, files = outcome.files, lost = outcome.lost, "service recovered");
            damaged.extend(found);
        }
        target.finish()?;
    }
    let mut seen = HashSet::new();
    damaged.retain(|damage| seen.insert(damage.object.clone()));
    let newest_intact =
        if damaged.is_empty() { None } else { round.newest_intact(&request.services, &damaged).await? };
    let absent = manifest.absent.iter().filter(|absentee| asked(&absentee.service)).cloned().collect();
    Ok(Outcome { begun, services, absent, damaged, newest_intact })
}

/// Everything of a slice that can be known before a file is written; or what is damaged.
async fn begin(
    request: &Request,
    round: &Round,
    slice: &ManifestSlice,
    stop: &Stop,
) -> Result<Result<(Arc<Slice>, Survey), Vec<Damage>>, RecoverError> {
    let prepared = match round.open_slice(slice).await? {
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
    slice: Arc<Slice>,
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
                let places = Roots::Beneath { handle, path };
                Conductor::new(filler, &survey, &owners, &places, &mut counted).run()
            },
        );
        (done, counted)
    })
    .await;
    *report = counted;
    done.map_err(|halt| failure(halt, &slice))
}

fn failure(halt: Halt, slice: &Slice) -> RecoverError {
    match halt {
        Halt::Trouble(Trouble::Store(error)) => error.into(),
        Halt::Write(error) => RecoverError::Write(error),
        Halt::CutLinks => RecoverError::CutLinks { service: slice.receipt.service.clone() },
        Halt::Trouble(Trouble::Damaged(damage)) => {
            RoundError::Damaged { number: None, damaged: vec![damage], newest_intact: None }.into()
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
