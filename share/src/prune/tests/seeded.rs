//! Seeded: rounds, uploads, holds and prunes in any order, by an honest coordinator and honest agents. Every round that is
//! not swept is whole at every moment, and in the end nothing is left that nobody needs.

use std::collections::BTreeSet;

use muster_protocol::ids::ObjectId;

use crate::layout::ObjectPath;
use crate::prune::read_object_list;
use crate::scene::{HOUR, Scene, service};

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// What a round opened at this log position must not name: what agents and coordinator refuse.
async fn refused(scene: &Scene, position: u64) -> BTreeSet<ObjectPath> {
    let state = scene.log.state();
    let sweeps = state.sweeps.values().map(|(sweep, _)| sweep.list);
    let marks = state.prunes.range(..position).map(|(_, prune)| prune.list);
    let mut refused = BTreeSet::new();
    for list in sweeps.chain(marks) {
        refused.extend(read_object_list(scene.store.as_ref(), list).await.expect("a list"));
    }
    refused
}

async fn run(seed: u64) -> (u64, u64) {
    let mut rng = Rng(seed);
    let mut scene = Scene::new(1 + u32::try_from(rng.below(3)).expect("small")).await;
    let (mut open, mut swept, mut kept_back) = (Vec::new(), 0, 0);
    // Each service's agent remembers the packs that it uploaded, and uses any of them again.
    let mut known: Vec<(&str, String)> = Vec::new();
    for step in 0..40 {
        scene.now += i64::try_from(rng.below(3)).expect("small") * HOUR / 2;
        let name = ["dns", "web"][usize::try_from(rng.below(2)).expect("small")];
        match rng.below(10) {
            0 | 1 if !open.iter().any(|(_, of)| *of == name) => open.push((scene.open(&[name]).await, name)),
            2 => {
                let pack = format!("pack {step}");
                scene.upload(name, &pack).await;
                known.push((name, pack));
            }
            3..=5 if !open.is_empty() => {
                let at = usize::try_from(rng.below(open.len() as u64)).expect("small");
                let (number, name) = open.swap_remove(at);
                let position = scene.log.state().rounds[&scene.id(number)].position;
                let refused = refused(&scene, position).await;
                let usable = |pack: &String| {
                    let id = ObjectId::of(pack.as_bytes());
                    !refused.contains(&ObjectPath::Pack { service: service(name), id })
                };
                let mut packs = vec![format!("pack {step}")];
                known.push((name, packs[0].clone()));
                for (of, pack) in &known {
                    if *of == name && usable(pack) && rng.below(3) == 0 && !packs.contains(pack) {
                        packs.push(pack.clone());
                    }
                }
                // What was lost with a sweep cannot come back under its old name: sealed again, it has another.
                let packs: Vec<&str> = packs.iter().map(String::as_str).collect();
                let slice = scene.slice(number, (name, &packs)).await;
                if rng.below(4) == 0 {
                    scene.end(number).await;
                } else {
                    scene.commit(number, vec![slice], rng.below(4) != 0).await;
                }
            }
            6 => {
                let rounds = scene.recoverable();
                if let Some(number) = rounds.get(usize::try_from(rng.below(8)).expect("small")).copied() {
                    scene.hold(number, rng.below(2) == 0).await;
                }
            }
            _ => {
                let report = scene.prune().await.expect("prunes");
                for sweep in report.swept {
                    swept += sweep.deleted.objects;
                    kept_back += sweep.kept_back.len() as u64;
                }
            }
        }
        assert_eq!(scene.damage().await, [""; 0], "seed {seed}, step {step}");
    }
    for (number, _) in open {
        scene.end(number).await;
    }
    for _ in 0..4 {
        scene.prune().await.expect("prunes");
        scene.now += 2 * HOUR;
    }
    let plan = super::plan(&scene.log, muster_protocol::time::UnixMillis(scene.now)).await.expect("planned");
    assert!(!plan.survey.is_worth_a_mark(), "seed {seed}: {:?}", plan.survey);
    assert_eq!(scene.damage().await, [""; 0], "seed {seed}, in the end");
    (swept, kept_back)
}

#[tokio::test]
async fn rounds_are_whole_at_every_moment() {
    let only = std::env::var("MUSTER_SEED").ok().map(|seed| seed.parse().expect("MUSTER_SEED is a number"));
    let (mut swept, mut kept_back) = (0, 0);
    for seed in only.map_or(0..40, |seed: u64| seed..seed + 1) {
        let (more_swept, more_kept) = run(seed).await;
        swept += more_swept;
        kept_back += more_kept;
    }
    assert!(only.is_some() || (swept > 100 && kept_back > 0), "{swept} swept, {kept_back} kept back");
}
