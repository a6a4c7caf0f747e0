//! The payload: a nonce and chunks of 64 KiB (specification, "Payload"; the STREAM construction).
//!
//! Every chunk is sealed under its number and whether it is the last, so chunks can be neither moved, dropped nor
//! appended. Works in place, in buffers of the caller.

use super::file_key::FileKey;
use crate::crypto::Cipher;

/// Plain bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// What each chunk grows by.
pub const TAG_BYTES: usize = 16;
/// Length of the nonce before the first chunk.
pub const NONCE_BYTES: usize = 16;

pub(super) const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// What is wrong with a payload, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("chunk {chunk}: {fault}")]
pub struct PayloadDamage {
    /// Counted from 0; it starts at plain byte `chunk * CHUNK_BYTES`.
    pub chunk: u64,
    /// What is wrong.
    pub fault: PayloadFault,
}

/// What is wrong with a chunk of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadFault {
    /// The file ends before the last chunk does.
    #[error("the file ends here")]
    Truncated,
    /// Something follows the last chunk.
    #[error("bytes follow the last chunk")]
    TrailingData,
    /// A last chunk without a byte after others.
    #[error("the last chunk is empty")]
    EmptyLast,
    /// The chunk is not what was sealed.
    #[error("it does not authenticate")]
    Damaged,
    /// There is no chunk of this number.
    #[error("there is no such chunk")]
    Absent,
}

/// Length of a sealed file with this header and this much plain text.
#[must_use]
pub const fn sealed_bytes(header_bytes: usize, plain_bytes: usize) -> usize {
    let chunks = if plain_bytes == 0 { 1 } else { plain_bytes.div_ceil(CHUNK_BYTES) };
    header_bytes + NONCE_BYTES + plain_bytes + chunks * TAG_BYTES
}

/// Length of the plain text in a sealed file of this length; `None` when no sealed file has it.
#[must_use]
pub const fn plain_bytes(header_bytes: usize, sealed_bytes: usize) -> Option<usize> {
    let Some(chunks_bytes) = sealed_bytes.checked_sub(header_bytes + NONCE_BYTES) else { return None };
    let chunks = chunks_bytes.div_ceil(SEALED_CHUNK_BYTES);
    let last_bytes = chunks_bytes - chunks.saturating_sub(1) * SEALED_CHUNK_BYTES;
    // Only the sole chunk of an empty payload may hold nothing but its tag.
    if last_bytes < TAG_BYTES || (last_bytes == TAG_BYTES && chunks > 1) {
        return None;
    }
    Some(chunks_bytes - chunks * TAG_BYTES)
}

/// The key of one payload's chunks, for whoever carries the chunks on its own (ranges of an object, several threads).
///
/// Opening single chunks proves each of them, not that the file is whole: only its last chunk does that.
#[derive(Clone)]
pub struct PayloadKey {
    cipher: Cipher,
}

impl PayloadKey {
    /// The key of the payload that starts with `nonce`.
    #[must_use]
    pub fn derive(key: &FileKey, nonce: &[u8; NONCE_BYTES]) -> Self {
        Self { cipher: Cipher::new(&key.payload_key(nonce)) }
    }

    /// Seals one chunk in place, and gives its tag, which follows it. Never seal two chunks of one number.
    pub(super) fn seal_chunk(&self, chunk: u64, last: bool, plain: &mut [u8]) -> [u8; TAG_BYTES] {
        self.cipher.seal(&chunk_nonce(chunk, last), &[], plain)
    }

    /// Appends the plain text of one sealed chunk to `plain`; on an error `plain` stays as it was.
    ///
    /// # Errors
    /// When it is too short or too long for a chunk, or is not what was sealed as this number and place.
    pub fn open_chunk(
        &self,
        chunk: u64,
        last: bool,
        sealed: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), PayloadDamage> {
        let damaged = |fault| PayloadDamage { chunk, fault };
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(damaged(PayloadFault::Truncated))?;
        if body.len() > CHUNK_BYTES {
            return Err(damaged(PayloadFault::TrailingData));
        }
        if body.len() < CHUNK_BYTES && !last {
            return Err(damaged(PayloadFault::Truncated));
        }
        if body.is_empty() && chunk > 0 {
            return Err(damaged(PayloadFault::EmptyLast));
        }
        let start = plain.len();
        plain.extend_from_slice(body);
        let opened = self.cipher.open(&chunk_nonce(chunk, last), &[], &mut plain[start..], tag);
        opened.map_err(|_| {
            plain.truncate(start);
            damaged(PayloadFault::Damaged)
        })
    }
}

/// 11 bytes of the chunk's number, big-endian, and 1 for the last chunk, else 0.
fn chunk_nonce(chunk: u64, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&chunk.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_BYTES, PayloadDamage, PayloadFault, PayloadKey, plain_bytes, sealed_bytes};
    use crate::age::FileKey;

    #[test]
    fn lengths_are_each_others_inverse() {
        for plain in [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 3 << 20] {
            assert_eq!(plain_bytes(200, sealed_bytes(200, plain)), Some(plain));
        }
        for impossible in [0, 215, 216, 231, 216 + 65_552 + 1, 216 + 65_552 + 16] {
            assert_eq!(plain_bytes(200, impossible), None, "{impossible}");
        }
    }

    #[test]
    fn a_chunk_opens_only_at_its_place() {
        let key = PayloadKey::derive(&FileKey::from_bytes(&[1; 16]), &[2; 16]);
        let mut sealed = vec![7; CHUNK_BYTES];
        let tag = key.seal_chunk(3, false, &mut sealed);
        sealed.extend_from_slice(&tag);
        let mut plain = vec![9];
        for (chunk, last) in [(2, false), (3, true), (4, false), (3 + 256, false)] {
            let damaged = PayloadDamage { chunk, fault: PayloadFault::Damaged };
            assert_eq!(key.open_chunk(chunk, last, &sealed, &mut plain), Err(damaged));
            assert_eq!(plain, [9], "nothing of a damaged chunk comes out");
        }
        key.open_chunk(3, false, &sealed, &mut plain).expect("its own place");
        assert_eq!(plain.len(), 1 + CHUNK_BYTES);
        assert!(plain[1..].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn only_the_last_chunk_may_be_short() {
        let key = PayloadKey::derive(&FileKey::from_bytes(&[1; 16]), &[2; 16]);
        for last in [false, true] {
            let mut sealed = vec![7; 10];
            let tag = key.seal_chunk(3, last, &mut sealed);
            sealed.extend_from_slice(&tag);
            let opened = key.open_chunk(3, last, &sealed, &mut Vec::new());
            let short = PayloadDamage { chunk: 3, fault: PayloadFault::Truncated };
            assert_eq!(opened, if last { Ok(()) } else { Err(short) });
        }
    }
}
