//! The log on a real folder: founding, appending, racing, tearing, going back, and segments.

use std::path::Path;
use std::sync::Arc;

use muster_protocol::age::Identity;
use muster_protocol::alert::Code;
use muster_protocol::config::ShareConfig;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, ObjectId};
use muster_protocol::log::{
    Adopt, Audit, Body, Genesis, Head, Keyset, KeysetKey, MAX_RECORD_LEN, Pin, ReplayError, Seen,
    seal_statement,
};
use muster_protocol::time::UnixMillis;
use tempfile::TempDir;

use super::segment::SLOTS;
use super::{AppendError, HeadMemory, Log, LogError, VerifiedSegments, found, parse_head, refusals};
use crate::entropy::OsEntropy;
use crate::layout::ObjectPath;
use crate::store::{self, Store};

fn root() -> Signer {
    Signer::from_seed(&[1; 32])
}

fn note(what: &str) -> Audit {
    Audit { who: root().key_id(), what: what.to_owned(), at: UnixMillis(0) }
}

async fn founded() -> (TempDir, Arc<dyn Store>, Log) {
    founded_as("test", [2; 32]).await
}

async fn founded_as(name: &str, salt: [u8; 32]) -> (TempDir, Arc<dyn Store>, Log) {
    let folder = TempDir::new().expect("folder");
    let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("share");
    let genesis = Genesis {
        name: name.parse().expect("name"),
        salt,
        share: Nonce::from_bytes([3; 16]),
        created: UnixMillis(0),
    };
    let log = found(store.clone(), &root(), &genesis).await.expect("founded");
    (folder, store, log)
}

fn slot(folder: &Path, number: u64) -> std::path::PathBuf {
    folder.join(format!("log/{number:010}"))
}

#[tokio::test]
async fn what_is_appended_is_read_by_others_and_a_second_fleet_is_refused() {
    let (_folder, store, mut log) = founded().await;
    let key = Identity::generate(&mut OsEntropy).recipient();
    let keyset =
        Keyset { previous: None, keys: vec![KeysetKey { recipient: key, label: "one".into() }], at: None };
    let statement = seal_statement(&root(), &log.state().fleet, &keyset);
    let head = log.append_statement::<Keyset>(&root(), statement).await.expect("appended");
    let other =
        Log::open(store.clone(), Pin { root: Some(root().key_id()), ..Pin::default() }).await.expect("opens");
    assert_eq!(other.head(), head);
    assert_eq!(other.state().keyset(), Some((1, &keyset)));
    let genesis = Genesis {
        name: "other".parse().expect("name"),
        salt: [9; 32],
        share: Nonce::from_bytes([3; 16]),
        created: UnixMillis(0),
    };
    assert!(matches!(found(store.clone(), &root(), &genesis).await, Err(AppendError::Store(_))));
    let wrong = Pin { root: Some(Signer::from_seed(&[9; 32]).key_id()), ..Pin::default() };
    assert!(matches!(Log::open(store, wrong).await, Err(LogError::Replay(ReplayError::Genesis { .. }))));
}

#[tokio::test]
async fn nothing_is_written_to_a_folder_that_is_not_the_share() {
    let (folder, _store, mut log) = founded().await;
    let format = folder.path().join("FORMAT");
    // As when a mount is gone: the folder is there, and empty.
    let (away, kept) = (folder.path().join("log-away"), folder.path().join("format-away"));
    std::fs::rename(folder.path().join("log"), &away).expect("moved");
    std::fs::rename(&format, &kept).expect("moved");
    let strange = |said: &Result<_, AppendError>| matches!(said, Err(AppendError::Log(error @ LogError::Strange { .. })) if error.is_transient());
    let said = log.append(&root(), &note("lost")).await;
    assert!(strange(&said) && !folder.path().join("log").exists(), "{said:?}");
    // Or when another fleet's share is in its place.
    let (_other, store, _) = founded_as("other", [7; 32]).await;
    let bytes = store.get(&ObjectPath::Format, 1_000).await.expect("read");
    std::fs::write(&format, bytes).expect("written");
    assert!(strange(&log.append(&root(), &note("lost")).await));
    std::fs::rename(&kept, &format).expect("moved back");
    std::fs::rename(&away, folder.path().join("log")).expect("moved back");
    log.append(&root(), &note("kept")).await.expect("it is the share again");
}

