//! Writing a round's manifest.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::document::Manifest;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, ObjectId};
use muster_share::layout::ObjectPath;
use muster_share::store::{Store, StoreError, put_and_read_back};

/// Signs `manifest`, puts it on the share and reads it back: no round is committed whose manifest the share does not give.
/// Returns its hash and length.
pub(crate) async fn write(
    store: Arc<dyn Store>,
    signer: Arc<Signer>,
    fleet: FleetId,
    manifest: Manifest,
) -> Result<(ObjectId, u64), StoreError> {
    let bytes = Bytes::from(signer.seal(&fleet, &manifest));
    let (id, size) = (ObjectId::of(&bytes), bytes.len() as u64);
    put_and_read_back(store.as_ref(), &ObjectPath::Manifest(id), &bytes).await?;
    Ok((id, size))
}
