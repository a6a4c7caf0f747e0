//! Reading again: every object that a round names and that no verified round has written is fetched and hashed before the
//! round may be called verified. That is what it wrote itself, and what it took over from rounds that never got so far: an
//! agent builds on a slice as soon as it was accepted.
//!
//! All of it is read, whatever is found on the way: what is damaged goes into quarantine together, and the next slice heals it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use muster_protocol::causes::causes;
use muster_protocol::document::{ManifestSlice, ObjectRef, Receipt};
use muster_protocol::envelope::open_as;
use muster_protocol::ids::{ObjectId, RoundId, ServiceName};
use muster_protocol::log::{RoundState, State};
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::store::{Store, StoreError};
use muster_share::verify::chain::read_pack_list;
use muster_share::verify::{Damage, Fault, Pace, Trouble, read_again, read_object};
use tokio::sync::Semaphore;

use crate::check::slice_path;

/// Objects that are fetched at once: few, so that verifying never crowds out capturing.
const AT_ONCE: usize = 4;

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reread {
    /// Objects that are whole.
    pub(crate) objects: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// What is not.
    pub(crate) damaged: Vec<(ServiceName, Damage)>,
}

impl Reread {
    fn and(mut self, other: Self) -> Self {
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.damaged.extend(other.damaged);
        self
    }
}

/// Reads the slices of a round again. `store` is a [`muster_share::log::Sure`] one: what it lacks is damaged.
///
/// # Errors
/// When the share does not answer: then nothing is known.
pub(crate) async fn reread(
    store: Arc<dyn Store>,
    state: Arc<State>,
    round: RoundId,
    slices: Vec<ManifestSlice>,
) -> Result<Reread, StoreError> {
    // A fleet of many small slices is read as fast as one large slice: what is counted is objects, whosever they are.
    let places = Semaphore::new(AT_ONCE);
    stream::iter(slices)
        .map(|slice| one(&store, &places, &state, round, slice))
        .buffer_unordered(AT_ONCE)
        .try_fold(Reread::default(), |sum, slice| async move { Ok(sum.and(slice)) })
        .await
}

/// The same of one slice.
async fn one(
    store: &Arc<dyn Store>,
    places: &Semaphore,
    state: &State,
    round: RoundId,
    slice: ManifestSlice,
) -> Result<Reread, StoreError> {
    let service = &slice.service;
    let own = ObjectRef { round, id: slice.receipt, size: slice.receipt_size };
    let path = slice_path(service, &own, SlicePart::Receipt);
    let mut found = Reread::default();
    let Some(receipt) = found.or_damaged(service, receipt(store.as_ref(), state, &path, &own).await)? else {
        return Ok(found);
    };
    found = found.and(Reread { objects: 1, bytes: own.size, damaged: Vec::new() });
    let unproven = unproven(store.as_ref(), state, &receipt, &mut found).await?;
    let looks = stream::iter(unproven).map(|(path, (id, size))| async move {
        // Never closed, so that there is always a place in the end.
        let _place = places.acquire().await;
        read_again(store.as_ref(), &path, &id, size, &mut Pace::unlimited()).await.map(|_| size)
    });
    let mut looks = looks.buffer_unordered(AT_ONCE);
    while let Some(look) = looks.next().await {
        if let Some(size) = found.or_damaged(service, look)? {
            found = found.and(Reread { objects: 1, bytes: size, damaged: Vec::new() });
        }
    }
    Ok(found)
}

impl Reread {
    fn or_damaged<T>(
        &mut self,
        service: &ServiceName,
        read: Result<T, Trouble>,
    ) -> Result<Option<T>, StoreError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Trouble::Damaged(damage)) => {
                self.damaged.push((service.clone(), damage));
                Ok(None)
            }
            Err(Trouble::Store(error)) => Err(error),
        }
    }
}

async fn receipt(
    store: &dyn Store,
    state: &State,
    path: &ObjectPath,
    own: &ObjectRef,
) -> Result<Receipt, Trouble> {
    let bytes = read_object(store, path, &own.id, own.size).await?;
    let opened = open_as::<Receipt>(&bytes, &state.fleet);
    let forged = |error| Damage::new(path.clone(), Fault::Forged { why: causes(&error) });
    opened.map(|(_, receipt)| receipt).map_err(|error| forged(error).into())
}

async fn unproven(
    store: &dyn Store,
    state: &State,
    receipt: &Receipt,
    found: &mut Reread,
) -> Result<BTreeMap<ObjectPath, (ObjectId, u64)>, StoreError> {
    let proven = |round: &RoundId| state.rounds.get(round).is_some_and(RoundState::is_verified);
    let service = &receipt.service;
    let mut objects = BTreeMap::new();
    for list in receipt.packs.iter().filter(|list| !proven(&list.round)) {
        let read = read_pack_list(store, service, list).await;
        for pack in found.or_damaged(service, read)?.into_iter().flat_map(|list| list.packs) {
            let path = ObjectPath::Pack { service: service.clone(), id: pack.id };
            objects.insert(path, (pack.id, pack.size));
        }
    }
    let lists = receipt.packs.iter().map(|object| (object, SlicePart::Packs));
    let chunks = receipt.chunks.iter().map(|object| (object, SlicePart::Chunks));
    for (object, part) in lists.chain(chunks).chain([(&receipt.index, SlicePart::Index)]) {
        let path = slice_path(service, object, part);
        let is_known = found.damaged.iter().any(|(_, damage)| damage.object == path);
        if !proven(&object.round) && !is_known {
            objects.insert(path, (object.id, object.size));
        }
    }
    Ok(objects)
}
