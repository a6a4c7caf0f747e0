//! The slice machine: the agent's side of one round, without I/O, clock or randomness.
//!
//! ```text
//!        order            welcomed             captured            receipt written        acknowledged
//! Idle ────────▶ Greeting ─────────▶ Capturing ─────────▶ Receipting ─────────▶ Noticing ─────────▶ Settled
//!   ▲              │ ▲ resent              │ failed                                ▲  │ resent        │
//!   │              └─┘                     └───────────────────────────────────────┘  └─┐            │ new epoch:
//!   └────────── the state document no longer names the round ◀────────────────────────┴─┴────────────┘ Noticing again
//! ```
//!
//! An order is level-triggered: the same one changes nothing, a higher attempt of the same round greets again without
//! throwing away what is captured already, and none at all ends the work. The receipt is on the share before its notice.

mod machine;
#[cfg(test)]
mod tests;

pub use machine::{Deadline, Effect, Event, Machine, Phase, Policy, Reported};
