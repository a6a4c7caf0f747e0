//! The simulator finds what is wrong on purpose. Only with the feature `planted`, by which `./x test` builds this package
//! a second time.

use muster_simulator::{Planted, first_broken};

/// Seeds within which each bug is found.
const WITHIN: u64 = 500;

/// The seed that shows the bug, and the invariant that it breaks.
fn finds(planted: Planted, invariants: &[&str]) {
    let broken = first_broken(0..WITHIN, planted).unwrap_or_else(|| panic!("{planted:?} was not found"));
    println!(
        "{planted:?}: seed {}, event {}: {}: {}",
        broken.seed, broken.event, broken.invariant, broken.why
    );
    let number = broken.invariant.split(' ').next().unwrap_or_default();
    assert!(invariants.contains(&number), "{planted:?} was found by \"{}\"", broken.invariant);
}

#[test]
fn a_commit_without_the_epoch_check_is_found() {
    finds(Planted::CommitWithoutEpoch, &["7"]);
}

#[test]
fn a_notice_before_its_receipt_is_found() {
    finds(Planted::NoticeBeforeReceipt, &["14"]);
}

#[test]
fn a_commit_before_the_check_is_found() {
    finds(Planted::CommitBeforeCheck, &["1"]);
}

#[test]
fn a_prune_without_open_rounds_is_found() {
    finds(Planted::PruneWithoutOpenRounds, &["1", "2", "5"]);
}

#[test]
fn a_hold_without_a_watchdog_is_found() {
    finds(Planted::HoldWithoutWatchdog, &["15"]);
}
