//! Reads a slice back with nothing but the share and a recovery key.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use muster_protocol::age::Identity;
use muster_protocol::document::Receipt;
use muster_protocol::envelope::open_as;
use muster_protocol::ids::{ChunkId, FleetId, ObjectId, RoundId, ServiceName};
use muster_share::entry::{Entry, Extent};
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{ChunkIndex, EntryReader, IndexRoot, PackList};
use muster_share::pack::{PackReader, Unlock};
use muster_share::store::Store;

/// A slice as the share has it.
pub(crate) struct Slice {
    pub(crate) receipt: Receipt,
    pub(crate) root: IndexRoot,
    pub(crate) packs: BTreeMap<u64, (ObjectId, u64)>,
    /// The chunks of all packs.
    pub(crate) chunks: Vec<ChunkId>,
    /// Entries without extents, with content.
    pub(crate) entries: Vec<(Entry, Vec<u8>)>,
}

async fn object(
    store: &dyn Store,
    service: &ServiceName,
    round: RoundId,
    id: ObjectId,
    part: SlicePart,
) -> Bytes {
    let path = ObjectPath::Slice { service: service.clone(), round, id, part };
    let bytes = store.get(&path, 1 << 30).await.expect("there");
    assert_eq!(ObjectId::of(&bytes), id);
    bytes
}

/// Reads everything and checks on the way that receipt, lists and packs agree.
pub(crate) async fn read(
    store: &dyn Store,
    fleet: &FleetId,
    service: &ServiceName,
    round: RoundId,
    receipt: ObjectId,
    keys: &[Identity],
) -> Slice {
    let bytes = object(store, service, round, receipt, SlicePart::Receipt).await;
    let (_, receipt): (_, Receipt) = open_as(&bytes, fleet).expect("signed");
    let (mut lists, mut chunks) = (Vec::new(), BTreeMap::new());
    assert_eq!(receipt.packs.len(), receipt.chunks.len());
    for (list, index) in receipt.packs.iter().zip(&receipt.chunks) {
        let bytes = object(store, service, list.round, list.id, SlicePart::Packs).await;
        lists.push(PackList::decode(&bytes).expect("reads"));
        let bytes = object(store, service, index.round, index.id, SlicePart::Chunks).await;
        let (_, index) = ChunkIndex::open(&bytes, Some(&index.id), Unlock::Identities(keys)).expect("opens");
        chunks.extend(index.packs.into_iter().map(|pack| (pack.number, pack.chunks)));
    }
    let packs = PackList::union(&lists).expect("each once");
    let mut readers: HashMap<u64, Bytes> = HashMap::new();
    for (number, (id, size)) in &packs {
        let path = ObjectPath::Pack { service: service.clone(), id: *id };
        let bytes = store.get(&path, 1 << 30).await.expect("there");
        assert_eq!(bytes.len() as u64, *size);
        let pack = PackReader::open(&bytes, Some(id), Unlock::Identities(keys)).expect("opens");
        assert_eq!((pack.context().keyset, &pack.context().service), (receipt.keyset, service));
        let have: Vec<_> = pack.contents().chunks().map(|(_, id, len)| (id, len)).collect();
        assert_eq!(Some(&have), chunks.get(number), "the chunk index says what the pack has");
        readers.insert(*number, bytes);
    }
    assert_eq!(packs.values().map(|(_, size)| size).sum::<u64>(), receipt.totals.stored_bytes);
    let content = |extents: &[Extent]| {
        let mut out = Vec::new();
        for extent in extents {
            match *extent {
                Extent::Hole { length } => out.resize(out.len() + usize::try_from(length).expect("small"), 0),
                Extent::Data { pack, offset, length } => {
                    let pack =
                        PackReader::open(&readers[&pack], None, Unlock::Identities(keys)).expect("opens");
                    out.extend(pack.read_range(offset, offset + length).expect("within"));
                }
            }
        }
        out
    };
    let bytes = object(store, service, receipt.index.round, receipt.index.id, SlicePart::Index).await;
    let (_, root) =
        IndexRoot::open(&bytes, Some(&receipt.index.id), Unlock::Identities(keys)).expect("opens");
    let stream = content(&root.entries);
    assert_eq!(stream.len() as u64, root.entries_bytes);
    let entries: Vec<(Entry, Vec<u8>)> = EntryReader::new(stream.as_slice())
        .map(|entry| {
            let mut entry = entry.expect("reads");
            let bytes = content(&entry.extents);
            assert_eq!(bytes.len() as u64, entry.size);
            entry.extents.clear();
            (entry, bytes)
        })
        .collect();
    assert_eq!(entries.len() as u64, root.entry_count());
    assert_eq!(entries.len() as u64, receipt.totals.entries);
    let chunks = chunks.into_values().flatten().map(|(id, _)| id).collect();
    Slice { receipt, root, packs, chunks, entries }
}
