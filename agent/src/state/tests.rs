//! What is remembered comes back, what is damaged is noticed, and memory does not grow with the index.

use super::{FILE_NAME, ListPair, PackRow, Place, Slice, State, StateError};
use muster_protocol::document::ObjectRef;
use muster_protocol::ids::{ChunkId, ObjectId, RoundId};
use std::os::unix::fs::PermissionsExt;

fn id(n: u8) -> ChunkId {
    ChunkId::from_bytes([n; 32])
}

fn row(n: u8) -> PackRow {
    PackRow { id: ObjectId::of(&[n]), size: u64::from(n), plain_bytes: 0 }
}

fn find(state: &State, n: u8) -> Option<Place> {
    state.find(&state.view().expect("view"), &id(n)).expect("reads")
}

#[test]
fn packs_are_remembered_across_restarts_and_forgotten_with_their_chunks() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let state = State::open(dir.path()).expect("opens");
    assert_eq!(state.begin(3, id(0)).expect("begins").next_pack, 1);
    state.add_pack(1, row(1), &[(id(1), 10), (id(2), 20)]).expect("added");
    state.add_pack(2, row(2), &[(id(2), 20), (id(3), 30)]).expect("added");
    drop(state);
    let state = State::open(dir.path()).expect("opens again");
    let begun = state.begin(3, id(0)).expect("begins");
    assert_eq!((begun.next_pack, begun.packs), (3, vec![(1, row(1)), (2, row(2))]));
    assert_eq!(find(&state, 3), Some(Place { pack: 2, offset: 20, length: 30 }));
    assert_eq!(state.pack_chunks(1).expect("reads"), Some(vec![(id(1), 10), (id(2), 20)]));
    state.forget(&[1]).expect("forgotten");
    assert_eq!(find(&state, 1), None);
    assert_eq!(find(&state, 2), Some(Place { pack: 2, offset: 0, length: 20 }), "it lies in pack 2, too");
    assert_eq!(state.pack_chunks(1).expect("reads"), None);
    assert_eq!(state.begin(3, id(0)).expect("begins").next_pack, 3, "numbers are never given again");
}

#[test]
fn another_keyset_or_key_forgets_packs_but_no_number() {
    for (keyset, key) in [(4, id(0)), (3, id(9))] {
        let dir = tempfile::tempdir().expect("temporary folder");
        let state = State::open(dir.path()).expect("opens");
        state.begin(3, id(0)).expect("begins");
        state.add_pack(1, row(1), &[(id(1), 10)]).expect("added");
        state.keep(ObjectId::of(b"receipt")).expect("kept");
        let begun = state.begin(keyset, key).expect("begins");
        assert_eq!((begun.next_pack, begun.packs.len()), (2, 0));
        assert_eq!(find(&state, 1), None);
        assert_eq!((begun.kept, begun.previous), (None, Some(ObjectId::of(b"receipt"))));
    }
}

#[test]
fn only_slices_that_count_are_built_upon() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let state = State::open(dir.path()).expect("opens");
    state.begin(3, id(0)).expect("begins");
    let object = ObjectRef { round: RoundId::from_bytes([1; 16]), id: ObjectId::of(b"list"), size: 4 };
    let slice = |n: u8| Slice {
        receipt: ObjectId::of(&[n]),
        lists: vec![ListPair { packs: object, chunks: object, numbers: vec![u64::from(n)] }],
        live: vec![(u64::from(n), 7)],
        source_bytes: 70,
    };
    state.add_slice(&slice(1)).expect("added");
    state.add_slice(&slice(2)).expect("added");
    assert_eq!(state.begin(3, id(0)).expect("begins").kept, None);
    for _ in 0..2 {
        state.keep(slice(2).receipt).expect("kept");
        assert_eq!(state.begin(3, id(0)).expect("begins").kept, Some(slice(2)));
    }
    state.keep(slice(1).receipt).expect("kept");
    assert_eq!(state.begin(3, id(0)).expect("begins").kept, None, "its lists were forgotten");
    assert_eq!(state.kept().expect("reads").map(|kept| kept.receipt), Some(slice(1).receipt));
}

#[test]
fn a_second_agent_is_kept_out_and_a_damaged_memory_is_begun_anew() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let state = State::open(dir.path()).expect("opens");
    assert!(matches!(State::open(dir.path()), Err(StateError::InUse { .. })));
    drop(state);
    let path = dir.path().join(FILE_NAME);
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(&path, b"this is no database, but it is long enough to be looked at").expect("written");
    let state = State::open(dir.path()).expect("begun anew");
    assert_eq!(state.packs().expect("reads"), vec![]);
    assert!(dir.path().join("state.redb.damaged").exists());
    drop(state);
    assert!(matches!(State::open(&path.join("below")), Err(StateError::File { .. })));
}

