//! Remembering again: an agent that lost its state finds its packs through its newest receipt on the share.
//!
//! Believes nothing that does not follow, hash by hash, from a receipt that this agent has signed.

use std::collections::HashMap;

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::age::Identity;
use muster_protocol::document::{ObjectRef, Receipt};
use muster_protocol::envelope::{Payload, open_as};
use muster_protocol::ids::{ChunkId, KeyId, ObjectId};
use muster_share::layout::{ObjectPath, Prefix, SlicePart};
use muster_share::lists::{ChunkIndex, ListError, PackList};
use muster_share::pack::Unlock;
use muster_share::store::{Listed, StoreError};

use super::upload::blocking;
use super::{CaptureRequest, Engine, EngineError};
use crate::state::{Begun, NumberedPack, PackRow};

impl Engine {
    /// When nothing is remembered, reads the newest receipt that `signer` wrote under the request's keyset, and the lists
    /// that it names, with the agent's own key: how many packs are known again. Whether they are still on the share, each
    /// capture sees for itself; which of them count, only a later [`Engine::keep`] says.
    ///
    /// # Errors
    /// When the share cannot be read, or the memory fails. Receipts and lists that are missing or damaged are no error:
    /// everything is uploaded again then.
    pub async fn resume(
        &self,
        request: &CaptureRequest,
        agent: Identity,
        signer: KeyId,
    ) -> Result<usize, EngineError> {
        let _busy = self.busy.try_lock().map_err(|_| EngineError::Busy)?;
        let state = self.state.clone();
        let (keyset, check) = (request.keyset, request.chunk_key.id(b""));
        let Begun { packs, previous, .. } = blocking(move || Ok(state.begin(keyset, check)?)).await?;
        if !packs.is_empty() || previous.is_some() {
            return Ok(0);
        }
        let Some(receipt) = self.newest_receipt(request, signer).await? else { return Ok(0) };
        let Some(found) = self.packs_of(request, &receipt, agent).await? else { return Ok(0) };
        let state = self.state.clone();
        blocking(move || {
            state.add_packs(&found)?;
            Ok(found.len())
        })
        .await
    }

    async fn newest_receipt(
        &self,
        request: &CaptureRequest,
        signer: KeyId,
    ) -> Result<Option<Receipt>, EngineError> {
        let mut newest: Option<Receipt> = None;
        let mut listing = self.store.list(&Prefix::Slices(request.service.clone()));
        while let Some(line) = listing.next().await {
            let line =
                line.map_err(|source| EngineError::Store { doing: "listing the agent's receipts", source })?;
            let Listed::Object { path: path @ ObjectPath::Slice { part: SlicePart::Receipt, .. }, .. } = line
            else {
                continue;
            };
            let Some(bytes) = self.intact(&path, Receipt::MAX_LEN as u64).await? else { continue };
            let Ok((key, receipt)) = open_as::<Receipt>(&bytes, &request.fleet) else { continue };
            let own = key == signer && receipt.service == request.service && receipt.keyset == request.keyset;
            let position = |receipt: &Receipt| (receipt.head.number, receipt.attempt);
            if own && newest.as_ref().is_none_or(|newest| position(newest) < position(&receipt)) {
                newest = Some(receipt);
            }
        }
        Ok(newest)
    }

    async fn packs_of(
        &self,
        request: &CaptureRequest,
        receipt: &Receipt,
        agent: Identity,
    ) -> Result<Option<Vec<NumberedPack>>, EngineError> {
        let keys = [agent];
        let mut found = Vec::new();
        for (list, index) in receipt.packs.iter().zip(&receipt.chunks) {
            let path = |object: &ObjectRef, part| ObjectPath::Slice {
                service: request.service.clone(),
                round: object.round,
                id: object.id,
                part,
            };
            let Some(packs) = self.intact(&path(list, SlicePart::Packs), list.size).await? else {
                return Ok(None);
            };
            let Some(chunks) = self.intact(&path(index, SlicePart::Chunks), index.size).await? else {
                return Ok(None);
            };
            let read = || -> Result<_, ListError> {
                let (context, chunks) =
                    ChunkIndex::open(&chunks, Some(&index.id), Unlock::Identities(&keys))?;
                Ok((context, PackList::decode(&packs)?, chunks))
            };
            let Ok((context, packs, chunks)) = read() else { return Ok(None) };
            let same = packs.packs.len() == chunks.packs.len() && context == request.context();
            if !same {
                return Ok(None);
            }
            let mut indexed: HashMap<u64, Vec<(ChunkId, u32)>> =
                chunks.packs.into_iter().map(|pack| (pack.number, pack.chunks)).collect();
            for pack in packs.packs {
                let Some(chunks) = indexed.remove(&pack.number) else { return Ok(None) };
                let plain_bytes = chunks.iter().map(|(_, length)| u64::from(*length)).sum();
                found.push((pack.number, PackRow { id: pack.id, size: pack.size, plain_bytes }, chunks));
            }
        }
        Ok(Some(found))
    }

    /// The object, if it is there and has the bytes that its name says.
    async fn intact(&self, path: &ObjectPath, max_len: u64) -> Result<Option<Bytes>, EngineError> {
        match self.store.get(path, max_len).await {
            Ok(bytes) => Ok(Some(bytes).filter(|bytes| path.id() == Some(&ObjectId::of(bytes)))),
            Err(StoreError::NotFound { .. } | StoreError::TooLong { .. } | StoreError::Damaged { .. }) => {
                Ok(None)
            }
            Err(source) => Err(EngineError::Store { doing: "reading an earlier receipt or list", source }),
        }
    }
}
