//! How channels do, since this coordinator leads: for `muster notify test` and `muster doctor`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_protocol::ids::ChannelName;
use muster_protocol::time::UnixMillis;

use crate::query::TestView;

/// Longest answer of the other side that is kept, in characters.
const SAID: usize = 300;

/// How one channel does.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    pub(super) last_success: Option<UnixMillis>,
    pub(super) last_failure: Option<UnixMillis>,
    /// What the last failure was.
    pub(super) error: Option<String>,
    /// Attempts that failed since the last success.
    pub(super) failures: u32,
    /// Why a ping is not sent.
    pub(super) withheld: Option<String>,
    /// The last test.
    pub(super) test: Option<TestView>,
}

impl Health {
    pub(super) fn succeeded(&mut self, at: UnixMillis) {
        (self.last_success, self.failures, self.error) = (Some(at), 0, None);
    }

    pub(super) fn failed(&mut self, why: &str, at: UnixMillis) {
        self.failures = self.failures.saturating_add(1);
        (self.last_failure, self.error) = (Some(at), Some(cut(why)));
    }
}

/// A text of the other side, short enough for an answer on the bus.
pub(super) fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SAID).collect()
}

/// How each channel does.
#[derive(Debug, Default)]
pub(super) struct Healths(Mutex<BTreeMap<ChannelName, Health>>);

impl Healths {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChannelName, Health>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with<T>(&self, channel: &ChannelName, look: impl FnOnce(&mut Health) -> T) -> T {
        look(self.lock().entry(channel.clone()).or_default())
    }
}
