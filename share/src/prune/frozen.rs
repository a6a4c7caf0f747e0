//! Why nothing may go now, whatever the retention says. Marking and sweeping ask alike, of the same log and manifests.

use std::collections::BTreeSet;
use std::fmt;

use muster_protocol::alert::Code;
use muster_protocol::anomaly::Anomaly;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::State;

use super::error::PruneError;
use crate::anomaly::Watch;
use crate::store::Store;
use crate::verify::Trouble;
use crate::verify::chain::read_manifest;

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frozen {
    /// Objects of a service are in quarantine, and no verified round holds a slice that was made without them: an older round may
    /// be the only one that still has what they held.
    Quarantine {
        /// The service.
        service: ServiceName,
        /// How many objects.
        objects: usize,
    },
    /// A service's data is not like it was, and nobody said that this is meant: older rounds may be all that is left of it.
    Anomaly(Anomaly),
}

impl Frozen {
    /// The alert that tells of it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Quarantine { .. } => Code::Verify01,
            Self::Anomaly(_) => Code::Round06,
        }
    }

    /// What it is about: a service, an object.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Quarantine { service, .. } => service.to_string(),
            Self::Anomaly(anomaly) => anomaly.service.to_string(),
        }
    }

    /// Why, without the subject.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Quarantine { objects, .. } => {
                let are = if *objects == 1 { "stored object is" } else { "stored objects are" };
                format!("{objects} {are} damaged, and no round that was made since is verified")
            }
            Self::Anomaly(anomaly) => anomaly.to_string(),
        }
    }

    /// What ends it.
    #[must_use]
    pub fn ends(&self) -> String {
        match self {
            Self::Quarantine { service, .. } => {
                format!(
                    "muster start --services {service} --wait uploads what is lost again from the live service"
                )
            }
            Self::Anomaly(anomaly) => anomaly.ends(),
        }
    }
}

/// One line: code, subject, cause.
impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code(), self.subject(), self.cause())
    }
}

/// Looks for reasons; each further look reads only what is new.
#[derive(Debug, Default)]
pub(super) struct Thermometer {
    watch: Watch,
}

impl Thermometer {
    /// All reasons that hold now.
    ///
    /// # Errors
    /// When the share fails: then it is not known, and nothing may go.
    pub(super) async fn read(&mut self, store: &dyn Store, state: &State) -> Result<Vec<Frozen>, PruneError> {
        let mut frozen = ill(store, state).await?;
        frozen.extend(self.watch.look(store, state).await?.into_iter().map(Frozen::Anomaly));
        Ok(frozen)
    }

    /// As [`Thermometer::read`].
    ///
    /// # Errors
    /// Also when there is any: [`PruneError::Frozen`].
    pub(super) async fn none(&mut self, store: &dyn Store, state: &State) -> Result<(), PruneError> {
        let frozen = self.read(store, state).await?;
        if frozen.is_empty() { Ok(()) } else { Err(PruneError::Frozen(frozen)) }
    }
}

/// Services of which something is in quarantine that no later round has healed yet.
///
/// # Errors
/// When a manifest that would tell cannot be read.
async fn ill(store: &dyn Store, state: &State) -> Result<Vec<Frozen>, PruneError> {
    let mut sick: BTreeSet<&ServiceName> = state
        .quarantine
        .keys()
        // Of a service that nobody backs up any more, no later round will ever hold a slice.
        .filter(|service| state.agent(service).is_some())
        .collect();
    for round in state.rounds_by_number().into_iter().rev() {
        if sick.is_empty() {
            break;
        }
        let Some(position) =
            round.commit_position().filter(|_| round.is_recoverable() && round.is_verified())
        else {
            continue;
        };
        if sick.iter().all(|service| state.quarantine[*service].position > position) {
            continue;
        }
        match read_manifest(store, state, round).await {
            Ok(manifest) => {
                for slice in &manifest.slices {
                    if state.quarantine.get(&slice.service).is_some_and(|of| of.position < position) {
                        sick.remove(&slice.service);
                    }
                }
            }
            // It heals nobody.
            Err(Trouble::Damaged(_)) => {}
            Err(Trouble::Store(error)) => return Err(error.into()),
        }
    }
    let objects = |service: &ServiceName| state.quarantine[service].objects.len();
    Ok(sick
        .into_iter()
        .map(|service| Frozen::Quarantine { service: service.clone(), objects: objects(service) })
        .collect())
}