#[tokio::test]
async fn a_lost_slot_is_told_and_the_next_one_taken() {
    let (_folder, store, mut one) = founded().await;
    let mut two = Log::open(store, Pin::default()).await.expect("opens");
    one.append(&root(), &note("one")).await.expect("appended");
    assert!(matches!(two.append(&root(), &note("two")).await, Err(AppendError::Lost)));
    let head = two.append(&root(), &note("two")).await.expect("appended after reading on");
    assert_eq!(head.number, 2);
    one.refresh().await.expect("reads on");
    assert_eq!(one.head(), head);
}

#[tokio::test]
async fn a_torn_slot_is_passed_over() {
    let (folder, store, mut log) = founded().await;
    std::fs::write(slot(folder.path(), 1), b"torn").expect("written");
    assert!(matches!(log.append(&root(), &note("a")).await, Err(AppendError::Lost)));
    assert_eq!(log.append(&root(), &note("a")).await.expect("appended").number, 2);
    let other = Log::open(store, Pin::default()).await.expect("opens");
    assert_eq!((other.head(), other.state().void.as_slice()), (log.head(), &[1][..]));
}

#[tokio::test]
async fn a_log_that_went_back_is_noticed() {
    let (folder, store, mut log) = founded().await;
    log.append(&root(), &note("a")).await.expect("appended");
    let memory = HeadMemory::at(&folder.path().join("head"));
    assert_eq!(memory.recall().expect("nothing yet"), None);
    memory.remember(&log.seen()).expect("remembered");
    let seen = memory.recall().expect("recalled");
    assert_eq!(seen, Some(log.seen()));
    assert_eq!(parse_head(&log.head().to_string()), Some(log.head()));
    std::fs::remove_file(slot(folder.path(), 1)).expect("removed");
    let pin = Pin { head: seen, ..Pin::default() };
    assert!(matches!(Log::open(store, pin).await, Err(LogError::Shortened { head: 0, seen: 1 })));
}

#[tokio::test]
async fn the_trail_leads_from_the_head_back_and_notices_what_was_exchanged() {
    let (folder, _store, mut log) = founded().await;
    for what in ["a", "b", "c"] {
        log.append(&root(), &note(what)).await.expect("appended");
    }
    let mut numbers = Vec::new();
    let mut trail = log.trail();
    while let Some(record) = trail.back().await.expect("read") {
        numbers.push((record.number, record.kind));
    }
    let expected = [(3, "audit"), (2, "audit"), (1, "audit"), (0, "genesis")];
    assert_eq!(numbers, expected.map(|(number, kind)| (number, kind.to_owned())));
    let (second, third) = (slot(folder.path(), 2), slot(folder.path(), 3));
    std::fs::remove_file(&second).expect("removed");
    std::fs::copy(&third, &second).expect("another record in its place");
    let mut trail = log.trail();
    assert_eq!(trail.back().await.expect("read").map(|record| record.number), Some(3));
    let exchanged = trail.back().await;
    assert!(
        matches!(exchanged, Err(LogError::Replay(ReplayError::WentBack { number: 2, .. }))),
        "{exchanged:?}"
    );
}

/// The root accepts the log as it stands.
async fn adopt(log: &mut Log, signer: &Signer, share: u8) -> Result<Head, AppendError> {
    let state = log.state();
    let previous = state.statements.get(Adopt::KIND).copied();
    let adopt = Adopt { previous, share: Nonce::from_bytes([share; 16]), head: state.head, at: None };
    let statement = seal_statement(signer, &state.fleet, &adopt);
    log.append_statement::<Adopt>(&root(), statement).await
}

