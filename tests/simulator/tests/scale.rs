//! A round of a hundred thousand agents ends in bounded time and memory.

use std::time::{Duration, Instant};

use muster_protocol::log::Outcome;
use muster_simulator::round_of;

/// On two slow cores, with other tests beside it.
const TIME: Duration = Duration::from_secs(60);
const MEMORY_MIB: u64 = 1_024;

#[test]
fn a_round_of_a_hundred_thousand_agents_ends() {
    let began = Instant::now();
    let scale = round_of(100_000, 1);
    let (took, memory) = (began.elapsed(), peak_mib());
    println!("{scale:?} in {took:?}, {memory:?} MiB at the most");
    assert_eq!((scale.outcome, scale.slices), (Some(Outcome::Complete), 100_000));
    assert!(scale.millis < 3_600_000, "it ended by its deadline, {} ms after its beginning", scale.millis);
    assert!(took < TIME, "{took:?}");
    assert!(memory.is_none_or(|mib| mib < MEMORY_MIB), "{memory:?} MiB");
}

/// The most memory that this process ever had, where the system tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
