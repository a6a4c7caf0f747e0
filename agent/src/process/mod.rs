//! Programs that are not ours: found, run in a process group of their own, listened to without end, and ended as a group.
//!
//! Shared by sources that run a command and by hooks. Must never wait without a limit, and never keep more than a few
//! KiB of what a program says.

mod group;
mod pipes;
mod program;

use std::time::Duration;

pub(crate) use group::Group;
pub(crate) use pipes::{Tail, drain, is_later, wait};
pub(crate) use program::{locate, search_path};

/// How often the clock and the program's end are looked at while nothing is written.
pub(crate) const TICK: Duration = Duration::from_millis(20);
