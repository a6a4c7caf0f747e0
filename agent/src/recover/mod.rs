//! Recovery: from share and kit alone back to folders, with everything else dead.
//!
//! ```text
//! log ─▶ manifest ─▶ receipts ─▶ pack lists, index ─▶ entries: surveyed whole, nothing written yet
//!                                                        └─▶ folders, links ─▶ packs ─▶ files ─▶ hard links ─▶ times
//! ```
//!
//! Decrypts nothing that the chain from the root key does not name, writes no byte whose chunk does not have its name,
//! and takes no older round silently. What is damaged is left out and named; everything else still comes back.

mod fill;
#[cfg(test)]
mod fixture;
mod outline;
pub mod plan;
mod slice;
mod survey;
#[cfg(test)]
mod tests;
pub mod write;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::document::Absentee;
use muster_protocol::ids::{FleetName, RoundId, ServiceName};
use muster_protocol::log::{self, Head, Pin, RoundState};
use muster_protocol::time::UnixMillis;
use muster_share::store::{Store, StoreError};
use muster_share::verify::chain::{read_manifest, wanted_keys};
use muster_share::verify::{
    Damage, Ledger, LedgerError, Progress, RoundSelector, SelectError, Trouble, newest_intact, read_ledger,
};

use slice::Prepared;
use survey::{Filter, Survey};
use write::WriteError;

/// What to recover, from where, to where.
#[derive(Debug, Clone)]
pub struct Request {
    /// The share.
    pub store: Arc<dyn Store>,
    /// What is known of the fleet beforehand: the kit's root key, a head that was seen.
    pub pin: Pin,
    /// The kit's recovery keys.
    pub keys: Arc<Vec<Identity>>,
    /// Which round.
    pub round: RoundSelector,
    /// Which services; all of the round's when empty.
    pub services: Vec<ServiceName>,
    /// Only what lies at or below this path: `<source>/<path>`, or a path within the sources.
    pub path: Option<Vec<u8>>,
    /// The folder to write to: it must not exist or be empty.
    pub into: PathBuf,
    /// Packs that are read and opened at once; memory is that many packs.
    pub workers: usize,
}

/// What a recovery is about to do, known before its first file.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The fleet's name.
    pub fleet: Option<FleetName>,
    /// The log's head.
    pub head: Head,
    /// The round's id.
    pub round: RoundId,
    /// The round's number.
    pub number: u64,
    /// Complete or partial.
    pub outcome: log::Outcome,
    /// When it was committed.
    pub committed: UnixMillis,
    /// Services that are recovered.
    pub services: usize,
    /// Bytes that their files have.
    pub bytes: u64,
}

/// What whoever shows a recovery looks at now and then.
#[derive(Debug, Default)]
pub struct Watch {
    /// Bytes of files.
    pub progress: Progress,
    /// Set before the first file is written.
    pub begun: OnceLock<Begun>,
}

/// What became of one service.
#[derive(Debug, Clone, Default)]
pub struct ServiceOutcome {
    /// Files and hard links that were written and compared.
    pub files: u64,
    /// Folders, links, pipes and devices.
    pub others: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Entries that the slice itself does not hold whole.
    pub gaps: u64,
    /// The first few of them: path and what is missing.
    pub first_gaps: Vec<(Vec<u8>, String)>,
    /// Files that are left out because what they need is damaged.
    pub lost: u64,
    /// The paths of the first few.
    pub first_lost: Vec<Vec<u8>>,
    /// What could not be restored of files that are there: path and what.
    pub warnings: Vec<(Vec<u8>, String)>,
    /// Further warnings that were not kept.
    pub more_warnings: u64,
    /// Something of it is damaged.
    pub damaged: bool,
}

/// What a recovery did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it began with.
    pub begun: Begun,
    /// Services, as the manifest has them; one that could not even be begun has no files.
    pub services: Vec<(ServiceName, ServiceOutcome)>,
    /// Services that were asked for and that the round does not hold.
    pub absent: Vec<Absentee>,
    /// What is damaged.
    pub damaged: Vec<Damage>,
    /// If something is: the newest older round that has everything, by presence and length.
    pub newest_intact: Option<u64>,
}