#[test]
fn no_flipped_bit_gives_a_wrong_place() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let state = State::open(dir.path()).expect("opens");
    state.begin(3, id(0)).expect("begins");
    let chunks: Vec<_> = (0..40).map(|n| (id(n), 1000 + u32::from(n))).collect();
    state.add_pack(1, row(1), &chunks).expect("added");
    let right: Vec<_> = (0..40).map(|n| find(&state, n)).collect();
    drop(state);
    let whole = std::fs::read(&path).expect("read");
    // Where the rows are: around each chunk's length, and around the pack's name.
    let near = |what: &[u8]| whole.windows(what.len()).position(|window| window == what).expect("there");
    let spots = [near(&1005u32.to_le_bytes()), near(&[5; 32]), near(row(1).id.as_bytes())];
    let mut noticed = 0;
    for at in spots.into_iter().flat_map(|at| at - 8..at + 24) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, &bytes).expect("written");
        let outcome = || {
            let Ok(state) = State::open(dir.path()) else { return 1 };
            let Ok(view) = state.view() else { return 1 };
            let mut odd = 0;
            for n in 0..40 {
                match state.find(&view, &id(n)) {
                    Ok(Some(place)) => assert_eq!(Some(place), right[usize::from(n)], "byte {at}"),
                    Ok(None) | Err(_) => odd += 1,
                }
            }
            match state.pack_chunks(1) {
                Ok(Some(have)) => assert_eq!(have, chunks, "byte {at}"),
                Ok(None) | Err(_) => odd += 1,
            }
            match state.packs() {
                Ok(packs) => assert!(packs.is_empty() || packs == [(1, row(1))], "byte {at}"),
                Err(_) => odd += 1,
            }
            odd
        };
        noticed += outcome();
    }
    assert!(noticed > 50, "{noticed}");
}

#[test]
fn zeroed_pages_are_damage_like_any_other() {
    let (dir, fresh) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let state = State::open(dir.path()).expect("opens");
    state.begin(3, id(0)).expect("begins");
    let chunks: Vec<_> = (0..=255).map(|n| (id(n), 1000)).collect();
    for pack in 1..6 {
        state.add_pack(pack, row(1), &chunks).expect("added");
    }
    drop(state);
    let whole = std::fs::read(dir.path().join(FILE_NAME)).expect("read");
    let mut failed = 0;
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 3).min(whole.len() / 4096) * 4096].fill(0);
        std::fs::write(fresh.path().join(FILE_NAME), &bytes).expect("written");
        let state = State::open(fresh.path()).expect("opens, or is begun anew");
        let used = || {
            state.begin(3, id(0))?;
            let view = state.view()?;
            (0..=255).try_for_each(|n| state.find(&view, &id(n)).map(drop))?;
            state.pack_chunks(3)?;
            state.add_pack(9, row(9), &[(id(9), 10)])?;
            state.keep(ObjectId::of(b"receipt"))
        };
        if let Err(error) = used() {
            assert!(matches!(error, StateError::Row { .. } | StateError::Database { .. }), "{error}");
            state.rebuild().expect("begun anew");
            failed += 1;
        }
        state.begin(3, id(0)).expect("begins");
        state.add_pack(10, row(10), &[(id(10), 10)]).expect("added");
    }
    assert!(failed > 0, "no page mattered");
}

/// The most memory that this process has had, in MiB (VmHWM of proc(5)).
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("there");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
}

/// Remembers so many chunks of 256 KiB, in packs of 160, opens the memory again, and looks up known and unknown ones.
fn remember(chunks: u64) {
    let name = |n: u64| ChunkId::from_bytes(*blake3::hash(&n.to_be_bytes()).as_bytes());
    let dir = tempfile::tempdir().expect("temporary folder");
    let state = State::open(dir.path()).expect("opens");
    state.begin(3, id(0)).expect("begins");
    for pack in 0..chunks / 160 {
        let chunks: Vec<_> = (0..160).map(|n| (name(pack * 160 + n), 262_144)).collect();
        state.add_pack(pack + 1, PackRow { plain_bytes: 160 << 18, ..row(1) }, &chunks).expect("added");
    }
    drop(state);
    let state = State::open(dir.path()).expect("opens again");
    assert_eq!(state.begin(3, id(0)).expect("begins").packs.len() as u64, chunks / 160);
    let view = state.view().expect("view");
    for n in (0..chunks / 160 * 160).step_by(97) {
        let place = state.find(&view, &name(n)).expect("reads").expect("known");
        assert_eq!(place.pack, n / 160 + 1);
        assert_eq!(state.find(&view, &name(n + chunks)).expect("reads"), None);
    }
}

#[test]
fn memory_does_not_grow_with_the_index() {
    remember(20_000);
    let small = peak_mib();
    remember(200_000);
    let grown = peak_mib() - small;
    assert!(grown < 24, "{grown} MiB more for ten times as many chunks");
}

/// The index of a tebibyte: minutes long, so only when asked for (`--run-ignored only`).
#[test]
#[ignore = "takes minutes"]
fn the_index_of_a_tebibyte_stays_on_the_disk() {
    remember(4_194_304);
    assert!(peak_mib() < 128, "{} MiB", peak_mib());
}
