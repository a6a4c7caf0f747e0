//! Prune: what no retained, held or open round needs leaves the share, in two passes, without any key that opens it.
//!
//! ```text
//! pass one   survey ─▶ lists/<id>, what may go ─▶ log: prune       the grace begins; new rounds refuse these objects
//! pass two   the rounds that were open have ended, the grace is over:
//!            survey again ─▶ lists/<id>, what goes ─▶ log: sweep    its rounds are gone, no commit may name its objects
//!            delete ─▶ log: pruned
//! ```
//!
//! Each run reads the log and goes on where it stands, so a pruner may die at any point. Nothing is deleted unless every
//! object that stays was listed with its length in the same survey; any list or read error ends the run.
//!
//! While something is not as it should be, nothing goes at all ([`Frozen`]).
//!
//! On a share with locks, what a lock still keeps is never marked: it goes with the first prune after its time. What stays
//! is locked anew before its lock runs out ([`renew()`]).
//!
//! Besides this module and the stores below it, only [`crate::copy`] deletes, and only on a copy.

mod choose;
mod due;
mod error;
mod frozen;
mod lists;
mod look;
mod renew;
mod run;
mod survey;
#[cfg(test)]
mod tests;

pub use due::due;
pub use error::PruneError;
pub use frozen::Frozen;
pub use lists::{ObjectListError, read_object_list, swept_since};
pub use renew::{Renewed, renew};
pub use run::{MAX_MARKED_OBJECTS, MAX_MARKED_ROUNDS, Marked, Plan, Report, Swept, plan, prune};
pub use survey::{Going, Locked, Survey, Tally};
