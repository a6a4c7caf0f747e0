//! One slice, opened: its sources, the stream of its entries, and the content of single files.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::age::Identity;
use muster_protocol::document::{ManifestSlice, Receipt};
use muster_protocol::ids::{ServiceName, SourceName};
use muster_protocol::log::{RoundState, State};
use muster_share::entry::{Entry, Extent};
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{EntryReader, IndexRoot, IndexedSource, ListError, ListedPack};
use muster_share::pack::PackContext;
use muster_share::store::Store;
use muster_share::verify::chain::{
    context_of, packs_by_number, read_index, read_pack_lists, read_receipt, slice_path,
};
use muster_share::verify::content::{ExtentReader, Opening, trouble};
use muster_share::verify::{Damage, Fault, Trouble, read_object};
use tokio::runtime::Handle;

use super::{LookError, Request};
use crate::recover::plan::Planner;

/// Bytes of content that are handed out at once.
const PIECE: usize = 256 * 1024;

/// A slice whose index is open. Its reading methods block: call them where that is allowed, off the event loop.
#[derive(Debug)]
pub struct Slice {
    store: Arc<dyn Store>,
    keys: Arc<Vec<Identity>>,
    receipt: Receipt,
    packs: BTreeMap<u64, ListedPack>,
    index: IndexRoot,
    index_path: ObjectPath,
    context: PackContext,
    /// The first pack list that could not be read.
    damaged: Option<Damage>,
    handle: Handle,
}

/// A piece of a file's content, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes, each compared with the name of the chunk that it lies in.
    Bytes(&'a [u8]),
    /// That many zeroes, which the source did not store.
    Hole(u64),
}

impl Slice {
    pub(super) async fn open(
        request: &Request,
        state: &State,
        round: &RoundState,
        slice: &ManifestSlice,
    ) -> Result<Self, LookError> {
        let store = request.store.as_ref();
        let receipt = read_receipt(store, state, round, slice).await?;
        let index = read_index(store, state, &receipt, &request.keys).await?;
        let (mut lists, mut damaged) = (Vec::new(), None);
        for list in read_pack_lists(store, &receipt).await? {
            match list {
                Ok(list) => lists.push(list),
                Err(damage) => drop(damaged.get_or_insert(damage)),
            }
        }
        Ok(Self {
            store: Arc::clone(&request.store),
            keys: Arc::clone(&request.keys),
            packs: packs_by_number(&lists),
            index_path: slice_path(&receipt.service, &receipt.index, SlicePart::Index),
            context: context_of(state, &receipt),
            receipt,
            index,
            damaged,
            handle: Handle::current(),
        })
    }

    /// Whose slice it is.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.receipt.service
    }

    /// Its sources, in the order of their entries.
    #[must_use]
    pub fn sources(&self) -> &[IndexedSource] {
        &self.index.sources
    }

    /// Hands out the entries of all sources, in order, until `each` breaks off. Every entry has passed the same checks
    /// that a recovery makes of it.
    ///
    /// # Errors
    /// [`LookError::Damaged`] or [`LookError::Store`]; entries before that place were handed out.
    pub fn each_entry(
        &self,
        mut each: impl FnMut(&IndexedSource, Entry) -> ControlFlow<()>,
    ) -> Result<(), LookError> {
        let stream = self.reader(self.index.entries.clone());
        let mut entries = EntryReader::new(BufReader::with_capacity(PIECE, stream));
        let failed = |error: ListError| LookError::from(trouble(&self.index_path, error));
        for source in &self.index.sources {
            let mut planner = Planner::new();
            for _ in 0..source.entries {
                let entry = entries.next_entry().map_err(failed)?;
                let entry =
                    entry.ok_or_else(|| self.damage("its entries end before the last one".to_owned()))?;
                planner.admit(&entry).map_err(|error| self.damage(error.to_string()))?;
                if each(source, entry).is_break() {
                    return Ok(());
                }
            }
        }
        entries.finish().map_err(failed)
    }

    /// The entry of this path, if the source has it.
    ///
    /// # Errors
    /// As [`Self::each_entry`].
    pub fn entry(&self, source: &SourceName, path: &[u8]) -> Result<Option<Entry>, LookError> {
        let mut found = None;
        self.each_entry(|here, entry| {
            if here.name != *source || entry.path != path {
                return ControlFlow::Continue(());
            }
            found = Some(entry);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Hands out the content of a regular file, from its first byte to its last. A hard link is followed to its file.
    ///
    /// # Errors
    /// [`LookError::Damaged`] or [`LookError::Store`], or [`LookError::Output`] for an error of `each`. Pieces before
    /// that place were handed out.
    pub fn content(
        &self,
        source: &SourceName,
        mut file: Entry,
        mut each: impl FnMut(Piece<'_>) -> std::io::Result<()>,
    ) -> Result<(), LookError> {
        // Each leads to an earlier entry, as the planner has made sure, so this ends.
        while let Some(target) = file.hard_link.take() {
            let missing = || self.damage("a hard link leads to no file".to_owned());
            file = self.entry(source, &target)?.ok_or_else(missing)?;
        }
        let mut reader = self.reader(file.extents.iter().copied().filter(is_data).collect());
        let mut buffer = vec![0; PIECE];
        for extent in file.extents {
            if let Extent::Hole { length } = extent {
                each(Piece::Hole(length)).map_err(LookError::Output)?;
                continue;
            }
            let mut left = extent.length();
            while left > 0 {
                let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                let got = reader
                    .read(&mut buffer[..most])
                    .map_err(|error| LookError::from(trouble(&self.index_path, ListError::Io(error))))?;
                if got == 0 {
                    return Err(self.damage("a file's content ends before its length".to_owned()));
                }
                each(Piece::Bytes(&buffer[..got])).map_err(LookError::Output)?;
                left -= got as u64;
            }
        }
        Ok(())
    }

    fn reader(&self, extents: Vec<Extent>) -> impl Read {
        let opening = Opening { keys: &self.keys, chunk_key: &self.index.chunk_key, context: &self.context };
        ExtentReader::new(opening, extents, |number| self.fetch(number))
    }

    fn fetch(&self, number: u64) -> Result<(ObjectPath, Bytes), Trouble> {
        let Some(pack) = self.packs.get(&number) else {
            let why = format!("it needs pack number {number}, which no pack list has");
            let fault = Fault::Content { why };
            return Err(self
                .damaged
                .clone()
                .unwrap_or_else(|| Damage::new(self.index_path.clone(), fault))
                .into());
        };
        let path = ObjectPath::Pack { service: self.receipt.service.clone(), id: pack.id };
        let read = read_object(self.store.as_ref(), &path, &pack.id, pack.size);
        let bytes = self.handle.block_on(read)?;
        Ok((path, bytes))
    }

    fn damage(&self, why: String) -> LookError {
        LookError::Damaged(Damage::new(self.index_path.clone(), Fault::Content { why }))
    }
}

fn is_data(extent: &Extent) -> bool {
    matches!(extent, Extent::Data { .. })
}