#[tokio::test]
async fn a_shortened_log_is_accepted_once_the_root_adopts_it() {
    let (folder, store, mut log) = founded().await;
    // This adoption is known: it opens no door.
    adopt(&mut log, &root(), 1).await.expect("adopted");
    let kept = log.head().number;
    for what in ["a", "b"] {
        log.append(&root(), &note(what)).await.expect("appended");
    }
    let memory = HeadMemory::at(&folder.path().join("head"));
    memory.remember(&log.seen()).expect("remembered");
    let pin = Pin { head: memory.recall().expect("recalled"), ..Pin::default() };
    assert_eq!(pin.head, Some(Seen { head: log.head(), adopts: 1 }));
    for number in kept + 1..=log.head().number {
        std::fs::remove_file(slot(folder.path(), number)).expect("removed");
    }
    let reading = Log::open(store.clone(), pin).await;
    assert!(matches!(reading, Err(LogError::Shortened { head: 1, seen: 3 })), "{reading:?}");

    let mut short = Log::open(store.clone(), Pin::default()).await.expect("nothing is remembered");
    let stranger = Signer::from_seed(&[7; 32]);
    let forged = adopt(&mut short, &stranger, 2).await;
    assert!(matches!(forged, Err(AppendError::Refused { .. })), "{forged:?}");
    // Also where somebody writes such a record all the same, and goes on past the remembered head.
    let mut state = short.state().clone();
    let statement = seal_statement(
        &stranger,
        &state.fleet,
        &Adopt {
            previous: state.statements.get(Adopt::KIND).copied(),
            share: Nonce::from_bytes([2; 16]),
            head: state.head,
            at: None,
        },
    );
    let forged = muster_protocol::log::seal_with_statement(
        &root(),
        &state.fleet,
        state.next,
        state.head,
        Adopt::KIND,
        statement,
    );
    state.replay(&forged).expect("a link without effect");
    let more = muster_protocol::log::seal(&root(), &state.fleet, state.next, state.head, &note("c"));
    for (number, bytes) in [(2, &forged), (3, &more)] {
        std::fs::write(slot(folder.path(), number), bytes).expect("written");
    }
    let reading = Log::open(store.clone(), pin).await;
    let went_back = LogError::Replay(ReplayError::WentBack { number: 3, seen: log.head() }).to_string();
    assert_eq!(reading.expect_err("forged").to_string(), went_back);

    // The root adopts it behind the remembered head: a reader sees that only after the place of contradiction.
    let mut short = Log::open(store.clone(), Pin::default()).await.expect("nothing is remembered");
    adopt(&mut short, &root(), 3).await.expect("adopted");
    let reader = Log::open(store.clone(), pin).await.expect("the root has adopted it");
    assert_eq!(reader.seen(), Seen { head: short.head(), adopts: 2 });
    memory.remember(&reader.seen()).expect("remembered");
    let pin = Pin { head: memory.recall().expect("recalled"), ..Pin::default() };
    assert_eq!(pin.head, Some(reader.seen()));
    Log::open(store.clone(), pin).await.expect("what was remembered is there");
    let exactly = Pin { head: Some(Seen::exactly(log.head())), ..Pin::default() };
    Log::open(store, exactly).await.expect_err("a head that is asked for by name is not adopted away");
}

#[tokio::test]
async fn a_lost_record_in_the_middle_is_never_appended_over() {
    let (folder, store, mut log) = founded().await;
    for what in ["a", "b", "c"] {
        log.append(&root(), &note(what)).await.expect("appended");
    }
    std::fs::remove_file(slot(folder.path(), 2)).expect("removed");
    let opened = Log::open(store, Pin::default()).await;
    assert!(matches!(opened, Err(LogError::Gap { missing: 2, newest: 3 })), "{opened:?}");
}

