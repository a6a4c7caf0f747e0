//! What a capture's time goes into: bytes and working time of each stage of the pipeline, counted where the work is done.
//!
//! Two looks at the clock for some hundred KiB, and one addition each: nobody notices. Told as metrics every second, and as spans when the
//! capture is over: a stage is spread over all threads and the whole time, so that its span reaches from its first to its last
//! moment and says how long of that it worked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use muster_protocol::ids::ServiceName;
use muster_telemetry::metrics::{SERVICE, STAGE, STAGE_BUSY, STAGE_IO};
use muster_telemetry::span::{Finished, Place};

/// A stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// Listing the sources, and waiting for those who read when they are behind.
    Walk,
    /// Reading content.
    Read,
    /// Cutting it, naming chunks, finding those that are known.
    Chunk,
    /// Compressing new ones.
    Compress,
    /// Encrypting and closing packs.
    Seal,
    /// Opening packs again as a reader would.
    SelfCheck,
    /// Waiting for the share to take objects.
    Upload,
}

impl Activity {
    const ALL: [Self; 7] =
        [Self::Walk, Self::Read, Self::Chunk, Self::Compress, Self::Seal, Self::SelfCheck, Self::Upload];

    /// The word for metrics and spans.
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Read => "read",
            Self::Chunk => "chunk",
            Self::Compress => "compress",
            Self::Seal => "seal",
            Self::SelfCheck => "self-check",
            Self::Upload => "upload",
        }
    }
}

#[derive(Debug)]
struct Count {
    bytes: AtomicU64,
    busy_nanos: AtomicU64,
    /// Nanoseconds from the beginning of the capture; `u64::MAX`: nothing was done yet.
    first: AtomicU64,
    last: AtomicU64,
    told_bytes: AtomicU64,
    told_nanos: AtomicU64,
}

impl Default for Count {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            bytes: zero(),
            busy_nanos: zero(),
            first: AtomicU64::new(u64::MAX),
            last: zero(),
            told_bytes: zero(),
            told_nanos: zero(),
        }
    }
}

/// The stages of one capture.
#[derive(Debug)]
pub(super) struct Activities {
    origin: Instant,
    began: SystemTime,
    counts: [Count; 7],
}

impl Default for Activities {
    fn default() -> Self {
        Self { origin: Instant::now(), began: SystemTime::now(), counts: Default::default() }
    }
}

impl Activities {
    /// Counts work on `bytes` that began at `since` and is done now.
    pub(super) fn did(&self, activity: Activity, bytes: u64, since: Instant) {
        let now = Instant::now();
        let count = &self.counts[activity as usize];
        count.bytes.fetch_add(bytes, Ordering::Relaxed);
        count.busy_nanos.fetch_add(nanos(now.saturating_duration_since(since)), Ordering::Relaxed);
        count.first.fetch_min(nanos(since.saturating_duration_since(self.origin)), Ordering::Relaxed);
        count.last.fetch_max(nanos(now.saturating_duration_since(self.origin)), Ordering::Relaxed);
    }

    /// Tells this capture from others of the same span.
    pub(super) fn origin(&self) -> u128 {
        self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
    }

    /// Tells the metrics what was done since they were told last.
    #[expect(clippy::cast_precision_loss, reason = "bytes and nanoseconds of a day are exact")]
    pub(super) fn tell(&self, service: &ServiceName) {
        for (activity, count) in Activity::ALL.into_iter().zip(&self.counts) {
            let news = |now: &AtomicU64, told: &AtomicU64| {
                let now = now.load(Ordering::Relaxed);
                now.saturating_sub(told.swap(now, Ordering::Relaxed))
            };
            let bytes = news(&count.bytes, &count.told_bytes);
            let busy = news(&count.busy_nanos, &count.told_nanos);
            let attributes = || vec![(SERVICE, service.to_string()), (STAGE, activity.as_str().to_owned())];
            STAGE_IO.add(bytes as f64, attributes());
            STAGE_BUSY.add(busy as f64 / 1e9, attributes());
        }
    }

    /// Tells one span for each stage that did anything, below `parent`.
    pub(super) fn spans(&self, parent: Place) {
        for (activity, count) in Activity::ALL.into_iter().zip(&self.counts) {
            let first = count.first.load(Ordering::Relaxed);
            if first == u64::MAX {
                continue;
            }
            let at = |nanos| self.began + Duration::from_nanos(nanos);
            let busy = Duration::from_nanos(count.busy_nanos.load(Ordering::Relaxed));
            let place = parent.below(activity.as_str());
            let mut span = Finished::new(activity.as_str(), place, Some(parent), at(first))
                .with("muster.stage.busy", busy.as_secs_f64())
                .with("muster.stage.io", count.bytes.load(Ordering::Relaxed));
            span.ended = at(count.last.load(Ordering::Relaxed));
            span.tell();
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_once() {
        let activities = Activities::default();
        let service: ServiceName = "of-the-activities".parse().expect("a name");
        activities.did(Activity::Seal, 7, Instant::now());
        activities.tell(&service);
        activities.tell(&service);
        activities.did(Activity::Seal, 2, Instant::now());
        activities.tell(&service);
        let sealed = STAGE_IO.read().into_iter().find(|(attributes, _)| {
            attributes.contains(&(SERVICE, service.to_string()))
                && attributes.contains(&(STAGE, "seal".to_owned()))
        });
        assert_eq!(sealed.map(|(_, bytes)| bytes), Some(9.0));
        let busy =
            STAGE_BUSY.read().into_iter().filter(|(attributes, _)| attributes[0].1 == service.as_str());
        assert_eq!(busy.count(), Activity::ALL.len());
    }
}
