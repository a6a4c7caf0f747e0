//! Accounts of an Active Directory: how they sign in, what they are refused with, and what they may as members of groups.

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::alert::Code;
use muster_protocol::ids::ObjectId;
use muster_test_servers::Domain;

use super::{credentials, opened, pack, refused};
use crate::layout::{ObjectPath, Prefix};
use crate::store::StoreError;

/// See [`super::least_rights`].
const READ: &str = "0x001200a9";
const ADD: &str = "0x001200af";
const DELETE: &str = "0x001300a9";

fn ace(domain: &Domain, who: &str, flags: &str, mask: &str) -> String {
    format!("ACL:{}:ALLOWED/{flags}/{mask}", domain.sid(who))
}

/// The rights of docs/shares.md: an agent's own folder by its account, all else by groups. Who made a file gets none from that.
fn set_up(domain: &Domain) {
    let base = [
        ace(domain, "Administrator", "OI|CI", "FULL"),
        format!("ACL:S-1-3-4:ALLOWED/OI|CI/{READ}"),
        ace(domain, "muster-pruners", "OI|CI", DELETE),
        ace(domain, "muster-coordinators", "OI|CI", READ),
    ];
    let passing = ace(domain, "muster-agents", "0x0", READ);
    let agents_read = ace(domain, "muster-agents", "OI|CI", READ);
    let adds = |who: &str| [ace(domain, who, "CI", ADD), ace(domain, who, "OI|IO", READ)];
    let (coordinators, pruners) = (adds("muster-coordinators"), adds("muster-pruners"));
    for folder in ["agents/dns-2", "agents/dns-3", "log", "lists", "manifests", "grants"] {
        std::fs::create_dir_all(domain.disk().join(folder)).expect("a folder");
    }
    for folder in ["", "agents", "agents/dns-2", "agents/dns-3", "log", "lists", "manifests", "grants"] {
        // The second fence: Samba asks no ACL where a link or a renamed file goes.
        let (owner, mode) = match folder {
            "" | "agents" => (None, 0o755),
            "agents/dns-2" => (Some("agent"), 0o750),
            "agents/dns-3" => (Some("neighbour"), 0o750),
            _ => (None, 0o775),
        };
        domain.give(folder, owner, "muster-readers", mode);
        let mut entries = base.to_vec();
        match folder {
            "" | "agents" => entries.push(passing.clone()),
            "agents/dns-2" => entries.extend(adds("agent")),
            "agents/dns-3" => entries.extend(adds("neighbour")),
            _ => {
                entries.extend(coordinators.clone());
                if matches!(folder, "log" | "lists") {
                    entries.extend(pruners.clone());
                    entries.push(agents_read.clone());
                }
            }
        }
        domain.set_acl(folder, &entries);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_accounts_of_a_domain_sign_in_or_are_refused_with_their_codes() {
    let domain = Domain::start();
    set_up(&domain);
    for (nth, spelling) in Domain::spellings("agent").into_iter().enumerate() {
        let store = opened(domain.url(""), &spelling).await;
        let path = pack(&[nth as u8]);
        store.put_new(&path, Bytes::from_static(b"x")).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
    }
    let (right, wrong) = (Domain::credentials("agent"), "hunter2");
    let (_, password) = right.trim().split_once("password=").expect("a password");
    for text in [
        format!("username=CORP\\agent\npassword={wrong}\n"),
        format!("username=agent@corp.example.org\npassword={wrong}\n"),
        format!("username=nobody-knows@corp.example.org\npassword={wrong}\n"),
        format!("username=agent@other.example.org\npassword={password}\n"),
        Domain::credentials("disabled"),
        Domain::credentials("former"),
    ] {
        let error = refused(domain.url(""), &text).await;
        assert_eq!(error.alert(), Some(Code::Share03), "{error:?}");
        let said = format!("{error:?}");
        assert!(!said.contains(wrong) && !said.contains(password), "{said}");
    }
    // Whoever is known, but in no group, gets in and no further.
    let stranger = opened(domain.url(""), &Domain::credentials("stranger")).await;
    let (denied, write) = (
        stranger.get(&pack(&[0]), 1).await.expect_err("no right to"),
        stranger.put_new(&pack(b"x"), Bytes::from_static(b"x")).await.expect_err("no right to"),
    );
    assert_eq!(
        (denied.alert(), write.alert()),
        (Some(Code::Share03), Some(Code::Share04)),
        "{denied:?} {write:?}"
    );
    // The domain gives the account another password.
    let store = opened(domain.url(""), &right).await;
    domain.set_password("agent", "another = 1 Password");
    let error = refused(domain.url(""), &right).await;
    assert_eq!(error.alert(), Some(Code::Share03), "{error:?}");
    let new = credentials("username=agent@corp.example.org\npassword=another = 1 Password\n");
    assert!(store.accept(&new).expect("they are some"));
    store.put_new(&pack(b"later"), Bytes::from_static(b"x")).await.expect("with the new one");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_groups_of_a_domain_may_what_they_need_and_no_more() {
    let domain = Domain::start();
    set_up(&domain);
    let store = |account| opened(domain.url(""), Box::leak(Domain::credentials(account).into_boxed_str()));
    let (agent, coordinator, standby, pruner) =
        (store("agent").await, store("coordinator").await, store("standby").await, store("pruner").await);
    let bytes = || Bytes::from_static(b"one");
    let id = ObjectId::of(b"x");
    let (own, record) = (pack(b"one"), ObjectPath::LogRecord(1));
    agent.put_new(&own, bytes()).await.expect("an agent writes its own");
    coordinator.put_new(&record, bytes()).await.expect("a coordinator writes the log");
    standby
        .put_new(&ObjectPath::LogRecord(2), bytes())
        .await
        .expect("and so does another, by its group alone");
    standby.put_new(&ObjectPath::Manifest(id), bytes()).await.expect("in a folder of the first one's");
    for (who, path) in [(&agent, &own), (&agent, &record), (&standby, &own), (&standby, &record)] {
        assert_eq!(who.get(path, 3).await.expect("read"), bytes());
    }
    let neighbours = ObjectPath::Pack { service: "dns-3".parse().expect("name"), id };
    store("neighbour").await.put_new(&neighbours, bytes()).await.expect("a neighbour as well");
    let error = agent.get(&neighbours, 3).await.expect_err("which is its own matter");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    let refusals = [
        (
            "agent",
            &agent,
            vec![ObjectPath::LogRecord(3), ObjectPath::List(id), ObjectPath::Format, neighbours.clone()],
        ),
        ("coordinator", &coordinator, vec![pack(b"forged"), ObjectPath::Format]),
        ("pruner", &pruner, vec![pack(b"forged"), ObjectPath::Manifest(ObjectId::of(b"forged"))]),
    ];
    for (who, store, paths) in refusals {
        for path in paths {
            let error = store.put_new(&path, bytes()).await.expect_err("refused");
            let taken = matches!(error, StoreError::AlreadyExists { .. }) && path == neighbours;
            assert!(taken || matches!(error, StoreError::WriteRefused { .. }), "{who}: {path}: {error:?}");
        }
    }
    for (store, path) in [(&agent, &own), (&coordinator, &own), (&coordinator, &record), (&standby, &record)]
    {
        let error = store.delete(path).await.expect_err("refused");
        assert!(matches!(error, StoreError::WriteRefused { .. }), "{path}: {error:?}");
    }
    assert_eq!(coordinator.list(&Prefix::Everything).count().await, 5);
    pruner.put_new(&ObjectPath::LogRecord(3), bytes()).await.expect("it tells of it");
    for path in [&own, &record, &neighbours] {
        pruner.delete(path).await.expect("the pruner deletes");
    }
    // Out of the group is out, with the next session.
    domain.leave("standby", "muster-coordinators");
    let former = store("standby").await;
    let error = former.put_new(&ObjectPath::LogRecord(4), bytes()).await.expect_err("refused");
    assert!(matches!(error, StoreError::WriteRefused { .. }), "{error:?}");
    coordinator.put_new(&ObjectPath::LogRecord(4), bytes()).await.expect("the others go on");
}
