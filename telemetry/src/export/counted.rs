//! Room for what waits, and the count of what is lost.
//!
//! The SDK's queues drop silently. So the room is counted before them: what finds none is dropped here and counted, and the queue
//! behind, which has a little more, never has to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::{DROPPED, SIGNAL};

use super::QUEUE;

/// What the SDK's own queue has above our room, for what a batch is being made of.
pub(super) const SPARE: usize = 512;

/// Places for items on their way to the collector.
#[derive(Debug, Clone)]
pub(super) struct Room {
    signal: &'static str,
    waiting: Arc<AtomicUsize>,
}

impl Room {
    pub(super) fn new(signal: &'static str) -> Self {
        Self { signal, waiting: Arc::default() }
    }

    /// Takes a place; false: there is none, and the item is lost.
    pub(super) fn enter(&self) -> bool {
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < QUEUE).then_some(waiting + 1)
        });
        if taken.is_err() {
            self.lost(1);
        }
        taken.is_ok()
    }

    /// Gives places back: the items were tried to be delivered.
    pub(super) fn leave(&self, items: usize) {
        // Items that came in after the end of the room, if any, are not counted below nothing.
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            Some(waiting.saturating_sub(items))
        });
    }

    /// Says so, in words that are the same each time: they are folded.
    pub(super) fn tell(&self) {
        tracing::warn!(
            signal = self.signal,
            "the collector at [telemetry] otlp_endpoint took nothing; backups go on. Look whether it runs, and whether it is OTLP over \
             HTTP that it takes there"
        );
    }

    /// Items were not delivered.
    #[expect(clippy::cast_precision_loss, reason = "a count of items")]
    pub(super) fn lost(&self, items: usize) {
        DROPPED.add(items as f64, vec![(SIGNAL, self.signal.to_owned())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(signal: &str) -> f64 {
        let of =
            |(attributes, value): (Vec<(&str, String)>, f64)| (attributes[0].1 == signal).then_some(value);
        DROPPED.read().into_iter().find_map(of).unwrap_or_default()
    }

    #[test]
    fn what_finds_no_room_is_counted_and_room_comes_back() {
        let room = Room::new("test");
        assert!((0..QUEUE).all(|_| room.enter()));
        assert!(!room.enter());
        assert!(!room.enter());
        assert!((dropped("test") - 2.0).abs() < f64::EPSILON);
        room.leave(1);
        assert!(room.enter());
        assert!(!room.enter());
    }
}
