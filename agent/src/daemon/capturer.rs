//! What the event loop wants of the capture engine, as one small trait: tests put a scripted one in its place.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use muster_protocol::age::Recipient;
use muster_protocol::alert::Code;
use muster_protocol::document::SliceTotals;
use muster_protocol::ids::{Nonce, ObjectId, RoundId};
use muster_protocol::log::Head;
use muster_protocol::message::Stage;
use muster_share::credentials::Credentials;

/// What is to be captured, for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) round: RoundId,
    /// Log number of the keyset.
    pub(crate) keyset: u64,
    /// Its recovery keys; at least one.
    pub(crate) recipients: Vec<Recipient>,
    /// Objects of this service that must not be relied on: they are being deleted.
    pub(crate) refused: BTreeSet<ObjectId>,
    /// Bytes a second that are uploaded at most, if that is less than the agent's own limit.
    pub(crate) bandwidth: Option<u64>,
}

/// How far a capture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gauged {
    pub(crate) stage: Stage,
    pub(crate) done_bytes: u64,
    pub(crate) expected_bytes: Option<u64>,
    pub(crate) added_bytes: u64,
}

/// A receipt on the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) receipt: ObjectId,
    pub(crate) receipt_size: u64,
    pub(crate) totals: SliceTotals,
}

/// Why there is no slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// The native error.
    pub(crate) reason: String,
    /// True when another attempt would fail as well.
    pub(crate) permanent: bool,
}

/// Captures the sources of one service.
#[async_trait]
pub(crate) trait Capturer: Send + Sync + 'static {
    /// A capture whose packs are on the share, but not its receipt.
    type Captured: Send + Sync + 'static;
    /// One run: what it counts, and how it is told to stop.
    type Run: Send + Sync + 'static;

    /// Takes credentials of the share from the leader, for the capture that follows.
    fn accept(&self, credentials: &Credentials);

    /// A run that has not begun.
    fn run(&self) -> Self::Run;

    /// How far a run is.
    fn gauged(&self, run: &Self::Run) -> Gauged;

    /// Waits until nothing more of the sources is needed; for ever, if the run fails before.
    async fn sources_read(&self, run: Arc<Self::Run>);

    /// Tells a run to stop; it does so within seconds.
    fn cancel(&self, run: &Self::Run);

    /// Captures, seals and uploads.
    async fn capture(&self, job: Job, run: Arc<Self::Run>) -> Result<Self::Captured, Failure>;

    /// Writes the receipt of one attempt; `cut` is the nonce of the cut that it was captured in.
    async fn write_receipt(
        &self,
        captured: &Self::Captured,
        attempt: u32,
        nonce: Nonce,
        head: Head,
        cut: Option<Nonce>,
    ) -> Result<Written, Failure>;

    /// The slice counts: its receipt is the service's last.
    async fn keep(&self, receipt: ObjectId) -> Result<(), Failure>;
}

/// Cancels its run when it goes, so that no capture outlives whoever wanted it.
pub(crate) struct Running<C: Capturer> {
    pub(crate) capturer: Arc<C>,
    pub(crate) run: Arc<C::Run>,
}

impl<C: Capturer> Drop for Running<C> {
    fn drop(&mut self) {
        self.capturer.cancel(&self.run);
    }
}
