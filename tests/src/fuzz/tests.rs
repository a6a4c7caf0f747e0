//! Every target over its samples, the kept corpus, the golden samples, and seeded changes of them.
//!
//! A failing seed is printed; `MUSTER_SEED=<it>` runs that one alone.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::corpus::{files, folder, golden};
use super::input::Fixed;
use super::{TARGETS, Target, target};

/// Seeds of each target in an ordinary run.
const SEEDS: u64 = 150;

/// Most bytes of the whole corpus: it is read on every run.
const CORPUS_LEN_MAX: u64 = 200 * 1024;

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.samples)();
    inputs.extend(files(&folder(target)).iter().map(|path| fs::read(path).expect("a kept input")));
    inputs.push(Vec::new());
    inputs
}

fn run(target: &Target, input: &[u8], what: &str) {
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if let Err(panic) = result {
        eprintln!("target {} fails on {what}: {} bytes {input:02x?}", target.name, input.len());
        resume_unwind(panic);
    }
}

#[test]
fn kept_inputs_and_samples_break_nothing() {
    let golden = golden("");
    assert!(golden.len() > 20, "the golden samples were not found");
    for target in &TARGETS {
        for (number, input) in inputs(target).iter().chain(&golden).enumerate() {
            run(target, input, &format!("input {number}"));
        }
    }
}

#[test]
fn changed_inputs_break_nothing() {
    let only = std::env::var("MUSTER_SEED").ok().map(|seed| seed.parse().expect("MUSTER_SEED is a number"));
    for target in &TARGETS {
        let inputs = inputs(target);
        for seed in only.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
            let mut random = Fixed(seed);
            let pick = |random: &mut Fixed| {
                inputs[usize::try_from(random.below(inputs.len() as u64)).expect("few")].clone()
            };
            let mut input = pick(&mut random);
            mangle(&mut random, &mut input);
            if random.below(4) == 0 {
                input.extend(pick(&mut random));
            }
            input.truncate(64 * 1024);
            run(target, &input, &format!("MUSTER_SEED={seed}"));
        }
    }
}

fn mangle(random: &mut Fixed, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(6) {
        let at = usize::try_from(random.below(bytes.len() as u64 + 1)).expect("an index");
        let byte = random.next().to_le_bytes()[0];
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, byte),
            2 => {
                let more = random.below(40);
                let more = random.bytes(usize::try_from(more).expect("few"));
                bytes.splice(at..at, more);
            }
            _ => {
                if let Some(place) = bytes.get_mut(at) {
                    *place = if random.below(2) == 0 { byte } else { *place ^ 1 << (byte & 7) };
                }
            }
        }
    }
}

#[test]
fn the_list_of_targets_is_whole() {
    assert!(TARGETS.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted, each once");
    assert!(TARGETS.iter().all(|one| target(one.name).is_some_and(|found| found.name == one.name)));
    for one in &TARGETS {
        assert!(!files(&folder(one)).is_empty(), "{} has no kept input: ./x fuzz {0} --keep", one.name);
    }
    let root = folder(&Target { name: "", ..TARGETS[0] });
    let mut len = 0;
    for entry in fs::read_dir(&root).expect("the corpus").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            assert!(target(&name).is_some(), "{name} is no target, so nothing replays it");
            len += files(&entry.path())
                .iter()
                .map(|path| fs::metadata(path).expect("a file").len())
                .sum::<u64>();
        }
    }
    assert!(len <= CORPUS_LEN_MAX, "the corpus has {len} bytes: minimise it with ./x fuzz --keep");
}
