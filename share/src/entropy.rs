//! The operating system's random bytes, for the pure parts that take randomness as an argument.

use muster_protocol::entropy::Entropy;

/// Cryptographically secure random bytes of the operating system (`getrandom(2)` on Linux).
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// When the operating system has no random bytes: nothing may be sealed then.
    fn fill(&mut self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::OsEntropy;
    use muster_protocol::entropy::random;

    #[test]
    fn two_draws_differ() {
        assert_ne!(random::<32>(&mut OsEntropy), random::<32>(&mut OsEntropy));
    }
}
