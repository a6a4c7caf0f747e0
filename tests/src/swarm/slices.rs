//! What an agent has on the share before a round begins: the objects of a slice, as small as they may be.
//!
//! Their content is noise. Whoever checks a slice has no key to open it, so that nothing it does depends on more than
//! names and lengths; a real slice differs in how many packs it lists, not in how they are checked.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use muster_protocol::document::{ObjectRef, Receipt, SliceStatus, SliceTotals};
use muster_protocol::entropy::random;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::Head;
use muster_share::entropy::OsEntropy;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{ListedPack, PackList};
use muster_share::store::Store;

use super::Failure;

/// Agents whose objects are written at once.
const AT_ONCE: usize = 16;

/// One service's objects.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    service: ServiceName,
    chunks: ObjectRef,
    packs: ObjectRef,
    /// The round that wrote the two above.
    first: RoundId,
    /// The index of each round that is prepared, in order.
    indexes: Vec<ObjectRef>,
    totals: SliceTotals,
}

/// Writes the objects of every service for these rounds: a pack, a pack list and a chunk index in the first, and an index in
/// each, as a service writes that does not change.
pub(super) async fn prepare(
    store: &Arc<dyn Store>,
    services: impl IntoIterator<Item = ServiceName>,
    rounds: &[RoundId],
) -> Result<Vec<Slice>, Failure> {
    stream::iter(services)
        .map(|service| one(Arc::clone(store), service, rounds))
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

async fn one(store: Arc<dyn Store>, service: ServiceName, rounds: &[RoundId]) -> Result<Slice, Failure> {
    let first = *rounds.first().ok_or("a swarm prepares at least one round")?;
    let pack = noise();
    let (id, size) = (ObjectId::of(&pack), pack.len() as u64);
    store.put_new(&ObjectPath::Pack { service: service.clone(), id }, pack).await?;
    let list = PackList { packs: vec![ListedPack { number: 1, id, size }] }.encode(&mut OsEntropy)?;
    let part = async |round, part, bytes: Bytes| -> Result<ObjectRef, Failure> {
        let (id, size) = (ObjectId::of(&bytes), bytes.len() as u64);
        store.put_new(&ObjectPath::Slice { service: service.clone(), round, id, part }, bytes).await?;
        Ok(ObjectRef { round, id, size })
    };
    let packs = part(first, SlicePart::Packs, list.into()).await?;
    let chunks = part(first, SlicePart::Chunks, noise()).await?;
    let mut indexes = Vec::new();
    for round in rounds {
        indexes.push(part(*round, SlicePart::Index, noise()).await?);
    }
    let totals = SliceTotals { source_bytes: 256, stored_bytes: size, added_bytes: 512, entries: 1, gaps: 0 };
    Ok(Slice { service, chunks, packs, first, indexes, totals })
}

fn noise() -> Bytes {
    Bytes::copy_from_slice(&random::<256>(&mut OsEntropy))
}

/// What a receipt says that only the round knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) round: RoundId,
    pub(super) attempt: u32,
    pub(super) nonce: Nonce,
    pub(super) keyset: u64,
    pub(super) head: Head,
    /// The nonce of the cut that it was captured in.
    pub(super) cut: Option<Nonce>,
}

impl Slice {
    /// Signs the receipt of an attempt and puts it on the share: its hash, its length in bytes, its totals.
    pub(super) async fn write_receipt(
        &self,
        store: &dyn Store,
        signer: &Signer,
        fleet: &FleetId,
        moment: Moment,
    ) -> Result<(ObjectId, u64, SliceTotals), Failure> {
        let Moment { round, attempt, nonce, keyset, head, cut } = moment;
        let index = self.indexes.iter().find(|index| index.round == round).copied();
        let receipt = Receipt {
            service: self.service.clone(),
            round,
            attempt,
            nonce,
            keyset,
            head,
            index: index.ok_or("nothing was prepared for this round")?,
            chunks: vec![self.chunks],
            packs: vec![self.packs],
            new_packs: u32::from(round == self.first),
            status: SliceStatus::Whole,
            totals: self.totals,
            previous: None,
            cut,
        };
        let bytes = Bytes::from(signer.seal(fleet, &receipt));
        let (id, size) = (ObjectId::of(&bytes), bytes.len() as u64);
        let path = ObjectPath::Slice { service: self.service.clone(), round, id, part: SlicePart::Receipt };
        store.put_new(&path, bytes).await?;
        Ok((id, size, self.totals))
    }
}
