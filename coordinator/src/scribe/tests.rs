//! What the scribe refuses in the moment of the append, because the log has grown by then.

use std::sync::Arc;

use muster_protocol::age::Identity;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, ObjectId, RoundId};
use muster_protocol::log::{
    Body, Change, Commit, Epoch, Genesis, Member, Open, Outcome, Pin, Role, Roster, Scope, seal_statement,
};
use muster_protocol::time::UnixMillis;
use muster_share::entropy::OsEntropy;
use muster_share::log::{Log, found};
use muster_share::store::{self, Store};
use tempfile::TempDir;

use super::{Entry, ScribeError, write};

const ROOT: u8 = 1;
const LEADER: u8 = 2;
const AGENT: u8 = 3;

fn signer(number: u8) -> Signer {
    Signer::from_seed(&[number; 32])
}

async fn change(log: &mut Log, changes: Vec<Change>) {
    let state = log.state();
    let roster = Roster { previous: state.statements.get(Roster::KIND).copied(), changes };
    let statement = seal_statement(&signer(ROOT), &state.fleet, &roster);
    log.append_statement::<Roster>(&signer(ROOT), statement).await.expect("the roster changes");
}

/// A fleet with one agent, led in epoch 1, with one open round.
async fn led() -> (TempDir, Arc<dyn Store>, Log) {
    let folder = TempDir::new().expect("a folder");
    let store = store::open(&folder.path().to_string_lossy()).await.expect("a share");
    let genesis = Genesis {
        name: "test".parse().expect("a name"),
        salt: [2; 32],
        share: Nonce::from_bytes([3; 16]),
        created: UnixMillis(0),
    };
    let mut log = found(Arc::clone(&store), &signer(ROOT), &genesis).await.expect("founded");
    let member = |number: u8, name: &str, role| {
        let (key, name) = (signer(number).key_id(), name.parse().expect("a name"));
        Change::Admit(Member { key, name, role })
    };
    let sealing = Identity::generate(&mut OsEntropy).recipient();
    let agent = Role::Agent { service: "dns".parse().expect("a name"), sealing };
    change(&mut log, vec![member(LEADER, "one", Role::Coordinator), member(AGENT, "dns", agent)]).await;
    let epoch = Epoch { epoch: 1, instance: Nonce::from_bytes([4; 16]), at: UnixMillis(0) };
    log.append(&signer(LEADER), &epoch).await.expect("leads");
    let open = Open {
        epoch: 1,
        round: RoundId::from_bytes([5; 16]),
        number: 1,
        scope: Scope::All,
        nonce: Nonce::from_bytes([6; 16]),
        trigger: "test".to_owned(),
        deadline_millis: 1000,
        at: UnixMillis(0),
        cut: None,
    };
    log.append(&signer(LEADER), &open).await.expect("opened");
    (folder, store, log)
}

fn commit() -> Entry {
    let commit = Commit {
        epoch: 0,
        round: RoundId::from_bytes([5; 16]),
        manifest: ObjectId::of(b"manifest"),
        manifest_size: 1,
        outcome: Outcome::Complete,
        at: UnixMillis(0),
    };
    Entry::Commit(commit, vec![signer(AGENT).key_id()])
}

#[tokio::test]
async fn a_revocation_that_takes_the_slot_of_a_commit_keeps_its_slice_out() {
    let (_folder, store, mut log) = led().await;
    // Behind the scribe's back: it learns of it by losing the slot.
    let mut other = Log::open(store, Pin::default()).await.expect("opens");
    change(&mut other, vec![Change::Revoke(signer(AGENT).key_id())]).await;
    let written = write(&mut log, &signer(LEADER), 1, commit()).await;
    assert!(
        matches!(written, Err(ScribeError::Disowned { key }) if key == signer(AGENT).key_id()),
        "{written:?}"
    );
    assert!(log.state().rounds.values().all(|round| round.commit().is_none()));

    let (_folder, _store, mut log) = led().await;
    write(&mut log, &signer(LEADER), 1, commit()).await.expect("nobody was revoked");
    assert!(log.state().rounds.values().all(|round| round.commit().is_some()));
}

#[tokio::test]
async fn a_revoked_leader_appends_nothing() {
    let (_folder, store, mut log) = led().await;
    let mut other = Log::open(store, Pin::default()).await.expect("opens");
    change(&mut other, vec![Change::Revoke(signer(LEADER).key_id())]).await;
    let written = write(&mut log, &signer(LEADER), 1, commit()).await;
    assert!(matches!(written, Err(ScribeError::Revoked { .. })), "{written:?}");
    assert_eq!(log.head(), other.head());
    assert!(log.state().void.is_empty() && log.state().without_effect.is_empty());
}
