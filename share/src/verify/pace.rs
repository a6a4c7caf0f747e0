//! So many bytes a second, and no more.

use std::time::Duration;

use tokio::time::Instant;

/// When the next bytes may be read.
#[derive(Debug)]
pub struct Pace {
    bytes_per_sec: u64,
    free_from: Instant,
}

impl Pace {
    /// At most so many bytes a second.
    #[must_use]
    pub fn new(bytes_per_sec: u64) -> Self {
        Self { bytes_per_sec: bytes_per_sec.max(1), free_from: Instant::now() }
    }

    /// As fast as it goes.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Waits for the turn of so many bytes.
    pub async fn take(&mut self, bytes: u64) {
        let start = self.free_from.max(Instant::now());
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_sec);
        self.free_from = start + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        tokio::time::sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_minute_takes_a_minute_and_idle_time_is_not_saved_up() {
        let mut pace = Pace::new(1_000);
        let began = Instant::now();
        for _ in 0..60 {
            pace.take(1_000).await;
        }
        assert_eq!(began.elapsed().as_secs(), 59);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let later = Instant::now();
        for _ in 0..10 {
            pace.take(1_000).await;
        }
        assert_eq!(later.elapsed().as_secs(), 9);
    }
}
