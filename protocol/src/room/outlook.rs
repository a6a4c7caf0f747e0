//! What the free space of a share means: for how long it will do.

use serde::{Deserialize, Serialize};

use super::looks::Looks;

/// What would do for longer counts as enough for ever: nobody can tell.
pub const FOREVER_DAYS: u64 = 3_650;

/// What a forecast rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The free space itself, looked at for a day or longer.
    Looks,
    /// What the newest rounds added, while there are too few looks. Of what a prune will free it knows nothing.
    Rounds,
    /// There is nothing yet that could tell.
    Nothing,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// Free bytes now.
    pub free_bytes: u64,
    /// Days until they are gone; none: they do not become fewer, or nothing tells.
    pub days_left: Option<u64>,
    /// What that rests on.
    pub basis: Basis,
    /// Bytes that should be free for the coming rounds, as the past ones tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need_bytes: Option<u64>,
}

impl Outlook {
    /// What `free` bytes mean after these looks. `added_a_day`: what the newest rounds added; `need`: what the coming ones
    /// need.
    #[must_use]
    pub fn of(free: u64, looks: &Looks, added_a_day: Option<u64>, need: Option<u64>) -> Self {
        let (a_day, basis) = match (looks.lost_a_day(), added_a_day) {
            (Some(lost), _) => (lost, Basis::Looks),
            (None, Some(added)) => (added, Basis::Rounds),
            (None, None) => (0, Basis::Nothing),
        };
        let days_left = free.checked_div(a_day).filter(|days| *days < FOREVER_DAYS);
        Self { free_bytes: free, days_left, basis, need_bytes: need }
    }

    /// Whether what is free is less than the coming rounds need.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.need_bytes.is_some_and(|need| self.free_bytes < need)
    }
}
