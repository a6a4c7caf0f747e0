//! Which rounds some settings would let go: told before they are signed.

use std::collections::BTreeMap;

use muster_protocol::log::State;
use muster_protocol::prune::Terms;
use muster_protocol::time::UnixMillis;

use super::choose::choose;
use super::error::PruneError;
use super::survey::Scope;
use crate::store::Store;

/// The numbers of the rounds that nothing keeps under these settings, oldest first. Reads manifests, and deletes nothing.
///
/// # Errors
/// When a setting is none, a manifest that must be read is damaged, or the share fails.
pub async fn due(
    store: &dyn Store,
    state: &State,
    clear: &BTreeMap<String, String>,
    now: UnixMillis,
) -> Result<Vec<u64>, PruneError> {
    let scope = Scope::Due { rounds: usize::MAX, objects: usize::MAX };
    let rounds = choose(store, state, Terms::of(clear)?, now, scope).await?;
    Ok(rounds.going.iter().map(|round| round.open.number).collect())
}
