//! The round machine: the coordinator's side of one round, without I/O, clock or randomness.
//!
//! ```text
//!            opened                  all needed hold,        all settled,
//!            (with a cut)            or the barrier          or the deadline        written          appended         read again
//! Opening ───────────────▶ Gathering ───────────▶ Capturing ───────────────▶ Writing ─────▶ Committing ───────▶ Verifying ─▶ Confirming ─▶ Ended
//!    │       opened              │                   ▲  │ ▲                                      │                                            ▲
//!    │       (without)           │                   │  │ └ hellos, notices, checks, back-off     └ another leader: stop                        │
//!    ├───────────────────────────┼───────────────────┘  │                                                                                       │
//!    └───────────────────────────┴──────────────────────┴── nobody gave a slice, or cancelled ──▶ Ending ───────────────────────────────────────┘
//!
//! one service:  Queued ─its tier─▶ Waiting ─hello─▶ Working ─quiesced─▶ Holding ─announced─▶ Working ─notice─▶ Checking ─fine─▶ Stored
//!                                     ▲  │ silent      │ failed, lost       │ lost               │               │ refused
//!                                     │  └─────────────┴────────────────────┴────────────────────┴───────────────┴──▶ BackingOff ──▶ Waiting
//!                                     └── until its attempts or its time are used up, or the failure is permanent: Absent ◀──┘
//! ```
//!
//! The shell carries [`Effect`]s out and reports back by [`Event`]s. What must be on the share comes out before the
//! message that depends on it: `AppendOpen` before `Publish`, `WriteManifest` before `AppendCommit`.
//!
//! Services of a lower tier begin first. The next tier begins once every service before it has been through its first
//! attempt, or after the tier's wait: a bad agent holds nobody up for longer. With a cut all tiers begin together.

mod account;
mod admission;
mod cut;
mod event;
mod machine;
mod member;
mod phase;
mod services;
#[cfg(test)]
mod tests;
mod tiers;
mod timers;

pub use admission::{Admission, Overlap, admit};
pub use cut::CutPolicy;
pub use event::{CheckFailure, Deadline, Effect, Event, Failure};
pub use machine::{Machine, Policy, Start};
pub use member::{MemberPhase, MemberView};
pub use phase::Phase;
