//! Packs behind their seal, their table of contents, and bounded zstd.

use muster_protocol::ids::ChunkId;
use muster_protocol::wire;
use muster_share::pack::{MAX_FRAME_PLAIN, PackError, PackReader};
use muster_share::sealed::{SealedError, Unlock, open_object};

use super::vault::{RawPack, Row, Table, name, seal, skippable};

/// Longest content that the zstd target takes, in bytes.
const MOST: usize = 1 << 20;

/// Longest pack whose chunks are compared, in plain bytes: longer ones are only read.
const COMPARED: usize = 1 << 20;

/// Any payload as a pack's: it is refused, or its chunks are those that its contents name, however they are read.
pub(super) fn pack(input: &[u8]) {
    read(input);
}

/// Any bytes as the table of contents of three honest frames.
pub(super) fn contents(input: &[u8]) {
    read(&RawPack { contents: input.to_vec(), ..honest() }.payload());
}

fn read(payload: &[u8]) {
    let (bytes, key) = seal(payload);
    let Ok(reader) = PackReader::open(&bytes, None, Unlock::FileKey(&key)) else { return };
    let named: Vec<(u64, ChunkId, u32)> = reader.contents().chunks().collect();
    let mut joined = Vec::new();
    let mut at = 0;
    let mut seen = 0;
    let whole = reader.for_each_chunk(|offset, id, bytes| {
        let (want_offset, want_id, want_len) = named[seen];
        assert_eq!((offset, id, bytes.len()), (want_offset, want_id, want_len as usize));
        assert!(offset == at && bytes.len() <= MAX_FRAME_PLAIN, "chunks follow one another");
        seen += 1;
        at += bytes.len() as u64;
        if joined.len() + bytes.len() <= COMPARED {
            joined.extend_from_slice(bytes);
        }
        Ok(())
    });
    match whole {
        Ok(()) => assert_eq!(seen, named.len(), "a whole pack gives every chunk"),
        Err(error) => assert!(!matches!(error, PackError::NotAFrame { .. }), "{error}"),
    }
    let have = joined.len() as u64;
    if have == at {
        for (start, end) in [(0, have), (have / 3, have / 2), (have, have)] {
            let part = reader.read_range(start, end).expect("frames that were read once are read again");
            let within = |at: u64| usize::try_from(at).expect("short");
            assert_eq!(part, joined[within(start)..within(end)]);
        }
    }
    assert!(reader.read_range(0, u64::MAX).is_err(), "no pack is endless");
}

fn honest() -> RawPack {
    RawPack::of(&[&[b"first chunk"], &[b"a", b"few", b"small ones"], &[&[7; 3000]]])
}

pub(super) fn pack_samples() -> Vec<Vec<u8>> {
    let padded = RawPack { padding: Some(700), ..honest() };
    let one = RawPack::of(&[&[b"one"]]);
    vec![honest().payload(), padded.payload(), one.payload(), RawPack { off_by: 1, ..one }.payload()]
}

pub(super) fn contents_samples() -> Vec<Vec<u8>> {
    let row = Row { compressed_len: 20, chunks: vec![(name(b"x"), 11)] };
    let table = |frames| wire::encode(&Table { version: 1, frames });
    vec![honest().contents, table(vec![]), table(vec![row.clone()]), table(vec![row.clone(), row])]
}

/// Any payload as a sealed object's: its content is never longer than the caller allows, and padding is no content.
pub(super) fn bounded_zstd(input: &[u8]) {
    let (bytes, key) = seal(input);
    match open_object(&bytes, None, Unlock::FileKey(&key), MOST) {
        Ok((_, content)) => assert!(content.len() <= MOST, "{} bytes", content.len()),
        Err(SealedError::TooLong { most }) => assert_eq!(most, MOST),
        Err(SealedError::Content { .. }) => {}
        Err(error) => panic!("the seal is good: {error}"),
    }
}

pub(super) fn zstd_samples() -> Vec<Vec<u8>> {
    let frame = |content: &[u8]| zstd::bulk::compress(content, 3).expect("compresses");
    vec![
        frame(b"content"),
        frame(&[0; 5000]),
        [frame(b"one"), frame(b"two")].concat(),
        [frame(b"one"), skippable(0x184D_2A5E, &[0; 20])].concat(),
        frame(&vec![0; 2 * MOST]),
        b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00\x99\xe9\xd8\x51".to_vec(),
    ]
}
