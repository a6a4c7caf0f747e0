//! What accounts can do with the rights that docs/shares.md gives them.

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::ids::ObjectId;
use muster_test_servers::Samba;
use smb2::{ErrorKind, FileTimes, RenameOptions, Tree};

use super::super::new_file::NewFile;
use super::super::session::Session;
use super::{opened, pack, service};
use crate::layout::{ObjectPath, Prefix};
use crate::store::StoreError;
use crate::store::address::Address;
use crate::store::secret::SmbSecret;

/// See what is there and read it: FILE_GENERIC_READ and FILE_EXECUTE (MS-SMB2 section 2.2.13.1).
const READ: &str = "0x001200a9";
/// That, and FILE_ADD_FILE and FILE_ADD_SUBDIRECTORY, of a folder.
const ADD: &str = "0x001200af";
/// READ and DELETE.
const DELETE: &str = "0x001300a9";

fn ace(who: &str, flags: &str, mask: &str) -> String {
    format!("ACL:{who}:ALLOWED/{flags}/{mask}")
}

/// What every folder of the share has: nobody gets rights from having made a file, only the pruner deletes, and
/// coordinators read.
fn base(server: &Samba) -> Vec<String> {
    vec![
        ace(&server.sid("admin"), "OI|CI", "FULL"),
        ace("S-1-3-4", "OI|CI", READ),
        ace(&server.sid("pruner"), "OI|CI", DELETE),
        ace(&server.sid("coordinator"), "OI|CI", READ),
    ]
}

fn adds(server: &Samba, account: &str) -> [String; 2] {
    let sid = server.sid(account);
    [ace(&sid, "CI", ADD), ace(&sid, "OI|IO", READ)]
}

fn set_up(server: &Samba) {
    let disk = server.disk("guarded");
    let folders = ["agents/dns-2", "agents/dns-3", "log", "lists", "manifests", "grants"];
    for folder in folders {
        std::fs::create_dir_all(disk.join(folder)).expect("a folder");
    }
    for folder in ["", "agents", "agents/dns-2", "agents/dns-3", "log", "lists", "manifests", "grants"] {
        // The second fence: Samba asks no ACL where a link or a renamed file goes.
        let (owner, mode) = match folder {
            "" | "agents" => ("admin", 0o755),
            "agents/dns-2" => ("agent", 0o750),
            "agents/dns-3" => ("neighbour", 0o750),
            _ => ("coordinator", 0o775),
        };
        Samba::give(&disk.join(folder), owner, "pruner", mode);
        let mut entries = base(server);
        match folder {
            // To get through, and no further.
            "" | "agents" => {
                entries.extend(["agent", "neighbour"].map(|who| ace(&server.sid(who), "0x0", READ)))
            }
            "agents/dns-2" => entries.extend(adds(server, "agent")),
            "agents/dns-3" => entries.extend(adds(server, "neighbour")),
            _ => {
                entries.extend(adds(server, "coordinator"));
                if matches!(folder, "log" | "lists") {
                    entries.extend(adds(server, "pruner"));
                    entries.extend(["agent", "neighbour"].map(|who| ace(&server.sid(who), "OI|CI", READ)));
                }
            }
        }
        server.set_acl("guarded", folder, &entries);
    }
}

/// A session that does what no store does.
async fn session(server: &Samba, account: &str) -> Session {
    let Ok(Address::Smb(address)) = Address::parse(&server.url_of("guarded", "")) else {
        panic!("an address")
    };
    let secret = SmbSecret::parse(Samba::credentials(account).as_bytes()).expect("valid");
    Session::dial(&address, &secret).await.expect("dials")
}

