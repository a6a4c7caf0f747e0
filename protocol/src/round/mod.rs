//! The round machine: the coordinator's side of one round, without I/O, clock or randomness.
//!
//! ```text
//!            opened          all settled, or deadline         written          appended         read again
//! Opening ──────────▶ Capturing ──────────────────▶ Writing ─────────▶ Committing ───────▶ Verifying ────────▶ Ended
//!                        │  ▲                                              │                                    ▲
//!                        │  └ hellos, notices, checks, back-off            └ another leader: stop               │
//!                        └── nobody gave a slice, or cancelled ──▶ Ending ──────────────────────────────────────┘
//!
//! one service:  Waiting ─hello─▶ Working ─notice─▶ Checking ─fine─▶ Stored
//!                  ▲  │ silent      │ failed, lost     │ refused
//!                  │  └─────────────┴──────────────────┴──▶ BackingOff ──▶ Waiting, until attempts or time are used up: Absent
//! ```
//!
//! The shell carries [`Effect`]s out and reports back by [`Event`]s. What must be on the share comes out before the
//! message that depends on it: `AppendOpen` before `Publish`, `WriteManifest` before `AppendCommit`.

mod admission;
mod event;
mod machine;
mod member;
mod phase;
#[cfg(test)]
mod tests;
mod timers;

pub use admission::{Admission, Overlap, admit};
pub use event::{CheckFailure, Deadline, Effect, Event, Failure};
pub use machine::{Machine, Policy, Start};
pub use member::{MemberPhase, MemberView};
pub use phase::Phase;
