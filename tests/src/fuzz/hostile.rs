//! Hostile objects, each built to break one reader: each is refused with one clear error, and in little memory.
//!
//! Every case runs twice: here, for what it says, and alone in a process of its own, for the memory that it takes.

use std::io::{self, Read, Write};
use std::process::Command;

use muster_protocol::causes::causes;
use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::wire;
use muster_share::entry::{Entry, Extent, Kind};
use muster_share::lists::{
    ChunkIndex, EntryReader, EntryWriter, IndexRoot, MAX_CHUNK_INDEX_LEN, MAX_ENTRY_LEN, MAX_INDEX_LEN,
    PackList,
};
use muster_share::pack::{MAX_FRAME_CHUNKS, MAX_FRAME_PLAIN, PackError, PackReader};
use muster_share::sealed::{Unlock, open_object};
use serde_bytes::ByteBuf;

use super::input::Fixed;
use super::vault::{RawPack, Row, Table, chunk_key, context, name, seal, skippable};

/// Names the case that a process of its own runs.
const CASE: &str = "MUSTER_HOSTILE_CASE";

const MIB: u64 = 1 << 20;

/// What the test's own process takes, with room, in bytes.
const BASE: u64 = 32 * MIB;

/// One hostile object: what it is, the error that it must meet, and the memory that reading it may take on top of the
/// object itself, in bytes.
struct Case {
    name: &'static str,
    says: &'static str,
    most: u64,
    read: fn() -> Result<(), String>,
}

const CASES: [Case; 21] = [
    Case {
        name: "pack frame of 1 GiB that says so",
        says: "another length",
        most: 9 * MIB,
        read: loud_frame,
    },
    Case {
        name: "pack frame of 1 GiB that says nothing",
        says: "another length",
        most: 9 * MIB,
        read: silent_frame,
    },
    Case { name: "pack of 64 frames of 8 MiB each", says: "", most: 40 * MIB, read: many_frames },
    Case { name: "slice index of 1 GiB", says: "longer than", most: MAX_INDEX_LEN as u64, read: index_bomb },
    Case {
        name: "chunk index of 1 GiB",
        says: "longer than",
        most: MAX_CHUNK_INDEX_LEN as u64,
        read: chunk_bomb,
    },
    Case { name: "object of 3000 frames", says: "longer than", most: 9 * MIB, read: frame_after_frame },
    Case { name: "object with a window of 2 GiB", says: "does not decompress", most: 9 * MIB, read: window },
    Case { name: "contents: a frame longer than any", says: "too long", most: 9 * MIB, read: long_row },
    Case { name: "contents: chunks that overflow", says: "too long", most: 9 * MIB, read: overflowing_row },
    Case { name: "contents: too many chunks", says: "too many", most: 9 * MIB, read: crowded_row },
    Case { name: "contents: an empty chunk", says: "an empty one", most: 9 * MIB, read: empty_chunk },
    Case { name: "contents: a frame without chunks", says: "no chunk", most: 9 * MIB, read: empty_row },
    Case { name: "contents: frames beyond the payload", says: "reach into it", most: 9 * MIB, read: beyond },
    Case {
        name: "contents: chunks shorter than their frame",
        says: "another length",
        most: 9 * MIB,
        read: short_chunks,
    },
    Case {
        name: "contents: frames that overlap",
        says: "not one whole frame",
        most: 9 * MIB,
        read: overlapping,
    },
    Case { name: "contents: 4 billion frames", says: "cut short", most: 9 * MIB, read: endless },
    Case {
        name: "contents: elsewhere than the trailer says",
        says: "has no frame",
        most: 9 * MIB,
        read: elsewhere,
    },
    Case {
        name: "contents: a trailer beyond the end",
        says: "leads nowhere",
        most: 9 * MIB,
        read: trailer_beyond,
    },
    Case {
        name: "slice index: extents that overflow",
        says: "another place",
        most: 9 * MIB,
        read: index_overflow,
    },
    Case {
        name: "pack list: a number twice, 4 billion rows",
        says: "cut short",
        most: 9 * MIB,
        read: endless_list,
    },
    Case {
        name: "entry stream: an entry that claims 16 MiB",
        says: "another place",
        most: 9 * MIB,
        read: claimed_entry,
    },
];

