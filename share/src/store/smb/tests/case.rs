//! Servers that ignore the case of names, and those that change it.

use std::fs;

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::ids::ObjectId;
use muster_test_servers::Samba;

use super::{opened, pack};
use crate::layout::{ObjectPath, Prefix};
use crate::store::{Listed, Store, StoreError, conformance};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_that_change_case_conform() {
    let server = Samba::start();
    for (share, format) in [("capitals", "FORMAT"), ("lower", "format")] {
        let store = opened(server.url_of(share, ""), &Samba::credentials("agent")).await;
        conformance::all(store).await;
        let names = fs::read_dir(server.disk(share)).expect("a folder");
        let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
        assert!(names.iter().any(|name| name == format), "{share}: {names:?}");
    }
}

async fn lines(store: &dyn Store, prefix: &Prefix) -> Vec<String> {
    let mut lines: Vec<_> = store
        .list(prefix)
        .map(|line| match line.expect("a line") {
            Listed::Object { path, .. } => path.to_string(),
            Listed::Foreign { name } => format!("foreign {name}"),
        })
        .collect()
        .await;
    lines.sort_unstable();
    lines
}

/// Somebody made the folders beforehand, to set rights, and wrote their names as one does there.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_folders_in_another_case_are_the_same_folders() {
    let server = Samba::start();
    let disk = server.disk("backups");
    for folder in ["Log", "AGENTS", "AGENTS/DNS-2"] {
        fs::create_dir(disk.join(folder)).expect("a folder");
        Samba::open_to_all(&disk.join(folder));
    }
    let store = opened(server.url(""), &Samba::credentials("agent")).await;
    let (record, pack) = (ObjectPath::LogRecord(1), pack(b"one"));
    for path in [&record, &pack] {
        store.put_new(path, Bytes::from_static(b"one")).await.expect("written");
        let again = store.put_new(path, Bytes::from_static(b"two")).await;
        assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
    }
    assert!(disk.join("Log/0000000001").exists() && !disk.join("log").exists());
    let all = lines(store.as_ref(), &Prefix::Everything).await;
    assert_eq!(all, [pack.to_string(), record.to_string()]);
    assert_eq!(lines(store.as_ref(), &Prefix::Log).await, [record.to_string()]);
    store.delete(&record).await.expect("deleted");
    assert_eq!(lines(store.as_ref(), &Prefix::Everything).await, [pack.to_string()]);
}

/// Made behind the server's back, on a file system that tells case apart: only one of them is ours.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_two_folders_that_differ_in_case_are_not_mistaken() {
    let server = Samba::start();
    let disk = server.disk("backups");
    let store = opened(server.url(""), &Samba::credentials("agent")).await;
    let path = ObjectPath::Manifest(ObjectId::of(b"one"));
    store.put_new(&path, Bytes::from_static(b"one")).await.expect("written");
    fs::create_dir(disk.join("Manifests")).expect("a folder");
    Samba::open_to_all(&disk.join("Manifests"));
    for name in [path.to_string().as_str(), "Format"] {
        fs::write(disk.join(name.replace("manifests", "Manifests")), b"another").expect("written");
    }
    let all = lines(store.as_ref(), &Prefix::Everything).await;
    let id = ObjectId::of(b"one");
    // Without a FORMAT of ours, the server takes theirs for it.
    assert_eq!(all, ["FORMAT".to_owned(), format!("foreign Manifests/{id}"), path.to_string()]);
    assert_eq!(store.get(&path, 3).await.expect("ours"), &b"one"[..]);
}
