//! What the scribe refuses in the moment of the append, because the log has grown by then.

use muster_protocol::config::ShareConfig;
use std::sync::Arc;

use muster_protocol::age::Identity;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, ObjectId, RoundId};
use muster_protocol::log::{
    Body, Change, Commit, Epoch, Genesis, Member, Open, Outcome, Pin, Prune, Role, Roster, Scope, Sweep,
    seal_statement,
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
const PRUNER: u8 = 4;

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
    let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("a share");
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
    let members =
        [(LEADER, "one", Role::Coordinator), (AGENT, "dns", agent), (PRUNER, "pruner", Role::Pruner)];
    change(&mut log, members.map(|(number, name, role)| member(number, name, role)).into()).await;
    let epoch = Epoch { epoch: 1, instance: Nonce::from_bytes([4; 16]), at: UnixMillis(0) };
    log.append(&signer(LEADER), &epoch).await.expect("leads");
    log.append(&signer(LEADER), &open(1)).await.expect("opened");
    (folder, store, log)
}

fn round(number: u8) -> RoundId {
    RoundId::from_bytes([4 + number; 16])
}

fn open(number: u8) -> Open {
    Open {
        epoch: 1,
        round: round(number),
        number: number.into(),
        scope: Scope::All,
        nonce: Nonce::from_bytes([6; 16]),
        trigger: "test".to_owned(),
        deadline_millis: 1000,
        at: UnixMillis(0),
        cut: None,
    }
}

fn commit() -> Entry {
    commit_of(1, u64::MAX)
}

fn commit_of(number: u8, known: u64) -> Entry {
    let commit = Commit {
        epoch: 0,
        round: round(number),
        manifest: ObjectId::of(b"manifest"),
        manifest_size: 1,
        outcome: Outcome::Complete,
        at: UnixMillis(0),
    };
    Entry::Commit(commit, vec![signer(AGENT).key_id()], known)
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

#[tokio::test]
async fn nothing_is_committed_beside_a_sweep_that_nobody_looked_at() {
    let (_folder, _store, mut log) = led().await;
    write(&mut log, &signer(LEADER), 1, commit()).await.expect("the first round counts");
    let (rounds, list) = (vec![round(1)], ObjectId::of(b"list"));
    let mark = Prune { epoch: 1, rounds: rounds.clone(), list, at: None };
    log.append(&signer(PRUNER), &mark).await.expect("marked");
    log.append(&signer(LEADER), &open(2)).await.expect("opened");
    let checked = log.state().head.number;
    log.append(&signer(PRUNER), &Sweep { rounds, list }).await.expect("swept");
    let written = write(&mut log, &signer(LEADER), 1, commit_of(2, checked)).await;
    assert!(matches!(written, Err(ScribeError::Swept)), "{written:?}");
    let looked = log.state().head.number;
    write(&mut log, &signer(LEADER), 1, commit_of(2, looked)).await.expect("looked at");
    assert!(log.state().without_effect.is_empty());
}
