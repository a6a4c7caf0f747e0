//! Which coordinator leads: the lead machine of the protocol, carried out.
//!
//! ```text
//! follow ── the machine says that this process leads ──▶ desk, scribe, publisher, and beside them: keep
//!    ▲                                                                                              │
//!    └───────────────────────── another epoch is in the log ────────────────────────────────────────┘
//! ```
//!
//! `driver` carries out what the machine wants of the lease, in either state, and never waits for the share. `follow`
//! owns the log while somebody else leads; while this one does, the scribe has it and `keep` asks the scribe. `standing`
//! tells everybody else in this process whether they may act.

mod driver;
mod follow;
mod fresh;
mod keep;
mod standing;

pub(crate) use driver::Driver;
pub(crate) use follow::{Followed, follow};
pub(crate) use fresh::freshen;
pub(crate) use keep::keep;
pub(crate) use standing::{Standing, Trust};
