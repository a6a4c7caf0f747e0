//! Which slices of a round rest on objects that are in quarantine.
//!
//! Reads nothing while nothing is in quarantine that the round could name: a slice that was committed behind the record that
//! put it there names none of it.

use std::collections::BTreeMap;

use muster_protocol::document::Manifest;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{RoundState, State};

use super::chain::ReceiptName;
use crate::needs::{Slice, named_if_whole};
use crate::store::{Store, StoreError};

/// The services of the round whose slices name damaged objects, and how many; one that cannot be read to its end names one at
/// least.
///
/// # Errors
/// When the share fails.
pub async fn hurt(
    store: &dyn Store,
    state: &State,
    round: &RoundState,
    manifest: &Manifest,
) -> Result<BTreeMap<ServiceName, u64>, StoreError> {
    let mut hurt = BTreeMap::new();
    let Some(position) = round.commit_position() else { return Ok(hurt) };
    for slice in &manifest.slices {
        let service = &slice.service;
        let Some(of) = state.quarantine.get(service) else { continue };
        if of.objects.is_empty() || of.position < position {
            continue;
        }
        let named = Slice { round, receipt: ReceiptName::from(slice) };
        let (objects, is_whole) = named_if_whole(store, state, service, &named).await?;
        let is_damaged = |id: &&_| of.objects.contains_key(*id);
        let damaged = objects.iter().filter_map(|(path, _)| path.id()).filter(is_damaged).count() as u64;
        if damaged > 0 || !is_whole {
            hurt.insert(service.clone(), damaged.max(1));
        }
    }
    Ok(hurt)
}
