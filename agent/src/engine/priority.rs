//! How readily the engine's threads yield to the service beside them.

use ioprio::{BePriorityLevel, Class, Pid, Target};
use muster_protocol::config::Invalid;
use rustix::process::setpriority_process;
use serde::{Deserialize, Serialize};

/// Priority of reading and writing, as ioprio_set(2) knows it. Only some schedulers of disks heed it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoPriority {
    /// That of the process.
    #[default]
    Normal,
    /// The lowest of the best-effort class.
    Low,
    /// Only while nobody else uses the disk.
    Idle,
}

/// Priority of the engine's threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Priority {
    /// Niceness, from 0 to 19, as setpriority(2) has it.
    pub nice: u8,
    /// Priority of reading and writing.
    pub io: IoPriority,
}

impl Priority {
    /// Checks a configured niceness.
    pub(crate) fn check(nice: u8) -> Result<(), Invalid> {
        Invalid::unless(nice <= 19, "engine", "nice", "must be from 0 to 19")
    }

    /// Gives it to the calling thread. A system that refuses lets it run as it is: a backup that is a little less polite is
    /// better than none.
    pub(super) fn apply(self) {
        let tid = rustix::thread::gettid();
        if self.nice > 0
            && let Err(error) = setpriority_process(Some(tid), i32::from(self.nice))
        {
            tracing::warn!(%error, nice = self.nice, "the engine keeps its niceness");
        }
        let class = match self.io {
            IoPriority::Normal => return,
            IoPriority::Low => Class::BestEffort(BePriorityLevel::lowest()),
            IoPriority::Idle => Class::Idle,
        };
        let target = Target::Process(Pid::from_raw(tid.as_raw_nonzero().get()));
        if let Err(error) = ioprio::set_priority(target, ioprio::Priority::new(class)) {
            tracing::warn!(%error, io = ?self.io, "the engine keeps its priority of reading and writing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IoPriority, Priority};

    #[test]
    fn only_the_calling_thread_becomes_polite() {
        let nice = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).expect("known");
        let before = nice();
        std::thread::spawn(move || {
            Priority { nice: 7, io: IoPriority::Idle }.apply();
            assert_eq!(nice(), before.max(7));
            let own = ioprio::get_priority(ioprio::Target::Process(ioprio::Pid::from_raw(
                rustix::thread::gettid().as_raw_nonzero().get(),
            )));
            assert_eq!(own.expect("known").class(), Some(ioprio::Class::Idle));
        })
        .join()
        .expect("joins");
        assert_eq!(nice(), before);
    }
}
