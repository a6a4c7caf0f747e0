//! Saying things once: a condition when it begins, changes and ends, and what was passed over once a minute.

use muster_protocol::causes::causes;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines about what was passed over.
const EVERY: Duration = Duration::from_secs(60);

/// Something that is right or wrong; tells when that changes.
#[derive(Debug, Default)]
pub(crate) struct Condition(Option<String>);

impl Condition {
    /// It is wrong; true when that is news.
    pub(crate) fn wrong(&mut self, why: &str) -> bool {
        if self.0.as_deref() == Some(why) {
            return false;
        }
        self.0 = Some(why.to_owned());
        true
    }

    /// It is right; true when it was wrong before.
    pub(crate) fn right(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// Counts what was passed over, and tells so at most once a minute.
#[derive(Debug)]
pub(crate) struct PassedOver {
    count: Arc<AtomicU64>,
    told: u64,
    told_at: Option<Instant>,
}

impl PassedOver {
    pub(crate) fn new(count: Arc<AtomicU64>) -> Self {
        Self { count, told: 0, told_at: None }
    }

    /// Counts one.
    pub(crate) fn add(&mut self, what: &str, why: &(dyn Error + 'static)) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.told_at.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        let more = count - self.told - 1;
        tracing::warn!(what, why = causes(why), more, "a message was passed over");
        self.told = count;
        self.told_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::Condition;

    #[test]
    fn a_condition_is_news_once() {
        let mut share = Condition::default();
        assert!(!share.right());
        assert!(share.wrong("gone") && !share.wrong("gone") && share.wrong("full"));
        assert!(share.right() && !share.right());
    }
}
