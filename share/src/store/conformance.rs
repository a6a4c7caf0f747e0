//! What every store promises, as one suite: backends and decorators all run it, on a share of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::ids::{ObjectId, RoundId, ServiceName};

use super::{Listed, Store, StoreError, settle};
use crate::layout::{ObjectPath, Prefix, SlicePart};

/// Runs the whole suite on an empty share.
pub(crate) async fn all(store: Arc<dyn Store>) {
    nothing_there(&*store).await;
    objects_come_back(&*store).await;
    nothing_is_overwritten(&*store).await;
    reads_are_bounded(&*store).await;
    listings_are_complete(&*store).await;
    deletes_are_exact(&*store).await;
    racers_have_one_winner(&store).await;
    failed_creates_are_settled(&*store).await;
    assert!(!store.describe().is_empty());
    if let Some(room) = store.free_bytes().await.expect("room") {
        assert!(room > 0);
    }
}

fn service() -> ServiceName {
    "dns-2".parse().expect("name")
}

fn every_path(id: ObjectId) -> Vec<ObjectPath> {
    let round = RoundId::from_bytes([9; 16]);
    let slice = |part| ObjectPath::Slice { service: service(), round, id, part };
    vec![
        ObjectPath::Format,
        ObjectPath::LogRecord(3),
        ObjectPath::LogSegment(0),
        ObjectPath::List(id),
        ObjectPath::Manifest(id),
        ObjectPath::Grant(id),
        ObjectPath::Pack { service: service(), id },
        slice(SlicePart::Receipt),
        slice(SlicePart::Packs),
        slice(SlicePart::Index),
        slice(SlicePart::Chunks),
        ObjectPath::Probe([7; 16]),
    ]
}

async fn listing(store: &dyn Store, prefix: &Prefix) -> BTreeMap<ObjectPath, u64> {
    let lines: Vec<_> = store.list(prefix).collect().await;
    let mut objects = BTreeMap::new();
    for line in lines {
        match line.expect("lists") {
            Listed::Object { path, size } => assert_eq!(objects.insert(path, size), None, "listed twice"),
            Listed::Foreign { name } => panic!("a store of ours leaves nothing foreign: {name}"),
        }
    }
    objects
}

async fn nothing_there(store: &dyn Store) {
    for path in every_path(ObjectId::of(b"absent")) {
        assert!(matches!(store.get(&path, 1).await, Err(StoreError::NotFound { .. })), "{path}");
        assert!(matches!(store.get_range(&path, 0..1).await, Err(StoreError::NotFound { .. })), "{path}");
        assert!(matches!(store.head(&path).await, Err(StoreError::NotFound { .. })), "{path}");
        assert!(matches!(store.delete(&path).await, Err(StoreError::NotFound { .. })), "{path}");
    }
    for prefix in [Prefix::Everything, Prefix::Log, Prefix::Packs(service())] {
        assert!(listing(store, &prefix).await.is_empty(), "{prefix}");
    }
}

async fn objects_come_back(store: &dyn Store) {
    for (n, path) in every_path(ObjectId::of(b"one")).into_iter().enumerate() {
        let bytes = Bytes::from(vec![u8::try_from(n).expect("few"); n * 1000]);
        store.put_new(&path, bytes.clone()).await.expect("written");
        assert_eq!(store.head(&path).await.expect("there").size, bytes.len() as u64, "{path}");
        assert_eq!(store.get(&path, bytes.len() as u64).await.expect("there"), bytes, "{path}");
    }
}

async fn nothing_is_overwritten(store: &dyn Store) {
    for path in every_path(ObjectId::of(b"one")) {
        let before = store.get(&path, 1 << 20).await.expect("there");
        for other in [
            Bytes::from_static(b"other"),
            Bytes::from(vec![0xee; before.len()]),
            before.slice(..before.len() / 2),
        ] {
            if other == before {
                continue;
            }
            let error = store.put_new(&path, other).await.expect_err("taken");
            assert!(matches!(error, StoreError::AlreadyExists { .. }), "{path}: {error}");
            assert!(!error.is_transient());
        }
        assert_eq!(store.get(&path, 1 << 20).await.expect("there"), before, "{path}");
    }
    let bytes = store.get(&ObjectPath::LogRecord(3), 1 << 20).await.expect("there");
    store.put_new(&ObjectPath::LogRecord(3), bytes).await.expect("own bytes in a slot are success");
}

