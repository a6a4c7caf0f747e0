//! Streams through chunker, compressor, packs and back: what comes out is what went in, whatever its shape.

use std::collections::HashMap;

use muster_protocol::ids::ChunkId;
use muster_share::chunk::{ChunkSize, Chunker};
use muster_share::entry::{Entry, Extent, Kind, push_extent};
use muster_share::lists::{EntryReader, EntryWriter};
use muster_share::pack::{Compressor, PackBuilder, PackError, PackReader, SealedPack, Unlock, compress};

use super::input::{Draw, Fixed};
use super::vault::{KEY, chunk_key, context};

/// Longest stream of one input, in bytes.
const LONGEST: usize = 150_000;

/// Builds a few streams from the input, stores them and reads them back.
pub(super) fn round_trip(input: &[u8]) {
    let mut draw = Draw::new(input);
    let size = ChunkSize::new(4096 << draw.below(4)).expect("a power of two");
    let target = 1 + usize::from(draw.short()) * 4;
    let group = usize::from(draw.below(5)) + 1;
    let mut store = Store::new(target, group);
    let mut streams = Vec::new();
    while !draw.is_empty() && streams.len() < 8 {
        let stream = stream(&mut draw);
        let extents = store.put(&stream, size, &mut draw);
        streams.push((stream, extents));
    }
    let packs = store.finish();
    let open = |pack: &SealedPack| -> Vec<u8> {
        let reader = PackReader::open(&pack.bytes, Some(&pack.id), Unlock::FileKey(&pack.file_key));
        let reader = reader.expect("a pack opens");
        let all = reader.read_range(0, pack.plain_len).expect("every frame reads");
        let (start, end) = (pack.plain_len / 3, pack.plain_len / 2);
        let within = |at: u64| usize::try_from(at).expect("short");
        assert!(reader.read_range(start, end).expect("a part reads") == all[within(start)..within(end)]);
        all
    };
    let packs: Vec<Vec<u8>> = packs.iter().map(open).collect();
    let entries = describe(&streams);
    let mut reader = EntryReader::new(entries.as_slice());
    for (stream, extents) in &streams {
        let entry = reader.next_entry().expect("what was written reads").expect("one for each stream");
        assert_eq!((&entry.extents, entry.size), (extents, stream.len() as u64));
        let mut back = Vec::new();
        for extent in &entry.extents {
            match *extent {
                Extent::Hole { length } => {
                    back.resize(back.len() + usize::try_from(length).expect("short"), 0)
                }
                Extent::Data { pack, offset, length } => {
                    let within = |at: u64| usize::try_from(at).expect("short");
                    let span = within(offset)..within(offset + length);
                    back.extend_from_slice(
                        packs[within(pack)].get(span).expect("the extent lies in its pack"),
                    );
                }
            }
        }
        assert!(back == *stream, "a stream of {} bytes came back changed", stream.len());
    }
    reader.finish().expect("nothing follows");
}

pub(super) fn samples() -> Vec<Vec<u8>> {
    let noise = |len: u16, seed: u8| [&[0][..], &len.to_le_bytes(), &[seed, 7]].concat();
    let zeroes = |len: u16| [&[1][..], &len.to_le_bytes()].concat();
    let hole = |len: u16| [&[4][..], &len.to_le_bytes()].concat();
    let end = vec![5u8];
    vec![
        vec![],
        [vec![0, 0, 40, 3], noise(3000, 1), end.clone(), noise(3000, 1), noise(40, 2)].concat(),
        [vec![1, 16, 0, 0], zeroes(9000), hole(500), noise(700, 3), end.clone(), end].concat(),
        [vec![2, 255, 255, 4], vec![2, 5, 1, 2, 3, 4, 5, 200], noise(9000, 4), vec![3, 100, 0]].concat(),
    ]
}