fn is_refused<T: std::fmt::Debug>(what: &str, done: Result<T, smb2::Error>) {
    let error = done.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::AccessDenied, "{what}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_accounts_can_do_what_they_need_and_no_more() {
    let server = Samba::start();
    set_up(&server);
    let store = |account| {
        opened(server.url_of("guarded", ""), Box::leak(Samba::credentials(account).into_boxed_str()))
    };
    let (agent, coordinator, pruner) =
        (store("agent").await, store("coordinator").await, store("pruner").await);

    let (own, record) = (pack(b"one"), ObjectPath::LogRecord(1));
    let neighbours = ObjectPath::Pack { service: "dns-3".parse().expect("name"), id: ObjectId::of(b"own") };
    store("neighbour")
        .await
        .put_new(&neighbours, Bytes::from_static(b"own"))
        .await
        .expect("a neighbour as well");
    let error = agent.get(&neighbours, 3).await.expect_err("which is its own matter");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    agent.put_new(&own, Bytes::from_static(b"one")).await.expect("an agent writes its own");
    assert_eq!(agent.get(&own, 3).await.expect("and reads it"), &b"one"[..]);
    coordinator.put_new(&record, Bytes::from_static(b"record")).await.expect("a coordinator writes the log");
    coordinator.put_new(&ObjectPath::LogSegment(0), Bytes::from_static(b"x")).await.expect("all of it");
    let list = ObjectPath::List(ObjectId::of(b"list"));
    coordinator.put_new(&list, Bytes::from_static(b"list")).await.expect("and lists");
    assert_eq!(coordinator.get(&own, 3).await.expect("and reads everything"), &b"one"[..]);
    for path in [&record, &list] {
        agent.get(path, 10).await.expect("an agent reads log and lists");
    }
    let lines: Vec<_> = coordinator.list(&Prefix::Everything).collect().await;
    assert_eq!(lines.len(), 5, "no temporary is left: {lines:?}");

    let elsewhere = ObjectPath::Pack { service: "dns-3".parse().expect("name"), id: ObjectId::of(b"x") };
    let foreign = ObjectPath::Pack { service: "dns-4".parse().expect("name"), id: ObjectId::of(b"x") };
    for path in [
        elsewhere,
        foreign,
        ObjectPath::LogRecord(2),
        ObjectPath::Format,
        ObjectPath::List(ObjectId::of(b"x")),
    ] {
        let error = agent.put_new(&path, Bytes::from_static(b"x")).await.expect_err("refused");
        assert!(matches!(error, StoreError::WriteRefused { .. }), "{path}: {error:?}");
    }
    for (store, path) in [(&agent, &own), (&coordinator, &own), (&coordinator, &record)] {
        let error = store.delete(path).await.expect_err("refused");
        assert!(matches!(error, StoreError::WriteRefused { .. }), "{path}: {error:?}");
    }
    attack(&server, "agent", &own.to_string(), &format!("agents/{}/packs/other", service())).await;
    attack(&server, "coordinator", &record.to_string(), "log/other").await;

    pruner.put_new(&ObjectPath::LogRecord(2), Bytes::from_static(b"sweep")).await.expect("it tells of it");
    pruner
        .put_new(&ObjectPath::List(ObjectId::of(b"gone")), Bytes::from_static(b"gone"))
        .await
        .expect("and of what");
    for path in [&own, &record] {
        pruner.delete(path).await.expect("the pruner deletes");
    }
    let error =
        pruner.put_new(&own, Bytes::from_static(b"one")).await.expect_err("and writes nothing for others");
    assert!(matches!(error, StoreError::WriteRefused { .. }), "{error:?}");
}

/// What an account may try on the file `own` that it has made itself.
async fn attack(server: &Samba, account: &str, own: &str, other: &str) {
    let session = session(server, account).await;
    let (tree, mut connection) = (session.tree(), session.connection());
    let tree: &Tree = tree;
    is_refused("overwrite", tree.write_file(&mut connection, own, b"bad").await);
    is_refused("append", tree.open_file_readwrite(&mut connection, own).await);
    for options in [RenameOptions::new(), RenameOptions::new().replace_if_exists(true)] {
        is_refused("rename", tree.rename_with(&mut connection, own, other, options).await);
    }
    is_refused("delete", tree.delete_file(&mut connection, own).await);
    is_refused("set its times", {
        let times = FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        tree.set_times(&mut connection, own, times).await
    });
    let top = own.split('/').take(if own.starts_with("log") { 1 } else { 2 }).collect::<Vec<_>>().join("/");
    is_refused("rename the folder", tree.rename(&mut connection, &top, "evil").await);
    let entry = ace(&server.sid(account), "0x0", "FULL");
    for path in [own, &top] {
        assert!(
            !server.may_add_ace(account, "guarded", path, &entry),
            "the owner of {path} gives itself rights"
        );
    }
    // A link or a rename of a new file over the old one, or out of the own folder.
    let folder = own.rsplit_once('/').expect("a folder").0;
    let file = NewFile::create(&session, &format!("{folder}/new")).await.expect("creates");
    assert_eq!(file.link(own).await.expect_err("link").kind(), ErrorKind::AlreadyExists);
    let targets = ["agents/dns-3/evil", "agents/dns-3/packs/evil", "agents/evil", "manifests/evil", "evil"];
    // What a coordinator links below the folders of an agent, Samba does not stop: a name that is no hash of it.
    let stopped = |target: &&str| folder != "log" || !target.contains('/') || *target == "agents/evil";
    for target in targets.into_iter().filter(stopped) {
        is_refused(target, file.link(target).await);
        let new = format!("{folder}/new2");
        NewFile::create(&session, &new).await.expect("creates").close().await.expect("closes");
        is_refused(
            &format!("rename {target}"),
            tree.rename_with(&mut connection, &new, target, RenameOptions::new()).await,
        );
        std::fs::remove_file(server.disk("guarded").join(&new)).expect("removed");
    }
    file.take_back().await;
    let disk = server.disk("guarded");
    assert!(!std::fs::read(disk.join(own)).expect("there").starts_with(b"bad"));
    assert!(!disk.join(folder).join("new").exists());
}
