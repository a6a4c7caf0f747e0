//! What keeps a prune from deleting anything, by the log and its manifests: whoever looks at the same share comes to the same.

use std::collections::BTreeSet;
use std::fmt;

use muster_protocol::alert::Code;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::State;

use super::error::PruneError;
use crate::store::Store;
use crate::verify::Trouble;
use crate::verify::chain::read_manifest;

/// Why nothing may go now.
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
}

impl Frozen {
    /// The alert that is open for as long.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Quarantine { .. } => Code::Verify01,
        }
    }

    /// What ends it.
    #[must_use]
    pub fn next(&self) -> String {
        match self {
            Self::Quarantine { service, .. } => {
                format!(
                    "muster start --services {service} --wait uploads what is lost again from the live service"
                )
            }
        }
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quarantine { service, objects } => {
                let are = if *objects == 1 { "object is" } else { "objects are" };
                write!(
                    f,
                    "{objects} {are} damaged that rounds of {service} need, and no later round is verified"
                )
            }
        }
    }
}

/// Everything that freezes a prune of a share whose log says `state`.
///
/// # Errors
/// When a manifest that would tell cannot be read.
pub(super) async fn frozen(store: &dyn Store, state: &State) -> Result<Vec<Frozen>, PruneError> {
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
