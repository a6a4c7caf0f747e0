//! Chunks: where a stream of bytes is cut, and what a chunk is called.
//!
//! Cuts are content-defined (FastCDC as of Xia et al., "The Design of Fast Content-Defined Chunking for Data
//! Deduplication Based Storage Systems", IEEE TPDS 2020; crate `fastcdc`, module `v2020`, normalization level 1): an
//! insertion moves the cuts near it and no others. A chunk's name is keyed, so names tell nothing to whoever lacks the
//! agent's chunk key.

use std::fmt;

use fastcdc::v2020::FastCDC;
use muster_protocol::entropy::{Entropy, random};
use muster_protocol::ids::ChunkId;
use zeroize::Zeroize;

/// Average length of a chunk unless configured otherwise, in bytes.
pub const DEFAULT_AVERAGE: u32 = 256 * 1024;

/// Why a number is no average chunk length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the average chunk must be a power of two from 4 KiB to 2 MiB, not {average} bytes")]
pub struct ChunkSizeError {
    /// What was given, in bytes.
    pub average: u32,
}

/// Lengths of chunks: on average about `average`, at least a quarter of it (but for a stream's last), at most four
/// times of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSize {
    average: u32,
}

impl Default for ChunkSize {
    fn default() -> Self {
        Self { average: DEFAULT_AVERAGE }
    }
}

impl ChunkSize {
    /// Chunks of this average length in bytes.
    ///
    /// # Errors
    /// Unless it is a power of two from 4 KiB to 2 MiB.
    pub fn new(average: u32) -> Result<Self, ChunkSizeError> {
        if average.is_power_of_two() && (4096..=2 * 1024 * 1024).contains(&average) {
            Ok(Self { average })
        } else {
            Err(ChunkSizeError { average })
        }
    }

    /// Shortest chunk but a stream's last, in bytes.
    #[must_use]
    pub fn min(self) -> usize {
        self.average() / 4
    }

    /// The average, in bytes.
    #[must_use]
    pub fn average(self) -> usize {
        self.average as usize
    }

    /// Longest chunk, in bytes.
    #[must_use]
    pub fn max(self) -> usize {
        self.average() * 4
    }

    /// Length of the first chunk of `data`; `None` when that depends on what follows. Never with `last`, which says
    /// that nothing follows, unless `data` is empty.
    #[must_use]
    pub fn cut(self, data: &[u8], last: bool) -> Option<usize> {
        let (_, end) = FastCDC::new(data, self.min(), self.average(), self.max()).cut(0, data.len());
        // A cut before the end was found in the bytes themselves; one at the end may only be the lack of more.
        let decided = end < data.len() || end == self.max() || last;
        (decided && end > 0).then_some(end)
    }
}

/// Cuts a stream that arrives in slices of any length. The cuts depend on the bytes alone, never on the slices.
///
/// Chunks that lie within one slice are handed out without a copy.
#[derive(Debug)]
pub struct Chunker {
    size: ChunkSize,
    /// Bytes after the last cut, fewer than the longest chunk has.
    held: Vec<u8>,
}

impl Chunker {
    /// A chunker at the start of a stream.
    #[must_use]
    pub fn new(size: ChunkSize) -> Self {
        Self { size, held: Vec::new() }
    }

    /// Takes the stream's next bytes and hands every chunk that is complete to `emit`, in order.
    ///
    /// # Errors
    /// The first of `emit`; the stream is then lost.
    pub fn push<E>(&mut self, data: &[u8], mut emit: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut rest = data;
        while !self.held.is_empty() {
            let before = self.held.len();
            let room = self.size.max() - before;
            self.held.extend_from_slice(&rest[..room.min(rest.len())]);
            if self.held.len() < self.size.max() {
                return Ok(());
            }
            let Some(end) = self.size.cut(&self.held, false) else { return Ok(()) };
            emit(&self.held[..end])?;
            if end >= before {
                // What was held has gone out: go on in the slice itself.
                rest = &rest[end - before..];
                self.held.clear();
            } else {
                rest = &rest[self.held.len() - before..];
                self.held.drain(..end);
            }
        }
        while let Some(end) = self.size.cut(rest, false) {
            emit(&rest[..end])?;
            rest = &rest[end..];
        }
        self.held.extend_from_slice(rest);
        Ok(())
    }

    /// Ends the stream: hands out what is left and starts anew.
    ///
    /// # Errors
    /// The first of `emit`.
    pub fn finish<E>(&mut self, mut emit: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        while let Some(end) = self.size.cut(rest, true) {
            emit(&rest[..end])?;
            rest = &rest[end..];
        }
        self.held = held;
        self.held.clear();
        Ok(())
    }
}

/// The secret that names an agent's chunks. Sealed in every slice index; changed with the recovery keys.
#[derive(Clone, PartialEq, Eq)]
pub struct ChunkKey([u8; 32]);

