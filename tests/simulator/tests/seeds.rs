//! Every invariant holds in every seed, and every fault has struck often enough to count.

use std::time::Instant;

use muster_simulator::{Fault, run_many};

/// Seeds of the gate.
const SEEDS: std::ops::Range<u64> = 0..20_000;
/// How often each fault must strike in them.
const LEAST: u64 = 1_000;

#[test]
fn every_invariant_holds_in_every_seed() {
    let asked = std::env::var("MUSTER_SEEDS").ok();
    let seeds = asked.as_deref().map_or(SEEDS, |range| {
        let (from, to) = range.split_once("..").expect("MUSTER_SEEDS=from..to");
        from.parse().expect("a number")..to.parse().expect("a number")
    });
    let began = Instant::now();
    let summary = run_many(seeds, None).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{} seeds, {} events in {:?}", summary.seeds, summary.events, began.elapsed());
    println!("rounds opened, committed, verified, swept: {:?}", summary.rounds);
    for fault in Fault::ALL {
        println!("{:>9} {fault:?}", summary.tally.of(fault));
    }
    if asked.is_none() {
        assert!(summary.fewest >= 500, "a seed of {} events", summary.fewest);
        for fault in Fault::ALL {
            assert!(summary.tally.of(fault) >= LEAST, "{fault:?} struck {} times", summary.tally.of(fault));
        }
    }
}