#[test]
fn hostile_objects_are_refused_with_one_clear_error() {
    for case in &CASES {
        match (case.read)() {
            Ok(()) => assert!(case.says.is_empty(), "{} is taken", case.name),
            Err(error) => {
                assert!(!case.says.is_empty() && error.contains(case.says), "{}: {error}", case.name);
                assert!(error.len() < 300, "{}: {error}", case.name);
            }
        }
    }
}

#[test]
fn hostile_objects_take_little_memory() {
    let own = std::env::current_exe().expect("a test has a path");
    for case in &CASES {
        let mut child = Command::new(&own);
        child.args(["--exact", "fuzz::hostile::one_case_alone", "--nocapture"]).env(CASE, case.name);
        let output = child.output().expect("the test runs itself");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", case.name);
    }
}

/// Run by the test above, for one case; alone it does nothing.
#[test]
fn one_case_alone() {
    let Ok(name) = std::env::var(CASE) else { return };
    let case = CASES.iter().find(|case| case.name == name).expect("a case");
    let _ = (case.read)();
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    let peak = peak * 1024;
    assert!(peak <= BASE + case.most, "{}: {} MiB at its peak", case.name, peak / MIB);
}

/// A zstd frame of this many zeroes, made without holding them; with its length or without.
fn zeroes(len: u64, says_so: bool) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
    encoder.set_pledged_src_size(says_so.then_some(len)).expect("settable");
    encoder.include_contentsize(says_so).expect("settable");
    let zero = [0; 65_536];
    let mut left = len;
    while left > 0 {
        let now = left.min(65_536);
        encoder.write_all(&zero[..usize::try_from(now).expect("short")]).expect("memory");
        left -= now;
    }
    encoder.finish().expect("memory")
}

fn read_pack(pack: &RawPack) -> Result<(), String> {
    let (bytes, key) = seal(&pack.payload());
    let read = || -> Result<(), PackError> {
        let reader = PackReader::open(&bytes, None, Unlock::FileKey(&key))?;
        // Whoever wants a range meets the same error, not another one later.
        let range = reader.read_range(0, 1).err();
        reader.for_each_chunk(|_, _, _| Ok(()))?;
        assert!(range.is_none(), "a range of a good pack: {range:?}");
        Ok(())
    };
    read().map_err(|error| causes(&error))
}

fn row(compressed_len: u32, chunks: &[u32]) -> Row {
    Row { compressed_len, chunks: chunks.iter().map(|len| (name(b"x"), *len)).collect() }
}

fn honest() -> RawPack {
    RawPack::of(&[&[b"some chunk", b"another"]])
}

/// An honest frame of 17 plain bytes under these rows.
fn under(frames: Vec<Row>) -> Result<(), String> {
    read_pack(&honest().with(&Table { version: 1, frames }))
}

fn frame_len() -> u32 {
    u32::try_from(honest().frames.len()).expect("short")
}

fn bomb_in_pack(frame: Vec<u8>) -> Result<(), String> {
    let len = u32::try_from(frame.len()).expect("short");
    let table = Table { version: 1, frames: vec![row(len, &[100])] };
    read_pack(&RawPack { frames: frame, ..honest() }.with(&table))
}

fn loud_frame() -> Result<(), String> {
    bomb_in_pack(zeroes(1 << 30, true))
}

fn silent_frame() -> Result<(), String> {
    bomb_in_pack(zeroes(1 << 30, false))
}

