//! Against a real server: `./x test --servers` runs most of these.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use muster_protocol::alert::Code;
use muster_protocol::config::ShareConfig;
use muster_protocol::ids::{ObjectId, RoundId, ServiceName};
use muster_test_servers::Samba;
use zeroize::Zeroizing;

use super::SmbStore;
use super::publish::Way;
use crate::credentials::Credentials;
use crate::entropy::OsEntropy;
use crate::layout::{ObjectPath, Prefix, SlicePart};
use crate::store::address::Address;
use crate::store::fixture::{alone, at, listed};
use crate::store::{Exclusive, Listed, Meta, OpenStoreError, Store, StoreError, conformance, create, open};

mod case;
mod domain;
mod least_rights;

async fn opened(url: String, credentials: &str) -> Arc<dyn Store> {
    let (share, _file) = at(url, credentials);
    open(&share).await.unwrap_or_else(|error| panic!("{}: {error:?}", share.url))
}

async fn created(url: String, credentials: &str) -> Arc<dyn Store> {
    let (share, _file) = at(url, credentials);
    create(&share).await.unwrap_or_else(|error| panic!("{}: {error:?}", share.url))
}

async fn refused(url: String, credentials: &str) -> StoreError {
    let (share, _file) = at(url, credentials);
    match within(open(&share)).await {
        Err(OpenStoreError::Store(error)) => error,
        other => panic!("{}: {other:?}", share.url),
    }
}

/// No failure takes longer than this.
async fn within<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(15), call).await.expect("it takes too long")
}

fn service() -> ServiceName {
    "dns-2".parse().expect("name")
}

fn pack(seed: &[u8]) -> ObjectPath {
    ObjectPath::Pack { service: service(), id: ObjectId::of(seed) }
}

fn credentials(text: &str) -> Credentials {
    Credentials::new(Zeroizing::new(text.as_bytes().to_vec()), &mut OsEntropy)
}

/// Several stores as one: each call goes to the next of them, so that racers have connections of their own.
#[derive(Debug)]
struct InTurn(Vec<Arc<dyn Store>>, AtomicUsize);

impl InTurn {
    fn next(&self) -> &Arc<dyn Store> {
        let nth = self.1.fetch_add(1, Ordering::Relaxed);
        &self.0[nth % self.0.len()]
    }
}

#[async_trait]
impl Store for InTurn {
    async fn put_new(&self, path: &ObjectPath, bytes: Bytes) -> Result<(), StoreError> {
        self.next().put_new(path, bytes).await
    }

    async fn get(&self, path: &ObjectPath, max_len: u64) -> Result<Bytes, StoreError> {
        self.next().get(path, max_len).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.next().get_range(path, range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<Meta, StoreError> {
        self.next().head(path).await
    }

    fn list<'a>(&'a self, prefix: &Prefix) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.next().list(prefix)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.next().delete(path).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.next().free_bytes().await
    }

    fn accept(&self, credentials: &Credentials) -> Result<bool, OpenStoreError> {
        self.next().accept(credentials)
    }

    async fn cool(&self, path: &ObjectPath) {
        self.next().cool(path).await;
    }

    fn exclusive(&self) -> Exclusive {
        self.next().exclusive()
    }

    fn describe(&self) -> String {
        self.next().describe()
    }
}

#[test]
fn nothing_of_the_layout_differs_by_case_alone() {
    let (id, round) = (ObjectId::of(b"abc"), RoundId::from_bytes([0xab; 16]));
    let mut paths = vec![
        ObjectPath::Format,
        ObjectPath::LogRecord(10),
        ObjectPath::LogSegment(10),
        ObjectPath::List(id),
        ObjectPath::Manifest(id),
        ObjectPath::Grant(id),
        ObjectPath::Pack { service: service(), id },
    ];
    for part in [SlicePart::Receipt, SlicePart::Packs, SlicePart::Index, SlicePart::Chunks] {
        paths.push(ObjectPath::Slice { service: service(), round, id, part });
    }
    let folded: BTreeSet<String> = paths.iter().map(|path| path.to_string().to_lowercase()).collect();
    assert_eq!(folded.len(), paths.len());
    for path in paths {
        let text = path.to_string();
        assert!(text.is_ascii());
        for other in [text.to_lowercase(), text.to_uppercase()] {
            assert_eq!(other.parse::<ObjectPath>().is_ok(), other == text, "{other}");
        }
    }
    assert!("DNS-2".parse::<ServiceName>().is_err());
}

