//! A look at older rounds that reads little: signed documents whole, everything else by presence and length. It is what
//! a recovery can afford when it has to say which round is the newest intact one.

use std::collections::{HashMap, HashSet};

use futures::StreamExt;
use muster_protocol::document::Manifest;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{RoundState, State};

use super::chain::{packs_by_number, read_manifest, read_pack_lists, read_receipt, slice_path};
use super::damage::Trouble;
use crate::layout::{ObjectPath, Prefix, SlicePart};
use crate::store::{Listed, Store, StoreError};

/// Number of the newest round but `number` that holds all of `wanted` and has all that it needs, with the lengths named,
/// and nothing of `damaged`. Where no such round holds all, the newest of those that hold most; never one that holds none.
/// Contents are not read again: hashing them is `verify`'s business.
///
/// # Errors
/// When the share fails.
pub async fn newest_intact(
    store: &dyn Store,
    state: &State,
    number: u64,
    wanted: &[ServiceName],
    damaged: &HashSet<ObjectPath>,
) -> Result<Option<u64>, StoreError> {
    let mut listings = HashMap::new();
    let (mut best, mut most) = (None, 0);
    for round in state.rounds_by_number().into_iter().rev() {
        if round.open.number == number || !round.is_recoverable() {
            continue;
        }
        let Some(manifest) = usable(read_manifest(store, state, round).await)? else { continue };
        let holds = |service: &ServiceName| manifest.slices.iter().any(|slice| slice.service == *service);
        let held = wanted.iter().filter(|service| holds(service)).count();
        if held > most && intact(store, state, round, &manifest, damaged, &mut listings).await? {
            (best, most) = (Some(round.open.number), held);
        }
        if most == wanted.len() {
            break;
        }
    }
    Ok(best)
}

type Listings = HashMap<ServiceName, HashMap<ObjectPath, u64>>;

async fn intact(
    store: &dyn Store,
    state: &State,
    round: &RoundState,
    manifest: &Manifest,
    damaged: &HashSet<ObjectPath>,
    listings: &mut Listings,
) -> Result<bool, StoreError> {
    for slice in &manifest.slices {
        let Some(receipt) = usable(read_receipt(store, state, round, slice).await)? else { return Ok(false) };
        let lists = read_pack_lists(store, &receipt).await?;
        let Ok(lists) = lists.into_iter().collect::<Result<Vec<_>, _>>() else { return Ok(false) };
        let service = &slice.service;
        if !listings.contains_key(service) {
            listings.insert(service.clone(), list(store, service).await?);
        }
        let index = (slice_path(service, &receipt.index, SlicePart::Index), receipt.index.size);
        let packs = packs_by_number(&lists).into_values();
        let packs = packs.map(|pack| (ObjectPath::Pack { service: service.clone(), id: pack.id }, pack.size));
        let there = &listings[service];
        if packs.chain([index]).any(|(path, size)| there.get(&path) != Some(&size) || damaged.contains(&path))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn list(store: &dyn Store, service: &ServiceName) -> Result<HashMap<ObjectPath, u64>, StoreError> {
    let mut there = HashMap::new();
    let mut listing = store.list(&Prefix::Agent(service.clone()));
    while let Some(listed) = listing.next().await {
        if let Listed::Object { path, size } = listed? {
            there.insert(path, size);
        }
    }
    Ok(there)
}

fn usable<T>(read: Result<T, Trouble>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Trouble::Damaged(_)) => Ok(None),
        Err(Trouble::Store(error)) => Err(error),
    }
}
