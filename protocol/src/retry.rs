//! Back-off as data: how often something is tried again and how long it waits in between.
//!
//! The policy is pure. Shells that wait in real time go through their own module over it; the machines ask
//! [`Retry::delay`] with a random number of the caller's.

use std::time::Duration;

/// Why numbers make no retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// A first delay of zero would spin.
    #[error("the first delay must be longer than zero")]
    ZeroDelay,
    /// The longest delay is below the first.
    #[error("the longest delay must not be shorter than the first")]
    Inverted,
    /// No attempt at all.
    #[error("at least one attempt is needed")]
    NoAttempt,
}

/// How many attempts in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// At most this many, at least one.
    AtMost(u32),
    /// As long as the caller's own deadline lets it.
    Unlimited,
}

/// A validated retry policy: exponential delays with full jitter in their upper half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    longest: Duration,
    attempts: Attempts,
}

impl Retry {
    /// Delays that start at `first`, double, and end at `longest`.
    ///
    /// # Errors
    /// When the numbers contradict each other.
    pub fn new(first: Duration, longest: Duration, attempts: Attempts) -> Result<Self, RetryError> {
        if first.is_zero() {
            return Err(RetryError::ZeroDelay);
        }
        if longest < first {
            return Err(RetryError::Inverted);
        }
        if attempts == Attempts::AtMost(0) {
            return Err(RetryError::NoAttempt);
        }
        Ok(Self { first, longest, attempts })
    }

    /// The first delay.
    #[must_use]
    pub fn first(&self) -> Duration {
        self.first
    }

    /// The longest delay.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// How many attempts in all.
    #[must_use]
    pub fn attempts(&self) -> Attempts {
        self.attempts
    }

    /// Whether `attempt` (the first is 1) may still be made.
    #[must_use]
    pub fn allows(&self, attempt: u32) -> bool {
        match self.attempts {
            Attempts::AtMost(most) => attempt <= most,
            Attempts::Unlimited => true,
        }
    }

    /// How long to wait after `attempt` (the first is 1) failed: between half and all of `first × 2^(attempt - 1)`,
    /// at most `longest`; `random` picks where in between.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let half = full / 2;
        let span = u64::try_from((full - half).as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_millis(random % span)
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempts, Retry, RetryError};
    use std::time::Duration;

    #[test]
    fn delays_double_up_to_the_longest() {
        let retry =
            Retry::new(Duration::from_secs(1), Duration::from_secs(10), Attempts::AtMost(3)).expect("valid");
        for (attempt, most) in [(1, 1000), (2, 2000), (4, 8000), (5, 10_000), (60, 10_000)] {
            for random in [0, 1, 499, u64::MAX] {
                let delay = retry.delay(attempt, random).as_millis();
                assert!((most / 2..=most).contains(&delay), "{attempt} {random}: {delay}");
            }
        }
        assert!(retry.allows(3) && !retry.allows(4));
    }

    #[test]
    fn contradictions_are_refused() {
        let s = Duration::from_secs;
        assert_eq!(Retry::new(s(0), s(1), Attempts::Unlimited), Err(RetryError::ZeroDelay));
        assert_eq!(Retry::new(s(2), s(1), Attempts::Unlimited), Err(RetryError::Inverted));
        assert_eq!(Retry::new(s(1), s(1), Attempts::AtMost(0)), Err(RetryError::NoAttempt));
    }
}
