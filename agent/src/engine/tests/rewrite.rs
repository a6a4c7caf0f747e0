//! Compaction without reading, and a memory that is damaged while it is used.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;

use super::{EngineError, Fleet, files, noise};
use crate::state::FILE_NAME;

/// Files of 60 kB, four of which fill a pack.
async fn fleet() -> Fleet {
    let mut fleet = Fleet::new().await;
    for n in 0..40 {
        write(&fleet, n, 0);
    }
    fleet.sources = vec![files("one", &fleet.data())];
    fleet
}

fn write(fleet: &Fleet, n: u64, version: u64) {
    fs::write(fleet.data().join(format!("{n:02}")), noise(1 + n + 1000 * version, 60_000)).expect("file");
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_are_mostly_dead_are_given_up_a_few_at_a_time() {
    for (budget, given_up) in [(0, false), (100_000, true)] {
        let mut fleet = fleet().await;
        fleet.config.workers = 1;
        fleet.config.rewrite_bytes = budget;
        let first: HashSet<u64> = fleet.slice().await.packs.keys().copied().collect();
        // One file in five stays: fewer than a quarter of each pack.
        for n in (0..40).filter(|n| n % 5 != 0) {
            write(&fleet, n, 1);
        }
        let of_first = |packs: &std::collections::BTreeMap<u64, (_, _)>| -> usize {
            packs.keys().filter(|number| first.contains(number)).count()
        };
        let second = fleet.slice().await;
        let before = of_first(&second.packs);
        let mut left = before;
        let mut added = Vec::new();
        for _ in 0..10 {
            let slice = fleet.slice().await;
            let now = of_first(&slice.packs);
            assert!(now <= left);
            left = now;
            added.push(slice.receipt.totals.added_bytes);
        }
        assert_eq!(left < before / 2, given_up, "{before} packs, {left} left, {added:?} added");
        // The budget, what shares a chunk or frame with it, and the lists.
        assert!(added.iter().all(|added| *added < budget + 100_000), "{added:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_damaged_while_it_is_used_is_begun_anew_and_the_next_attempt_succeeds() {
    let mut fleet = fleet().await;
    fleet.slice().await;
    let path = fleet.dir.path().join("state").join(FILE_NAME);
    let bytes = fs::read(&path).expect("read");
    // The length of a chunk of the first file, in the table of chunks.
    let length = 60_000u32.to_le_bytes();
    let spots: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, four)| *four == length).map(|(at, _)| at).collect();
    assert!(!spots.is_empty());
    let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
    for at in spots {
        file.write_all_at(&[bytes[at] ^ 1], at as u64).expect("written");
    }
    drop(file);
    write(&fleet, 3, 7);
    match fleet.capture().await {
        // Already opening it may have found the damage.
        Ok(_) => {}
        Err(error) => {
            assert!(matches!(error, EngineError::State(_) | EngineError::Crashed), "{error:?}");
            assert!(!error.is_permanent());
        }
    }
    fleet.slice().await;
}
