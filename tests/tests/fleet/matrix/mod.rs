//! The fault matrix with real processes and a real server, one file for each fault. `docs/faults.md` says which test
//! shows which row.

mod kills;
mod scene;
mod server;
mod stops;
