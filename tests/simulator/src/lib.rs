//! A fleet in one thread from one seed: coordinators, agents, watchdogs, a pruner, a share and a bus, and everything that
//! can go wrong between them. The machines that decide are the product's own; the shells around them are written
//! after the daemons'. See docs/simulator.md.

mod agent;
mod coordinator;
mod fact;
mod fault;
mod founding;
mod happening;
mod hold;
mod invariant;
mod mischief;
mod plan;
mod planted;
mod pruner;
mod rng;
mod run;
mod scale;
mod share;
mod wanted;
mod world;

pub use fault::{Fault, Tally};
pub use planted::Planted;
pub use run::{Broken, Summary, first_broken, run_many, run_seed};
pub use scale::{Scale, round_of};
