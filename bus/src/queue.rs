//! The work queue's outside: jobs that are stored, given to one worker at a time, and settled by it.

use crate::{BusError, Headers, message::find};
use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt, time::Duration};

/// One worker's end of a work queue.
#[async_trait]
pub trait WorkQueue: Send {
    /// The next job, waiting at most `wait` (a little longer if the server does not answer); `None` if there was
    /// none. If the future is dropped while a job is on its way, the job comes again after [`crate::Limits::ack_wait`].
    ///
    /// # Errors
    /// When the queue could not be read, nor made again, within `wait`; trying again later is right.
    async fn next(&mut self, wait: Duration) -> Result<Option<Job>, BusError>;
}

/// What [`crate::Bus::enqueue`] stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// Sequence number of the job, or of the first one with the same id.
    pub sequence: u64,
    /// Whether a job with the same id was already there, so that nothing was stored.
    pub duplicate: bool,
}

/// How a worker is done with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done: the job is removed.
    Done,
    /// Not done: the job is given out again after this long.
    Again(Duration),
}

/// The queue's side of one job that was given out.
#[async_trait]
pub trait Delivery: Send + Sync {
    /// Settles the job and waits until the queue knows it.
    async fn settle(&mut self, settlement: Settlement) -> Result<(), BusError>;
}

/// A job given to this worker. Dropped without being settled, it comes again: at once inside one process, after
/// [`crate::Limits::ack_wait`] over NATS. Any job may come twice; whoever does it makes that harmless.
pub struct Job {
    /// Names the job: the same whenever it is given out, and no other's, also after the server's memory was wiped.
    pub id: String,
    /// The subject that it was sent to.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its content.
    pub payload: Bytes,
    /// How many times it has been given out, this one included.
    pub deliveries: u64,
    delivery: Box<dyn Delivery>,
}

impl Job {
    /// A job given out by `delivery`'s queue.
    #[must_use]
    pub fn new(
        id: String,
        subject: String,
        headers: Headers,
        payload: Bytes,
        deliveries: u64,
        delivery: Box<dyn Delivery>,
    ) -> Self {
        Self { id, subject, headers, payload, deliveries, delivery }
    }

    /// The first header of that name, compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Done: removes the job, and waits until the queue has confirmed it.
    ///
    /// # Errors
    /// When the queue did not confirm; the job may come again.
    pub async fn ack(mut self) -> Result<(), BusError> {
        self.delivery.settle(Settlement::Done).await
    }

    /// Not done: gives the job back, to be given out again after `delay`.
    ///
    /// # Errors
    /// When the queue did not confirm; the job comes again in any case.
    pub async fn nak(mut self, delay: Duration) -> Result<(), BusError> {
        self.delivery.settle(Settlement::Again(delay)).await
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("subject", &self.subject)
            .field("headers", &self.headers)
            .field("payload_bytes", &self.payload.len())
            .field("deliveries", &self.deliveries)
            .finish_non_exhaustive()
    }
}
