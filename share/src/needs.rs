//! What a service's slices name: every object without which one of them cannot be restored.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use muster_protocol::document::{ObjectRef, Receipt};
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{RoundState, State};

use crate::layout::{ObjectPath, SlicePart};
use crate::store::{Store, StoreError};
use crate::verify::Trouble;
use crate::verify::chain::{ReceiptName, read_named_receipt, read_pack_list, slice_path};

/// Receipts and pack lists that are read at once.
const AT_ONCE: usize = 8;

/// One slice: its round, and how the round's manifest names its receipt.
#[derive(Debug, Clone)]
pub(crate) struct Slice<'a> {
    pub(crate) round: &'a RoundState,
    pub(crate) receipt: ReceiptName,
}

/// Every object that these slices of one service name, with its length in bytes; objects may be given more than once.
/// All of them must be readable.
///
/// # Errors
/// When a receipt or a pack list is damaged, the share fails, or `need` does.
pub(crate) async fn needed<E: From<Trouble>>(
    store: &dyn Store,
    state: &State,
    service: &ServiceName,
    slices: &[Slice<'_>],
    mut need: impl FnMut(ObjectPath, u64) -> Result<(), E>,
) -> Result<(), E> {
    let mut lists = BTreeSet::new();
    let mut receipts = stream::iter(slices)
        .map(|slice| async move {
            let receipt = read_named_receipt(store, state, slice.round, &slice.receipt).await?;
            Ok::<_, Trouble>((slice, receipt))
        })
        .buffer_unordered(AT_ONCE);
    while let Some((slice, receipt)) = receipts.try_next().await? {
        for (object, size) in documents(service, slice, &receipt) {
            need(object, size)?;
        }
        lists.extend(receipt.packs);
    }
    let mut lists = stream::iter(&lists)
        .map(|list| async move { read_pack_list(store, service, list).await })
        .buffer_unordered(AT_ONCE);
    while let Some(list) = lists.try_next().await? {
        for pack in list.packs {
            need(ObjectPath::Pack { service: service.clone(), id: pack.id }, pack.size)?;
        }
    }
    Ok(())
}

/// What one slice names, with lengths in bytes, as far as that can be read: for whoever goes on past damage.
///
/// # Errors
/// When the share fails.
pub(crate) async fn named(
    store: &dyn Store,
    state: &State,
    service: &ServiceName,
    slice: &Slice<'_>,
) -> Result<Vec<(ObjectPath, u64)>, StoreError> {
    named_if_whole(store, state, service, slice).await.map(|(objects, _)| objects)
}

/// The same, and whether all of it could be read.
///
/// # Errors
/// When the share fails.
pub(crate) async fn named_if_whole(
    store: &dyn Store,
    state: &State,
    service: &ServiceName,
    slice: &Slice<'_>,
) -> Result<(Vec<(ObjectPath, u64)>, bool), StoreError> {
    let receipt = match read_named_receipt(store, state, slice.round, &slice.receipt).await {
        Ok(receipt) => receipt,
        Err(Trouble::Damaged(_)) => {
            let own = own(slice);
            return Ok((vec![(slice_path(service, &own, SlicePart::Receipt), own.size)], false));
        }
        Err(Trouble::Store(error)) => return Err(error),
    };
    let mut objects: Vec<_> = documents(service, slice, &receipt).collect();
    let mut is_whole = true;
    for list in &receipt.packs {
        match read_pack_list(store, service, list).await {
            Ok(list) => objects.extend(
                list.packs
                    .iter()
                    .map(|pack| (ObjectPath::Pack { service: service.clone(), id: pack.id }, pack.size)),
            ),
            Err(Trouble::Damaged(_)) => is_whole = false,
            Err(Trouble::Store(error)) => return Err(error),
        }
    }
    Ok((objects, is_whole))
}

/// The objects of a slice but its packs.
fn documents<'a>(
    service: &'a ServiceName,
    slice: &'a Slice<'_>,
    receipt: &'a Receipt,
) -> impl Iterator<Item = (ObjectPath, u64)> + 'a {
    let parts = [(own(slice), SlicePart::Receipt), (receipt.index, SlicePart::Index)];
    let chunks = receipt.chunks.iter().map(|object| (*object, SlicePart::Chunks));
    let packs = receipt.packs.iter().map(|object| (*object, SlicePart::Packs));
    let all = parts.into_iter().chain(chunks).chain(packs);
    all.map(|(object, part)| (slice_path(service, &object, part), object.size))
}

/// A slice's receipt.
fn own(slice: &Slice<'_>) -> ObjectRef {
    let ReceiptName { id, size, .. } = slice.receipt;
    ObjectRef { round: slice.round.open.round, id, size }
}
