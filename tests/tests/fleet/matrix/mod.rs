//! The fault matrix with real processes and a real server, one file for each fault. `docs/faults.md` says
//! which test shows which row.

mod clock;
mod cluster;
mod kills;
mod memory;
mod network;
mod overlap;
mod scene;
mod server;
mod share;
mod stops;
