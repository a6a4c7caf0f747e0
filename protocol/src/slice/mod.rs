//! The slice machine: the agent's side of one round, without I/O, clock or randomness.
//!
//! ```text
//!        order            welcomed            quiesced          announced            captured            receipt written        acknowledged
//! Idle ────────▶ Greeting ────────▶ Quiescing ───────▶ Holding ─────────▶ Capturing ─────────▶ Receipting ─────────▶ Noticing ─────────▶ Settled
//!   ▲              │ ▲ resent           │ failed      (in a cut)              │ failed                                ▲  │ resent        │
//!   │              └─┘                  └────────────────────────────────────┴───────────────────────────────────────┘  └─┐            │ new epoch:
//!   └────────── the state document no longer names the round ◀──────────────────────────────────────────────────────────┴─┴────────────┘ Noticing again
//! ```
//!
//! Without hooks there is nothing to quiesce, and without a cut nothing to wait for. A service is released as soon as every
//! source is read, when it fails, and when the round needs nothing more; its watchdog releases it in any case. A place in
//! the cut needs the announcement while it holds, and the hold until everything is read.
//!
//! An order is level-triggered: the same one changes nothing, a higher attempt of the same round greets again without
//! throwing away what is captured already, and none at all ends the work. The receipt is on the share before its notice.

mod event;
mod hold;
mod machine;
#[cfg(test)]
mod tests;

pub use event::{Deadline, Effect, Event, Reported, Standing};
pub use machine::{Machine, Phase, Policy};
