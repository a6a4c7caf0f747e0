//! Random bytes as an argument: the shells bring the operating system's, simulations a seeded generator's.

/// A source of random bytes. Sealing and keys need a cryptographically secure one.
pub trait Entropy {
    /// Fills `buffer` with random bytes.
    fn fill(&mut self, buffer: &mut [u8]);
}

/// An array of random bytes.
pub fn random<const N: usize>(entropy: &mut (impl Entropy + ?Sized)) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}
