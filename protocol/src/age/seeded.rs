//! Random bytes from a seed, for the tests of this module.

use sha2::{Digest, Sha256};

use crate::entropy::Entropy;

/// SHA-256 over seed and counter.
pub(super) struct Seeded {
    seed: u64,
    counter: u64,
}

impl Seeded {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(self.seed.to_le_bytes());
            hash.update(self.counter.to_le_bytes());
            self.counter += 1;
            part.copy_from_slice(&hash.finalize()[..part.len()]);
        }
    }
}
