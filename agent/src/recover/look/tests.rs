//! Entries and contents of small shares: as they were captured, or an error that names the object.

use std::ops::ControlFlow;
use std::sync::Arc;

use muster_protocol::age::Identity;
use muster_protocol::envelope::Signer;
use muster_protocol::log::Pin;
use muster_share::entropy::OsEntropy;
use muster_share::entry::{Entry, Extent, Kind};
use muster_share::layout::ObjectPath;
use muster_share::verify::chain::WrongKey;
use muster_share::verify::{Fault, RoundSelector};

use super::{LookError, Piece, Round, RoundError, Slice};
use crate::recover::Origin;
use crate::recover::fixture::{Fixture, Misname, file, folder, name, noise};
use crate::recover::tests::origin;

async fn slice(fixture: &Fixture, service: &str) -> Result<Slice, LookError> {
    Round::open(origin(fixture)).await?.slice(&name(service)).await
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

fn paths(slice: &Slice) -> Result<Vec<Vec<u8>>, LookError> {
    let mut paths = Vec::new();
    slice.look(|_, entry| {
        paths.push(entry.path);
        ControlFlow::Continue(())
    })?;
    Ok(paths)
}

fn read(slice: &Slice, path: &str) -> Result<Vec<u8>, LookError> {
    let source = "files".parse().expect("a source");
    let entry = slice.entry(&source, path.as_bytes())?.expect("it is there");
    content(slice, entry)
}

fn content(slice: &Slice, entry: Entry) -> Result<Vec<u8>, LookError> {
    let mut all = Vec::new();
    slice.content(&"files".parse().expect("a source"), entry, |piece| {
        match piece {
            Piece::Bytes(bytes) => all.extend_from_slice(bytes),
            Piece::Hole(length) => all.resize(all.len() + usize::try_from(length).expect("short"), 0),
        }
        Ok(())
    })?;
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_and_contents_are_those_that_were_captured() {
    let fixture = Fixture::with_two_rounds().await;
    let slice = slice(&fixture, "a").await.expect("opened");
    assert_eq!(slice.sources()[0].name.as_str(), "files");
    blocking(move || {
        let want = Fixture::tree("a", 2);
        let want_paths: Vec<_> = want.iter().map(|(entry, _)| entry.path.clone()).collect();
        assert_eq!(paths(&slice).expect("read"), want_paths);
        for (entry, bytes) in want.iter().filter(|(entry, _)| entry.kind == Kind::File) {
            let path = std::str::from_utf8(&entry.path).expect("UTF-8");
            let linked = entry.hard_link.as_ref().map(|target| target.to_vec());
            let of = |target: &Vec<u8>| want.iter().find(|(e, _)| e.path == *target).map(|(_, bytes)| bytes);
            let bytes = linked.as_ref().and_then(of).unwrap_or(bytes);
            assert!(read(&slice, path).expect("read") == *bytes, "{path}");
        }
        let absent = slice.entry(&"files".parse().expect("a source"), b"etc/absent");
        assert!(absent.expect("read").is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_can_be_broken_off_and_holes_come_as_zeroes() {
    let fixture = Fixture::with_two_rounds().await;
    let slice = slice(&fixture, "b").await.expect("opened");
    blocking(move || {
        let mut seen = 0;
        let broken_off = slice.look(|_, _| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(broken_off.is_ok() && seen == 2);
        let source = "files".parse().expect("a source");
        let mut entry = slice.entry(&source, b"etc/small").expect("read").expect("there");
        entry.extents.insert(0, Extent::Hole { length: 5 });
        let want = [vec![0; 5], noise(u64::from(b'b') + 1, 10)].concat();
        assert_eq!(content(&slice, entry).expect("read"), want);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_wrong_chunk_is_handed_out() {
    let mut fixture = Fixture::new().await;
    fixture.services.get_mut(&name("a")).expect("a service").misname = Misname::Files;
    let tree = vec![folder(""), file("x", noise(1, 20_000))];
    fixture.round(vec![(name("a"), vec![("files", tree)])], &[]).await;
    let slice = slice(&fixture, "a").await.expect("opened");
    let error = blocking(move || read(&slice, "x")).await.expect_err("refused");
    assert!(
        matches!(&error, LookError::Damaged(damage) if matches!(damage.object, ObjectPath::Pack { .. })),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pack_is_named() {
    let fixture = Fixture::with_two_rounds().await;
    std::fs::remove_dir_all(fixture.share().join("agents/a/packs")).expect("removed");
    let slice = slice(&fixture, "a").await.expect("opened");
    let error = blocking(move || paths(&slice)).await.expect_err("refused");
    assert!(matches!(&error, LookError::Damaged(damage) if damage.fault == Fault::Missing), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_no_recovery_would_make_is_refused() {
    let mut fixture = Fixture::new().await;
    let tree = vec![folder(""), file("../x", noise(1, 10))];
    fixture.round(vec![(name("a"), vec![("files", tree)])], &[]).await;
    let slice = slice(&fixture, "a").await.expect("opened");
    let error = blocking(move || paths(&slice)).await.expect_err("refused").to_string();
    assert!(error.contains("../x") && error.contains(".index"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_services_and_roots_that_do_not_fit_are_told_apart() {
    let fixture = Fixture::with_two_rounds().await;
    let open = |change: &dyn Fn(&mut Origin)| {
        let mut origin = origin(&fixture);
        change(&mut origin);
        Round::open(origin)
    };
    let stranger = Arc::new(vec![Identity::generate(&mut OsEntropy)]);
    let error = open(&|r| r.keys = Arc::clone(&stranger)).await.expect_err("another key");
    assert!(matches!(error, RoundError::Key(WrongKey { number: 2, .. })), "{error:?}");
    let other = Pin { root: Some(Signer::from_seed(&[99; 32]).key_id()), ..Pin::default() };
    let error = open(&|r| r.pin = other).await.expect_err("another root");
    assert!(matches!(error, RoundError::Forged(_)), "{error:?}");
    let error = open(&|r| {
        r.pin = other;
        r.keys = Arc::clone(&stranger);
    });
    assert!(matches!(error.await.expect_err("another fleet"), RoundError::OtherFleet(_)));
    let error = open(&|r| r.round = RoundSelector::Number(7)).await.expect_err("no such round");
    assert!(matches!(error, RoundError::Select(_)), "{error:?}");
    let error = slice(&fixture, "dns").await.expect_err("no such service").to_string();
    assert_eq!(error, "round 2 holds no slice of dns; it has a, b");
}
