//! Object Lock against a real server: what is locked stays, what no lock keeps any more goes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use muster_protocol::alert::Code;
use muster_protocol::config::{LockFor, LockMode, ShareConfig};
use muster_protocol::ids::ObjectId;
use muster_test_servers::SeaweedFs;

use super::super::lock::look;
use super::super::request::Ask;
use super::bucket;
use crate::layout::{ObjectPath, Prefix};
use crate::store::fixture::at;
use crate::store::{OpenStoreError, StoreError, open};

/// Locks of this length, which no configuration may ask for.
const SHORT: Duration = Duration::from_secs(4);

fn locked(url: String, retain: Duration) -> (ShareConfig, tempfile::NamedTempFile) {
    let (share, file) = at(url, &SeaweedFs::credentials("admin"));
    (ShareConfig { lock: LockFor(Some(retain)), ..share }, file)
}

async fn past(until: SystemTime) {
    // The server compares whole seconds of the same clock.
    while SystemTime::now() < until + Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_what_is_locked_cannot_be_deleted_before_its_time() {
    let server = SeaweedFs::start();
    server.make_locked("locked");
    let (share, _file) = locked(server.url_of("locked", "fleet"), SHORT);
    let store = open(&share).await.expect("opens");
    let path = ObjectPath::List(ObjectId::of(b"kept"));
    store.put_new(&path, Bytes::from_static(b"kept")).await.expect("written");
    let again = store.put_new(&path, Bytes::from_static(b"other")).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
    let until = store.locked_until(&path).await.expect("told").expect("locked");
    assert!(until > SystemTime::now(), "{until:?}");
    let refused = store.delete(&path).await;
    assert!(matches!(&refused, Err(StoreError::Locked { until: said, .. }) if *said == until), "{refused:?}");
    assert_eq!(refused.expect_err("refused").alert(), None, "a lock is no trouble");
    assert_eq!(store.get(&path, 4).await.expect("there"), &b"kept"[..]);
    // Whoever does not know of locks frees nothing either, and is told so.
    let (plain, _plain) = at(server.url_of("locked", "fleet"), &SeaweedFs::credentials("admin"));
    let unaware = open(&plain).await.expect("opens").delete(&path).await;
    assert!(matches!(unaware, Err(StoreError::Locked { .. })), "{unaware:?}");
    // Renewed, it outlives its first date.
    let later = SystemTime::now() + 3 * SHORT;
    store.lock_until(&path, later).await.expect("renewed");
    past(until).await;
    let refused = store.delete(&path).await;
    assert!(matches!(&refused, Err(StoreError::Locked { until, .. }) if *until >= later), "{refused:?}");
    let shorter = store.lock_until(&path, SystemTime::now()).await;
    assert!(shorter.is_err(), "a lock of this mode is never shortened");
    past(store.locked_until(&path).await.expect("told").expect("locked")).await;
    store.delete(&path).await.expect("its time is over");
    assert!(matches!(store.head(&path).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.list(&Prefix::Everything).count().await, 0);
    store.put_new(&path, Bytes::from_static(b"anew")).await.expect("the name is free, not hidden");
}

/// In this mode whoever has the right may end a lock, by asking for it. We never ask.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_right_to_bypass_locks_is_not_used() {
    let server = SeaweedFs::start();
    server.make_locked("locked");
    let url = server.url_of("locked", "fleet");
    let (share, _file) = locked(url.clone(), Duration::from_secs(86_400));
    let share = ShareConfig { lock_mode: LockMode::Governance, ..share };
    let store = open(&share).await.expect("opens");
    let path = ObjectPath::List(ObjectId::of(b"kept"));
    store.put_new(&path, Bytes::from_static(b"kept")).await.expect("written");
    let (plain, _plain) = at(url.clone(), &SeaweedFs::credentials("admin"));
    for pruner in [store.clone(), open(&plain).await.expect("opens")] {
        let refused = pruner.delete(&path).await;
        assert!(matches!(&refused, Err(StoreError::Locked { .. })), "{refused:?}");
        assert_eq!(store.get(&path, 4).await.expect("there"), &b"kept"[..]);
    }
    // The same key could: this server goes by the header.
    let requests = bucket(&url, SeaweedFs::credentials("admin"));
    let key = format!("fleet/{path}");
    let version = look(&requests.client().requests, &key).await.expect("told").id.expect("versions are kept");
    let query = [("versionId", version.as_str())];
    let bypass = [("x-amz-bypass-governance-retention", "true".to_owned())];
    let ask = Ask { method: Method::DELETE, key: &key, query: &query, headers: &bypass, body: Bytes::new() };
    requests.client().requests.send(ask).await.expect("it may");
    assert!(matches!(store.head(&path).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_grants_are_not_locked_and_a_bucket_with_versions_gives_all_of_them_back() {
    let server = SeaweedFs::start();
    server.make_locked("locked");
    let (share, _file) = locked(server.url_of("locked", "fleet"), SHORT);
    let store = open(&share).await.expect("opens");
    let grant = ObjectPath::Grant(ObjectId::of(b"grant"));
    // Whoever knows no lock writes without one, and deletes by hiding.
    let (plain, _plain) = at(server.url_of("locked", "fleet"), &SeaweedFs::credentials("admin"));
    let plain = open(&plain).await.expect("opens");
    for bytes in [&b"one"[..], b"two", b"three"] {
        plain.put_new(&grant, Bytes::from_static(bytes)).await.expect("written");
        plain.delete(&grant).await.expect("hidden");
    }
    store.put_new(&grant, Bytes::from_static(b"four")).await.expect("written");
    assert_eq!(store.locked_until(&grant).await.expect("told"), None);
    store.delete(&grant).await.expect("deleted");
    assert!(matches!(store.head(&grant).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_bucket_without_locks_is_told() {
    let server = SeaweedFs::start();
    let (share, _file) = locked(server.url("fleet"), Duration::from_secs(86_400));
    let store = open(&share).await.expect("opens");
    let refused = store.put_new(&ObjectPath::Format, Bytes::from_static(b"x")).await.expect_err("refused");
    assert_eq!(refused.alert(), Some(Code::Share02), "{refused:?}");
    assert!(refused.to_string().contains("Object Lock"), "{refused}");
    assert!(matches!(store.head(&ObjectPath::Format).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn shares_that_cannot_lock_are_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    for url in [folder.path().display().to_string(), "smb://nas/a".into(), "azblob://account/c".into()] {
        let share = ShareConfig { lock: LockFor(Some(Duration::from_secs(86_400))), ..ShareConfig::at(url) };
        for opened in [open(&share).await, crate::store::create(&share).await] {
            let error = opened.map(drop).expect_err("refused");
            assert!(matches!(error, OpenStoreError::NoLocks { .. }) && !error.is_transient(), "{error}");
        }
    }
}
