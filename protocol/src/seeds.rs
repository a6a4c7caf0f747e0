//! Seeds for the tests of this crate: a seed that breaks a promise is printed, and `MUSTER_SEED=<it>` runs it alone.

use crate::entropy::Entropy;

/// splitmix64: reproducible on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

impl Entropy for Rng {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill_with(|| self.next().to_le_bytes()[0]);
    }
}

/// The seeds `0..count`, or the one that `MUSTER_SEED` names; a failing one is printed.
pub(crate) fn each_seed(count: u64, mut run: impl FnMut(u64)) {
    struct Failing(u64);
    impl Drop for Failing {
        #[expect(clippy::print_stderr, reason = "the seed is what a failed run is repeated with")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with MUSTER_SEED={}", self.0);
            }
        }
    }
    let only = std::env::var("MUSTER_SEED").ok().map(|seed| seed.parse().expect("MUSTER_SEED is a number"));
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let failing = Failing(seed);
        run(seed);
        drop(failing);
    }
}
