//! Waiting for the bus, the share and the log, with growing delays and one word at either end.

use std::time::Duration;

use muster_protocol::causes::causes;
use muster_protocol::retry::{Attempts, Retry};
use muster_share::store::retry::delays;
use tokio::sync::watch;

/// Waiting for something that may be absent at first.
pub(super) struct Waiting {
    pub(super) what: &'static str,
    pub(super) code: &'static str,
    pub(super) stop: watch::Receiver<bool>,
}

impl Waiting {
    /// Tries until it works; none when told to stop. Says once that it waits, and once that the wait is over.
    pub(super) async fn wait_for<T, E: std::error::Error + 'static, F: Future<Output = Result<T, E>>>(
        mut self,
        mut connect: impl FnMut() -> F,
        transient: impl Fn(&E) -> bool,
    ) -> Result<Option<T>, E> {
        let retry = Retry::new(Duration::from_millis(250), Duration::from_secs(10), Attempts::Unlimited)
            .expect("a fixed policy is valid");
        let mut waits = delays(&retry);
        let mut said = false;
        loop {
            match connect().await {
                Ok(it) => {
                    if said {
                        tracing::info!("{} is there", self.what);
                    }
                    return Ok(Some(it));
                }
                Err(error) if transient(&error) => {
                    if !said {
                        tracing::warn!(
                            error = causes(&error),
                            "{}: waiting for the {}",
                            self.code,
                            self.what
                        );
                        said = true;
                    }
                }
                Err(error) => return Err(error),
            }
            let wait = waits.next().unwrap_or(Duration::from_secs(10));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.stop.wait_for(|stop| *stop) => return Ok(None),
            }
        }
    }
}
