//! One worker on the work queue: a durable pull consumer that all coordinators share, made again when it is gone.

use super::{Wire, headers, stored::Stored};
use crate::{BusError, Delivery, Job, Settlement, WorkQueue};
use async_nats::jetstream::{
    AckKind, Message,
    consumer::{AckPolicy, PullConsumer, pull},
};
use async_trait::async_trait;
use futures::StreamExt;
use std::{error::Error, time::Duration};
use tokio::time::{Instant, timeout};

/// The one consumer's name.
const CONSUMER: &str = "coordinators";
/// Longest single pull: a pull that a restarted server has forgotten costs at most this.
const PULL: Duration = Duration::from_secs(5);
/// Shortest single pull; the server takes zero for "without limit".
const SHORTEST_PULL: Duration = Duration::from_millis(50);
/// Most jobs given out and not settled, over all coordinators.
const GIVEN_OUT: i64 = 256;

type AnyError = Box<dyn Error + Send + Sync>;

/// One worker.
pub(crate) struct NatsQueue {
    wire: Wire,
    stored: Stored,
    consumer: Option<PullConsumer>,
    /// The connection since which the queue was looked through for what cannot be read.
    looked_through: u64,
}

impl NatsQueue {
    /// Makes stream and consumer if they are missing.
    pub(crate) async fn open(wire: Wire, stored: Stored) -> Result<Self, BusError> {
        let mut queue = Self { wire, stored, consumer: None, looked_through: 0 };
        queue.consumer = Some(queue.make().await?);
        Ok(queue)
    }

    async fn make(&self) -> Result<PullConsumer, BusError> {
        self.stored.ensure_queue().await?;
        let config = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.wire.limits.ack_wait,
            max_ack_pending: GIVEN_OUT,
            ..pull::Config::default()
        };
        let name = self.stored.streams().queue.clone();
        let jetstream = self.wire.jetstream();
        let making = jetstream.create_consumer_on_stream(config, name.clone());
        let made = self.wire.limited(&name, making).await?;
        made.map_err(|source| self.failed("making the consumer", source.into()))
    }

    fn failed(&self, action: &'static str, source: AnyError) -> BusError {
        BusError::Stream { stream: self.stored.streams().queue.clone(), action, source }
    }

    /// A connection that was lost may have been lost to a job.
    async fn look_through(&mut self) {
        let connects = self.wire.connection.connects();
        if connects == self.looked_through {
            return;
        }
        if let Err(error) = self.stored.take_out_unreadable().await {
            let stream = &self.stored.streams().queue;
            tracing::warn!(
                stream,
                error = &error as &dyn Error,
                "the queue was not looked through for what cannot be read"
            );
        }
        self.looked_through = connects;
    }

    /// One pull, at most as long as `wait` and a moment for the server's answer.
    async fn pull(&self, consumer: &PullConsumer, wait: Duration) -> Result<Option<Message>, AnyError> {
        let wait = wait.clamp(SHORTEST_PULL, PULL);
        let pulling = async {
            let mut batch = consumer.batch().max_messages(1).expires(wait).messages().await?;
            batch.next().await.transpose()
        };
        match timeout(wait + Duration::from_millis(500), pulling).await {
            Ok(pulled) => pulled,
            Err(_) => Ok(None),
        }
    }

    fn job(&self, message: Message) -> Job {
        let info = message.info().ok();
        let deliveries = info.as_ref().map_or(1, |info| u64::try_from(info.delivered).unwrap_or(1));
        // Sequences start over on a wiped server; the time of storing does not.
        let id = info.map_or_else(String::new, |info| {
            format!("{}-{}", info.stream_sequence, info.published.unix_timestamp_nanos())
        });
        let message = message.message;
        let delivery = GivenOut {
            wire: self.wire.clone(),
            stream: self.stored.streams().queue.clone(),
            // The reply subject of a job is the server's own and was pulled for: it needs no check.
            reply: message.reply.map(|reply| reply.to_string()).unwrap_or_default(),
        };
        Job::new(
            id,
            message.subject.to_string(),
            message.headers.as_ref().map(headers).unwrap_or_default(),
            message.payload,
            deliveries,
            Box::new(delivery),
        )
    }
}

#[async_trait]
impl WorkQueue for NatsQueue {
    async fn next(&mut self, wait: Duration) -> Result<Option<Job>, BusError> {
        let deadline = Instant::now() + wait;
        let mut attempt = 0;
        loop {
            if self.wire.connection.is_closed() {
                return Err(BusError::Closed);
            }
            self.look_through().await;
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.consumer.take() {
                Some(consumer) => match self.pull(&consumer, left).await {
                    Ok(pulled) => {
                        self.consumer = Some(consumer);
                        match pulled {
                            Some(message) => return Ok(Some(self.job(message))),
                            None if Instant::now() >= deadline => return Ok(None),
                            None => continue,
                        }
                    }
                    Err(source) => self.failed("pulling a job", source),
                },
                None => match self.make().await {
                    Ok(consumer) => {
                        self.consumer = Some(consumer);
                        tracing::info!(
                            stream = self.stored.streams().queue,
                            "consumer of the work queue made again"
                        );
                        continue;
                    }
                    Err(error) => error,
                },
            };
            attempt += 1;
            if !self.stored.pause(attempt, deadline).await {
                return Err(error);
            }
        }
    }
}

struct GivenOut {
    wire: Wire,
    stream: String,
    reply: String,
}

#[async_trait]
impl Delivery for GivenOut {
    async fn settle(&mut self, settlement: Settlement) -> Result<(), BusError> {
        let word = match settlement {
            Settlement::Done => AckKind::Ack,
            Settlement::Again(delay) => AckKind::Nak(Some(delay)),
        };
        // Asked rather than published, so that `Ok` means that the server has it. A stream that is gone has
        // nothing left to settle.
        match self.wire.ask(&self.reply, Vec::new(), word.into(), self.wire.limits.answer).await {
            Ok(_) => Ok(()),
            Err(BusError::NoResponders { .. }) => {
                tracing::debug!(stream = self.stream, "the job was gone before it was settled");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