#[tokio::test]
async fn junk_above_the_head_is_passed_over_and_a_record_there_is_not() {
    let (folder, store, mut log) = founded().await;
    log.append(&root(), &note("a")).await.expect("appended");
    // A record of this fleet in another slot, one of a key that may not append, and what nobody signed.
    let stray = std::fs::read(slot(folder.path(), 1)).expect("a record");
    let stranger = Signer::from_seed(&[9; 32]);
    let state = log.state().clone();
    let sealed = |signer: &Signer, number: u64| {
        muster_protocol::log::seal(signer, &state.fleet, number, state.head, &note("x"))
    };
    for (number, bytes) in [
        (3, b"junk".to_vec()),
        (6, stray),
        (7, sealed(&stranger, 7)),
        (8, vec![7; MAX_RECORD_LEN + 1]),
        (9_999_999_999, b"junk".to_vec()),
    ] {
        std::fs::write(slot(folder.path(), number), bytes).expect("written");
    }
    std::fs::create_dir(slot(folder.path(), 4)).expect("a folder");
    let mut log = Log::open(store.clone(), Pin::default()).await.expect("opens");
    assert_eq!(log.above(), [3, 6, 7, 8, 9_999_999_999]);
    let refused = refusals(store.as_ref(), log.state(), &log.above(), 0).await.expect("read");
    let told: Vec<_> = refused.iter().map(|refused| (refused.number, refused.code)).collect();
    let (key, torn) = (Code::Key03, Code::Share07);
    assert_eq!(told, [(3, torn), (6, key), (7, key), (8, torn), (9_999_999_999, torn)]);

    // The log gets there: then they are void slots like others.
    for number in [2, 5, 9] {
        log.refuse_next_gap().await.expect("no gap");
        while matches!(log.append(&root(), &note("b")).await, Err(AppendError::Lost)) {}
        assert_eq!(log.head().number, number);
    }
    assert_eq!((log.state().void.as_slice(), log.above()), (&[3, 4, 6, 7, 8][..], vec![9_999_999_999]));

    // A member's record is another thing, and junk before it hides nothing.
    std::fs::write(slot(folder.path(), 11), b"junk").expect("written");
    std::fs::write(slot(folder.path(), 14), sealed(&root(), 14)).expect("written");
    let gap = |found: &Result<(), LogError>| matches!(found, Err(LogError::Gap { missing: 10, newest: 14 }));
    let found = log.refuse_next_gap().await;
    assert!(gap(&found), "{found:?}");
    let found = Log::open(store, Pin::default()).await.map(drop);
    assert!(gap(&found), "{found:?}");
}

#[tokio::test]
async fn each_junk_slot_is_opened_once_and_not_all_of_very_many() {
    let (folder, store, mut log) = founded().await;
    for number in 3..1000 {
        std::fs::write(slot(folder.path(), number), b"junk").expect("written");
    }
    log.refuse_gap().await.expect("no gap");
    let seen = log.above();
    assert!(seen.len() < 100, "{}", seen.len());
    // What was seen to be no record is not opened again: nobody who may append writes it anew.
    let sealed = muster_protocol::log::seal(&root(), &log.state().fleet, 3, log.state().head, &note("x"));
    std::fs::write(slot(folder.path(), 3), sealed).expect("written");
    log.refuse_next_gap().await.expect("no look");
    log.refuse_gap().await.expect("not opened");
    assert!(Log::open(store, Pin::default()).await.is_err(), "a new reader opens it");
}

#[tokio::test]
async fn an_empty_folder_is_no_share() {
    let folder = TempDir::new().expect("folder");
    let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("folder");
    assert!(matches!(Log::open(store, Pin::default()).await, Err(LogError::NotAShare { .. })));
}

/// A long log, without waiting for a thousand fsyncs.
async fn long() -> (TempDir, Arc<dyn Store>, Head) {
    let (folder, store, log) = founded().await;
    let mut state = log.state().clone();
    while state.next < SLOTS + 5 {
        let bytes = muster_protocol::log::seal(&root(), &state.fleet, state.next, state.head, &note("x"));
        std::fs::write(slot(folder.path(), state.next), &bytes).expect("written");
        state.replay(&bytes).expect("replays");
    }
    (folder, store, state.head)
}

#[tokio::test]
async fn a_segment_stands_for_its_slots_and_a_lying_one_for_nothing() {
    let (folder, store, head) = long().await;
    let log = Log::open(store.clone(), Pin::default()).await.expect("opens");
    log.write_segment().await.expect("written");
    let segment = folder.path().join("log/segment-0000000000");
    let bytes = std::fs::read(&segment).expect("the segment");

    // With a slot gone, only a reader that takes the segment still gets through.
    let kept = std::fs::read(slot(folder.path(), 500)).expect("slot");
    std::fs::remove_file(slot(folder.path(), 500)).expect("removed");
    assert_eq!(Log::open(store.clone(), Pin::default()).await.expect("opens").head(), head);
    std::fs::write(slot(folder.path(), 500), kept).expect("back");

    // Its last record blanked: it replays as void, and what follows would look like a fork.
    let last = std::fs::read(slot(folder.path(), SLOTS - 1)).expect("slot").len();
    let mut lying = bytes.clone();
    let at = lying.len() - last;
    lying[at..].fill(0);
    for bad in [lying, bytes[..bytes.len() - 1].to_vec(), b"garbage".to_vec()] {
        std::fs::remove_file(&segment).expect("removed");
        std::fs::write(&segment, bad).expect("written");
        assert_eq!(Log::open(store.clone(), Pin::default()).await.expect("opens").head(), head);
    }
}

