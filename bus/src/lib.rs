//! The bus: bytes between subjects, and three small things that outlive a connection: last values, a work queue,
//! and the news that the connection was lost or is back.
//!
//! Two implementations of one [`Bus`]: [`NatsBus`] over a NATS server, and [`EmbeddedBus`] inside one process, for
//! `muster once`, tests and simulations. One conformance suite holds both to the same behaviour.
//!
//! What this crate must never do: look into a payload, sign or trust anything (messages are signed and verified in
//! the protocol), keep anything whose loss would matter (the truth is on the share), or wait without a limit.

mod embedded;
mod error;
mod lease;
mod limits;
mod link;
mod message;
mod nats;
mod queue;
mod streams;
mod subject;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod test_server;

pub use embedded::EmbeddedBus;
pub use error::{BusError, ConnectError};
pub use lease::{LeaseSwap, LeaseValue};
pub use limits::Limits;
pub use link::{Link, ServerInfo, figures};
pub use message::{Headers, MSG_ID, Message, Reply, Responder, Subscription, Watch};
pub use nats::{Credentials, NatsBus, NatsConfig, OLDEST_SERVER, UserKey, inbox_prefix, is_user_nkey};
pub use queue::{Delivery, Enqueued, Job, Settlement, WorkQueue};
pub use streams::Streams;

use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::watch;

/// Carries bytes between subjects. Cheap to share as `Arc<dyn Bus>`.
///
/// Calls made one after the other on the same bus take effect in that order: a subscription made before a
/// publication sees it.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends to whoever listens now, at most once. `Ok` says only that the message left this process: on a dead but
    /// half-open connection it is lost. What matters goes by [`Bus::request`].
    ///
    /// # Errors
    /// [`BusError::Disconnected`] at once while the connection is known to be down, so that no stale message is
    /// delivered after a reconnect; or when subject, headers or size are invalid.
    async fn publish(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<(), BusError>;

    /// Sends and waits for the first answer, at most `timeout`, also across a reconnect.
    ///
    /// # Errors
    /// [`BusError::NoResponders`] when nobody listens, [`BusError::Timeout`], or an invalid argument. Subjects that
    /// a stream keeps are refused, because the stream's acknowledgement would pose as the answer.
    async fn request(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message, BusError>;

    /// Listens on `filter` (`*` matches one token, a final `>` one or more). Of the members of one `queue` group
    /// each message reaches one. A subscription outlives reconnects; what it cannot buffer is dropped and counted
    /// in [`Bus::dropped_messages`].
    ///
    /// # Errors
    /// When filter or group are invalid, or the bus is closed.
    async fn subscribe(&self, filter: &str, queue: Option<&str>) -> Result<Subscription, BusError>;

    /// Replaces the last value of `subject`, waits until it is stored, and returns its sequence number, which a
    /// wiped server starts over. Recreates the stream if it is gone. For coordinators only.
    ///
    /// # Errors
    /// [`BusError::NotStored`] for a subject outside [`Streams`]; when the server does not acknowledge within
    /// [`Limits::answer`].
    async fn set_last_value(&self, subject: &str, payload: Bytes) -> Result<u64, BusError>;

    /// Reads the last value of `subject`. On a replica it may lag behind the newest one.
    ///
    /// # Errors
    /// [`BusError::NoStream`] (transient) when the stream does not exist, for example before the first coordinator;
    /// [`BusError::Timeout`].
    async fn last_value(&self, subject: &str) -> Result<Option<Bytes>, BusError>;

    /// The values of `subject` as they are set from now on. Combine it with [`Bus::last_value`], called after this
    /// and again after every reconnect: updates are lossy.
    ///
    /// # Errors
    /// As [`Bus::subscribe`].
    async fn watch_last_value(&self, subject: &str) -> Result<Watch, BusError>;

    /// Adds a job to the work queue and waits until it is stored. A second one with the same `Nats-Msg-Id` header
    /// within [`Limits::duplicate_window`] is the same job. Works while no coordinator is up.
    ///
    /// # Errors
    /// [`BusError::Full`], [`BusError::NoStream`] when no coordinator ever made the queue, [`BusError::Timeout`].
    async fn enqueue(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<Enqueued, BusError>;

    /// Opens the work queue of `subject`. All who open it share its jobs. For coordinators only.
    ///
    /// # Errors
    /// [`BusError::NotStored`] when `subject` is not the queue of [`Streams`], or when the server refuses.
    async fn queue(&self, subject: &str) -> Result<Box<dyn WorkQueue>, BusError>;

    /// Reads the fleet's lease; none when nobody ever wrote it, or its bucket is gone. On a replica it may lag behind
    /// the newest one. For coordinators only.
    ///
    /// # Errors
    /// [`BusError::Timeout`], or when the server refuses.
    async fn lease(&self) -> Result<Option<LeaseValue>, BusError>;

    /// Writes the lease if its revision still is `expected` (none: if there is none). Makes the bucket if it is gone.
    /// For coordinators only.
    ///
    /// # Errors
    /// When the server does not acknowledge within [`Limits::answer`]: the value may be stored all the same.
    async fn swap_lease(&self, expected: Option<u64>, payload: Bytes) -> Result<LeaseSwap, BusError>;

    /// Makes sure that the streams exist as configured. Idempotent. For coordinators only.
    ///
    /// # Errors
    /// When the server has no `JetStream`, or another stream already keeps one of the subjects.
    async fn ensure(&self) -> Result<(), BusError>;

    /// News of the connection. Whoever sees [`Link::connects`] grow reads the last values again.
    fn link(&self) -> watch::Receiver<Link>;

    /// The server on the other side, as it introduced itself last.
    fn server(&self) -> ServerInfo;

    /// How many messages full subscriptions have dropped, at least.
    fn dropped_messages(&self) -> u64;

    /// Sends what is still buffered and ends all subscriptions, within [`Limits::answer`]. Further calls fail.
    ///
    /// # Errors
    /// When the buffers could not be sent in time.
    async fn close(&self) -> Result<(), BusError>;
}
