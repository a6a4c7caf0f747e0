//! A slice that was opened with the kit: receipt, packs by number, index, and the stream of its entries.
//!
//! Its reading methods block: they are called off the event loop. Believes nothing that the chain from the root key does
//! not name; holds none of its entries.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::document::{ManifestSlice, Receipt};
use muster_protocol::ids::ObjectId;
use muster_protocol::log::{RoundState, State};
use muster_share::entry::{Entry, Extent};
use muster_share::keys::Keyring;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{EntryReader, IndexRoot, IndexedSource, ListedPack};
use muster_share::pack::PackContext;
use muster_share::store::{Store, StoreError};
use muster_share::verify::chain::{
    context_of, packs_by_number, read_index, read_pack_lists, read_receipt, slice_path,
};
use muster_share::verify::content::{ExtentReader, Opening, trouble};
use muster_share::verify::{Damage, Fault, Trouble, read_object};
use tokio::runtime::Handle;

use super::plan::Planner;

/// Bytes of entries that are read at once.
const ENTRIES_AT_ONCE: usize = 256 * 1024;

/// A slice whose documents are whole, or whole enough: pack lists may be missing. Its reading methods block: call them
/// where that is allowed, off the event loop.
#[derive(Debug)]
pub struct Slice {
    store: Arc<dyn Store>,
    keys: Keyring,
    pub(super) receipt: Receipt,
    pub(super) receipt_id: ObjectId,
    packs: BTreeMap<u64, ListedPack>,
    pub(super) index: IndexRoot,
    pub(super) index_path: ObjectPath,
    context: PackContext,
    /// Pack lists that could not be read: whatever needs what they had cannot be had.
    pub(super) damaged: Vec<Damage>,
    /// What the share is read with.
    pub(super) handle: Handle,
}

impl Slice {
    /// Opens it, or tells everything that is damaged, what it cannot do without first.
    ///
    /// # Errors
    /// When the share fails.
    pub(crate) async fn open(
        share: &Arc<dyn Store>,
        keys: Keyring,
        state: &State,
        round: &RoundState,
        slice: &ManifestSlice,
    ) -> Result<Result<Self, Vec<Damage>>, StoreError> {
        let store = share.as_ref();
        let receipt = match or_damage(read_receipt(store, state, round, slice).await)? {
            Ok(receipt) => receipt,
            Err(damage) => return Ok(Err(vec![damage])),
        };
        let index = or_damage(read_index(store, state, &receipt, &keys).await)?;
        let (mut lists, mut damaged) = (Vec::new(), Vec::new());
        for list in read_pack_lists(store, &receipt).await? {
            match list {
                Ok(list) => lists.push(list),
                Err(damage) => damaged.push(damage),
            }
        }
        let index = match index {
            Ok(index) => index,
            Err(damage) => {
                damaged.insert(0, damage);
                return Ok(Err(damaged));
            }
        };
        Ok(Ok(Self {
            store: Arc::clone(share),
            keys,
            packs: packs_by_number(&lists),
            index_path: slice_path(&receipt.service, &receipt.index, SlicePart::Index),
            context: context_of(state, &receipt),
            receipt,
            receipt_id: slice.receipt,
            index,
            damaged,
            handle: Handle::current(),
        }))
    }

    pub(super) fn opening(&self) -> Opening<'_> {
        Opening { keys: &self.keys, chunk_key: &self.index.chunk_key, context: &self.context }
    }

    /// The pack of this number.
    ///
    /// # Errors
    /// The list that should have named it, if one is damaged; otherwise the index that needs it.
    pub(super) fn pack(&self, number: u64) -> Result<(ObjectPath, ListedPack), Damage> {
        let Some(pack) = self.packs.get(&number) else {
            let why = format!("it needs pack number {number}, which no pack list has");
            return Err(self.damaged.first().cloned().unwrap_or_else(|| self.damage(why)));
        };
        Ok((ObjectPath::Pack { service: self.receipt.service.clone(), id: pack.id }, *pack))
    }

    /// Every pack that its lists name.
    pub(super) fn listed(&self) -> impl Iterator<Item = &ListedPack> {
        self.packs.values()
    }

    /// The bytes of the pack of this number: their length and hash are as the chain names them.
    pub(super) async fn fetch(&self, number: u64) -> Result<(ObjectPath, Bytes), Trouble> {
        let (path, pack) = self.pack(number)?;
        let bytes = read_object(self.store.as_ref(), &path, &pack.id, pack.size).await?;
        Ok((path, bytes))
    }

    /// Damage of the index's content.
    pub(super) fn damage(&self, why: String) -> Damage {
        Damage::new(self.index_path.clone(), Fault::Content { why })
    }

    /// Reads what extents hold, one after the other. Blocks.
    pub(super) fn reader(&self, extents: Vec<Extent>) -> impl Read {
        ExtentReader::new(self.opening(), extents, |number| self.handle.block_on(self.fetch(number)))
    }

    /// Hands out every entry of every source in order, with the number of its source. Blocks.
    pub(super) fn each_entry<E: From<Trouble>>(
        &self,
        mut each: impl FnMut(usize, &IndexedSource, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let stream = self.reader(self.index.entries.clone());
        let mut entries = EntryReader::new(BufReader::with_capacity(ENTRIES_AT_ONCE, stream));
        for (at, source) in self.index.sources.iter().enumerate() {
            for _ in 0..source.entries {
                let entry = entries.next_entry().map_err(|e| E::from(trouble(&self.index_path, e)))?;
                let missing = || Trouble::from(self.damage("its entries end before the last one".to_owned()));
                each(at, source, entry.ok_or_else(missing)?)?;
            }
        }
        entries.finish().map_err(|e| E::from(trouble(&self.index_path, e)))
    }

    /// The same, once each has passed the checks of whoever makes it on a disk.
    pub(super) fn each_planned<E: From<Trouble>>(
        &self,
        mut each: impl FnMut(usize, &IndexedSource, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut planner = (usize::MAX, Planner::new());
        self.each_entry::<E>(|at, source, entry| {
            if planner.0 != at {
                planner = (at, Planner::new());
            }
            planner.1.admit(&entry).map_err(|error| Trouble::from(self.damage(error.to_string())))?;
            each(at, source, entry)
        })
    }
}

fn or_damage<T>(read: Result<T, Trouble>) -> Result<Result<T, Damage>, StoreError> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(Trouble::Damaged(damage)) => Ok(Err(damage)),
        Err(Trouble::Store(error)) => Err(error),
    }
}
