//! Against real servers: `./x test --servers` runs these.

mod canned;
mod faults;
mod hostile;
mod locks;
mod many;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use muster_protocol::ids::{ObjectId, RoundId};
use muster_test_servers::{Azurite, RcloneS3, SeaweedFs};
use zeroize::Zeroizing;

use super::request::Ask;
use super::{BucketStore, Service};
use crate::credentials::Credentials;
use crate::entropy::OsEntropy;
use crate::layout::{ObjectPath, Prefix, SlicePart};
use crate::store::address::Address;
use crate::store::fixture::at;
use crate::store::{Listed, Store, StoreError, conformance, open};

async fn opened(url: String, credentials: &str) -> Arc<dyn Store> {
    let (share, _file) = at(url, credentials);
    open(&share).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_seaweedfs_conforms() {
    let server = SeaweedFs::start();
    let admin = SeaweedFs::credentials("admin");
    conformance::all(opened(server.url("fleet/one"), &admin).await).await;
    conformance::all(opened(server.url("fleet/two"), &admin).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_azurite_conforms() {
    let server = Azurite::start();
    conformance::all(opened(server.url("backups", "fleet/one"), &Azurite::credentials()).await).await;
    conformance::all(opened(server.url("backups", "fleet/two"), &Azurite::credentials()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_rclone_overwrites() {
    let server = RcloneS3::start();
    let store = opened(server.url("fleet"), &RcloneS3::credentials()).await;
    let path = ObjectPath::LogRecord(1);
    store.put_new(&path, Bytes::from_static(b"one")).await.expect("written");
    store.put_new(&path, Bytes::from_static(b"two")).await.expect("this server does not keep the promise");
    assert_eq!(store.get(&path, 3).await.expect("there"), &b"two"[..]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_refusals_have_their_codes() {
    use muster_protocol::alert::Code;
    let (seaweed, azurite) = (SeaweedFs::start(), Azurite::start());
    let path = ObjectPath::List(ObjectId::of(b"x"));
    let wrong = "access_key_id = AKADMIN\nsecret_access_key = wrong\n";
    let stranger = "access_key_id = AKNOBODY\nsecret_access_key = wrong\n";
    let key = "account_key = d3Jvbmc=\n";
    let admin = SeaweedFs::credentials("admin");
    // Nobody listens there any more.
    let closed =
        TcpListener::bind("127.77.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    for (url, credentials, code) in [
        (seaweed.url("fleet"), wrong, Code::Share03),
        (seaweed.url("fleet"), stranger, Code::Share03),
        (azurite.url("backups", "fleet"), key, Code::Share03),
        (seaweed.url_of("nosuch", "fleet"), admin.as_str(), Code::Share02),
        (azurite.url("nosuch", "fleet"), &Azurite::credentials(), Code::Share02),
        (format!("s3://backups/fleet?endpoint=http://{closed}"), admin.as_str(), Code::Share01),
    ] {
        let store = opened(url.clone(), credentials).await;
        let read = store.get(&path, 1).await.expect_err("refused");
        // This server makes a bucket that an admin writes to; AWS does not.
        let makes = url.starts_with("s3://nosuch");
        let write = store.put_new(&path, Bytes::from_static(b"x")).await.err();
        assert!(write.is_some() || makes, "{url}");
        for error in [Some(read), write.filter(|_| !makes)].into_iter().flatten() {
            assert_eq!(error.alert(), Some(code), "{url}: {error:?}");
            let said = format!("{error:?}");
            assert!(!said.contains("SKADMIN") && !said.contains("http"), "{said}");
        }
    }
    let reader = opened(seaweed.url("fleet"), &SeaweedFs::credentials("reader")).await;
    let write = reader.put_new(&path, Bytes::from_static(b"x")).await.expect_err("refused");
    assert!(matches!(write, StoreError::WriteRefused { .. }), "{write:?}");
    assert!(matches!(reader.get(&path, 1).await, Err(StoreError::NotFound { .. })));
}

/// The rights of docs/shares.md: agents write their own, coordinators the fleet's, and only the pruner deletes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_s3_accounts_can_do_what_they_need_and_no_more() {
    let server = SeaweedFs::start();
    let account = async |name: &str| opened(server.url("fleet"), &SeaweedFs::credentials(name)).await;
    let (admin, agent, coordinator, pruner) = (
        account("admin").await,
        account("agent").await,
        account("coordinator").await,
        account("pruner").await,
    );
    let id = |name: &str| ObjectId::of(name.as_bytes());
    let pack = |service: &str, name: &str| ObjectPath::Pack {
        service: service.parse().expect("a name"),
        id: id(name),
    };
    let bytes = || Bytes::from_static(b"bytes");
    let own = [pack("dns-2", "own")];
    let fleets = [
        ObjectPath::LogRecord(1),
        ObjectPath::List(id("list")),
        ObjectPath::Manifest(id("manifest")),
        ObjectPath::Grant(id("grant")),
        ObjectPath::Probe([7; 16]),
    ];
    let strange = [pack("web", "another's"), ObjectPath::Format];
    for path in &strange {
        admin.put_new(path, bytes()).await.expect("written");
    }
    let free = [
        pack("web", "free"),
        ObjectPath::LogSegment(0),
        ObjectPath::Slice {
            service: "web".parse().expect("a name"),
            round: RoundId::from_bytes([1; 16]),
            id: id("receipt"),
            part: SlicePart::Receipt,
        },
    ];
    for (who, may, may_not) in [
        (&agent, own.as_slice(), [fleets.as_slice(), &free]),
        (&coordinator, fleets.as_slice(), [&[pack("dns-2", "free")], &free[..1]]),
    ] {
        for path in may {
            who.put_new(path, bytes()).await.unwrap_or_else(|error| panic!("{path}: {error}"));
            let again = who.put_new(path, Bytes::from_static(b"other")).await;
            assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{path}: {again:?}");
            assert_eq!(who.get(path, 5).await.expect("read"), bytes());
        }
        for path in may_not.into_iter().flatten() {
            let refused = who.put_new(path, bytes()).await;
            assert!(matches!(refused, Err(StoreError::WriteRefused { .. })), "{path}: {refused:?}");
        }
        // What is not there is told as such: each run looks for the mark of a copy.
        let absent = who.head(&ObjectPath::LogRecord(9)).await;
        assert!(matches!(absent, Err(StoreError::NotFound { .. })), "{absent:?}");
    }
    for path in own.iter().chain(&fleets).chain(&strange) {
        for who in [&agent, &coordinator] {
            let deleted = who.delete(path).await;
            assert!(matches!(deleted, Err(StoreError::WriteRefused { .. })), "{path}: {deleted:?}");
        }
        pruner.delete(path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let refused = pruner.put_new(&pack("dns-2", "forged"), bytes()).await;
    assert!(matches!(refused, Err(StoreError::WriteRefused { .. })), "{refused:?}");
    pruner.put_new(&ObjectPath::LogRecord(2), bytes()).await.expect("its records");
    pruner.put_new(&ObjectPath::List(id("swept")), bytes()).await.expect("its lists");
}

/// The store with its own client in reach.
fn bucket(url: &str, credentials: String) -> BucketStore {
    let credentials = Credentials::new(Zeroizing::new(credentials.into_bytes()), &mut OsEntropy);
    let service = match Address::parse(url).expect("an address") {
        Address::S3(address) => Service::s3(address, PathBuf::new(), None),
        Address::Azure(address) => Service::azure(address, PathBuf::new()),
        other @ (Address::Folder(_) | Address::Smb(_)) => panic!("{other} is no object storage"),
    };
    BucketStore::open(service, Some(&credentials)).expect("opens")
}

/// Anybody who may write to the bucket can make such a key; it must not end a listing, or no prune would ever end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_strange_key_is_a_line_of_the_listing() {
    let (seaweed, azurite) = (SeaweedFs::start(), Azurite::start());
    for (store, header) in [
        (bucket(&seaweed.url("fleet"), SeaweedFs::credentials("admin")), "x-amz-meta-none"),
        (bucket(&azurite.url("backups", "fleet"), Azurite::credentials()), "x-ms-blob-type"),
    ] {
        let path = ObjectPath::LogRecord(1);
        store.put_new(&path, Bytes::from_static(b"record")).await.expect("written");
        let strange = ["fleet/log/a//b", "fleet/log/x &<b>", "fleet/log/a%2Fb", "fleet/log/.../x"];
        for key in strange {
            let headers = [(header, "BlockBlob".to_owned())];
            let body = Bytes::from_static(b"strange");
            let ask = Ask { method: Method::PUT, key, query: &[], headers: &headers, body };
            store.client().requests.send(ask).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        }
        let mut foreign = Vec::new();
        for line in store.list(&Prefix::Log).collect::<Vec<_>>().await {
            match line.expect("a line") {
                Listed::Object { path: there, size } => assert_eq!((there, size), (path.clone(), 6)),
                Listed::Foreign { name } => foreign.push(format!("fleet/{name}")),
            }
        }
        foreign.sort_unstable();
        // SeaweedFS itself makes one slash of two (the answers of others are in `canned`).
        let folded = header.starts_with("x-amz");
        let mut want = strange.map(|key| if folded { key.replace("//", "/") } else { key.to_owned() });
        want.sort_unstable();
        assert_eq!(foreign, want, "{}", store.describe());
    }
}
