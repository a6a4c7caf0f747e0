//! The lead machine: which of several coordinators leads, without I/O, clock or randomness.
//!
//! ```text
//!            lease free for long enough            lease ours             log read again        epoch in the log
//! Follower ───────────────────────────▶ Claiming ────────────▶ Reading ───────────────▶ Appending ───────▶ Leader
//!    ▲  ▲                                  │                      │                        │                 │
//!    │  └──── another was quicker ─────────┴──────────────────────┴────────────────────────┘                 │
//!    └────────────────────────────── a foreign epoch is in the log ──────────────────────────────────────────┘
//!
//! any ── the log forked, has a gap or went back, or this key is revoked ──▶ Stopped, for good
//! ```
//!
//! The lease is a hint: it keeps candidates from running against each other, and tells them when the leader is gone.
//! The log is the judge: who appended the newest `epoch` record leads, whoever has the lease. So a wiped bus takes
//! nobody's lead away, and a leader that was paused finds its slot in the log taken when it wakes.
//!
//! A lease has no expiry on the server. Each candidate watches its revision on its own monotonic clock: one that stood
//! still for a whole lease is given up. No clocks are compared, and nothing depends on how a server counts.

mod event;
mod lease;
mod machine;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod vacancy;
mod view;

pub use event::{Deadline, Effect, Event, Stop};
pub use lease::{Lease, LeaseSeen};
pub use machine::{Machine, Phase, Policy};
pub use view::{EpochView, LogView};
