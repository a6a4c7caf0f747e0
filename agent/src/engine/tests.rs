//! The engine on a real folder: what it stores reads back, what is stored already is not stored again, and no fault loses a byte.

mod fleet;
mod lost;
mod reader;
mod rewrite;
mod seen;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use muster_protocol::age::Identity;
use muster_protocol::alert::Code;
use muster_protocol::document::{ObjectRef, SliceStatus};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, ObjectId, RoundId};
use muster_protocol::log::Head;
use muster_share::entropy::OsEntropy;
use muster_share::entry::Gap;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::store::StoreError;
use muster_share::store::faults::{Fault, Faulty, Op};

use super::{CancelFlag, CaptureRequest, EngineError, Progress, Stage};
use crate::source::{CaptureContext, Cause, Sink, Stopped};
use crate::state::{FILE_NAME, State};

use fleet::{Fleet, file, files, noise, scripted};

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_back_and_what_is_unchanged_is_not_stored_again() {
    let mut fleet = Fleet::with_tree().await;
    let first = fleet.slice().await;
    let totals = first.receipt.totals;
    assert!(first.packs.len() > 5, "files longer than a pack are spread");
    // 1.5 MB twice and 1.7 MB of small files twice; a little waste is allowed.
    assert!(totals.source_bytes > 6_000_000 && totals.stored_bytes < 3_600_000, "{totals:?}");
    assert!(totals.added_bytes > totals.stored_bytes && totals.added_bytes < totals.stored_bytes + 100_000);
    assert_eq!((first.receipt.new_packs, first.receipt.status), (1, SliceStatus::Whole));

    let packs = fleet.packs().await.len();
    let second = fleet.slice().await;
    assert_eq!(fleet.packs().await.len(), packs, "no new pack");
    assert_eq!((second.receipt.new_packs, &second.receipt.packs), (0, &first.receipt.packs));
    assert!(second.receipt.totals.added_bytes < 5000, "{:?}", second.receipt.totals);
    assert!(second.receipt.previous.is_some());

    let big = fs::OpenOptions::new().write(true).open(fleet.data().join("a/big")).expect("opens");
    big.write_all_at(b"changed", 700_000).expect("written");
    let third = fleet.slice().await;
    assert!(third.receipt.totals.added_bytes < 150_000, "{:?}", third.receipt.totals);
    assert_eq!(third.receipt.new_packs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_fails_at_any_put_is_taken_up_by_the_next() {
    let mut fleet = Fleet::with_one_file().await;
    fleet.config.workers = 2;
    let clean = fleet.slice().await.packs.len();
    for nth in 0.. {
        let mut fleet = Fleet::with_one_file().await;
        fleet.config.workers = 2;
        fleet.break_puts(move |put, _| put == nth);
        match fleet.capture().await {
            Ok(_) => {
                assert!(nth > 5, "every put was broken once");
                break;
            }
            Err(error) => {
                assert!(
                    matches!(&error, EngineError::Store { source: StoreError::Unreachable { .. }, .. }),
                    "{error}"
                );
                assert_eq!((error.code(), error.is_permanent()), (Code::Share01, false));
            }
        }
        let uploaded: HashSet<ObjectId> =
            fleet.packs().await.iter().filter_map(|path| path.id().copied()).collect();
        fleet.store = Arc::clone(&fleet.share);
        let slice = fleet.slice().await;
        let used = slice.packs.values().filter(|(id, _)| uploaded.contains(id)).count();
        // What was on its way besides the broken one is given up.
        assert!(used + 2 >= uploaded.len(), "{used} of {} used again", uploaded.len());
        assert!(slice.packs.len() <= clean + 4, "{} packs", slice.packs.len());
        assert_eq!(slice.receipt.new_packs, 1, "packs of a slice that never counted are new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_costs_an_upload_and_nothing_else() {
    let mut fleet = Fleet::with_tree().await;
    let first = fleet.slice().await;
    fs::remove_file(fleet.dir.path().join("state").join(FILE_NAME)).expect("removed");
    let second = fleet.slice().await;
    assert!(second.packs.values().all(|pack| !first.packs.values().any(|old| old == pack)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_is_found_again_through_the_newest_own_receipt() {
    let mut fleet = Fleet::with_tree().await;
    fleet.slice().await;
    fs::write(fleet.data().join("later"), noise(99, 300_000)).expect("file");
    let newest = fleet.slice().await;
    let before = fleet.packs().await.len();
    for (signer, round_trips) in [(Signer::from_seed(&[6; 32]), false), (fleet.signer.clone(), true)] {
        fs::remove_file(fleet.dir.path().join("state").join(FILE_NAME)).expect("removed");
        let request = fleet.request();
        let agent = Identity::parse_file(&fleet.agent.to_file_text("now")).expect("parses").remove(0);
        let engine = fleet.engine();
        let known = engine.resume(&request, agent, signer.key_id()).await.expect("reads");
        assert_eq!(known, if round_trips { newest.packs.len() } else { 0 });
    }
    let again = fleet.slice().await;
    assert_eq!(fleet.packs().await.len(), before, "nothing is uploaded again");
    // A list that is written anew leaves out what no entry needs any more.
    assert!(again.packs.iter().all(|(number, pack)| newest.packs.get(number) == Some(pack)));
    assert_eq!(again.receipt.new_packs, 1, "whether the former receipt counted is not known");
    let request = fleet.request();
    let agent = Identity::generate(&mut OsEntropy);
    let known = fleet.engine().resume(&request, agent, fleet.signer.key_id()).await.expect("nothing to do");
    assert_eq!(known, 0, "what is remembered is not read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_many_workers_meet_at_once_is_stored_once() {
    for _ in 0..3 {
        let mut fleet = Fleet::new().await;
        fleet.config.workers = 8;
        // Longer than a job of small files: each worker has one of its own, and all begin with the same chunks.
        for n in 0..8 {
            fs::write(fleet.data().join(format!("{n}")), noise(1, 2_000_000)).expect("file");
        }
        fleet.sources = vec![files("one", &fleet.data())];
        let slice = fleet.slice().await;
        let once: HashSet<_> = slice.chunks.iter().collect();
        assert!(once.len() > 60, "{}", once.len());
        assert_eq!(slice.chunks.len(), once.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_torn_or_refused_is_uploaded_again() {
    let mut fleet = Fleet::with_tree().await;
    // Slices are compared pack by pack: nothing is given up meanwhile, and one worker packs in one order.
    fleet.config.rewrite_bytes = 0;
    fleet.config.workers = 1;
    let first = fleet.slice().await;
    let root = fleet.dir.path().join("share");
    let victims: Vec<ObjectId> = first.packs.values().map(|(id, _)| *id).take(3).collect();
    let path = |id: ObjectId| root.join(ObjectPath::Pack { service: Fleet::service(), id }.to_string());
    fs::remove_file(path(victims[0])).expect("removed");
    fs::write(path(victims[1]), b"torn").expect("torn");
    fleet.refused.insert(victims[2]);
    let second = fleet.slice().await;
    let named: HashSet<ObjectId> = second.packs.values().map(|(id, _)| *id).collect();
    assert!(victims.iter().all(|id| !named.contains(id)));
    let kept = first.packs.values().filter(|(id, _)| named.contains(id)).count();
    assert!(kept + 4 >= first.packs.len(), "all others but that of the entries are used again");

    // The lists themselves.
    let ObjectRef { round, id, .. } = second.receipt.packs[0];
    let list = ObjectPath::Slice { service: Fleet::service(), round, id, part: SlicePart::Packs };
    fs::remove_file(root.join(list.to_string())).expect("removed");
    let third = fleet.slice().await;
    assert_eq!((third.receipt.new_packs, &third.packs), (1, &second.packs));
    fleet.refused.insert(third.receipt.chunks[0].id);
    let fourth = fleet.slice().await;
    assert!(fourth.receipt.new_packs == 1 && fourth.packs == third.packs);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_recovery_keys_mean_new_packs() {
    let mut fleet = Fleet::with_tree().await;
    let first = fleet.slice().await;
    fleet.keyset = 9;
    fleet.recovery = vec![Identity::generate(&mut OsEntropy)];
    let second = fleet.slice().await;
    let numbers: HashSet<u64> = first.packs.keys().copied().collect();
    assert!(second.packs.keys().all(|number| !numbers.contains(number)), "numbers are never given again");
    assert_ne!(first.root.chunk_key, second.root.chunk_key);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rounds_name_few_lists() {
    let mut fleet = Fleet::new().await;
    fs::write(fleet.data().join("big"), noise(1, 1_000_000)).expect("file");
    fleet.sources = vec![files("one", &fleet.data())];
    for n in 0..20u8 {
        fs::write(fleet.data().join("changing"), noise(u64::from(n) + 50, 60_000)).expect("file");
        let slice = fleet.slice().await;
        assert!(slice.receipt.packs.len() <= super::lists::MAX_PAIRS + 1);
        // Packs that hold nothing of this slice do not pile up.
        assert!(slice.packs.len() < 20, "{} packs", slice.packs.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_pack_list_of_an_earlier_attempt_is_passed_by() {
    let mut fleet = Fleet::with_tree().await;
    fleet.break_puts(|_, path| Path::new(path).extension().is_some_and(|ending| ending == "index"));
    fleet.capture().await.expect_err("no index");
    fleet.store = Arc::clone(&fleet.share);
    let folder =
        fleet.dir.path().join("share/agents/dns/slices").join(RoundId::from_bytes([1; 16]).to_string());
    for item in fs::read_dir(folder).expect("lists") {
        let path = item.expect("item").path();
        if path.extension().is_some_and(|ending| ending == "packs") {
            fs::write(path, b"").expect("torn");
        }
    }
    fleet.rounds = 0;
    fleet.slice().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_a_capture_soon() {
    let mut fleet = Fleet::new().await;
    let pushed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pushed);
    let endless = move |sink: &mut dyn Sink, _: &CaptureContext<'_>| {
        sink.begin(file("endless"))?;
        for seed in 1.. {
            sink.data(&noise(seed, 100_000))?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let silent = |_: &mut dyn Sink, context: &CaptureContext<'_>| {
        while !context.cancelled() {
            std::thread::yield_now();
        }
        Err(Cause::Cancelled)
    };
    for source in [scripted(endless), scripted(silent)] {
        fleet.sources = vec![source];
        let (request, engine) = (fleet.request(), fleet.engine());
        let (progress, cancel) = (Arc::new(Progress::default()), CancelFlag::default());
        let capture = engine.capture(request.clone(), Arc::clone(&progress), cancel.clone());
        let cancelling = async {
            while progress.stage() < Stage::Capturing {
                tokio::task::yield_now().await;
            }
            let error = engine
                .capture(request, Arc::default(), CancelFlag::default())
                .await
                .expect_err("one at a time");
            assert!(matches!(error, EngineError::Busy));
            cancel.cancel();
        };
        let both = async { tokio::join!(capture, cancelling) };
        let (done, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("ends");
        assert!(matches!(done, Err(EngineError::Cancelled)), "{done:?}");
    }
    // A capture that is dropped ends, too: its threads hold the state open.
    fleet.sources = vec![scripted(|sink, _| {
        sink.begin(file("endless"))?;
        loop {
            sink.data(&[0; 4096])?;
        }
    })];
    let (request, engine) = (fleet.request(), fleet.engine());
    let progress = Arc::new(Progress::default());
    tokio::select! {
        done = engine.capture(request, Arc::clone(&progress), CancelFlag::default()) => panic!("{done:?}"),
        () = async { while progress.source_bytes() == 0 { tokio::task::yield_now().await } } => {}
    }
    drop(engine);
    let reopened = async {
        while State::open(&fleet.dir.path().join("state")).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reopened).await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_hangs_does_not_hold_a_cancelled_capture() {
    let mut fleet = Fleet::with_tree().await;
    fleet.store = Arc::new(Faulty::new(Arc::clone(&fleet.share), |call| {
        if call.op == Op::Put { Fault::Delay(Duration::from_secs(3600)) } else { Fault::None }
    }));
    let (request, engine) = (fleet.request(), fleet.engine());
    let (progress, cancel) = (Arc::new(Progress::default()), CancelFlag::default());
    let capture = engine.capture(request, Arc::clone(&progress), cancel.clone());
    let cancelling = async {
        while progress.source_bytes() < 1_000_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let both = async { tokio::join!(capture, cancelling) };
    let (done, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("ends");
    assert!(matches!(done, Err(EngineError::Cancelled)), "{done:?}");
}

/// What a held service waits for: not for a slow share.
#[tokio::test(flavor = "multi_thread")]
async fn sources_are_read_before_a_slow_share_has_everything() {
    let mut fleet = Fleet::with_one_file().await;
    // All packs have room in memory; the leader allows less than the configuration does.
    fleet.config.uploads = 16;
    fleet.config.bandwidth_bytes_per_sec = Some(1 << 30);
    let request = CaptureRequest { bandwidth_bytes_per_sec: Some(1), ..fleet.request() };
    let engine = fleet.engine();
    let (progress, cancel) = (Arc::new(Progress::default()), CancelFlag::default());
    let capture = engine.capture(request, Arc::clone(&progress), cancel.clone());
    let reading = async {
        progress.sources_read().await;
        assert_eq!((progress.source_bytes(), progress.stage()), (1_200_000, Stage::Uploading));
        // The first object passes at once; the second would take days.
        assert!(progress.added_bytes() < 600_000, "{}", progress.added_bytes());
        cancel.cancel();
    };
    let both = async { tokio::join!(capture, reading) };
    let (done, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("ends");
    assert!(matches!(done, Err(EngineError::Cancelled)), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_fails_has_not_read_everything() {
    let mut fleet = Fleet::new().await;
    fleet.sources = vec![scripted(|_, _| Err(Cause::Cancelled))];
    fleet.capture().await.expect_err("fails");
    let read = tokio::time::timeout(Duration::from_millis(50), fleet.progress.sources_read()).await;
    assert!(read.is_err(), "who waits for it would release a service that is not captured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_knows_how_long_the_one_before_was() {
    let mut fleet = Fleet::with_one_file().await;
    fleet.slice().await;
    assert_eq!(fleet.progress.expected_bytes(), None);
    fleet.slice().await;
    assert_eq!(fleet.progress.expected_bytes(), Some(1_200_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_a_broken_machine_made_is_not_uploaded() {
    let mut fleet = Fleet::with_tree().await;
    fleet.tamper = Some(|frame| {
        // Another valid frame of the same length: only the chunk's name tells.
        let length = usize::try_from(frame.plain_len()).expect("small");
        frame.compressed = zstd::bulk::compress(&vec![7; length], 3).expect("compresses");
    });
    let error = fleet.capture().await.expect_err("caught");
    assert!(matches!(error, EngineError::SelfCheck { .. }), "{error:?}");
    assert_eq!(error.code(), Code::Agent03);
    assert!(fleet.packs().await.is_empty());
    fleet.config.self_check = false;
    fleet.capture().await.expect("unnoticed without the check");
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_sources_fail_the_slice_and_say_how() {
    let mut fleet = Fleet::new().await;
    fleet.sources = vec![files("one", &fleet.data().join("absent"))];
    let error = fleet.capture().await.expect_err("absent");
    assert_eq!((error.code(), error.is_permanent()), (Code::Agent03, true));
    assert!(error.to_string().contains("source one (files)"), "{error}");

    fleet.sources = vec![scripted(|sink, _| {
        sink.begin(file("half"))?;
        sink.data(&noise(1, 5_000_000))?;
        Err(Cause::Short { program: "x".to_owned(), have: 1, want: 2, stderr: String::new() })
    })];
    let error = fleet.capture().await.expect_err("short");
    assert_eq!((error.code(), error.is_permanent()), (Code::Agent03, false));

    fleet.sources = vec![scripted(|_, _| panic!("a bug in a source"))];
    let error = fleet.capture().await.expect_err("panics");
    assert!(matches!(error, EngineError::Crashed), "{error:?}");

    let request = CaptureRequest { recipients: Vec::new(), ..fleet.request() };
    let sources = vec![scripted(|sink, _| Ok(sink.entry(file("x"))?))];
    let request = CaptureRequest { sources, ..request };
    let error =
        fleet.engine().capture(request, Arc::default(), CancelFlag::default()).await.expect_err("no key");
    assert_eq!((error.code(), error.is_permanent()), (Code::Key01, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_content_does_not_count() {
    let mut fleet = Fleet::new().await;
    fleet.sources = vec![scripted(|sink, _| {
        sink.begin(file("twice"))?;
        sink.data(&noise(1, 400_000))?;
        sink.hole(10)?;
        sink.data(&noise(2, 3))?;
        sink.discard();
        sink.begin(file("twice"))?;
        sink.data(&noise(3, 100_000))?;
        sink.hole(5000)?;
        sink.end(Some(Gap::Changed), None)?;
        sink.begin(file("gone"))?;
        sink.data(b"x")?;
        sink.discard();
        let mut gone = file("gone");
        gone.gap = Some(Gap::Vanished);
        sink.entry(gone)?;
        Ok::<(), Stopped>(())?;
        Ok(())
    })];
    let captured = fleet.capture().await.expect("captured");
    assert_eq!((captured.totals.entries, captured.totals.gaps, captured.status), (2, 2, SliceStatus::Gaps));
    let head = Head { number: 7, hash: ObjectId::of(b"record") };
    let written = fleet
        .engine()
        .write_receipt(&captured, 1, Nonce::from_bytes([3; 16]), head, None, &fleet.signer)
        .await;
    let (id, ..) = written.expect("written");
    let slice =
        reader::read(&*fleet.share, &captured.fleet, &captured.service, captured.round, id, &fleet.recovery)
            .await;
    let mut want = noise(3, 100_000);
    want.resize(105_000, 0);
    assert!(slice.entries[0].1 == want);
    assert_eq!(slice.entries[1].0.gap, Some(Gap::Vanished));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_source_is_a_slice_of_nothing() {
    let mut fleet = Fleet::new().await;
    let slice = fleet.slice().await;
    assert_eq!((slice.entries.len(), slice.packs.len()), (0, 0));
}
