//! The long work of a slice, as the event loop spawns it: find out what must not be relied on, then capture.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::ids::{RoundId, ServiceName};
use muster_protocol::log::State;
use muster_share::store::Store;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;

use super::capturer::{Capturer, Failure, Job};
use super::refused::{Lists, refused};
use crate::restore::Gate;

/// Everything that a capture depends on.
pub(crate) struct Task<C: Capturer> {
    pub(crate) capturer: Arc<C>,
    pub(crate) run: Arc<C::Run>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) log: Arc<State>,
    pub(crate) service: ServiceName,
    pub(crate) round: RoundId,
    pub(crate) lists: Lists,
    /// Resolves once the capture before this one has ended.
    pub(crate) former: Option<oneshot::Receiver<()>>,
    /// Longest wait for that.
    pub(crate) wind_down: Duration,
    /// Closed while a restore runs: half of it would be captured.
    pub(crate) gate: Gate,
    /// Bytes a second that the leader allows.
    pub(crate) bandwidth: Option<u64>,
}

impl<C: Capturer> Task<C> {
    /// Captures. The lists that were read come back in any case.
    pub(crate) async fn work(self) -> (Lists, Result<Arc<C::Captured>, Failure>) {
        if let Some(former) = self.former
            && timeout(self.wind_down, former).await.is_err()
        {
            let reason = "the capture before this one has not stopped yet".to_owned();
            return (self.lists, Err(Failure { code: Code::Agent03, reason, permanent: false }));
        }
        let held = match self.gate.capture() {
            Ok(held) => held,
            Err(busy) => {
                let failure = Failure { code: Code::Agent03, reason: busy.to_string(), permanent: false };
                return (self.lists, Err(failure));
            }
        };
        // The keys of the round: a rotation while it runs is for the next one, so that one round opens with one keyset.
        let position = self.log.rounds.get(&self.round).map_or(self.log.next, |round| round.position);
        let Some((keyset, keys)) = self.log.keyset_at(position) else {
            let reason =
                "the log names no recovery keys: nothing is captured that nobody could open".to_owned();
            return (self.lists, Err(Failure { code: Code::Key01, reason, permanent: true }));
        };
        let recipients = keys.keys.iter().map(|key| key.recipient.clone()).collect();
        let (lists, refused) = refused(&*self.store, &self.log, &self.service, self.lists).await;
        let refused = match refused {
            Ok(refused) => refused,
            Err(error) => {
                let (code, permanent) = (error.code(), error.is_permanent());
                return (lists, Err(Failure { code, reason: causes(&error), permanent }));
            }
        };
        let job = Job { round: self.round, keyset, recipients, refused, bandwidth: self.bandwidth };
        let (capturer, run) = (self.capturer, self.run);
        let captured = guarded("the capture", async move { capturer.capture(job, run).await }).await;
        drop(held);
        (lists, captured.map(Arc::new))
    }
}

/// Runs `work`; a panic in it is a failure like any other: the agent goes on, and the leader learns of it.
pub(crate) async fn guarded<T: Send + 'static>(
    what: &str,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    // A set, because it aborts its task when it is dropped.
    let mut inner = JoinSet::new();
    inner.spawn(work.in_current_span());
    match inner.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(_)) | None => {
            let reason = format!("{what} ended by a fault of the program; the agent's log has the details");
            Err(Failure { code: Code::Agent03, reason, permanent: false })
        }
    }
}
