//! Memory does not grow with the number of entries: measured in a process of its own.

use std::time::Duration;

use muster_share::entry::{Entry, Gap, Kind};

use super::super::fixture::{Fixture, folder, found_below, name};
use super::child::{peak_kib, recovery};

/// What a recovery of empty files may take at most, in KiB: a batch, and the packs of the entries.
const PEAK_KIB_MAX: u64 = 80 * 1024;
fn nth(number: u64, is_file: bool) -> Entry {
    let path = format!("d{:05}", number / 1000);
    if number.is_multiple_of(1000) {
        return Entry::new(path.into(), Kind::Directory, 0o755);
    }
    let entry = Entry::new(format!("{path}/n{:03}", number % 1000).into(), Kind::File, 0o644);
    Entry { gap: (!is_file).then_some(Gap::Vanished), ..entry }
}

async fn flat(entries: u64, nth: fn(u64) -> Entry) {
    let mut fixture = Fixture::new().await;
    fixture.generated = Some((entries, nth));
    fixture.round(vec![(name("a"), vec![("files", vec![folder("")])])], &["b"]).await;
    let into = fixture.target("into");
    let status = recovery(&fixture, &into, Duration::ZERO).status().expect("runs");
    assert!(status.success());
    let peak = peak_kib(&into);
    assert!(peak < PEAK_KIB_MAX, "{peak} KiB for {entries} entries");
    let files = (0..entries).filter(|n| nth(*n).kind == Kind::File && nth(*n).gap.is_none()).count();
    assert_eq!(found_below(&into).len(), files);
}

/// Files all of them, so that there is more than one batch.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_flat_for_200_thousand_entries() {
    flat(200_000, |number| nth(number, true)).await;
}

/// One in twenty is a file, so that a file system of any size takes them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, half a million files and 2 GiB for the index's making"]
async fn memory_is_flat_for_10_million_entries() {
    flat(10_000_000, |number| nth(number, number.is_multiple_of(20))).await;
}
