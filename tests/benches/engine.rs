//! The stages that every byte of a backup passes, one by one: `cargo bench -p muster-tests --features bench --bench engine`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use muster_protocol::age::{Identity, Recipient};
use muster_protocol::entropy::{Entropy, random};
use muster_protocol::ids::FleetId;
use muster_share::chunk::{ChunkKey, ChunkSize, Chunker};
use muster_share::entropy::OsEntropy;
use muster_share::entry::{Entry, Extent, Kind};
use muster_share::lists::{EntryReader, EntryWriter};
use muster_share::pack::{
    Compressor, DEFAULT_TARGET, Frame, PackBuilder, PackContext, PackReader, SealedPack, Unlock, compress,
};

const MIB: usize = 1024 * 1024;
/// The average length of chunks, as it is by default.
const AVERAGE: usize = 256 * 1024;
const LEVELS: [i32; 4] = [1, 3, 6, 9];

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    chunks(&mut criterion);
    compression(&mut criterion);
    packs(&mut criterion);
    entries(&mut criterion);
    criterion.final_summary();
}

fn chunks(criterion: &mut Criterion) {
    let data = noise(16 * MIB);
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("cut", |bencher| {
        let size = ChunkSize::new(u32::try_from(AVERAGE).expect("small")).expect("a usual size");
        bencher.iter(|| {
            let (mut chunker, mut count) = (Chunker::new(size), 0);
            let mut each = |chunk: &[u8]| {
                count += chunk.len();
                Ok::<(), std::convert::Infallible>(())
            };
            let done = chunker.push(&data, &mut each).and_then(|()| chunker.finish(&mut each));
            done.expect("nothing fails");
            black_box(count)
        });
    });
    group.bench_function("name", |bencher| {
        let key = key();
        bencher.iter(|| {
            for chunk in data.chunks(AVERAGE) {
                black_box(key.id(chunk));
            }
        });
    });
    group.finish();
}

fn compression(criterion: &mut Criterion) {
    let (text, noise) = (text(4 * MIB), noise(4 * MIB));
    let mut group = criterion.benchmark_group("compress");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for level in LEVELS {
        for (kind, data) in [("text", &text), ("noise", &noise)] {
            let mut compressor = Compressor::new(level).expect("memory");
            group.bench_function(format!("{kind}, level {level}"), |bencher| {
                bencher.iter(|| frames(&mut compressor, data).len());
            });
        }
    }
    group.finish();
}

fn packs(criterion: &mut Criterion) {
    let owner = Identity::generate(&mut OsEntropy);
    let (recipients, owners) = ([owner.recipient()], [owner]);
    // As real data are: half of it compresses.
    let data = [text(16 * MIB), noise(8 * MIB)].concat();
    let frames = frames(&mut Compressor::new(3).expect("memory"), &data);
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("build and seal", |bencher| {
        bencher.iter_batched(
            || Vec::with_capacity(DEFAULT_TARGET + DEFAULT_TARGET / 8),
            |buffer| pack(buffer, &frames, &recipients),
            BatchSize::LargeInput,
        );
    });
    let sealed = pack(Vec::new(), &frames, &recipients);
    group.bench_function("self-check", |bencher| {
        let key = key();
        bencher.iter(|| sealed.self_check(&key).expect("it is as it was made"));
    });
    group.bench_function("open, decompress, name", |bencher| {
        let key = key();
        bencher.iter(|| {
            let reader = PackReader::open(&sealed.bytes, Some(&sealed.id), Unlock::Identities(&owners));
            let read = reader.and_then(|reader| {
                reader.for_each_chunk(|_, id, chunk| {
                    assert!(key.id(chunk) == id);
                    Ok(())
                })
            });
            read.expect("it is as it was made");
        });
    });
    group.finish();
}

fn entries(criterion: &mut Criterion) {
    let entries: Vec<_> = (0..10_000).map(entry).collect();
    let mut group = criterion.benchmark_group("entries");
    group.throughput(Throughput::Elements(entries.len() as u64));
    let write = || {
        let mut writer = EntryWriter::new(Vec::new());
        entries.iter().for_each(|entry| writer.write(entry).expect("it is short"));
        writer.into_inner()
    };
    group.bench_function("encode", |bencher| bencher.iter(|| write().len()));
    let stream = write();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            EntryReader::new(stream.as_slice()).map(|entry| entry.expect("an entry").size).sum::<u64>()
        });
    });
    group.finish();
}

fn key() -> ChunkKey {
    ChunkKey::from_bytes([5; 32])
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    OsEntropy.fill(&mut bytes);
    bytes
}

/// Rows of a made-up table: they compress to about a fifth.
fn text(len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 128);
    let mut number = 0_u64;
    while text.len() < len {
        number += 1;
        let sum = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        text.extend_from_slice(
            format!("{number}\tcustomer-{}\tpaid\t{sum:011x}\tEUR\n", sum % 4000).as_bytes(),
        );
    }
    text.truncate(len);
    text
}

fn frames(compressor: &mut Compressor, data: &[u8]) -> Vec<Frame> {
    let key = key();
    let frame = |chunk: &[u8]| compress(compressor, &[(chunk, key.id(chunk))]).expect("a usual chunk");
    data.chunks(AVERAGE).map(frame).collect()
}

fn pack(buffer: Vec<u8>, frames: &[Frame], recipients: &[Recipient]) -> SealedPack {
    let fleet = FleetId::from_bytes(random(&mut OsEntropy));
    let context = PackContext { fleet, service: "bench".parse().expect("a name"), keyset: 1 };
    let mut builder =
        PackBuilder::new(DEFAULT_TARGET, buffer, recipients, &context, &mut OsEntropy).expect("usable");
    for frame in frames {
        builder.push(frame).expect("it fits");
    }
    builder.seal().expect("it is not empty")
}

fn entry(number: u64) -> Entry {
    let mut entry =
        Entry::new(format!("srv/data/{:03}/file-{number:06}.json", number / 64).into(), Kind::File, 0o644);
    entry.mtime_secs = 1_700_000_000;
    entry.user = Some("service".to_owned());
    entry.size = 9_000 + number;
    entry.extents = vec![Extent::Data { pack: number / 400, offset: number * 9_000, length: entry.size }];
    entry
}
