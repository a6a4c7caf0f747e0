//! A share that is put back under a running agent: refused, and taken up again once the root has adopted it.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::alert::Code;
use muster_protocol::config::ShareConfig;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::Nonce;
use muster_protocol::log::{Adopt, Audit, Body, Genesis, Pin, seal_statement};
use muster_protocol::time::UnixMillis;
use muster_share::layout::ObjectPath;
use muster_share::log::{HeadMemory, Log, found};
use muster_share::store;

use super::{ReadError, Reader};

#[tokio::test]
async fn an_agent_gives_up_its_head_only_for_what_the_root_adopted() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("a share");
    let root = Signer::from_seed(&[1; 32]);
    let genesis = Genesis {
        name: "test".parse().expect("a name"),
        salt: [2; 32],
        share: Nonce::from_bytes([3; 16]),
        created: UnixMillis(0),
    };
    let mut log = found(Arc::clone(&store), &root, &genesis).await.expect("founded");
    let note = |what: &str| Audit { who: root.key_id(), what: what.to_owned(), at: UnixMillis(0) };
    for what in ["a", "b", "c"] {
        log.append(&root, &note(what)).await.expect("appended");
    }
    let memory = HeadMemory::at(&folder.path().join("head"));
    let pin = Pin { root: Some(root.key_id()), fleet: None, head: None };
    let mut reader = Reader::new(Arc::clone(&store), pin, memory.clone());
    assert!(reader.read().await.expect("reads").is_some());
    let seen = memory.recall().expect("readable").expect("remembered");
    assert_eq!(seen, log.seen());

    // The share is put back to its second record, and grows again, past what the agent has read.
    for number in 2..=3 {
        std::fs::remove_file(folder.path().join(format!("log/{number:010}"))).expect("removed");
    }
    let mut other = Log::open(Arc::clone(&store), pin).await.expect("nothing is remembered here");
    for what in ["d", "e", "f"] {
        other.append(&root, &note(what)).await.expect("appended");
    }
    for _ in 0..3 {
        reader.read().await.expect_err("another history");
    }
    assert_eq!(memory.recall().expect("readable"), Some(seen), "nothing else was remembered");

    let state = other.state();
    let adopt = Adopt {
        previous: state.statements.get(Adopt::KIND).copied(),
        share: Nonce::from_bytes([4; 16]),
        head: state.head,
        at: None,
    };
    let statement = seal_statement(&root, &state.fleet, &adopt);
    other.append_statement::<Adopt>(&root, statement).await.expect("adopted");
    let state = reader.read().await.expect("accepted").expect("another state");
    assert_eq!(state.head, other.head());
    assert_eq!(memory.recall().expect("readable"), Some(other.seen()));
}

/// An agent that is pointed to a copy would work for rounds that its share knows nothing of.
#[tokio::test]
async fn an_agent_whose_share_is_a_copy_says_so_and_follows_nothing() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("a share");
    let root = Signer::from_seed(&[1; 32]);
    let share = Nonce::from_bytes([3; 16]);
    let genesis =
        Genesis { name: "test".parse().expect("a name"), salt: [2; 32], share, created: UnixMillis(0) };
    let mut log = found(Arc::clone(&store), &root, &genesis).await.expect("founded");
    let mark = ObjectPath::Copy(share);
    store.put_new(&mark, Bytes::from_static(b"a copy")).await.expect("marked");
    let memory = HeadMemory::at(&folder.path().join("head"));
    let pin = Pin { root: Some(root.key_id()), fleet: None, head: None };
    let mut reader = Reader::new(Arc::clone(&store), pin, memory.clone());
    for _ in 0..2 {
        let error = reader.read().await.expect_err("a copy");
        assert!(matches!(error, ReadError::Copy { .. }), "{error}");
        assert_eq!(error.alert(), Code::Share08);
        assert!(error.to_string().contains("[share] url"), "{error}");
    }
    assert_eq!(memory.recall().expect("readable"), None, "its head binds nobody");
    // The root makes it the share, and the agent goes on.
    let state = log.state();
    let adopt = Adopt { previous: None, share: Nonce::from_bytes([4; 16]), head: state.head, at: None };
    let statement = seal_statement(&root, &state.fleet, &adopt);
    log.append_statement::<Adopt>(&root, statement).await.expect("adopted");
    assert!(reader.read().await.expect("the share").is_some());
}
