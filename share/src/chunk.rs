//! Chunks: where a stream of bytes is cut, and what a chunk is called.
//!
//! Cuts are content-defined (FastCDC as of Xia et al., "The Design of Fast Content-Defined Chunking for Data
//! Deduplication Based Storage Systems", IEEE TPDS 2020, normalization level 1): an insertion moves the cuts near it and
//! no others. A chunk's name is keyed, so names tell nothing to whoever lacks the
//! agent's chunk key.

use std::fmt;

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

    /// From which length on a chunk ends more readily, in bytes. With the lengths that are skipped it makes the average.
    fn middle(self) -> usize {
        self.average() - self.average() * 3 / 8
    }
}

/// What each byte adds to the rolling hash: the output of SplitMix64 (Steele, Lea and Flood, "Fast Splittable
/// Pseudorandom Number Generators", OOPSLA 2014) from a fixed seed.
const GEAR: [u64; 256] = {
    let mut gear = [0; 256];
    let mut state = 0x6d75_7374_6572_2031_u64;
    let mut at = 0;
    while at < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        gear[at] = z ^ (z >> 31);
        at += 1;
    }
    gear
};

/// Finds the cuts of a stream that arrives in slices of any length; holds none of its bytes. The cuts depend on the bytes
/// alone, never on the slices, and every byte is looked at once.
///
/// The rolling hash of position p is the sum of `GEAR[byte] << (p - position of the byte)` modulo 2^64: of the last 64
/// bytes. A chunk ends where its topmost bits are zero: one more than an average chunk needs before the middle, one fewer
/// behind it, so that lengths gather around the average.
#[derive(Debug, Clone)]
pub struct Cutter {
    size: ChunkSize,
    /// Bytes of the open chunk so far.
    position: usize,
    hash: u64,
}

impl Cutter {
    /// A cutter at the start of a stream.
    #[must_use]
    pub fn new(size: ChunkSize) -> Self {
        Self { size, position: 0, hash: 0 }
    }

    /// Starts anew: what comes next is another stream.
    pub fn restart(&mut self) {
        (self.position, self.hash) = (0, 0);
    }

    /// Looks through the stream's next bytes: after how many of them a chunk ends, if one does. Whoever gets a number
    /// goes on with the bytes behind it.
    #[must_use]
    pub fn scan(&mut self, data: &[u8]) -> Option<usize> {
        let Self { size, position, .. } = *self;
        let bits = size.average.ilog2();
        // The hash knows 64 bytes: it has to see those before the first cut that is allowed.
        let blind = size.min().saturating_sub(WINDOW);
        let mut at = blind.saturating_sub(position).min(data.len());
        for (until, zero_bits, cuts) in
            [(size.min(), 0, false), (size.middle(), bits + 1, true), (size.max(), bits - 1, true)]
        {
            let end = data.len().min(until.saturating_sub(position).max(at));
            if cuts {
                if let Some(found) = roll(&mut self.hash, &data[at..end], zero_bits) {
                    self.restart();
                    return Some(at + found);
                }
            } else {
                self.hash = data[at..end].iter().fold(self.hash, |hash, byte| add(hash, *byte));
            }
            at = end;
        }
        self.position += at;
        if self.position == size.max() {
            self.restart();
            return Some(at);
        }
        None
    }
}

/// Bytes that the hash depends on.
const WINDOW: usize = 64;

fn add(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[usize::from(byte)])
}

/// Goes on with the hash until its topmost bits are zero: behind which byte they are.
///
/// Each hash waits for the one before it, which would leave most of a core idle. As it depends on 64 bytes only, several
/// stretches are gone through side by side, each from a start of its own; the first find in the order of the bytes counts.
fn roll(hash: &mut u64, mut data: &[u8], zero_bits: u32) -> Option<usize> {
    let least = 1u64 << (u64::BITS - zero_bits);
    let mut at = 0;
    while let Some((block, after)) = data.split_at_checked(LANES * LANE_BYTES) {
        let lanes: [&[u8; LANE_BYTES]; LANES] = std::array::from_fn(|lane| {
            block[lane * LANE_BYTES..].first_chunk().expect("the block holds every lane")
        });
        let mut rolling: [u64; LANES] = std::array::from_fn(|lane| match lane.checked_sub(1) {
            None => *hash,
            Some(before) => {
                lanes[before][LANE_BYTES - WINDOW..].iter().fold(0, |hash, byte| add(hash, *byte))
            }
        });
        let mut found = [None; LANES];
        #[expect(clippy::needless_range_loop, reason = "the lanes go on byte by byte together")]
        for byte in 0..LANE_BYTES {
            for lane in 0..LANES {
                rolling[lane] = add(rolling[lane], lanes[lane][byte]);
            }
            if rolling.iter().any(|hash| *hash < least) {
                for lane in 0..LANES {
                    if rolling[lane] < least {
                        found[lane].get_or_insert(at + lane * LANE_BYTES + byte + 1);
                    }
                }
            }
        }
        if let Some(first) = found.into_iter().flatten().next() {
            return Some(first);
        }
        *hash = rolling[LANES - 1];
        at += block.len();
        data = after;
    }
    let mut rolling = *hash;
    for (offset, byte) in data.iter().enumerate() {
        rolling = add(rolling, *byte);
        if rolling < least {
            return Some(at + offset + 1);
        }
    }
    *hash = rolling;
    None
}

