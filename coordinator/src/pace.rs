//! The pace of a slice: how fast its sources are read of late, from one report of progress to the next.

use std::time::{Duration, Instant};

use muster_protocol::ids::RoundId;

/// Time over which the pace is smoothed: shorter jumps about, longer hides that a source has stalled.
const SMOOTHING: Duration = Duration::from_secs(10);
/// Reports closer together say nothing about speed.
const LEAST: Duration = Duration::from_millis(100);

/// Pace of one service's slice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    last: Option<(RoundId, u64, Instant)>,
    /// Bytes a second; none until two reports are there.
    rate: Option<f64>,
}

impl Pace {
    /// `done` bytes of the round's slice are read at `now`.
    pub(crate) fn observe(&mut self, round: RoundId, done: u64, now: Instant) {
        match self.last {
            Some((of, before, at)) if of == round && done >= before => {
                let passed = now.saturating_duration_since(at);
                if passed < LEAST {
                    return;
                }
                let fresh = (done - before) as f64 / passed.as_secs_f64();
                let keep = (-passed.as_secs_f64() / SMOOTHING.as_secs_f64()).exp();
                self.rate = Some(self.rate.map_or(fresh, |rate| rate * keep + fresh * (1.0 - keep)));
            }
            // Another round, or it began anew.
            Some(_) | None => self.rate = None,
        }
        self.last = Some((round, done, now));
    }

    /// Bytes a second of late. A slice that says nothing for a while slows down on the screen as well.
    pub(crate) fn bytes_per_sec(&self, now: Instant) -> Option<u64> {
        let (_, _, at) = self.last?;
        let silent = now.saturating_duration_since(at).saturating_sub(SMOOTHING);
        let fade = (-silent.as_secs_f64() / SMOOTHING.as_secs_f64()).exp();
        self.rate.map(|rate| (rate * fade) as u64)
    }

    /// Seconds until `expected` bytes are read; none when nothing moves, or when they are read: how long what was read still
    /// takes to upload, nobody knows.
    pub(crate) fn secs_left(&self, expected: Option<u64>, now: Instant) -> Option<u64> {
        let (_, done, _) = self.last?;
        let rate = self.bytes_per_sec(now).filter(|rate| *rate > 0)?;
        let left = expected?.checked_sub(done).filter(|left| *left > 0)?;
        Some(left.div_ceil(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use muster_protocol::ids::RoundId;
    use std::time::{Duration, Instant};

    const ROUND: RoundId = RoundId::from_bytes([1; 16]);

    #[test]
    fn a_steady_reader_has_its_pace_and_what_is_left_follows() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.bytes_per_sec(start), None);
        for second in 0..=5 {
            pace.observe(ROUND, second * 1000, start + Duration::from_secs(second));
        }
        let now = start + Duration::from_secs(5);
        assert_eq!(pace.bytes_per_sec(now), Some(1000));
        assert_eq!(pace.secs_left(Some(7000), now), Some(2));
        assert_eq!(pace.secs_left(Some(4000), now), None);
        assert_eq!(pace.secs_left(Some(5000), now), None, "read, and not yet uploaded");
        assert_eq!(pace.secs_left(None, now), None);
    }

    #[test]
    fn silence_slows_down_and_a_new_attempt_begins_anew() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.observe(ROUND, 0, start);
        pace.observe(ROUND, 10_000, start + Duration::from_secs(1));
        let later = pace.bytes_per_sec(start + Duration::from_secs(61)).expect("a pace");
        assert!(later < 100, "{later}");
        pace.observe(ROUND, 10, start + Duration::from_secs(62));
        assert_eq!(pace.bytes_per_sec(start + Duration::from_secs(62)), None);
    }
}
