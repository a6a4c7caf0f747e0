//! Writing a round's manifest.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::document::Manifest;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, ObjectId};
use muster_share::layout::ObjectPath;
use muster_share::store::{Store, StoreError};

/// Signs `manifest` and puts it on the share; returns its hash and length.
pub(crate) async fn write(
    store: Arc<dyn Store>,
    signer: Arc<Signer>,
    fleet: FleetId,
    manifest: Manifest,
) -> Result<(ObjectId, u64), StoreError> {
    let bytes = signer.seal(&fleet, &manifest);
    let (id, size) = (ObjectId::of(&bytes), bytes.len() as u64);
    match store.put_new(&ObjectPath::Manifest(id), Bytes::from(bytes)).await {
        // The name is the hash, so what is there can only be the same manifest.
        Ok(()) | Err(StoreError::AlreadyExists { .. }) => Ok((id, size)),
        Err(error) => Err(error),
    }
}
