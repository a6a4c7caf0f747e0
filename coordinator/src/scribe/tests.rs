//! What the scribe refuses in the moment of the append, because the log has grown by then; and what it finds there although
//! nobody heard so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_protocol::ids::ObjectId;
use muster_protocol::log::{Change, Commit, End, Found, Outcome, Pin, Prune, Quarantine, Sweep};
use muster_protocol::time::UnixMillis;
use muster_share::layout::ObjectPath;
use muster_share::log::{AppendError, HeadMemory, Log};
use muster_share::store::Store;
use muster_share::store::faults::{Fault, Faulty, Op};
use tempfile::TempDir;

use super::{Entry, ScribeError, spawn, write};
use crate::fixture::{AGENT, LEADER, PRUNER, change, led, open, round, signer};
use crate::lead::Standing;

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
    assert!(matches!(written, Err(ScribeError::Refused)), "{written:?}");
    let looked = log.state().head.number;
    write(&mut log, &signer(LEADER), 1, commit_of(2, looked)).await.expect("looked at");
    assert!(log.state().without_effect.is_empty());
}

#[tokio::test]
async fn nothing_is_committed_beside_a_quarantine_that_nobody_looked_at() {
    let (_folder, _store, mut log) = led().await;
    let checked = log.state().head.number;
    let object = ObjectId::of(b"pack");
    let said = |add: Vec<ObjectId>, lift: Vec<ObjectId>| {
        let service = "dns".parse().expect("a name");
        Entry::Quarantine(Quarantine { epoch: 0, service, add, found: Found::Bytes, lift, at: UnixMillis(0) })
    };
    write(&mut log, &signer(LEADER), 1, said(vec![object], vec![])).await.expect("said");
    let head = log.state().head.number;
    write(&mut log, &signer(LEADER), 1, said(vec![object], vec![])).await.expect("it stands already");
    assert_eq!(log.state().head.number, head);
    let written = write(&mut log, &signer(LEADER), 1, commit_of(1, checked)).await;
    assert!(matches!(written, Err(ScribeError::Refused)), "{written:?}");
    write(&mut log, &signer(LEADER), 1, commit_of(1, head)).await.expect("looked at");
    write(&mut log, &signer(LEADER), 1, said(vec![], vec![object])).await.expect("lifted");
    assert!(log.state().quarantine.is_empty() && log.state().without_effect.is_empty());
}

/// A share that takes the record of this number, and whose answer is lost.
fn unheard(store: Arc<dyn Store>, number: u64) -> Arc<dyn Store> {
    let slot = ObjectPath::LogRecord(number).to_string();
    Arc::new(Faulty::new(store, move |call| {
        if call.op == Op::Put && call.path == slot { Fault::LostReply } else { Fault::None }
    }))
}

#[tokio::test]
async fn a_round_whose_opening_nobody_heard_of_is_ended_all_the_same() {
    let (_folder, store, mut other) = led().await;
    write(&mut other, &signer(LEADER), 1, commit()).await.expect("the first round is over");
    let faulty = unheard(store, other.state().next);
    let mut log = Log::open(faulty, Pin::default()).await.expect("opens");
    let opened = write(&mut log, &signer(LEADER), 1, Entry::Open(open(2))).await;
    assert!(matches!(opened, Err(ScribeError::Append(AppendError::Store(_)))), "{opened:?}");
    assert!(!log.state().rounds.contains_key(&round(2)), "nothing was heard of it");
    let end = End {
        epoch: 0,
        round: round(2),
        outcome: Outcome::Failed,
        reason: "it could not be opened".to_owned(),
        at: UnixMillis(0),
        account: None,
    };
    write(&mut log, &signer(LEADER), 1, Entry::End(end)).await.expect("ended");
    other.refresh().await.expect("reads on");
    let outcome = other.state().rounds.get(&round(2)).expect("its opening got through").outcome();
    assert_eq!(outcome, Some(Outcome::Failed));
}

#[tokio::test]
async fn a_leader_that_slept_longer_than_its_lease_reads_the_log_before_it_writes() {
    let (_folder, store, other) = led().await;
    let (slot, blind) =
        (ObjectPath::LogRecord(other.state().next).to_string(), Arc::new(AtomicBool::new(false)));
    let is_blind = Arc::clone(&blind);
    let store: Arc<dyn Store> = Arc::new(Faulty::new(store, move |call| {
        let reads = matches!(call.op, Op::Get | Op::Head) && call.path == slot;
        if reads && is_blind.load(Ordering::Relaxed) { Fault::Unreachable } else { Fault::None }
    }));
    let log = Log::open(store, Pin::default()).await.expect("opens");
    let folder = TempDir::new().expect("a folder");
    let memory = HeadMemory::at(&folder.path().join("head"));
    let standing = Standing::doubtful(1);
    let (scribe, _) = spawn(log, Arc::new(signer(LEADER)), standing, 1, memory);
    blind.store(true, Ordering::Relaxed);
    // What became of its epoch while it slept cannot be read now.
    let written = scribe.write(commit()).await;
    assert!(matches!(written, Err(ScribeError::Append(AppendError::Log(_)))), "{written:?}");
    blind.store(false, Ordering::Relaxed);
    scribe.write(commit()).await.expect("it still leads");
}
