//! Room on the share: how fast free space goes, and when it is gone.
//!
//! ```text
//! free bytes, looked at every hour ─▶ Looks (30 days) ─▶ trend: the median of all slopes ─┐
//! bytes that verified rounds added, while there is less than a day of looks ──────────────┴▶ Outlook ─▶ SHARE-06
//! ```
//!
//! The median of the slopes between all pairs of looks (Theil–Sen) is moved neither by a prune that frees much at once nor by
//! somebody else's file that comes and goes: a fleet whose retention is in balance does not fill its share, whatever it writes.

mod looks;
mod outlook;
#[cfg(test)]
mod tests;

pub use looks::{EVERY, Looks, MOST_LOOKS};
pub use outlook::{Basis, FOREVER_DAYS, Outlook};