#[tokio::test]
async fn a_segment_is_verified_once_and_what_changed_again() {
    let (folder, store, head) = long().await;
    let log = Log::open(store.clone(), Pin::default()).await.expect("opens");
    log.write_segment().await.expect("written");
    let (fleet, root_key) = (log.state().fleet, root().key_id());
    let pin = Pin { root: Some(root_key), fleet: Some(fleet), head: None };
    let state = folder.path().join("state");
    let recall = || VerifiedSegments::recall(&state, &fleet, &root_key);
    let knowing = || Log::open_knowing(store.clone(), pin, recall());
    let segment = folder.path().join("log/segment-0000000000");
    let bytes = std::fs::read(&segment).expect("the segment");
    let first = knowing().await.expect("opens");
    assert!(recall().has(0, &ObjectId::of(&bytes)), "remembered");
    let second = knowing().await.expect("opens");
    let plain = Log::open(store.clone(), pin).await.expect("opens");
    for log in [&first, &second] {
        assert_eq!((log.head(), log.state()), (head, plain.state()), "equal with and without");
    }

    // One bit of a signature in the segment: these bytes were not verified, so they are, and refused.
    let len = std::fs::read(slot(folder.path(), 0)).expect("slot").len();
    let mut forged = bytes.clone();
    forged[4 + len - 1] ^= 1;
    let exchange = |bytes: &[u8]| {
        std::fs::remove_file(&segment).expect("removed");
        std::fs::write(&segment, bytes).expect("written");
    };
    exchange(&forged);
    assert_eq!(knowing().await.expect("by its slots").state(), plain.state());
    assert!(!recall().has(0, &ObjectId::of(&forged)));

    // A forged memory of a segment that nobody signed: all is chained, in the root's name.
    let mut lie = Vec::new();
    let mut previous = None;
    for number in 0..SLOTS {
        let own = std::fs::read(slot(folder.path(), number)).expect("slot");
        let record = match previous {
            None => own,
            Some(previous) => {
                let mut bytes = muster_protocol::log::seal(&root(), &fleet, number, previous, &note("lie"));
                let end = bytes.len() - 1;
                bytes[end] ^= 1;
                bytes
            }
        };
        previous = Some(Head { number, hash: ObjectId::of(&record) });
        lie.extend_from_slice(&u32::try_from(record.len()).expect("short").to_be_bytes());
        lie.extend_from_slice(&record);
    }
    exchange(&lie);
    let mut memory = recall();
    memory.add(0, ObjectId::of(&lie));
    memory.keep();
    assert!(recall().has(0, &ObjectId::of(&lie)), "the forged memory is in place");
    assert_eq!(knowing().await.expect("by its slots").state(), plain.state());
}

#[test]
fn a_memory_that_many_write_reads_at_any_time_and_ends_with_the_highest() {
    let folder = tempfile::tempdir().expect("folder");
    let memory = HeadMemory::at(&folder.path().join("head"));
    let seen = |number: u64| Seen {
        head: Head { number, hash: muster_protocol::ids::ObjectId::of(&number.to_be_bytes()) },
        adopts: 0,
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let memory = &memory;
            scope.spawn(move || {
                for round in 0..20 {
                    memory.remember(&seen(1 + (thread * 7 + round * 3) % 100)).expect("written");
                    assert!(memory.recall().expect("it reads").is_some());
                }
            });
        }
    });
    let highest = (0..8).flat_map(|t| (0..20).map(move |r| 1 + (t * 7 + r * 3) % 100)).max();
    assert_eq!(memory.recall().expect("it reads").map(|seen| seen.head.number), highest);
    // Less counts again once the root adopted it.
    let adopted = Seen { adopts: 1, ..seen(2) };
    memory.remember(&adopted).expect("written");
    assert_eq!(memory.recall().expect("it reads"), Some(adopted));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing temporary is left");
}
