//! Many simulated agents on one machine: the real coordinator, the real server, the real protocol with every signature
//! and session, one connection each. Only the capture is missing: each agent's objects are small and lie on the share
//! before the round begins, so that what is measured is the round, not the backup.
//!
//! ```text
//! Stage      a fleet founded on a share, a nats-server and a muster-coordinator as processes of their own
//! Swarm      N agents: connection, slice machine, heartbeats; they share one reader of the log
//! run        rounds triggered, timed, and measured; the bare NATS exchange beside them
//! ```

mod agent;
mod baseline;
mod belief;
mod crowd;
mod gauge;
mod monitor;
mod report;
mod run;
mod slices;
mod stage;
mod talk;

pub use crowd::{Reconnects, Swarm};
pub use gauge::Gauge;
pub use report::{Report, RoundSample};
pub use run::{Plan, leads, run, trigger, until};
pub use stage::{Places, Stage, raise_open_files};

/// What any step of a swarm may fail with; the text says which.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
