//! What is particular to folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::alert::Code;
use muster_protocol::ids::ObjectId;
use muster_test_servers::Mount;

use super::publish::{Publisher, Way};
use super::{FileStore, Folder};
use crate::layout::{ObjectPath, Prefix};
use crate::store::fixture::{alone, listed};
use crate::store::{Exclusive, Listed, Store, StoreError, conformance};

async fn share() -> (tempfile::TempDir, FileStore) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = FileStore::open(dir.path().to_owned()).await.expect("opens");
    (dir, store)
}

#[tokio::test]
async fn a_folder_conforms() {
    let (_dir, store) = share().await;
    let probe = store.clone();
    conformance::all(Arc::new(store)).await;
    assert_eq!(probe.exclusive(), Exclusive::Atomic);
}

#[tokio::test]
async fn a_folder_without_links_conforms() {
    for way in [Way::Rename, Way::Plain] {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder {
            root: dir.path().to_owned(),
            device: 0.into(),
            publisher: Publisher::starting_with(way),
            made: Mutex::default(),
        };
        let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(dir.path()).expect("there"));
        folder.device.store(device, Ordering::Relaxed);
        let store = FileStore { folder: Arc::new(folder) };
        if way == Way::Plain {
            // A loser of the race may meet the winner's unfinished file; it loses all the same.
            let bytes = Bytes::from_static(b"x");
            store.put_new(&ObjectPath::LogRecord(1), bytes).await.expect("written");
            assert_eq!(store.exclusive(), Exclusive::OneCoordinator);
        } else {
            conformance::all(Arc::new(store)).await;
        }
    }
}

#[tokio::test]
async fn modes_are_narrow() {
    let (dir, store) = share().await;
    for path in [ObjectPath::LogRecord(1), ObjectPath::List(ObjectId::of(b"x"))] {
        store.put_new(&path, Bytes::from_static(b"x")).await.expect("written");
        let file = dir.path().join(path.to_string());
        let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
        assert_eq!(mode(&file) & !0o640, 0);
        assert_eq!(mode(file.parent().expect("folder")) & !0o750, 0);
    }
}

#[tokio::test]
async fn foreign_names_are_told_apart_and_never_followed() {
    let (dir, store) = share().await;
    store.put_new(&ObjectPath::LogRecord(1), Bytes::from_static(b"x")).await.expect("written");
    fs::write(dir.path().join("log/.tmp-00"), b"x").expect("written");
    fs::write(dir.path().join("log/1"), b"x").expect("written");
    fs::create_dir_all(dir.path().join("a/b/c/d/e/f/g")).expect("made");
    symlink("0000000001", dir.path().join("log/0000000002")).expect("linked");
    symlink("..", dir.path().join("log/loop")).expect("linked");
    let mut foreign = Vec::new();
    let mut objects = Vec::new();
    for line in store.list(&Prefix::Everything).collect::<Vec<_>>().await {
        match line.expect("lists") {
            Listed::Object { path, .. } => objects.push(path),
            Listed::Foreign { name } => foreign.push(name),
        }
    }
    foreign.sort();
    assert_eq!(objects, [ObjectPath::LogRecord(1)]);
    assert_eq!(foreign, ["a/b/c/d/e/f", "log/.tmp-00", "log/0000000002", "log/1", "log/loop"]);
    let link = ObjectPath::LogRecord(2);
    assert!(matches!(store.get(&link, 9).await, Err(StoreError::Damaged { .. })));
    assert!(matches!(store.head(&link).await, Err(StoreError::Damaged { .. })));
    let error = store.put_new(&link, Bytes::from_static(b"y")).await.expect_err("squatted");
    assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
    assert_eq!(store.get(&ObjectPath::LogRecord(1), 9).await.expect("there"), &b"x"[..]);
}

#[tokio::test]
async fn a_torn_object_is_not_taken_for_the_whole() {
    let (dir, store) = share().await;
    for path in [ObjectPath::List(ObjectId::of(b"whole")), ObjectPath::LogRecord(1)] {
        let file = dir.path().join(path.to_string());
        fs::create_dir_all(file.parent().expect("folder")).expect("made");
        fs::write(&file, b"who").expect("written");
        let error = store.put_new(&path, Bytes::from_static(b"whole")).await.expect_err("torn");
        assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
        assert_eq!(fs::read(&file).expect("there"), b"who");
    }
}

#[tokio::test]
async fn a_share_that_is_gone_is_unreachable_not_empty() {
    let (dir, store) = share().await;
    store.put_new(&ObjectPath::LogRecord(1), Bytes::from_static(b"x")).await.expect("written");
    let moved = dir.path().with_extension("moved");
    fs::rename(dir.path(), &moved).expect("moved");
    let path = ObjectPath::LogRecord(1);
    let unreachable = |error: StoreError| matches!(error, StoreError::Unreachable { .. });
    assert!(unreachable(store.get(&path, 9).await.expect_err("gone")));
    assert!(unreachable(store.head(&path).await.expect_err("gone")));
    assert!(unreachable(store.put_new(&path, Bytes::new()).await.expect_err("gone")));
    assert!(unreachable(store.delete(&path).await.expect_err("gone")));
    assert!(unreachable(store.free_bytes().await.expect_err("gone")));
    let lines: Vec<_> = store.list(&Prefix::Everything).collect().await;
    assert!(matches!(lines.as_slice(), [Err(StoreError::Unreachable { .. })]));
    assert!(!dir.path().exists(), "nothing was made in its place");
    fs::rename(&moved, dir.path()).expect("back");
    assert_eq!(store.get(&path, 9).await.expect("back"), &b"x"[..]);
}

