//! Whether this process may act as the leader of an epoch, right now.
//!
//! Compared with the clock at the very moment of acting: a process that was paused is past its time before any timer
//! or task of its own can run and tell.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How often one who waits for trust looks again, should no news come.
const LOOK: Duration = Duration::from_millis(500);

/// Whether one may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The epoch was in force less than a lease ago.
    Sure,
    /// It may have ended: the log must be read first.
    Doubtful,
    /// It has ended.
    Over,
}

/// The standing of one epoch's leader. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    epoch: u64,
    told: watch::Receiver<Told>,
}

/// Who leads in this process, and until when that is sure.
pub(crate) type Told = Option<(u64, Instant)>;

impl Standing {
    pub(crate) fn new(epoch: u64, told: watch::Receiver<Told>) -> Self {
        Self { epoch, told }
    }

    /// That of a process that leads no more, or never has.
    pub(crate) fn over() -> Self {
        Self::new(0, watch::channel(None).1)
    }

    /// One that has led this epoch, and has been asleep since.
    #[cfg(test)]
    pub(crate) fn doubtful(epoch: u64) -> Self {
        Self::new(epoch, watch::channel(Some((epoch, Instant::now()))).1)
    }

    /// Whether one may act now.
    pub(crate) fn trust(&self) -> Trust {
        match *self.told.borrow() {
            Some((epoch, until)) if epoch == self.epoch => {
                if Instant::now() < until {
                    Trust::Sure
                } else {
                    Trust::Doubtful
                }
            }
            Some(_) | None => Trust::Over,
        }
    }

    /// Waits while it is doubtful; false once it is over.
    pub(crate) async fn sure(&self) -> bool {
        let mut told = self.told.clone();
        loop {
            match self.trust() {
                Trust::Sure => return true,
                Trust::Over => return false,
                Trust::Doubtful => {}
            }
            match tokio::time::timeout(LOOK, told.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Standing, Trust};
    use std::time::{Duration, Instant};
    use tokio::sync::watch;

    #[tokio::test]
    async fn trust_ends_by_the_clock_alone_and_comes_back_only_for_the_same_epoch() {
        let (tell, told) = watch::channel(None);
        let standing = Standing::new(3, told);
        assert_eq!(standing.trust(), Trust::Over);
        tell.send_replace(Some((3, Instant::now() + Duration::from_millis(50))));
        assert_eq!(standing.trust(), Trust::Sure);
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(standing.trust(), Trust::Doubtful);
        let waiting = tokio::spawn({
            let standing = standing.clone();
            async move { standing.sure().await }
        });
        tell.send_replace(Some((3, Instant::now() + Duration::from_secs(60))));
        assert!(waiting.await.expect("no panic"));
        tell.send_replace(Some((5, Instant::now() + Duration::from_secs(60))));
        assert!(!standing.sure().await, "a later epoch of the same process is another one");
    }
}