/// As large as a pack may unfold, and honest: it is read frame by frame.
fn many_frames() -> Result<(), String> {
    let longest = u32::try_from(MAX_FRAME_PLAIN).expect("8 MiB");
    let frame = zeroes(u64::from(longest), true);
    let len = u32::try_from(frame.len()).expect("short");
    let table = Table { version: 1, frames: vec![row(len, &[longest]); 64] };
    read_pack(&RawPack { frames: frame.repeat(64), ..honest() }.with(&table))
}

fn index_bomb() -> Result<(), String> {
    let (bytes, key) = seal(&zeroes(1 << 30, true));
    IndexRoot::open(&bytes, None, Unlock::FileKey(&key)).map(|_| ()).map_err(|error| causes(&error))
}

fn chunk_bomb() -> Result<(), String> {
    let (bytes, key) = seal(&zeroes(1 << 30, false));
    ChunkIndex::open(&bytes, None, Unlock::FileKey(&key)).map(|_| ()).map_err(|error| causes(&error))
}

fn open_small(payload: &[u8]) -> Result<(), String> {
    let (bytes, key) = seal(payload);
    open_object(&bytes, None, Unlock::FileKey(&key), 1 << 20).map(|_| ()).map_err(|error| causes(&error))
}

fn frame_after_frame() -> Result<(), String> {
    open_small(&[zeroes(1000, true), skippable(0x184D_2A50, b"")].concat().repeat(3000))
}

