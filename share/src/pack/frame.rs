//! One zstd frame of a pack: compressed, and decompressed within bounds.

use std::fmt;
use std::io;

use muster_protocol::ids::ChunkId;
use zstd::zstd_safe;

use super::PackError;
use crate::sealed::ZSTD_MAGIC;

/// Most plain bytes of a frame.
pub const MAX_FRAME_PLAIN: usize = 8 * 1024 * 1024;

/// Most chunks of a frame.
pub const MAX_FRAME_CHUNKS: usize = 4096;

/// A compressed frame, to be pushed into a [`super::PackBuilder`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// The zstd frame.
    pub compressed: Vec<u8>,
    /// Its chunks in order: names and plain lengths in bytes.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl Frame {
    /// Plain bytes of all its chunks.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        self.chunks.iter().map(|(_, len)| u64::from(*len)).sum()
    }
}

/// zstd's working memory, kept between frames. One for each thread.
pub struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
}

impl Compressor {
    /// A compressor of this zstd level.
    ///
    /// # Errors
    /// When zstd gets no memory.
    pub fn new(level: i32) -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(level)? })
    }

    /// Compresses `plain`, which is these chunks joined (names and lengths), into `frame`, whose memory is used again.
    ///
    /// # Errors
    /// [`PackError::NotAFrame`] when there are no chunks or too many, they are too long, one is empty, or their lengths
    /// are not that of `plain`.
    pub fn compress_into(
        &mut self,
        plain: &[u8],
        chunks: &[(ChunkId, u32)],
        frame: &mut Frame,
    ) -> Result<(), PackError> {
        let not_a_frame = || PackError::NotAFrame { chunks: chunks.len(), plain_bytes: plain.len() };
        let total: u64 = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
        let empty = chunks.is_empty() || chunks.iter().any(|(_, len)| *len == 0);
        if empty
            || chunks.len() > MAX_FRAME_CHUNKS
            || plain.len() > MAX_FRAME_PLAIN
            || total != plain.len() as u64
        {
            return Err(not_a_frame());
        }
        frame.compressed.clear();
        frame.compressed.reserve(zstd::compress_bound(plain.len()));
        self.zstd.compress_to_buffer(plain, &mut frame.compressed).map_err(|_| not_a_frame())?;
        frame.chunks.clear();
        frame.chunks.extend_from_slice(chunks);
        Ok(())
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

/// Compresses these chunks, joined, as one frame of its own memory.
///
/// # Errors
/// As [`Compressor::compress_into`].
pub fn compress(compressor: &mut Compressor, chunks: &[(&[u8], ChunkId)]) -> Result<Frame, PackError> {
    let plain = chunks.iter().map(|(bytes, _)| *bytes).collect::<Vec<_>>().concat();
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let named: Vec<_> = chunks.iter().map(|(bytes, id)| (*id, len(bytes))).collect();
    let mut frame = Frame::default();
    compressor.compress_into(&plain, &named, &mut frame)?;
    Ok(frame)
}

/// Working memory for reading frames.
pub(super) struct Decompressor {
    zstd: zstd::bulk::Decompressor<'static>,
    plain: Vec<u8>,
}

impl Decompressor {
    pub(super) fn new() -> Result<Self, PackError> {
        let zstd = zstd::bulk::Decompressor::new()
            .map_err(|_| PackError::Frame { frame: 0, what: "zstd gets no memory" })?;
        Ok(Self { zstd, plain: Vec::new() })
    }

    /// The content of exactly one frame that says it has exactly `plain_len` bytes, and has.
    pub(super) fn decompress(
        &mut self,
        frame: usize,
        compressed: &[u8],
        plain_len: usize,
    ) -> Result<&[u8], PackError> {
        let damaged = |what| PackError::Frame { frame, what };
        if !compressed.starts_with(&ZSTD_MAGIC.to_le_bytes()) {
            return Err(damaged("it is no zstd frame"));
        }
        if zstd_safe::find_frame_compressed_size(compressed) != Ok(compressed.len()) {
            return Err(damaged("it is not one whole frame"));
        }
        match zstd_safe::get_frame_content_size(compressed) {
            Ok(Some(len)) if len == plain_len as u64 => {}
            Ok(_) | Err(_) => return Err(damaged("its content has another length")),
        }
        self.plain.clear();
        self.plain.reserve(plain_len);
        match self.zstd.decompress_to_buffer(compressed, &mut self.plain) {
            Ok(len) if len == plain_len && self.plain.len() == plain_len => Ok(&self.plain),
            Ok(_) => Err(damaged("its content has another length")),
            Err(_) => Err(damaged("it does not decompress")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Compressor, Decompressor, MAX_FRAME_CHUNKS, MAX_FRAME_PLAIN, compress};
    use crate::pack::PackError;
    use muster_protocol::ids::ChunkId;

    const ID: ChunkId = ChunkId::from_bytes([1; 32]);

    #[test]
    fn frames_round_trip() {
        let mut compressor = Compressor::new(3).expect("memory");
        let mut decompressor = Decompressor::new().expect("memory");
        let frame = compress(&mut compressor, &[(b"abc", ID), (&[0; 1000], ID), (b"z", ID)]).expect("fits");
        assert_eq!(frame.plain_len(), 1004);
        let plain = decompressor.decompress(0, &frame.compressed, 1004).expect("intact");
        assert_eq!((&plain[..3], &plain[1003..]), (&b"abc"[..], &b"z"[..]));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut compressor = Compressor::new(3).expect("memory");
        let long = vec![0; MAX_FRAME_PLAIN];
        compress(&mut compressor, &[(&long, ID)]).expect("as long as may be");
        let many = vec![(&b"x"[..], ID); MAX_FRAME_CHUNKS + 1];
        for bad in [&[][..], &[(&b""[..], ID)], &[(&long, ID), (b"x", ID)], &many] {
            assert!(matches!(compress(&mut compressor, bad), Err(PackError::NotAFrame { .. })));
        }
    }

    #[test]
    fn only_exactly_one_frame_of_the_right_length_opens() {
        let mut compressor = Compressor::new(3).expect("memory");
        let mut decompressor = Decompressor::new().expect("memory");
        let frame = compress(&mut compressor, &[(&[5; 5000], ID)]).expect("fits").compressed;
        decompressor.decompress(0, &frame, 5000).expect("intact");
        let skippable = crate::sealed::skippable(0x184D_2A50, b"");
        let bad = [
            frame[..frame.len() - 1].to_vec(),
            [&frame[..], b"x"].concat(),
            [&frame[..], &frame[..]].concat(),
            [&skippable[..], &frame[..]].concat(),
            [&frame[..], &skippable[..]].concat(),
            skippable,
            Vec::new(),
        ];
        for bytes in bad {
            assert!(decompressor.decompress(0, &bytes, 5000).is_err(), "{}", bytes.len());
        }
        for len in [0, 4999, 5001, 10_000] {
            assert!(decompressor.decompress(0, &frame, len).is_err(), "{len}");
        }
        // A frame that does not say how long it is could be a bomb.
        let mut silent = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("memory");
        silent.include_contentsize(false).expect("settable");
        std::io::Write::write_all(&mut silent, &[5; 5000]).expect("memory");
        let silent = silent.finish().expect("memory");
        assert!(decompressor.decompress(0, &silent, 5000).is_err());
    }
}