/// Stretches that are gone through side by side, and the length of each in bytes.
const LANES: usize = 4;
const LANE_BYTES: usize = 2048;

/// Cuts a stream into chunks. Those that lie within one slice are handed out without a copy.
#[derive(Debug)]
pub struct Chunker {
    cutter: Cutter,
    /// Bytes after the last cut, fewer than the longest chunk has.
    held: Vec<u8>,
}

impl Chunker {
    /// A chunker at the start of a stream.
    #[must_use]
    pub fn new(size: ChunkSize) -> Self {
        Self { cutter: Cutter::new(size), held: Vec::new() }
    }

    /// Takes the stream's next bytes and hands every chunk that is complete to `emit`, in order.
    ///
    /// # Errors
    /// The first of `emit`; the stream is then lost.
    pub fn push<E>(&mut self, data: &[u8], mut emit: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut rest = data;
        while let Some(end) = self.cutter.scan(rest) {
            let (chunk, after) = rest.split_at(end);
            if self.held.is_empty() {
                emit(chunk)?;
            } else {
                self.held.extend_from_slice(chunk);
                emit(&self.held)?;
                self.held.clear();
            }
            rest = after;
        }
        self.held.extend_from_slice(rest);
        Ok(())
    }

    /// Ends the stream: hands out what is left and starts anew.
    ///
    /// # Errors
    /// That of `emit`.
    pub fn finish<E>(&mut self, emit: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.cutter.restart();
        let done = if self.held.is_empty() { Ok(()) } else { emit(&self.held) };
        self.held.clear();
        done
    }
}

/// The secret that names an agent's chunks. Sealed in every slice index; changed with the recovery keys.
#[derive(Clone)]
pub struct ChunkKey([u8; 32]);

/// In constant time, which BLAKE3 promises of its hashes.
impl PartialEq for ChunkKey {
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl Eq for ChunkKey {}

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
    use super::{ChunkKey, ChunkSize, ChunkSizeError, Chunker, GEAR};
    use std::convert::Infallible;

    /// Lengths of the chunks of 3 MB of noise.
    const GOLDEN_CUTS: [usize; 13] = [
        213_258, 147_838, 251_673, 253_626, 370_945, 179_192, 91_221, 200_620, 133_161, 253_802, 449_728,
        332_522, 122_414,
    ];

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
            let whole = by_definition(size, &data);
            assert_eq!(lengths(size, &data, || usize::MAX), whole);
            for slice in [1, 2, 63, 64, 65, 1000, 1024, 4095, 4096, 16_383, 16_384, 16_385, 65_536] {
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

    /// The cuts as [`Cutter`] describes them, each hash computed on its own.
    fn by_definition(size: ChunkSize, data: &[u8]) -> Vec<usize> {
        let bits = size.average().ilog2();
        let (mut all, mut rest) = (Vec::new(), data);
        while !rest.is_empty() {
            let ends = |len: &usize| {
                if *len == size.max() || *len == rest.len() {
                    return true;
                }
                let zeroes = if *len <= size.middle() { bits + 1 } else { bits - 1 };
                let bytes = rest[..*len].iter().rev().take(64).enumerate();
                let hash =
                    bytes.fold(0u64, |sum, (age, byte)| sum.wrapping_add(GEAR[usize::from(*byte)] << age));
                *len > size.min() && hash.leading_zeros() >= zeroes
            };
            let len = (1..=rest.len()).find(ends).expect("the end is one");
            all.push(len);
            rest = &rest[len..];
        }
        all
    }

    #[test]
    fn cuts_stay_where_they_are_from_version_to_version() {
        let data = noise(11, 3_000_000);
        let lens = lengths(ChunkSize::default(), &data, || usize::MAX);
        assert_eq!(lens, GOLDEN_CUTS, "another cut means that every agent uploads everything once more");
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
