//! What the end-to-end tests stand on: real nats-server processes, real daemons, real folders as shares.
//!
//! Everything lives in a temporary folder of its own and dies with its handle. Nothing waits without a limit.

pub mod fleet;
pub mod nats;
pub mod process;
pub mod tree;
