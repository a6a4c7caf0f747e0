//! The schedule: when rounds begin by themselves.
//!
//! A *slot* is the moment at which a round is due, by the calendar of `schedule.zone`. It names its round: the id of the round is
//! made of fleet and slot, so that two leaders, or a restart, never make two rounds of one slot. [`Plan`] says which slots there
//! are, [`Follower`] which of them is due now. Calendar time comes in as an argument and decides nothing but that.
//!
//! ```text
//! settings ──Plan::of──▶ Plan ──next──▶ slots        (plan, now) ──Follower::tick──▶ Due, at most one at a time
//! ```
//!
//! The zones are those of the IANA database that this crate carries: two coordinators agree on every slot, whatever their
//! machines have.

mod calendar;
mod follow;
mod pattern;
mod plan;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use calendar::{Exceptions, Windows};
pub use follow::{Due, Follower, MISSED_FOR, ON_TIME};
pub use pattern::Pattern;
pub(crate) use plan::zone;
pub use plan::{Missed, Plan, ScheduleError};
pub use standing::{
    DISABLED_REASON, DISABLED_SINCE, DISABLED_UNTIL, ENABLED, Standing, moment, rfc3339, until,
};

/// Whether two versions of the settings say different things of when rounds begin by themselves.
#[must_use]
pub fn differs(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> bool {
    let concerns = |key: &str| {
        let of = |word: &str| key == word || key.strip_prefix(word).is_some_and(|rest| rest.starts_with('.'));
        of("schedule") || of("disabled") || key == ENABLED
    };
    one.keys().chain(other.keys()).any(|key| concerns(key) && one.get(key) != other.get(key))
}

/// What stands for "no schedule" in the setting `schedule`.
pub const OFF: &str = "off";
/// What stands for no exceptions and no windows.
pub const NONE: &str = "none";
/// The schedule that `muster enable` turns on where none was set.
pub const DEFAULT: &str = "every 12h";
