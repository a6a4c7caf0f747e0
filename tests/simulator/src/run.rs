//! One seed from its beginning to its end, and many of them on every core.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fault::Tally;
use crate::invariant::{self, Invariant};
use crate::planted::Planted;
use crate::world::World;

/// Events in which things may fail; then faults stop.
const STORMY: u64 = 350;
/// Events of every seed, at least.
const EVENTS: u64 = 500;

/// What seeds came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// How many.
    pub seeds: u64,
    /// Events in all.
    pub events: u64,
    /// The fewest of one seed.
    pub fewest: u64,
    /// How often what went wrong.
    pub tally: Tally,
    /// Rounds that were opened, committed, verified and swept.
    pub rounds: [u64; 4],
}

/// An invariant that did not hold.
#[derive(Debug, Clone)]
pub struct Broken {
    /// The seed that shows it.
    pub seed: u64,
    /// After how many events.
    pub event: u64,
    /// Which invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub why: String,
    /// Everything that happened, one line each, if it was asked for.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let Self { seed, event, invariant, why, .. } = self;
        writeln!(f, "seed {seed}, event {event}: \"{invariant}\" does not hold: {why}")?;
        write!(f, "once more: MUSTER_SEEDS={seed}..{} ./x long simulator", seed + 1)
    }
}

/// Runs one seed, with a bug if one is planted, and keeps a trace if wanted.
///
/// # Errors
/// When an invariant does not hold.
pub fn run_seed(seed: u64, planted: Option<Planted>, traced: bool) -> Result<Summary, Box<Broken>> {
    let mut world = World::new(seed, planted, traced);
    let mut invariants = invariant::all();
    loop {
        if world.at_rest() {
            if world.last_round.is_none() {
                world.want_last_round();
            } else if world.events >= EVENTS {
                break;
            }
        }
        world.step();
        if world.events == STORMY && world.calm_since.is_none() {
            world.calm_down();
        }
        let facts = std::mem::take(&mut world.facts);
        judge(&mut world, seed, &mut invariants, |invariant, world| invariant.after(world, &facts))?;
    }
    judge(&mut world, seed, &mut invariants, |invariant, world| invariant.at_end(world))?;
    let rounds = &world.share.truth().rounds;
    let count = |holds: &dyn Fn(&muster_protocol::log::RoundState) -> bool| {
        rounds.values().filter(|round| holds(round)).count() as u64
    };
    let rounds = [
        rounds.len() as u64,
        count(&|round| round.commit().is_some()),
        count(&|round| round.word() == "verified"),
        count(&|round| round.swept),
    ];
    Ok(Summary { seeds: 1, events: world.events, fewest: world.events, tally: world.tally, rounds })
}

fn judge(
    world: &mut World,
    seed: u64,
    invariants: &mut [Box<dyn Invariant>],
    look: impl Fn(&mut dyn Invariant, &World) -> Result<(), String>,
) -> Result<(), Box<Broken>> {
    for invariant in invariants {
        if let Err(why) = look(invariant.as_mut(), world) {
            let (event, invariant) = (world.events, invariant.name());
            let trace = world.trace.take().unwrap_or_default();
            return Err(Box::new(Broken { seed, event, invariant, why, trace }));
        }
    }
    Ok(())
}

/// Runs these seeds on every core, up to the first that breaks something; that one again with its trace.
///
/// # Errors
/// When an invariant does not hold in one of them.
pub fn run_many(seeds: std::ops::Range<u64>, planted: Option<Planted>) -> Result<Summary, Box<Broken>> {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Summary { fewest: u64::MAX, ..Summary::default() });
    let first = Mutex::new(None::<u64>);
    let work = || {
        let mut own = Summary { fewest: u64::MAX, ..Summary::default() };
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            match run_seed(seed, planted, false) {
                Ok(summary) => own.add(&summary),
                Err(broken) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    let mut first = lock(&first);
                    *first = Some(first.map_or(broken.seed, |other| other.min(broken.seed)));
                    break;
                }
            }
        }
        lock(&total).add(&own);
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    if let Some(seed) = *lock(&first) {
        run_seed(seed, planted, true)?;
    }
    let total = *lock(&total);
    Ok(total)
}

/// The first of these seeds in which a planted bug breaks something.
#[must_use]
pub fn first_broken(seeds: std::ops::Range<u64>, planted: Planted) -> Option<Broken> {
    seeds.into_iter().find_map(|seed| run_seed(seed, Some(planted), false).err()).map(|broken| *broken)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Summary {
    fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.fewest = self.fewest.min(other.fewest);
        self.tally.add(&other.tally);
        for (mine, theirs) in self.rounds.iter_mut().zip(other.rounds) {
            *mine += theirs;
        }
    }
}
