//! A message as it arrives, how it is answered, and the streams that messages arrive on.

use crate::BusError;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Header that names a job, so that the same one sent twice is stored once (NATS `JetStream`, "message deduplication").
pub const MSG_ID: &str = "Nats-Msg-Id";

/// Headers in the order given; names may repeat. Over NATS the order between different names is not kept.
pub type Headers = Vec<(String, String)>;

/// A message that arrived.
#[derive(Debug, Clone)]
pub struct Message {
    /// The subject that it was sent to.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its content.
    pub payload: Bytes,
    /// How to answer, if the sender waits for an answer at a subject that may be answered.
    pub reply: Option<Reply>,
}

impl Message {
    /// The first header of that name, compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Answers the sender; does nothing if nobody waits.
    ///
    /// # Errors
    /// As [`crate::Bus::publish`].
    pub async fn respond(&self, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        match &self.reply {
            Some(reply) => reply.send(headers, payload).await,
            None => Ok(()),
        }
    }
}

/// The first value of header `name`, compared without regard to case.
pub(crate) fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Carries an answer back to the subject that a requester waits on.
#[async_trait]
pub trait Responder: Send + Sync {
    /// Sends the answer.
    async fn respond(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<(), BusError>;
}

/// The way back to a requester.
#[derive(Clone)]
pub struct Reply {
    subject: String,
    responder: Arc<dyn Responder>,
}

impl Reply {
    /// A way back to `subject` through `responder`. Whoever makes one has checked that `subject` may be answered.
    #[must_use]
    pub fn new(subject: String, responder: Arc<dyn Responder>) -> Self {
        Self { subject, responder }
    }

    /// Sends the answer. The requester takes the first one only.
    ///
    /// # Errors
    /// As [`crate::Bus::publish`].
    pub async fn send(&self, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.responder.respond(&self.subject, headers, payload).await
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.subject).finish()
    }
}

/// The messages of one subscription. Dropping it ends the subscription.
pub struct Subscription(Pin<Box<dyn Stream<Item = Message> + Send>>);

impl Subscription {
    /// Wraps a stream, for other implementations of the bus.
    #[must_use]
    pub fn new(stream: impl Stream<Item = Message> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// The next message; `None` once the bus is closed. Losing the future loses no message.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.next().await
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// The values of one subject as they are set. Holds payloads only: the storing server's own reply subject, which
/// must not be answered, never leaves this crate.
#[derive(Debug)]
pub struct Watch(Subscription);

impl Watch {
    /// Wraps a subscription, for other implementations of the bus.
    #[must_use]
    pub fn new(subscription: Subscription) -> Self {
        Self(subscription)
    }

    /// The next value; `None` once the bus is closed. Losing the future loses no value.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.next().await.map(|message| message.payload)
    }
}

impl Stream for Watch {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_next_unpin(context).map(|message| message.map(|message| message.payload))
    }
}
