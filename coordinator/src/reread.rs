//! Reading again: every object that a round names and that no verified round has written is fetched and hashed before the
//! round may be called verified. That is what it wrote itself, and what it took over from rounds that never got so far: an
//! agent builds on a slice as soon as it was accepted.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use muster_protocol::causes::causes;
use muster_protocol::document::{ManifestSlice, ObjectRef, Receipt};
use muster_protocol::envelope::open_as;
use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::log::{RoundState, State};
use muster_protocol::round::CheckFailure;
use muster_protocol::units::total;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::store::Store;
use tokio::sync::Semaphore;

use crate::check::{compare_object, packs_of, read_object, slice_path};

/// Objects that are fetched at once: few, so that verifying never crowds out capturing.
const AT_ONCE: usize = 4;

/// Objects and bytes that were read and found whole.
pub(crate) async fn reread(
    store: Arc<dyn Store>,
    state: Arc<State>,
    round: RoundId,
    slices: Vec<ManifestSlice>,
) -> Result<(u64, u64), CheckFailure> {
    // A fleet of many small slices is read as fast as one large slice: what is counted is objects, whosever they are.
    let places = Semaphore::new(AT_ONCE);
    stream::iter(slices)
        .map(|slice| one(&store, &places, &state, round, slice))
        .buffer_unordered(AT_ONCE)
        .try_fold(
            (0, 0),
            |(objects, bytes), (more, longer)| async move { Ok((objects + more, bytes + longer)) },
        )
        .await
}

/// The same of one slice.
async fn one(
    store: &Arc<dyn Store>,
    places: &Semaphore,
    state: &State,
    round: RoundId,
    slice: ManifestSlice,
) -> Result<(u64, u64), CheckFailure> {
    let own = ObjectRef { round, id: slice.receipt, size: slice.receipt_size };
    let path = slice_path(&slice.service, &own, SlicePart::Receipt);
    let bytes = read_object(store.as_ref(), &path, &own.id, own.size).await?;
    let (_, receipt) = open_as::<Receipt>(&bytes, &state.fleet).map_err(|e| {
        CheckFailure::Refused(muster_protocol::round::Failure {
            code: muster_protocol::alert::Code::Verify01,
            reason: format!("{path}: {}", causes(&e)),
            permanent: true,
        })
    })?;
    let unproven = unproven(store.as_ref(), state, &receipt).await?;
    let sizes: Vec<u64> = stream::iter(unproven)
        .map(|(path, (id, size))| async move {
            // Never closed, so that there is always a place in the end.
            let _place = places.acquire().await;
            compare_object(store.as_ref(), &path, &id, size).await.map(|()| size)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok((1 + sizes.len() as u64, total(sizes.into_iter().chain([own.size]))))
}

async fn unproven(
    store: &dyn Store,
    state: &State,
    receipt: &Receipt,
) -> Result<BTreeMap<ObjectPath, (ObjectId, u64)>, CheckFailure> {
    let proven = |round: &RoundId| state.rounds.get(round).is_some_and(RoundState::is_verified);
    let (_, packs) = packs_of(store, receipt, proven).await?;
    let service = &receipt.service;
    let mut objects: BTreeMap<_, _> = packs
        .into_iter()
        .map(|(id, size)| (ObjectPath::Pack { service: service.clone(), id }, (id, size)))
        .collect();
    let parts = receipt
        .packs
        .iter()
        .map(|o| (o, SlicePart::Packs))
        .chain(receipt.chunks.iter().map(|o| (o, SlicePart::Chunks)))
        .chain([(&receipt.index, SlicePart::Index)]);
    for (object, part) in parts.filter(|(object, _)| !proven(&object.round)) {
        objects.insert(slice_path(service, object, part), (object.id, object.size));
    }
    Ok(objects)
}