async fn reads_are_bounded(store: &dyn Store) {
    let path = ObjectPath::List(ObjectId::of(b"bounds"));
    store.put_new(&path, Bytes::from_static(b"0123456789")).await.expect("written");
    assert!(matches!(store.get(&path, 9).await, Err(StoreError::TooLong { have: 10, most: 9, .. })));
    assert_eq!(store.get(&path, u64::MAX).await.expect("there"), &b"0123456789"[..]);
    for (range, want) in [(0..10, &b"0123456789"[..]), (3..5, b"34"), (10..10, b""), (0..0, b"")] {
        assert_eq!(store.get_range(&path, range).await.expect("there"), want);
    }
    for range in [5..11, 10..11, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
        assert!(matches!(store.get_range(&path, range).await, Err(StoreError::Damaged { .. })));
    }
    store.delete(&path).await.expect("deleted");
}

async fn listings_are_complete(store: &dyn Store) {
    let mut want: BTreeMap<ObjectPath, u64> = every_path(ObjectId::of(b"one"))
        .into_iter()
        .enumerate()
        .map(|(n, path)| (path, n as u64 * 1000))
        .collect();
    for n in 0..600u32 {
        let path = ObjectPath::Pack { service: service(), id: ObjectId::of(&n.to_be_bytes()) };
        store.put_new(&path, Bytes::from_static(b"pack")).await.expect("written");
        want.insert(path, 4);
    }
    assert_eq!(listing(store, &Prefix::Everything).await, want);
    let round = RoundId::from_bytes([9; 16]);
    for prefix in [
        Prefix::Log,
        Prefix::Lists,
        Prefix::Manifests,
        Prefix::Grants,
        Prefix::Probes,
        Prefix::Agent(service()),
        Prefix::Packs(service()),
        Prefix::PackShard(service(), 7),
        Prefix::Slices(service()),
        Prefix::RoundSlices(service(), round),
    ] {
        let mut below = want.clone();
        below.retain(|path, _| path.to_string().starts_with(&prefix.to_string()));
        assert_eq!(listing(store, &prefix).await, below, "{prefix}");
    }
    assert!(listing(store, &Prefix::Packs("other".parse().expect("name"))).await.is_empty());
}

async fn deletes_are_exact(store: &dyn Store) {
    let path = ObjectPath::List(ObjectId::of(b"one"));
    let before = listing(store, &Prefix::Everything).await;
    store.delete(&path).await.expect("deleted");
    assert!(matches!(store.head(&path).await, Err(StoreError::NotFound { .. })));
    let mut after = listing(store, &Prefix::Everything).await;
    assert_eq!(after.insert(path, 3000), None);
    assert_eq!(after, before);
}

async fn racers_have_one_winner(store: &Arc<dyn Store>) {
    let pack = ObjectPath::Pack { service: service(), id: ObjectId::of(b"race") };
    for path in [ObjectPath::LogRecord(50), ObjectPath::LogSegment(1000), pack] {
        let racers = (0..16u8).map(|n| {
            let (store, path) = (Arc::clone(store), path.clone());
            tokio::spawn(async move {
                let bytes = Bytes::from(vec![n; 100_000]);
                (n, store.put_new(&path, bytes).await)
            })
        });
        let mut winners = Vec::new();
        for racer in futures::future::join_all(racers).await {
            match racer.expect("ran") {
                (n, Ok(())) => winners.push(n),
                (_, Err(error)) => {
                    assert!(matches!(error, StoreError::AlreadyExists { .. }), "{path}: {error}");
                }
            }
        }
        assert_eq!(winners.len(), 1, "{path}: {winners:?}");
        assert_eq!(store.get(&path, 1 << 20).await.expect("there"), vec![winners[0]; 100_000], "{path}");
    }
}

async fn failed_creates_are_settled(store: &dyn Store) {
    let path = ObjectPath::LogRecord(60);
    let failure = || StoreError::TimedOut { path: path.to_string(), after: std::time::Duration::ZERO };
    let bytes = Bytes::from_static(b"record");
    settle(store, &path, &bytes, failure()).await.expect_err("nothing there");
    store.put_new(&path, bytes.clone()).await.expect("written");
    settle(store, &path, &bytes, failure()).await.expect("own bytes");
    for other in [&b"recorD"[..], b"recor", b"records"] {
        settle(store, &path, &Bytes::from_static(other), failure()).await.expect_err("another's");
    }
}
