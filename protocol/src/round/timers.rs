//! The deadlines that a machine has set, earliest first; each at most once.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::ServiceName;
use crate::round::event::Deadline;
use crate::time::Time;

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Time, Deadline)>,
    due: BTreeMap<Deadline, Time>,
}

impl Timers {
    /// Sets a deadline, or moves it.
    pub(super) fn arm(&mut self, deadline: Deadline, due: Time) {
        self.disarm(&deadline);
        self.queue.insert((due, deadline.clone()));
        self.due.insert(deadline, due);
    }

    /// Takes a deadline back, if it was set.
    pub(super) fn disarm(&mut self, deadline: &Deadline) {
        if let Some(due) = self.due.remove(deadline) {
            self.queue.remove(&(due, deadline.clone()));
        }
    }

    /// Takes every deadline of a service's attempt back.
    pub(super) fn disarm_service(&mut self, service: &ServiceName) {
        for deadline in [Deadline::Recruit, Deadline::Silence, Deadline::Backoff, Deadline::Recheck] {
            self.disarm(&deadline(service.clone()));
        }
    }

    /// Takes all of them back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The earliest one.
    pub(super) fn first(&self) -> Option<(Time, Deadline)> {
        self.queue.first().cloned()
    }
}
