//! Slice indexes, chunk indexes, pack lists, object lists and grants.

use std::collections::BTreeMap;

use muster_protocol::age::FileKey;
use muster_protocol::document::SliceTotals;
use muster_protocol::ids::{ChunkId, ObjectId, RestoreId, RoundId};
use muster_share::entry::Extent;
use muster_share::grant::Grant;
use muster_share::lists::{
    ChunkIndex, IndexRoot, IndexedPack, IndexedSource, ListedPack, PackList, parse_object_list,
    write_object_list,
};
use muster_share::sealed::{Unlock, open_object, seal_object};

use super::input::Fixed;
use super::vault::{KEY, chunk_key, context};

/// Any content as a slice index: what opens adds up, and seals and opens as the same again.
pub(super) fn slice_index(input: &[u8]) {
    let recipients = [KEY.recipient()];
    let sealed = seal_object(input, &recipients, &context(), &mut Fixed(3)).expect("sealed");
    let unlock = Unlock::FileKey(&sealed.file_key);
    let Ok((found, index)) = IndexRoot::open(&sealed.bytes, Some(&sealed.id), unlock) else { return };
    assert_eq!(found, context());
    let sum = index.entries.iter().map(|extent| u128::from(extent.length())).sum::<u128>();
    assert_eq!(sum, u128::from(index.entries_bytes), "extents add up to the stream");
    let _ = index.entry_count();
    let again = index.seal(&recipients, &context(), &mut Fixed(4)).expect("what opened can be sealed");
    let unlock = Unlock::FileKey(&again.file_key);
    let reopened = IndexRoot::open(&again.bytes, None, unlock).expect("what was sealed opens");
    assert_eq!(reopened, (context(), index));
}

pub(super) fn slice_index_samples() -> Vec<Vec<u8>> {
    let source = IndexedSource {
        name: "files".parse().expect("a source name"),
        kind: "files".to_owned(),
        entries: 3,
        recipe: "copy it back".to_owned(),
        tool_versions: BTreeMap::from([("tar".to_owned(), "1".to_owned())]),
        skipped: 1,
        mounts: 0,
    };
    let index = |entries: Vec<Extent>, sources| IndexRoot {
        service: context().service,
        round: RoundId::from_bytes([4; 16]),
        chunk_key: chunk_key(),
        sources,
        totals: SliceTotals::default(),
        entries_bytes: entries.iter().map(Extent::length).sum(),
        entries,
    };
    let data = Extent::Data { pack: 1, offset: 5, length: 90 };
    let plain = |index: IndexRoot| {
        let sealed = index.seal(&[KEY.recipient()], &context(), &mut Fixed(5)).expect("sealed");
        open_object(&sealed.bytes, None, Unlock::FileKey(&sealed.file_key), 1 << 20).expect("opens").1
    };
    vec![plain(index(vec![], vec![])), plain(index(vec![data, Extent::Hole { length: 7 }], vec![source]))]
}

/// Any content as a chunk index: what opens seals and opens as the same again.
pub(super) fn chunk_index(input: &[u8]) {
    let recipients = [KEY.recipient()];
    let sealed = seal_object(input, &recipients, &context(), &mut Fixed(3)).expect("sealed");
    let unlock = Unlock::FileKey(&sealed.file_key);
    let Ok((_, index)) = ChunkIndex::open(&sealed.bytes, Some(&sealed.id), unlock) else { return };
    let again = index.seal(&recipients, &context(), &mut Fixed(4)).expect("what opened can be sealed");
    let unlock = Unlock::FileKey(&again.file_key);
    let (_, reopened) = ChunkIndex::open(&again.bytes, None, unlock).expect("what was sealed opens");
    assert_eq!(reopened, index);
}

pub(super) fn chunk_index_samples() -> Vec<Vec<u8>> {
    let chunk = |number: u8| (ChunkId::from_bytes([number; 32]), u32::from(number) * 1000);
    let packs = vec![
        IndexedPack { number: 1, chunks: vec![chunk(1), chunk(2)] },
        IndexedPack { number: u64::MAX, chunks: vec![] },
    ];
    [vec![], packs]
        .map(|packs| {
            let sealed =
                ChunkIndex::new(packs).seal(&[KEY.recipient()], &context(), &mut Fixed(6)).expect("sealed");
            open_object(&sealed.bytes, None, Unlock::FileKey(&sealed.file_key), 1 << 20).expect("opens").1
        })
        .into()
}

/// Any bytes as a pack list, and as an object list, which has one spelling only.
pub(super) fn pack_list(input: &[u8]) {
    if let Ok(list) = PackList::decode(input) {
        let again = list.encode(&mut Fixed(7)).expect("what was read can be written");
        assert_eq!(PackList::decode(&again).expect("what was written reads"), list);
        match PackList::union([&list]) {
            Ok(all) => assert_eq!(all.len(), list.packs.len()),
            Err(error) => assert!(list.packs.len() > 1, "{error}"),
        }
        assert!(list.packs.is_empty() || PackList::union([&list, &list]).is_err(), "each number once");
    }
    if let Ok(objects) = parse_object_list(input) {
        assert_eq!(write_object_list(objects).expect("as short as it was"), input);
    }
}

pub(super) fn pack_list_samples() -> Vec<Vec<u8>> {
    let pack = |number| ListedPack { number, id: ObjectId::of(b"pack"), size: number * 1000 };
    let lists = [vec![], vec![pack(1), pack(2)], vec![pack(3), pack(3)]];
    let mut samples: Vec<Vec<u8>> =
        lists.map(|packs| PackList { packs }.encode(&mut Fixed(8)).expect("short")).into();
    let hash = "00".repeat(32);
    samples.push(format!("FORMAT\nlists/{hash}\nlog/0000000001\nmanifests/{hash}\n").into_bytes());
    samples
}

/// Any content as a grant: what opens is in order, shows no key, and seals and opens as the same again.
pub(super) fn grant(input: &[u8]) {
    let sealed = seal_object(input, &[KEY.recipient()], &context(), &mut Fixed(6)).expect("sealed");
    let unlock = Unlock::FileKey(&sealed.file_key);
    let Ok((found, grant)) = Grant::open(&sealed.bytes, Some(&sealed.id), unlock) else { return };
    assert_eq!(found, context());
    let shown = format!("{grant:?}");
    assert!(grant.keys.values().all(|key| !shown.contains(&muster_protocol::ids::hex(key.expose()))));
    let again = grant.seal(&KEY.recipient(), found.keyset, &mut Fixed(7)).expect("what opened can be sealed");
    let (_, reopened) = Grant::open(&again.bytes, None, Unlock::FileKey(&again.file_key)).expect("opens");
    assert_eq!(
        (reopened.restore, reopened.receipt, &reopened.keys),
        (grant.restore, grant.receipt, &grant.keys)
    );
}

pub(super) fn grant_samples() -> Vec<Vec<u8>> {
    let keys = |count: u8| (0..count).map(|n| (ObjectId::of(&[n]), FileKey::from_bytes(&[n; 16]))).collect();
    let plain = |count| {
        let grant = Grant {
            fleet: context().fleet,
            service: context().service,
            round: RoundId::from_bytes([4; 16]),
            restore: RestoreId::from_bytes([5; 16]),
            receipt: ObjectId::of(b"receipt"),
            keys: keys(count),
        };
        let sealed = grant.seal(&KEY.recipient(), context().keyset, &mut Fixed(8)).expect("sealed");
        open_object(&sealed.bytes, None, Unlock::FileKey(&sealed.file_key), 1 << 20).expect("opens").1
    };
    vec![plain(0), plain(3)]
}
