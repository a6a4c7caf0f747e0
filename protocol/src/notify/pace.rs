//! How many messages a channel sends: at most so many a minute, whatever happens.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// Most messages that one channel sends within a minute; the last of them takes all that is left.
pub const MOST_A_MINUTE: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// When a channel sent its last messages.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    sent: VecDeque<Time>,
}

impl Pace {
    /// How many messages may be sent now.
    #[must_use]
    pub fn room(&self, now: Time) -> usize {
        let recent = self.sent.iter().filter(|sent| now.since(**sent) < MINUTE).count();
        MOST_A_MINUTE.saturating_sub(recent)
    }

    /// One was sent.
    pub fn sent(&mut self, now: Time) {
        self.sent.push_back(now);
        while self.sent.len() > MOST_A_MINUTE {
            self.sent.pop_front();
        }
    }
}
