//! How far a capture is, and how it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tokio::sync::watch;

use super::activity::Activities;

/// What the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Seeing which packs are on the share.
    Listing,
    /// Reading the sources, sealing and uploading.
    Capturing,
    /// Every source is read; what is not on the share yet is sealed and uploaded.
    Uploading,
    /// Writing index and lists.
    Finishing,
    /// Everything but the receipt is on the share.
    Captured,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Listing, Self::Capturing, Self::Uploading, Self::Finishing, Self::Captured];
}

/// Counters that a capture moves and anybody may read.
#[derive(Debug, Default)]
pub struct Progress {
    source_bytes: AtomicU64,
    added_bytes: AtomicU64,
    entries: AtomicU64,
    unchanged: AtomicU64,
    /// 0: not known.
    expected_bytes: AtomicU64,
    stage: AtomicU8,
    read: watch::Sender<bool>,
    pub(super) activities: Activities,
}

impl Progress {
    /// Bytes read from the sources, holes included; files that were read again count again.
    #[must_use]
    pub fn source_bytes(&self) -> u64 {
        self.source_bytes.load(Ordering::Relaxed)
    }

    /// Source bytes of the slice before, as an estimate of the whole; none: there was none, or it is forgotten.
    #[must_use]
    pub fn expected_bytes(&self) -> Option<u64> {
        Some(self.expected_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Bytes written to the share.
    #[must_use]
    pub fn added_bytes(&self) -> u64 {
        self.added_bytes.load(Ordering::Relaxed)
    }

    /// Entries read.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Files of these that were as the last capture saw them, and were not opened.
    #[must_use]
    pub fn unchanged(&self) -> u64 {
        self.unchanged.load(Ordering::Relaxed)
    }

    /// The stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        Stage::ALL.get(stage).copied().unwrap_or(Stage::Captured)
    }

    /// Waits until nothing more of the sources is needed; for ever, if the capture fails before.
    pub async fn sources_read(&self) {
        let mut read = self.read.subscribe();
        // The sender is here, so that it cannot be gone.
        let _ = read.wait_for(|read| *read).await;
    }

    /// Every source is read.
    pub(super) fn all_read(&self) {
        self.enter(Stage::Uploading);
        self.read.send_replace(true);
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.expected_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.source_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn added(&self, bytes: u64) {
        self.added_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn unchanged_file(&self) {
        self.unchanged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells a capture to end. Clones are the same flag; once set it stays set.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Sets it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{CancelFlag, Progress, Stage};

    #[test]
    fn stages_are_read_as_they_were_entered() {
        let progress = Progress::default();
        assert_eq!(progress.stage(), Stage::Listing);
        for stage in Stage::ALL {
            progress.enter(stage);
            assert_eq!(progress.stage(), stage);
        }
    }

    #[test]
    fn clones_are_the_same_flag() {
        let flag = CancelFlag::default();
        let other = flag.clone();
        other.cancel();
        assert!(flag.is_cancelled());
    }
}
