//! What the end-to-end tests stand on: real nats-server processes, real daemons, real folders as shares.
//!
//! Everything lives in a temporary folder of its own and dies with its handle. Nothing waits without a limit.

#![expect(clippy::print_stderr, reason = "tests tell what they skip, and show the logs of a failure")]

pub mod audit;
pub mod bench;
pub mod cluster;
pub mod dashboards;
pub mod fleet;
pub mod fuzz;
pub mod gate;
pub mod hand;
pub mod history;
pub mod hook;
pub mod http;
pub mod nats;
pub mod netns;
pub mod picture;
pub mod process;
pub mod proxy;
pub mod secrets;
pub mod swarm;
pub mod telemetry;
pub mod tree;