#[tokio::test]
async fn without_credentials_the_error_names_what_is_missing() {
    let share = ShareConfig::at("smb://127.0.0.1:9/backups".to_owned());
    let Err(OpenStoreError::Store(error)) = open(&share).await else { panic!("it opens") };
    assert_eq!(error.alert(), Some(Code::Share03));
    assert!(format!("{error:?}").contains("[share] credentials"), "{error:?}");
}

#[tokio::test]
async fn guests_are_refused_before_anything_is_dialed() {
    for user in ["guest", "Guest", "CORP\\Guest", "CORP\\"] {
        let text = format!("username={user}\npassword=hunter2\n");
        let error = refused("smb://127.0.0.1:9/backups".to_owned(), &text).await;
        assert_eq!(error.alert(), Some(Code::Share03), "{user}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let error = refused("smb://127.0.0.1:9/backups".to_owned(), "username=u\npassword=hunter2\n").await;
    assert_eq!(error.alert(), Some(Code::Share01));
    assert!(error.is_transient() && !format!("{error:?}").contains("hunter2"), "{error:?}");
    let error = refused("smb://no-such-host.invalid/b".to_owned(), "username=u\npassword=p\n").await;
    assert_eq!(error.alert(), Some(Code::Share01), "{error:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = silent.local_addr().expect("address").port();
    let error = refused(format!("smb://127.0.0.1:{port}/backups"), "username=u\npassword=p\n").await;
    assert_eq!(error.alert(), Some(Code::Share01), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_samba_conforms() {
    let server = Samba::start();
    let agent = Samba::credentials("agent");
    let store = opened(server.url(""), &agent).await;
    assert_eq!(store.exclusive(), Exclusive::Untested);
    conformance::all(Arc::clone(&store)).await;
    assert_eq!(store.exclusive(), Exclusive::Atomic);
    // A folder with what addresses escape, and what SMB does not take as it is.
    let parent = server.disk("backups").join("Sicherung Übergröße");
    std::fs::create_dir(&parent).expect("a folder");
    Samba::open_to_all(&parent);
    let folder = "Sicherung%20%C3%9Cbergr%C3%B6%C3%9Fe/100%25";
    conformance::all(created(server.url(folder), &agent).await).await;
    assert!(server.disk("backups").join("Sicherung Übergröße/100%/FORMAT").exists());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_racers_on_connections_of_their_own_have_one_winner() {
    let server = Samba::start();
    let mut stores = Vec::new();
    for _ in 0..16 {
        stores.push(opened(server.url(""), &Samba::credentials("agent")).await);
    }
    conformance::all(Arc::new(InTurn(stores, Default::default()))).await;
    let names: Vec<_> = std::fs::read_dir(server.disk("backups").join("log")).expect("lists").collect();
    assert_eq!(names.len(), 5, "no temporary is left: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_slot_is_won_once_in_two_hundred_races() {
    let server = Samba::start();
    let mut stores = Vec::new();
    for _ in 0..8 {
        stores.push(opened(server.url(""), &Samba::credentials("agent")).await);
    }
    for slot in 0..200 {
        let path = ObjectPath::LogRecord(slot);
        let racers = stores.iter().enumerate().map(|(nth, store)| {
            let (store, path) = (Arc::clone(store), path.clone());
            let bytes = Bytes::from(vec![u8::try_from(nth).expect("few"); 1000]);
            tokio::spawn(async move { store.put_new(&path, bytes).await })
        });
        let done = futures::future::join_all(racers).await;
        let mut winners = Vec::new();
        for (nth, done) in done.into_iter().enumerate() {
            match done.expect("ran") {
                Ok(()) => winners.push(nth),
                Err(error) => assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error:?}"),
            }
        }
        let there = stores[0].get(&path, 1000).await.expect("there");
        assert_eq!(winners, [usize::from(there[0])], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_without_links_one_racer_wins_as_well() {
    let server = Samba::start();
    let Ok(Address::Smb(address)) = Address::parse(&server.url("")) else { panic!("an address") };
    let credentials = credentials(&Samba::credentials("agent"));
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for _ in 0..4 {
        let store = SmbStore::open(address.clone(), Some(&credentials)).await.expect("opens");
        store.way.store(Way::Plain.number(), Ordering::Relaxed);
        stores.push(Arc::new(store));
    }
    assert_eq!(stores[0].exclusive(), Exclusive::OneCoordinator);
    conformance::all(Arc::new(InTurn(stores, Default::default()))).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_users_have_several_spellings() {
    let server = Samba::start();
    for (nth, spelling) in Samba::spellings().into_iter().enumerate() {
        let store = opened(server.url(""), &spelling).await;
        store.put_new(&ObjectPath::LogRecord(nth as u64), Bytes::from_static(b"x")).await.expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_refusals_have_their_codes() {
    let server = Samba::start();
    let agent = Samba::credentials("agent");
    let user = Samba::user("agent");
    std::fs::write(server.disk("backups").join("file"), b"x").expect("written");
    let long = "x".repeat(300);
    for (url, credentials, code) in [
        (server.url(""), format!("username={user}\npassword=hunter2\n"), Code::Share03),
        (server.url(""), "username=nobody-knows\npassword=hunter2\n".to_owned(), Code::Share03),
        (server.url(""), Samba::credentials("disabled"), Code::Share03),
        (server.url_of("closed", ""), agent.clone(), Code::Share03),
        (server.url_of("encrypted", ""), agent.clone(), Code::Share03),
        (server.url_of("nosuch", ""), agent.clone(), Code::Share02),
        (server.url("no/such/folder"), agent.clone(), Code::Share02),
        (server.url("file"), agent.clone(), Code::Share02),
        (server.url("file/below"), agent.clone(), Code::Share02),
        (server.url(&long), agent.clone(), Code::Share02),
        (server.url(&format!("{long}/below")), agent.clone(), Code::Share02),
    ] {
        let error = refused(url.clone(), &credentials).await;
        assert_eq!(error.alert(), Some(code), "{url}: {error:?}");
        let said = format!("{error:?}");
        assert!(!said.contains("hunter2") && !said.contains(Samba::password("agent")), "{said}");
    }
    let error = refused(server.url_of("encrypted", ""), &agent).await;
    assert!(format!("{error:?}").contains("mount the share"), "{error:?}");
    let (share, _file) = at(server.url("no/such/folder"), &agent);
    let error = create(&share).await.expect_err("its parent is not there");
    assert!(matches!(error, OpenStoreError::Store(StoreError::InvalidPath { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_folder_that_vanishes_is_not_made_again() {
    let server = Samba::start();
    let store = created(server.url("fleet"), &Samba::credentials("agent")).await;
    store.put_new(&pack(b"one"), Bytes::from_static(b"one")).await.expect("written");
    std::fs::rename(server.disk("backups").join("fleet"), server.disk("backups").join("gone"))
        .expect("moved");
    let invalid = |error: &StoreError| matches!(error, StoreError::InvalidPath { .. });
    for path in [pack(b"two"), ObjectPath::LogRecord(1), ObjectPath::Format] {
        let error = store.put_new(&path, Bytes::from_static(b"two")).await.expect_err("gone");
        assert!(invalid(&error), "{path}: {error:?}");
        assert!(invalid(&store.get(&path, 1).await.expect_err("gone")), "{path}");
        assert!(invalid(&store.head(&path).await.expect_err("gone")), "{path}");
        assert!(invalid(&store.delete(&path).await.expect_err("gone")), "{path}");
    }
    for prefix in [Prefix::Everything, Prefix::Log, Prefix::Packs(service())] {
        let lines: Vec<_> = store.list(&prefix).collect().await;
        assert!(matches!(lines.as_slice(), [Err(StoreError::InvalidPath { .. })]), "{prefix}: {lines:?}");
    }
    assert!(!server.disk("backups").join("fleet").exists());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_read_only_and_full_shares_are_told() {
    let mut server = Samba::start();
    server.limit(8);
    let agent = Samba::credentials("agent");
    let writer = opened(server.url(""), &agent).await;
    writer.put_new(&pack(b"one"), Bytes::from_static(b"one")).await.expect("written");
    let reader = opened(server.url_of("readonly", ""), &agent).await;
    assert_eq!(reader.get(&pack(b"one"), 3).await.expect("there"), &b"one"[..]);
    for path in [pack(b"two"), ObjectPath::LogRecord(1), ObjectPath::Format] {
        let error = within(reader.put_new(&path, Bytes::from_static(b"two"))).await.expect_err("refused");
        assert!(matches!(error, StoreError::WriteRefused { .. }), "{path}: {error:?}");
    }
    let error = reader.delete(&pack(b"one")).await.expect_err("refused");
    assert!(matches!(error, StoreError::WriteRefused { .. }), "{error:?}");

    let small = opened(server.url_of("small", ""), &agent).await;
    let before = small.free_bytes().await.expect("told").expect("told");
    assert!(before <= 8 << 20, "{before}");
    for path in [pack(b"big"), ObjectPath::LogRecord(1)] {
        let big = Bytes::from(vec![7; 9 << 20]);
        let error = within(small.put_new(&path, big)).await.expect_err("full");
        assert!(matches!(error, StoreError::Full { .. }), "{path}: {error:?}");
        assert!(matches!(small.head(&path).await, Err(StoreError::NotFound { .. })), "{path}");
    }
    let after = small.free_bytes().await.expect("told").expect("told");
    assert!(after + (1 << 20) > before, "what was not finished gave its room back: {after} of {before}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_server_killed_in_the_middle_of_a_write_is_reported_and_outlived() {
    let mut server = Samba::start();
    let store = opened(server.url(""), &Samba::credentials("agent")).await;
    store.put_new(&ObjectPath::LogRecord(1), Bytes::from_static(b"one")).await.expect("written");
    for nth in 0..3u8 {
        let big = Bytes::from(vec![nth; 256 << 20]);
        let paths = [pack(&[nth]), ObjectPath::LogRecord(10 + u64::from(nth))];
        let writes = paths.clone().map(|path| {
            let (store, big) = (Arc::clone(&store), big.clone());
            tokio::spawn(async move { store.put_new(&path, big).await })
        });
        // Until the bytes are on their way.
        let began = Instant::now();
        let folder = server.disk("backups").join(paths[0].to_string());
        while std::fs::metadata(&folder).map_or(0, |meta| meta.len()) < 8 << 20 {
            assert!(began.elapsed() < Duration::from_secs(10), "it does not begin");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill();
        for write in writes {
            let error = within(write).await.expect("ran").expect_err("killed");
            assert!(error.is_transient(), "{error:?}");
        }
        let error = within(store.head(&ObjectPath::LogRecord(1))).await.expect_err("down");
        assert_eq!(error.alert(), Some(Code::Share01), "{error:?}");
        server.restart();
        let torn = store.head(&paths[0]).await;
        match torn {
            Ok(meta) => assert!(meta.size < big.len() as u64),
            Err(error) => assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}"),
        }
        assert!(matches!(store.head(&paths[1]).await, Err(StoreError::NotFound { .. })), "whole or absent");
        store.put_new(&paths[1], Bytes::from_static(b"record")).await.expect("the slot is free");
        store.put_new(&pack(&[nth, nth]), Bytes::from_static(b"pack")).await.expect("another id");
    }
    let foreign = store.list(&Prefix::Log).filter(|line| {
        let foreign = matches!(line, Ok(Listed::Foreign { name }) if name.starts_with("log/.tmp-"));
        async move { foreign }
    });
    assert!(foreign.count().await <= 3, "what was torn is foreign");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_dropped_session_is_dialed_again() {
    let server = Samba::start();
    let store = opened(server.url(""), &Samba::credentials("agent")).await;
    for nth in 0..3u8 {
        store.put_new(&pack(&[nth]), Bytes::from_static(b"x")).await.expect("written");
        assert_eq!(server.kill_sessions(), 1);
        // The connection's end has to arrive.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(within(store.get(&pack(&[nth]), 1)).await.expect("dialed again"), &b"x"[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_listing_that_is_cut_off_ends_with_the_error() {
    let server = Samba::start();
    let store = opened(server.url(""), &Samba::credentials("agent")).await;
    for nth in 0..20u8 {
        store.put_new(&pack(&[nth]), Bytes::from_static(b"x")).await.expect("written");
    }
    let mut lines = store.list(&Prefix::Everything);
    assert!(matches!(lines.next().await, Some(Ok(_))));
    assert!(server.kill_sessions() >= 1);
    let rest: Vec<_> = lines.collect().await;
    assert!(rest.len() < 19, "{}", rest.len());
    assert!(matches!(rest.last(), Some(Err(error)) if error.is_transient()), "{:?}", rest.last());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_other_credentials_are_used_from_then_on() {
    let server = Samba::start();
    let store = opened(server.url(""), &Samba::credentials("agent")).await;
    store.put_new(&ObjectPath::LogRecord(1), Bytes::from_static(b"x")).await.expect("written");
    assert!(store.accept(&credentials("username=u\n")).is_err(), "the former ones stay");
    store.head(&ObjectPath::LogRecord(1)).await.expect("they do");
    assert!(store.accept(&credentials("username=nobody-knows\npassword=hunter2\n")).expect("they are some"));
    let error = store.head(&ObjectPath::LogRecord(1)).await.expect_err("refused");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(store.accept(&credentials(&Samba::credentials("agent"))).expect("they are some"));
    store.head(&ObjectPath::LogRecord(1)).await.expect("again");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_hundred_thousand_objects_are_listed_in_bounded_memory() {
    if !alone("store::smb::tests::servers_a_hundred_thousand_objects_are_listed_in_bounded_memory") {
        return;
    }
    let server = Samba::start();
    let store = opened(server.url(""), &Samba::credentials("agent")).await;
    let folder = server.disk("backups").join("lists");
    std::fs::create_dir(&folder).expect("a folder");
    for n in 0..100_000u32 {
        std::fs::write(folder.join(ObjectId::of(&n.to_be_bytes()).to_string()), b"x").expect("written");
    }
    let (count, bytes, grown) = listed(store.as_ref(), &Prefix::Everything).await;
    assert_eq!((count, bytes), (100_000, 100_000));
    // All names together are 13 MB as they travel, and more when they are read.
    assert!(grown < 4096, "{grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_write_that_is_given_up_leaves_nothing_open() {
    let server = Samba::start();
    let store = opened(server.url(""), &Samba::credentials("agent")).await;
    for path in [pack(b"big"), ObjectPath::LogRecord(1)] {
        let big = Bytes::from(vec![7; 256 << 20]);
        let put = store.put_new(&path, big);
        tokio::time::timeout(Duration::from_millis(60), put).await.expect_err("it is not so fast");
    }
    let began = Instant::now();
    loop {
        let lines: Vec<_> = store.list(&Prefix::Everything).collect().await;
        if lines.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{lines:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.put_new(&pack(b"big"), Bytes::from_static(b"x")).await.expect("the name is free");
}

/// Passes everything on, but changes the last byte of every answer to a READ.
async fn tampering(server: std::net::SocketAddr) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(server).await.expect("connects");
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                // Four bytes of length, then the header: its command is at 12 (MS-SMB2 sections 2.1 and 2.2.1.2).
                while let Ok(len) = from_server.read_u32().await {
                    let mut frame = vec![0; len as usize];
                    from_server.read_exact(&mut frame).await.expect("a frame");
                    if frame[12..14] == [8, 0]
                        && let Some(last) = frame.last_mut()
                    {
                        *last ^= 1;
                    }
                    to_client.write_u32(len).await.expect("sent");
                    to_client.write_all(&frame).await.expect("sent");
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_what_is_altered_on_its_way_is_refused() {
    let server = Samba::start();
    let agent = Samba::credentials("agent");
    let honest = opened(server.url(""), &agent).await;
    honest.put_new(&pack(b"one"), Bytes::from_static(b"one")).await.expect("written");
    let port = tampering(server.address()).await;
    let store = opened(format!("smb://127.0.0.1:{port}/backups"), &agent).await;
    store.head(&pack(b"one")).await.expect("nothing of it is altered");
    let error = store.get(&pack(b"one"), 3).await.expect_err("altered");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(format!("{error:?}").contains("signature"), "{error:?}");
    // What becomes a slot of the log is read back.
    let error =
        store.put_new(&ObjectPath::LogRecord(1), Bytes::from_static(b"x")).await.expect_err("altered");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(matches!(honest.head(&ObjectPath::LogRecord(1)).await, Err(StoreError::NotFound { .. })));
}