/// A stream of noise, zeroes, repeated patterns and literal bytes.
fn stream(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while stream.len() < LONGEST && !draw.is_empty() {
        let kind = draw.below(6);
        let room = LONGEST - stream.len();
        match kind {
            0 => {
                let len = (usize::from(draw.short()) * 8).min(room);
                let mut noise = vec![0; len];
                muster_protocol::entropy::Entropy::fill(&mut Fixed(u64::from(draw.byte())), &mut noise);
                stream.extend_from_slice(&noise);
            }
            1 | 4 => stream.resize(stream.len() + (usize::from(draw.short()) * 8).min(room), 0),
            2 => {
                let pattern = draw.bytes();
                let times = usize::from(draw.byte()) * 16;
                (0..times).for_each(|_| stream.extend_from_slice(pattern));
            }
            3 => {
                // What came before, again from some place on: chunks that repeat.
                let from = usize::from(draw.short()) * 8;
                let again = stream.get(from..).unwrap_or_default().to_vec();
                stream.extend_from_slice(&again[..again.len().min(room)]);
            }
            _ => break,
        }
    }
    stream.truncate(LONGEST);
    stream
}

fn describe(streams: &[(Vec<u8>, Vec<Extent>)]) -> Vec<u8> {
    let mut writer = EntryWriter::new(Vec::new());
    for (at, (stream, extents)) in streams.iter().enumerate() {
        let mut entry = Entry::new(format!("{at}").into_bytes(), Kind::File, 0o644);
        entry.size = stream.len() as u64;
        entry.extents.clone_from(extents);
        writer.write(&entry).expect("memory grows");
    }
    writer.into_inner()
}

/// Packs under construction, and where every chunk lies.
struct Store {
    target: usize,
    group: usize,
    compressor: Compressor,
    open: Option<PackBuilder>,
    packs: Vec<SealedPack>,
    known: HashMap<ChunkId, (u64, u64)>,
    waiting: Vec<(Vec<u8>, ChunkId)>,
}

impl Store {
    fn new(target: usize, group: usize) -> Self {
        Self {
            target,
            group,
            compressor: Compressor::new(3).expect("memory"),
            open: None,
            packs: Vec::new(),
            known: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    fn put(&mut self, stream: &[u8], size: ChunkSize, draw: &mut Draw<'_>) -> Vec<Extent> {
        let mut chunks = Vec::new();
        let mut chunker = Chunker::new(size);
        let mut emit = |chunk: &[u8]| {
            chunks.push((chunk_key().id(chunk), chunk.len() as u64));
            self.keep(chunk)
        };
        let slice = 1 + usize::from(draw.short()) * 16;
        for part in stream.chunks(slice) {
            chunker.push(part, &mut emit).expect("packs take chunks");
        }
        chunker.finish(&mut emit).expect("packs take chunks");
        self.flush().expect("packs take chunks");
        let mut extents = Vec::new();
        for (id, length) in chunks {
            let (pack, offset) = self.known[&id];
            push_extent(&mut extents, Extent::Data { pack, offset, length });
        }
        extents
    }

    fn keep(&mut self, chunk: &[u8]) -> Result<(), PackError> {
        let id = chunk_key().id(chunk);
        if self.known.contains_key(&id) || self.waiting.iter().any(|(_, waiting)| *waiting == id) {
            return Ok(());
        }
        self.waiting.push((chunk.to_vec(), id));
        if self.waiting.len() >= self.group { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), PackError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let parts: Vec<(&[u8], ChunkId)> =
            waiting.iter().map(|(chunk, id)| (chunk.as_slice(), *id)).collect();
        let frame = compress(&mut self.compressor, &parts)?;
        let number = self.packs.len() as u64;
        if self.open.is_none() {
            let recipients = [KEY.recipient()];
            let pack =
                PackBuilder::new(self.target, Vec::new(), &recipients, &context(), &mut Fixed(number))?;
            self.open = Some(pack);
        }
        let pack = self.open.as_mut().expect("opened just now");
        let mut offset = pack.push(&frame)?;
        for (chunk, id) in &waiting {
            self.known.insert(*id, (number, offset));
            offset += chunk.len() as u64;
        }
        if pack.is_full() {
            self.seal();
        }
        Ok(())
    }

    fn seal(&mut self) {
        let Some(pack) = self.open.take() else { return };
        let pack = pack.seal().expect("a pack with chunks is sealed");
        pack.self_check(&chunk_key()).expect("an honest pack passes its check");
        self.packs.push(pack);
    }

    fn finish(mut self) -> Vec<SealedPack> {
        self.seal();
        self.packs
    }
}
