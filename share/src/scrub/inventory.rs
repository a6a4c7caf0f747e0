//! Which objects there are to read, and about how much.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::{ObjectId, RoundId, ServiceName};
use muster_protocol::log::{RoundState, State};
use muster_protocol::scrub::Course;

use crate::layout::ObjectPath;
use crate::needs::{Slice, named_if_whole};
use crate::sealed_config::MAX_SEALED_LEN;
use crate::store::{Store, StoreError};
use crate::verify::chain::{ReceiptName, read_manifest};
use crate::verify::{Damage, Fault, Trouble, sort};

/// Objects of one service by id, with where they lie and their length in bytes.
pub type Inventory = BTreeMap<ObjectId, (ObjectPath, u64)>;

/// The way of a pass over a share whose log says `state`, and what of the fleet's own objects is damaged: manifests, with their
/// rounds' numbers, and the sealed configuration.
///
/// # Errors
/// When the share does not answer.
pub async fn fleet(
    store: &dyn Store,
    state: &State,
) -> Result<(Course, Vec<(Option<u64>, Damage)>), StoreError> {
    let (mut course, mut damaged) = (Course::default(), Vec::new());
    for round in recoverable(state) {
        match read_manifest(store, state, round).await {
            Ok(manifest) => {
                for slice in &manifest.slices {
                    course.weigh(&slice.service, slice.totals.stored_bytes);
                }
            }
            Err(Trouble::Damaged(damage)) => damaged.push((Some(round.open.number), damage)),
            Err(Trouble::Store(error)) => return Err(error),
        }
    }
    if let Some(damage) = configuration(store, state).await? {
        damaged.push((None, damage));
    }
    Ok((course, damaged))
}

/// What is wrong with the sealed part of the fleet's configuration, which a rebuild needs.
async fn configuration(store: &dyn Store, state: &State) -> Result<Option<Damage>, StoreError> {
    let Some(id) = state.config.as_ref().and_then(|config| config.sealed) else { return Ok(None) };
    let path = ObjectPath::List(id);
    match store.get(&path, MAX_SEALED_LEN).await {
        Ok(bytes) if ObjectId::of(&bytes) == id => Ok(None),
        Ok(_) => Ok(Some(Damage::new(path, Fault::Hash))),
        Err(error) => match sort(&path, MAX_SEALED_LEN, error) {
            Trouble::Damaged(damage) => Ok(Some(damage)),
            Trouble::Store(error) => Err(error),
        },
    }
}

/// The slices of some services, in every round that can be recovered. Manifests that cannot be used are passed over: they are told
/// of by [`fleet`].
#[derive(Debug)]
pub struct Slices {
    /// Whether every manifest could be used.
    is_all: bool,
    of: BTreeMap<ServiceName, Vec<(RoundId, ReceiptName)>>,
}

/// Reads every manifest once and keeps the slices of `services`.
///
/// # Errors
/// When the share does not answer.
pub async fn slices(
    store: &dyn Store,
    state: &State,
    services: &BTreeSet<ServiceName>,
) -> Result<Slices, StoreError> {
    let mut found = Slices { is_all: true, of: BTreeMap::new() };
    for round in recoverable(state) {
        let manifest = match read_manifest(store, state, round).await {
            Ok(manifest) => manifest,
            Err(Trouble::Damaged(_)) => {
                found.is_all = false;
                continue;
            }
            Err(Trouble::Store(error)) => return Err(error),
        };
        for slice in manifest.slices.iter().filter(|slice| services.contains(&slice.service)) {
            let of = found.of.entry(slice.service.clone()).or_default();
            of.push((round.open.round, ReceiptName::from(slice)));
        }
    }
    Ok(found)
}

impl Slices {
    /// Every object that the slices of `service` name, as far as that can be read: a list that is damaged names itself, and what
    /// it listed is found again by the lists of later rounds. True: all of it could be read, and nothing else is needed.
    ///
    /// # Errors
    /// When the share does not answer.
    pub async fn inventory(
        &self,
        store: &dyn Store,
        state: &State,
        service: &ServiceName,
    ) -> Result<(Inventory, bool), StoreError> {
        let (mut objects, mut is_all) = (Inventory::new(), self.is_all);
        for (id, receipt) in self.of.get(service).into_iter().flatten() {
            // What was swept since needs nothing any more.
            let Some(round) = state.rounds.get(id).filter(|round| round.is_recoverable()) else { continue };
            let slice = Slice { round, receipt: receipt.clone() };
            let (named, is_whole) = named_if_whole(store, state, service, &slice).await?;
            is_all &= is_whole;
            for (path, size) in named {
                if let Some(id) = path.id() {
                    objects.entry(*id).or_insert((path, size));
                }
            }
        }
        Ok((objects, is_all))
    }
}

/// Rounds that can be recovered, the newest first.
fn recoverable(state: &State) -> Vec<&RoundState> {
    let mut rounds = state.rounds_by_number();
    rounds.retain(|round| round.is_recoverable());
    rounds.reverse();
    rounds
}