impl Drop for ChunkKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ChunkKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A fresh key.
    #[must_use]
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self(random(entropy))
    }

    /// The key made of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself, to seal it.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The name of this chunk: BLAKE3 in keyed mode.
    #[must_use]
    pub fn id(&self, chunk: &[u8]) -> ChunkId {
        ChunkId::from_bytes(*blake3::keyed_hash(&self.0, chunk).as_bytes())
    }
}

impl fmt::Debug for ChunkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::{ChunkKey, ChunkSize, ChunkSizeError, Chunker};
    use fastcdc::v2020::FastCDC;
    use std::convert::Infallible;

    /// Bytes without a pattern, from a seed (xorshift64*).
    pub(crate) fn noise(mut seed: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            seed ^= seed >> 12;
            seed ^= seed << 25;
            seed ^= seed >> 27;
            out.extend_from_slice(&seed.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        out.truncate(len);
        out
    }

    fn lengths(size: ChunkSize, data: &[u8], mut slice: impl FnMut() -> usize) -> Vec<usize> {
        let mut chunker = Chunker::new(size);
        let mut all = Vec::new();
        let mut joined = Vec::new();
        let mut emit = |chunk: &[u8]| {
            all.push(chunk.len());
            joined.extend_from_slice(chunk);
            Ok::<(), Infallible>(())
        };
        let mut rest = data;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(slice().clamp(1, rest.len()));
            chunker.push(now, &mut emit).expect("infallible");
            rest = later;
        }
        chunker.finish(&mut emit).expect("infallible");
        assert!(joined == data, "chunks join to the stream");
        all
    }

    #[test]
    fn cuts_do_not_depend_on_the_slices() {
        let size = ChunkSize::new(4096).expect("valid");
        let mut mixed = noise(1, 300_001);
        mixed.extend_from_slice(&[0; 100_000]);
        mixed.extend(noise(2, 77_777));
        for data in [mixed, noise(3, 1), noise(3, 1023), noise(4, 16_384), vec![0; 16_385], Vec::new()] {
            let whole: Vec<usize> = FastCDC::new(&data, size.min(), size.average(), size.max())
                .map(|chunk| chunk.length)
                .collect();
            assert_eq!(lengths(size, &data, || usize::MAX), whole);
            for slice in [1, 2, 1000, 1024, 4095, 4096, 16_383, 16_384, 16_385, 65_536] {
                assert_eq!(lengths(size, &data, || slice), whole, "slices of {slice}");
            }
            let mut seed = 5u64;
            let random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                usize::try_from(seed >> 49).expect("15 bits")
            };
            assert_eq!(lengths(size, &data, random), whole);
        }
    }

    #[test]
    fn lengths_are_within_bounds_and_an_insertion_moves_few_cuts() {
        let size = ChunkSize::new(4096).expect("valid");
        let data = noise(7, 1_000_000);
        let before = lengths(size, &data, || usize::MAX);
        assert!(before[..before.len() - 1].iter().all(|len| (size.min()..=size.max()).contains(len)));
        let mean = data.len() / before.len();
        assert!((2048..=8192).contains(&mean), "{mean}");
        let mut longer = data.clone();
        longer.insert(500_000, 1);
        let after = lengths(size, &longer, || usize::MAX);
        let same_end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
        let same_start = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        assert!(same_start + same_end + 4 >= before.len(), "{same_start} + {same_end} of {}", before.len());
    }

    #[test]
    fn a_chunk_within_one_slice_is_not_copied() {
        let data = noise(9, 300_000);
        let span = data.as_ptr_range();
        let mut copied = 0;
        let mut chunker = Chunker::new(ChunkSize::new(4096).expect("valid"));
        chunker
            .push(&data, |chunk| {
                copied += usize::from(!span.contains(&chunk.as_ptr()));
                Ok::<(), Infallible>(())
            })
            .expect("infallible");
        assert_eq!(copied, 0);
    }

    #[test]
    fn averages_are_checked() {
        assert_eq!(ChunkSize::default().average(), 262_144);
        for average in [4096, 262_144, 2_097_152] {
            assert!(ChunkSize::new(average).is_ok());
        }
        for average in [0, 2048, 5000, 4_194_304, u32::MAX] {
            assert_eq!(ChunkSize::new(average), Err(ChunkSizeError { average }));
        }
    }

    #[test]
    fn names_are_keyed_and_keys_are_not_shown() {
        let key = ChunkKey::from_bytes([1; 32]);
        assert_eq!(key.id(b"abc"), key.id(b"abc"));
        assert_ne!(key.id(b"abc"), key.id(b"abd"));
        assert_ne!(key.id(b"abc"), ChunkKey::from_bytes([2; 32]).id(b"abc"));
        assert_eq!(format!("{key:?}"), "ChunkKey(…)");
    }
}