fn window() -> Result<(), String> {
    // Magic, a frame header with a window descriptor of exponent 21 (2 GiB) and nothing else, one raw block.
    open_small(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00")
}

fn long_row() -> Result<(), String> {
    under(vec![row(frame_len(), &[u32::try_from(MAX_FRAME_PLAIN).expect("8 MiB") + 1])])
}

fn overflowing_row() -> Result<(), String> {
    under(vec![row(frame_len(), &[u32::MAX; MAX_FRAME_CHUNKS])])
}

fn crowded_row() -> Result<(), String> {
    under(vec![row(frame_len(), &[1; MAX_FRAME_CHUNKS + 1])])
}

fn empty_chunk() -> Result<(), String> {
    under(vec![row(frame_len(), &[17, 0])])
}

fn empty_row() -> Result<(), String> {
    under(vec![row(frame_len(), &[])])
}

fn beyond() -> Result<(), String> {
    under(vec![row(frame_len(), &[10, 7]), row(8_000_000, &[1])])
}

fn short_chunks() -> Result<(), String> {
    under(vec![row(frame_len(), &[10, 6])])
}

fn overlapping() -> Result<(), String> {
    under(vec![row(frame_len() - 1, &[10, 7]), row(1, &[1])])
}

fn endless() -> Result<(), String> {
    let contents = [&b"\x82\xa7version\x01\xa6frames\xdd\xff\xff\xff\xff"[..], &[0x80; 1000]].concat();
    read_pack(&RawPack { contents, ..honest() })
}

fn elsewhere() -> Result<(), String> {
    read_pack(&RawPack { off_by: -1, ..honest() })
}

fn trailer_beyond() -> Result<(), String> {
    read_pack(&RawPack { off_by: 1 << 40, ..honest() })
}

fn index_overflow() -> Result<(), String> {
    #[derive(serde::Serialize)]
    struct Written {
        version: u16,
        service: String,
        round: RoundId,
        chunk_key: ByteBuf,
        sources: Vec<()>,
        totals: muster_protocol::document::SliceTotals,
        entries: Vec<Extent>,
        entries_bytes: u64,
    }
    let data = |length| Extent::Data { pack: 1, offset: u64::MAX, length };
    let written = Written {
        version: 1,
        service: context().service.to_string(),
        round: RoundId::from_bytes([1; 16]),
        chunk_key: ByteBuf::from(chunk_key().expose().to_vec()),
        sources: Vec::new(),
        totals: muster_protocol::document::SliceTotals::default(),
        entries: vec![data(u64::MAX), data(6)],
        entries_bytes: 5,
    };
    let content = zstd::bulk::compress(&wire::encode(&written), 3).expect("compresses");
    let (bytes, key) = seal(&content);
    IndexRoot::open(&bytes, None, Unlock::FileKey(&key)).map(|_| ()).map_err(|error| causes(&error))
}

fn endless_list() -> Result<(), String> {
    let twice = muster_share::lists::ListedPack { number: 7, id: ObjectId::of(b"a"), size: 1 };
    let list = PackList { packs: vec![twice, twice] };
    let bytes = list.encode(&mut Fixed(1)).expect("short");
    let read = PackList::decode(&bytes).expect("well-formed");
    assert!(PackList::union([&read]).is_err(), "one number is two packs");
    let claims =
        [&b"\x83\xa7version\x01\xa4salt\xc4\x100123456789abcdef\xa5packs\xdd\xff\xff\xff\xff"[..], &[0; 99]];
    PackList::decode(&claims.concat()).map(|_| ()).map_err(|error| causes(&error))
}

fn claimed_entry() -> Result<(), String> {
    let len = u32::try_from(MAX_ENTRY_LEN).expect("16 MiB");
    let stream = [&len.to_be_bytes()[..], b"short"].concat();
    EntryReader::new(stream.as_slice()).next_entry().map(|_| ()).map_err(|error| causes(&error))
}

/// The longest entry there may be comes back; one byte more is not written, and not read.
#[test]
fn an_entry_of_16_mib_reads_and_no_longer_one() {
    let sized = |len: usize| {
        let mut entry = Entry::new(b"a".to_vec(), Kind::File, 0o644);
        entry.xattrs = vec![(ByteBuf::from(b"user.a".to_vec()), ByteBuf::from(vec![7; len]))];
        entry
    };
    let beside = sized(1 << 20).encode().len() - (1 << 20);
    let longest = sized(MAX_ENTRY_LEN - beside);
    let mut writer = EntryWriter::new(Vec::new());
    writer.write(&longest).expect("as long as may be");
    assert!(writer.write(&sized(MAX_ENTRY_LEN - beside + 1)).is_err());
    let mut stream = writer.into_inner();
    assert_eq!(stream.len(), MAX_ENTRY_LEN + 4);
    assert_eq!(EntryReader::new(stream.as_slice()).next_entry().expect("reads"), Some(longest));
    stream[..4].copy_from_slice(&(u32::try_from(MAX_ENTRY_LEN).expect("16 MiB") + 1).to_be_bytes());
    assert!(EntryReader::new(stream.as_slice()).next_entry().is_err());
}

/// A file of hundreds of thousands of extents, as many as fit the longest entry.
#[test]
fn an_entry_of_many_extents_reads() {
    let mut entry = Entry::new(b"a".to_vec(), Kind::File, 0o644);
    let extent = |at: u64| Extent::Data { pack: at, offset: at << 20, length: 1 };
    entry.extents = (0..400_000).map(extent).collect();
    entry.size = 400_000;
    let mut writer = EntryWriter::new(Vec::new());
    writer.write(&entry).expect("fits");
    let stream = writer.into_inner();
    assert_eq!(EntryReader::new(stream.as_slice()).next_entry().expect("reads"), Some(entry));
}

/// A stream that ends, or fails, in the middle is never taken for a whole one.
#[test]
fn a_source_that_fails_in_an_entry_is_an_error() {
    struct Fails<'a>(&'a [u8]);
    impl Read for Fails<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("gone")) } else { self.0.read(into) }
        }
    }
    let mut writer = EntryWriter::new(Vec::new());
    writer.write(&Entry::new(b"a".to_vec(), Kind::File, 0o644)).expect("fits");
    let stream = writer.into_inner();
    for len in 0..stream.len() {
        assert!(EntryReader::new(Fails(&stream[..len])).next_entry().is_err(), "after {len} bytes");
    }
}