/// Why nothing, or not all, was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The target is something already.
    #[error("{} exists and is not an empty folder: recovery writes into a new one", path.display())]
    Target {
        /// The target.
        path: PathBuf,
    },
    /// The target cannot be looked at or made.
    #[error("{} cannot be made", path.display())]
    MakeTarget {
        /// The target.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The round that was asked for.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A service that the round knows nothing of.
    #[error("round {number} has no service {service}; it has {known}")]
    Service {
        /// The round.
        number: u64,
        /// What was asked for.
        service: ServiceName,
        /// What there is.
        known: String,
    },
    /// Nothing has the path.
    #[error("round {number} has nothing at or below {}", path.escape_ascii())]
    Path {
        /// The round.
        number: u64,
        /// What was asked for, raw.
        path: Vec<u8>,
    },
    /// None of the keys opens the round. Nothing was written.
    #[error("no key of the kit opens round {number}")]
    Key {
        /// The round.
        number: u64,
        /// The recovery keys that do.
        wanted: Vec<Recipient>,
    },
    /// Neither the kit's root key nor its recovery keys are this fleet's. Nothing was written.
    #[error("the kit belongs to another fleet")]
    OtherFleet(#[source] LedgerError),
    /// The log names the kit's recovery key, but was founded by another root key. Nothing was written.
    #[error("the share is forged, or the kit's root.pub is another fleet's")]
    Forged(#[source] LedgerError),
    /// The round, or the log that leads to it, is damaged. Nothing was written.
    #[error("{}", match number {
        Some(number) => format!("round {number} is damaged"),
        None => "the log is damaged: which round is the newest cannot be told".to_owned(),
    })]
    Damaged {
        /// The round, where the log leads to one.
        number: Option<u64>,
        /// What is damaged.
        damaged: Vec<Damage>,
        /// The newest round that has everything, by presence and length.
        newest_intact: Option<u64>,
    },
    /// The log tells nothing.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The share fails. What was begun is not finished.
    #[error("the share cannot be read")]
    Store(#[source] StoreError),
    /// The target cannot be written. What was begun is not finished.
    #[error("the target cannot be written")]
    Write(#[source] WriteError),
}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<WriteError> for RecoverError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// Recovers one round, or part of it.
///
/// # Errors
/// See [`RecoverError`]. Damage of single services or files is no error: it is in the outcome.
pub async fn recover(request: &Request, watch: &Watch) -> Result<Outcome, RecoverError> {
    check_target(&request.into)?;
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
        match begin(request, &ledger, round, slice).await? {
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
        make_folder(&request.into)?;
    }
    for (at, prepared, survey) in ready {
        let folder = request.into.join(prepared.receipt.service.as_str());
        make_folder(&folder)?;
        let (service, outcome) = &mut services[at];
        let found = fill::slice(request, watch, Arc::new(prepared), survey, &folder, outcome).await?;
        outcome.damaged |= !found.is_empty();
        tracing::info!(%service, files = outcome.files, lost = outcome.lost, "service recovered");
        damaged.extend(found);
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
    slice: &muster_protocol::document::ManifestSlice,
) -> Result<Result<(Prepared, Survey), Vec<Damage>>, StoreError> {
    let prepared = match Prepared::read(request, ledger, round, slice).await? {
        Ok(prepared) => prepared,
        Err(damaged) => return Ok(Err(damaged)),
    };
    let filter = Filter::new(request.path.clone());
    let (prepared, survey) = slice::blocking(prepared, move |prepared| Survey::take(prepared, filter)).await;
    match survey {
        Ok(survey) => Ok(Ok((prepared, survey))),
        Err(Trouble::Store(error)) => Err(error),
        Err(Trouble::Damaged(damage)) => {
            let mut damaged = prepared.damaged;
            damaged.push(damage);
            Ok(Err(damaged))
        }
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

fn check_target(into: &Path) -> Result<(), RecoverError> {
    let taken = || RecoverError::Target { path: into.to_owned() };
    let failed = |source| RecoverError::MakeTarget { path: into.to_owned(), source };
    match std::fs::symlink_metadata(into) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) if !into.is_dir() => Err(taken()),
        Ok(_) => match std::fs::read_dir(into).map_err(failed)?.next() {
            None => Ok(()),
            Some(_) => Err(taken()),
        },
    }
}

/// A folder that only its owner may look into: what is recovered may be secret.
fn make_folder(path: &Path) -> Result<(), RecoverError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| RecoverError::MakeTarget { path: path.to_owned(), source })
}
