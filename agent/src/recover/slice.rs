//! A slice that is ready to be recovered: receipt, packs by number, and the opened index.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::age::Identity;
use muster_protocol::document::{ManifestSlice, Receipt};
use muster_protocol::ids::ObjectId;
use muster_protocol::log::RoundState;
use muster_share::entry::Entry;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{EntryReader, IndexRoot, IndexedSource, ListedPack};
use muster_share::pack::PackContext;
use muster_share::store::{Store, StoreError};
use muster_share::verify::chain::{
    context_of, packs_by_number, read_index, read_pack_lists, read_receipt, slice_path,
};
use muster_share::verify::content::{ExtentReader, Opening, trouble};
use muster_share::verify::{Damage, Fault, Ledger, Trouble, read_object};
use tokio::runtime::Handle;

use super::Request;

/// A slice whose documents are whole, or whole enough.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: Arc<Vec<Identity>>,
    pub(super) receipt: Receipt,
    pub(super) packs: BTreeMap<u64, ListedPack>,
    pub(super) index: IndexRoot,
    pub(super) index_path: ObjectPath,
    pub(super) context: PackContext,
    /// Pack lists that could not be read: files that need what they had are left out.
    pub(super) damaged: Vec<Damage>,
    /// What the share is read with.
    pub(super) handle: Handle,
}

impl Prepared {
    pub(super) async fn read(
        request: &Request,
        ledger: &Ledger,
        round: &RoundState,
        slice: &ManifestSlice,
    ) -> Result<Result<Self, Vec<Damage>>, StoreError> {
        let (store, state) = (request.store.as_ref(), &ledger.state);
        let receipt = match read_receipt(store, state, round, slice).await {
            Ok(receipt) => receipt,
            Err(Trouble::Damaged(damage)) => return Ok(Err(vec![damage])),
            Err(Trouble::Store(error)) => return Err(error),
        };
        let (mut lists, mut damaged) = (Vec::new(), Vec::new());
        for list in read_pack_lists(store, &receipt).await? {
            match list {
                Ok(list) => lists.push(list),
                Err(damage) => damaged.push(damage),
            }
        }
        let index = match read_index(store, state, &receipt, &request.keys).await {
            Ok(index) => index,
            Err(Trouble::Damaged(damage)) => {
                damaged.push(damage);
                return Ok(Err(damaged));
            }
            Err(Trouble::Store(error)) => return Err(error),
        };
        Ok(Ok(Self {
            store: Arc::clone(&request.store),
            keys: Arc::clone(&request.keys),
            packs: packs_by_number(&lists),
            index_path: slice_path(&receipt.service, &receipt.index, SlicePart::Index),
            context: context_of(state, &receipt),
            receipt,
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

    /// Damage of the index's content.
    pub(super) fn damage(&self, why: String) -> Damage {
        Damage::new(self.index_path.clone(), Fault::Content { why })
    }

    /// Hands out every entry of every source in order. Blocks; for a thread that may.
    pub(super) fn each_entry<E: From<Trouble>>(
        &self,
        mut each: impl FnMut(usize, &IndexedSource, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let stream = ExtentReader::new(self.opening(), self.index.entries.clone(), |number| {
            let (path, pack) = self.pack(number)?;
            let bytes = self.handle.block_on(fetch(self.store.as_ref(), &path, &pack.id, pack.size))?;
            Ok((path, bytes))
        });
        let mut entries = EntryReader::new(BufReader::with_capacity(256 * 1024, stream));
        for (at, source) in self.index.sources.iter().enumerate() {
            for _ in 0..source.entries {
                let entry = entries.next_entry().map_err(|e| E::from(trouble(&self.index_path, e)))?;
                let missing = || Trouble::from(self.damage("its entries end before the last one".to_owned()));
                each(at, source, entry.ok_or_else(missing)?)?;
            }
        }
        entries.finish().map_err(|e| E::from(trouble(&self.index_path, e)))
    }
}

/// A pack whose length and hash are as the chain names them.
pub(super) async fn fetch(
    store: &dyn Store,
    path: &ObjectPath,
    id: &ObjectId,
    size: u64,
) -> Result<Bytes, Trouble> {
    read_object(store, path, id, size).await
}
