//! Servers that die in the middle of a write, and what each kind of service refuses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use muster_protocol::alert::Code;
use muster_protocol::ids::ObjectId;
use muster_protocol::retry::{Attempts, Retry};
use muster_test_servers::{Azurite, SeaweedFs};
use sha2::Sha256;

use super::super::request::Ask;
use super::{bucket, opened};
use crate::layout::{ObjectPath, Prefix};
use crate::store::retry::Retrying;
use crate::store::{Store, StoreError};

/// Longer than the pack of an agent, so that the server dies in the middle of it.
const BIG: usize = 256 << 20;
/// What the server has on its disk when it is killed.
const BEGUN: u64 = 8 << 20;

fn pack(seed: &[u8]) -> ObjectPath {
    ObjectPath::Pack { service: "dns-2".parse().expect("a name"), id: ObjectId::of(seed) }
}

/// No call of these tests may take longer.
async fn within<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(90), call).await.expect("it takes too long")
}

/// A server that can be killed.
trait Mortal {
    fn stored(&self) -> u64;
    /// Whether what was acknowledged of this key outlives a kill.
    fn keeps(&self, key: &str) -> bool;
    fn kill(&mut self);
    fn restart(&mut self);
}

impl Mortal for SeaweedFs {
    fn stored(&self) -> u64 {
        self.stored_bytes()
    }
    fn keeps(&self, _key: &str) -> bool {
        true
    }
    fn kill(&mut self) {
        self.kill();
    }
    fn restart(&mut self) {
        self.restart();
    }
}

impl Mortal for Azurite {
    fn stored(&self) -> u64 {
        self.stored_bytes()
    }
    fn keeps(&self, key: &str) -> bool {
        self.has_saved(key)
    }
    fn kill(&mut self) {
        self.kill();
    }
    fn restart(&mut self) {
        self.restart();
    }
}

async fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Killed in mid-pack: the call fails as transient, nothing half-written is there afterwards, and the same pack is
/// written when the server is back, by a new call or by the patience of one that went on all the while.
async fn dies_in_mid_pack(mut server: impl Mortal, store: Arc<dyn Store>) {
    let first = ObjectPath::LogRecord(1);
    store.put_new(&first, Bytes::from_static(b"one")).await.expect("written");
    wait_for("what was acknowledged is on the disk", || server.keeps("log/0000000001")).await;
    let policy = Retry::new(Duration::from_millis(200), Duration::from_secs(1), Attempts::AtMost(60));
    let patient: Arc<dyn Store> = Arc::new(Retrying::new(Arc::clone(&store), policy.expect("valid")));
    let big = Bytes::from((0..BIG).map(|at| (at / 4096) as u8).collect::<Vec<_>>());
    let put = |store: Arc<dyn Store>| {
        let big = big.clone();
        tokio::spawn(async move { store.put_new(&pack(b"big"), big).await })
    };
    let (before, write) = (server.stored(), put(Arc::clone(&store)));
    wait_for("it begins", || server.stored() > before + BEGUN).await;
    server.kill();
    let error = within(write).await.expect("ran").expect_err("killed");
    assert!(error.is_transient(), "{error:?}");
    let error = within(store.head(&first)).await.expect_err("down");
    assert_eq!(error.alert(), Some(Code::Share01), "{error:?}");
    server.restart();
    // It listens before all of its parts have found each other.
    let kept = within(patient.get(&first, 3)).await;
    assert_eq!(kept.expect("what was acknowledged is there"), &b"one"[..]);
    let torn = within(patient.head(&pack(b"big"))).await;
    assert!(matches!(torn, Err(StoreError::NotFound { .. })), "whole or not at all: {torn:?}");
    let listed = patient.list(&Prefix::Packs("dns-2".parse().expect("a name"))).count().await;
    assert_eq!(listed, 0, "nothing half-written is listed");
    // Once more, with patience: the call itself outlives the server.
    let (before, write) = (server.stored(), put(Arc::clone(&patient)));
    wait_for("it begins again", || server.stored() > before + BEGUN).await;
    server.kill();
    server.restart();
    within(write).await.expect("ran").expect("written in the end");
    assert_eq!(patient.get(&pack(b"big"), BIG as u64).await.expect("read"), big);
    let again = put(store).await.expect("ran");
    assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_s3_killed_in_mid_pack_is_reported_and_outlived() {
    let server = SeaweedFs::start();
    let store = opened(server.url("fleet"), &SeaweedFs::credentials("admin")).await;
    dies_in_mid_pack(server, store).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_azure_killed_in_mid_pack_is_reported_and_outlived() {
    let server = Azurite::start();
    let store = opened(server.url("backups", "fleet"), &Azurite::credentials()).await;
    dies_in_mid_pack(server, store).await;
}

/// A shared access signature of the container with these rights (Azure Storage, *Create a service SAS*, version 2020-12-06).
fn sas(rights: &str) -> String {
    let (expiry, version) = ("2099-01-01T00:00:00Z", "2020-12-06");
    let fields = [
        rights,
        "",
        expiry,
        "/blob/devstoreaccount1/backups",
        "",
        "",
        "",
        version,
        "c",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
    ];
    let credentials = Azurite::credentials();
    let key = credentials.trim().split_once(" = ").expect("a key").1;
    let key = STANDARD.decode(key).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    mac.update(fields.join("\n").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sas_token = sv={version}&se={expiry}&sr=c&sp={rights}&sig={signature}\n")
}

/// The signatures of docs/shares.md: agents and coordinators create and read, only the pruner deletes, nobody overwrites.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_azure_signatures_can_do_what_they_say_and_no_more() {
    let server = Azurite::start();
    let url = server.url("backups", "fleet");
    let store = async |rights: &str| opened(url.clone(), &sas(rights)).await;
    let (writer, pruner, reader) = (store("rcl").await, store("rcdl").await, store("rl").await);
    let paths =
        [pack(b"one"), ObjectPath::LogRecord(1), ObjectPath::Format, ObjectPath::List(ObjectId::of(b"x"))];
    for path in &paths {
        writer.put_new(path, Bytes::from_static(b"one")).await.expect("it may create");
        for who in [&writer, &pruner] {
            let again = who.put_new(path, Bytes::from_static(b"two")).await;
            assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
        }
        assert_eq!(reader.get(path, 3).await.expect("it may read"), &b"one"[..]);
    }
    assert_eq!(writer.list(&Prefix::Everything).count().await, paths.len());
    for error in [
        reader.put_new(&pack(b"two"), Bytes::from_static(b"two")).await.expect_err("it may not write"),
        reader.delete(&paths[0]).await.expect_err("it may not delete"),
        writer.delete(&paths[0]).await.expect_err("nor may the writer"),
    ] {
        assert_eq!(error.alert(), Some(Code::Share04), "{error:?}");
        let said = format!("{error:?}");
        assert!(!said.contains("sig="), "{said}");
    }
    // Whoever does not ask for the name to be free, and for whatever else would change or hide a blob.
    let key = format!("fleet/{}", paths[0]);
    for (rights, allowed) in [("rcl", false), ("rcdl", false), ("rcwl", true)] {
        let requests = bucket(&url, sas(rights)).client().requests;
        let block = [("x-ms-blob-type", "BlockBlob".to_owned())];
        let body = Bytes::from_static(b"bad");
        let put = Ask { method: Method::PUT, key: &key, query: &[], headers: &block, body: body.clone() };
        let list = Ask {
            query: &[("comp", "blocklist")],
            headers: &[],
            body: Bytes::from_static(b"<BlockList/>"),
            ..put
        };
        let put = Ask { method: Method::PUT, key: &key, query: &[], headers: &block, body };
        for (what, ask) in [("Put Blob", put), ("Put Block List", list)] {
            let done = requests.send(ask).await.map(drop);
            assert_eq!(done.is_ok(), allowed, "{rights}: {what}: {done:?}");
        }
        let there = reader.get(&paths[0], 3).await;
        assert_eq!(there.is_ok_and(|there| there == b"one"[..]), !allowed, "{rights}");
    }
    for path in &paths {
        pruner.delete(path).await.expect("the pruner deletes");
    }
    assert_eq!(reader.list(&Prefix::Everything).count().await, 0);
}

/// Object storage tells case apart, unlike SMB, where the same two addresses are one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_prefixes_that_differ_in_case_are_two_shares() {
    let (seaweed, azurite) = (SeaweedFs::start(), Azurite::start());
    let admin = SeaweedFs::credentials("admin");
    for (one, other, credentials) in [
        (seaweed.url("fleet"), seaweed.url("Fleet"), admin.as_str()),
        (azurite.url("backups", "fleet"), azurite.url("backups", "Fleet"), &Azurite::credentials()),
    ] {
        let (one, other) = (opened(one, credentials).await, opened(other, credentials).await);
        one.put_new(&ObjectPath::Format, Bytes::from_static(b"one")).await.expect("written");
        assert!(matches!(other.head(&ObjectPath::Format).await, Err(StoreError::NotFound { .. })));
        other.put_new(&ObjectPath::Format, Bytes::from_static(b"other")).await.expect("written");
        assert_eq!(one.list(&Prefix::Everything).count().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_prefix_that_is_too_long_is_told() {
    let server = SeaweedFs::start();
    let long = vec!["x".repeat(200); 6].join("/");
    let store = opened(server.url(&long), &SeaweedFs::credentials("admin")).await;
    let error = within(store.put_new(&pack(b"one"), Bytes::from_static(b"x"))).await.expect_err("too long");
    assert_eq!(error.alert(), Some(Code::Share02), "{error:?}");
}
