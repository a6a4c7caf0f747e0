//! The agent's memory of its chunks: what a chunk costs that is known, one that is new, and a pack that is remembered.
//! `cargo bench -p muster-tests --features bench --bench memory`.

use criterion::{Criterion, Throughput};
use muster_agent::state::{NumberedPack, PackRow, State};
use muster_protocol::ids::{ChunkId, ObjectId};

const PACKS: u64 = 2_000;
const CHUNKS_OF_A_PACK: u64 = 100;
const CHUNK_BYTES: u32 = 200_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let folder = tempfile::tempdir().expect("a folder");
    let state = State::open(folder.path()).expect("a database");
    state.begin(1, ChunkId::from_bytes([0; 32])).expect("begun");
    for first in (0..PACKS).step_by(200) {
        let packs: Vec<_> = (first..first + 200).map(pack).collect();
        state.add_packs(&packs).expect("remembered");
    }
    let mut group = criterion.benchmark_group("state");
    group.throughput(Throughput::Elements(1));
    let view = state.view().expect("a view");
    let mut number = 0;
    for (name, shift) in [("find a known chunk", 0), ("find a new chunk", PACKS * CHUNKS_OF_A_PACK)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                // In no order: names are hashes, and so are neighbours.
                number = (number + 7_919) % (PACKS * CHUNKS_OF_A_PACK);
                let found = state.find(&view, &chunk(number + shift)).expect("it reads");
                assert_eq!(found.is_some(), shift == 0);
            });
        });
    }
    drop(view);
    let mut next = PACKS;
    group.bench_function("remember a pack of 100 chunks", |bencher| {
        bencher.iter(|| {
            next += 1;
            state.add_packs(&[pack(next)]).expect("remembered");
        });
    });
    group.finish();
    criterion.final_summary();
}

fn pack(number: u64) -> NumberedPack {
    let chunks =
        (0..CHUNKS_OF_A_PACK).map(|at| (chunk(number * CHUNKS_OF_A_PACK + at), CHUNK_BYTES)).collect();
    let plain_bytes = CHUNKS_OF_A_PACK * u64::from(CHUNK_BYTES);
    (number, PackRow { id: ObjectId::of(&number.to_be_bytes()), size: 16 << 20, plain_bytes }, chunks)
}

fn chunk(number: u64) -> ChunkId {
    ChunkId::from_bytes(*ObjectId::of(&number.to_be_bytes()).as_bytes())
}