#[tokio::test]
async fn an_empty_mount_point_is_no_share() {
    let (_dir, store) = share().await;
    // As after an unmount: the same path on another device.
    store.folder.device.store(u64::MAX, Ordering::Relaxed);
    let object = ObjectPath::List(ObjectId::of(b"x"));
    for path in [&ObjectPath::LogRecord(1), &object] {
        let error = store.put_new(path, Bytes::from_static(b"x")).await.expect_err("not mounted");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(matches!(store.get(path, 9).await, Err(StoreError::Unreachable { .. })));
    }
    let lines: Vec<_> = store.list(&Prefix::Everything).collect().await;
    assert!(matches!(lines.as_slice(), [Err(StoreError::Unreachable { .. })]));
    fs::write(store.folder.root.join("FORMAT"), b"x").expect("written");
    store.put_new(&object, Bytes::from_static(b"x")).await.expect("mounted again elsewhere");
}

#[tokio::test]
async fn a_listing_that_nobody_reads_on_ends() {
    let (_dir, store) = share().await;
    for n in 0..600 {
        store.put_new(&ObjectPath::LogRecord(n), Bytes::new()).await.expect("written");
    }
    let mut lines = store.list(&Prefix::Log);
    assert!(lines.next().await.is_some());
    drop(lines);
}

#[tokio::test]
async fn a_hundred_thousand_objects_are_listed_in_bounded_memory() {
    if !alone("store::file::tests::a_hundred_thousand_objects_are_listed_in_bounded_memory") {
        return;
    }
    let (dir, store) = share().await;
    let folder = dir.path().join("lists");
    fs::create_dir(&folder).expect("a folder");
    for n in 0..100_000u32 {
        fs::write(folder.join(ObjectId::of(&n.to_be_bytes()).to_string()), b"x").expect("written");
    }
    let (count, bytes, grown) = listed(&store, &Prefix::Everything).await;
    assert_eq!((count, bytes), (100_000, 100_000));
    // All names together are more than 10 MB.
    assert!(grown < 4 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn a_folder_whose_path_is_too_long_is_told() {
    let dir = tempfile::tempdir().expect("temporary folder");
    // One part that no file system takes, and a path that is longer than the system's calls take.
    for path in [dir.path().join("x".repeat(300)), dir.path().join(vec!["x".repeat(200); 25].join("/"))] {
        for opened in [FileStore::open(path.clone()).await, FileStore::create(path).await] {
            let error = opened.map(drop).expect_err("too long");
            assert_eq!(error.alert(), Some(Code::Share02), "{error:?}");
            assert!(!error.is_transient());
        }
    }
}

#[tokio::test]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_a_folder_that_ignores_and_changes_case_conforms() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let _mount = Mount::ignoring_case(dir.path());
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    conformance::all(Arc::new(FileStore::create(one).await.expect("made"))).await;
    // Somebody made the folder, in another case than ours.
    let store = FileStore::create(two.clone()).await.expect("made");
    fs::create_dir(two.join("Log")).expect("a folder");
    let path = ObjectPath::LogRecord(1);
    store.put_new(&path, Bytes::from_static(b"x")).await.expect("written");
    store.put_new(&ObjectPath::Format, Bytes::from_static(b"x")).await.expect("written");
    let lines: Vec<_> = store.list(&Prefix::Everything).collect().await;
    let ours = |line: &Result<Listed, StoreError>| matches!(line, Ok(Listed::Object { .. }));
    assert!(lines.len() == 2 && lines.iter().all(ours), "{lines:?}");
    assert!(two.join("LOG/0000000001").exists(), "it does ignore case");
}

#[tokio::test]
async fn what_differs_in_case_where_case_counts_is_none_of_ours() {
    let (dir, store) = share().await;
    let path = ObjectPath::List(ObjectId::of(b"x"));
    store.put_new(&path, Bytes::from_static(b"x")).await.expect("written");
    fs::create_dir(dir.path().join("Lists")).expect("a folder");
    fs::write(dir.path().join("Lists").join("other"), b"x").expect("written");
    fs::write(dir.path().join("format"), b"x").expect("written");
    // Even the same file, under two names.
    let upper = path.to_string().to_uppercase().replace("LISTS", "lists");
    fs::hard_link(dir.path().join(path.to_string()), dir.path().join(&upper)).expect("linked");
    let mut foreign = Vec::new();
    for line in store.list(&Prefix::Everything).collect::<Vec<_>>().await {
        match line.expect("a line") {
            Listed::Object { path: there, .. } => assert_eq!(there, path),
            Listed::Foreign { name } => foreign.push(name),
        }
    }
    foreign.sort_unstable();
    assert_eq!(foreign, ["Lists/other".to_owned(), "format".to_owned(), upper]);
    assert!(matches!(store.head(&ObjectPath::Format).await, Err(StoreError::NotFound { .. })));
}
