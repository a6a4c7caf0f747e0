//! The bus over a NATS server. Only this module and what is below it name the NATS client.
//!
//! `JetStream` is never believed: a stream that vanished is made again, and nothing that matters is kept there.

mod answers;
mod config;
mod connection;
mod echo;
mod lease;
mod nkey;
mod stored;
mod subscriptions;
mod unreadable;
mod version;
mod worker;

pub use config::{Credentials, NatsConfig};
pub use nkey::{UserKey, inbox_prefix, is_user_nkey};
pub use version::OLDEST_SERVER;

use crate::{
    Bus, BusError, ConnectError, Enqueued, Headers, LeaseSwap, LeaseValue, Limits, Link, Message, Reply,
    Responder, ServerInfo, Subscription, Watch, WorkQueue, subject,
};
use answers::Answers;
use async_nats::{
    Client, HeaderMap, StatusCode,
    client::{PublishError, PublishErrorKind},
    jetstream,
};
use async_trait::async_trait;
use bytes::Bytes;
use connection::Connection;
use echo::Echo;
use futures::StreamExt;
use std::{future::Future, sync::Arc, time::Duration};
use stored::Stored;
use tokio::{sync::watch, time::timeout};
use worker::NatsQueue;

/// The bus over one connection to a NATS server, or to one of a cluster. Clones share the connection.
#[derive(Clone)]
pub struct NatsBus(Arc<Inner>);

struct Inner {
    config: NatsConfig,
    wire: Wire,
    stored: Stored,
    _echo: Option<Echo>,
}

impl NatsBus {
    /// Connects to the first server that answers, within [`Limits::connect`]. Later the connection is made again by
    /// itself, with growing and jittered delays, for as long as the bus lives.
    ///
    /// # Errors
    /// When no server answers in time, refuses the credentials, or is older than [`OLDEST_SERVER`] says.
    pub async fn connect(config: NatsConfig) -> Result<Self, ConnectError> {
        let connection = Connection::make(&config).await?;
        let set_up = Wire::new(connection, &config).await;
        let wire = set_up
            .map_err(|source| ConnectError::SetUp { servers: config.servers(), source: Box::new(source) })?;
        let stored = Stored::new(wire.clone(), config.streams.clone());
        let echo = config.echo.then(|| Echo::begin(&wire));
        Ok(Self(Arc::new(Inner { config, wire, stored, _echo: echo })))
    }

    #[cfg(test)]
    pub(crate) fn waiting_callers(&self) -> usize {
        self.0.wire.answers.waiting()
    }

    fn limits(&self) -> &Limits {
        &self.0.config.limits
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.0.wire.send(subject, None, headers, payload).await
    }

    async fn request(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Message, BusError> {
        self.0.config.streams.check_request(subject)?;
        let answer = self.0.wire.ask(subject, headers, payload, limit).await?;
        Ok(self.0.wire.arrived(answer))
    }

    async fn subscribe(&self, filter: &str, group: Option<&str>) -> Result<Subscription, BusError> {
        subject::check_filter(filter)?;
        if let Some(group) = group {
            subject::check_group(group)?;
        }
        let subscribing = self.0.wire.connection.subscribe(filter, group);
        let subscriber = self.0.wire.limited(filter, subscribing).await??;
        let wire = self.0.wire.clone();
        Ok(Subscription::new(subscriber.map(move |message| wire.arrived(message))))
    }

    async fn set_last_value(&self, subject: &str, payload: Bytes) -> Result<u64, BusError> {
        self.0.config.streams.check_value(subject)?;
        self.0.stored.set_value(subject, payload).await
    }

    async fn last_value(&self, subject: &str) -> Result<Option<Bytes>, BusError> {
        self.0.config.streams.check_value(subject)?;
        self.0.stored.value(subject).await
    }

    async fn watch_last_value(&self, subject: &str) -> Result<Watch, BusError> {
        self.0.config.streams.check_value(subject)?;
        Ok(Watch::new(self.subscribe(subject, None).await?))
    }

    async fn enqueue(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<Enqueued, BusError> {
        self.0.config.streams.check_queue(subject)?;
        self.0.stored.enqueue(subject, headers, payload).await
    }

    async fn queue(&self, subject: &str) -> Result<Box<dyn WorkQueue>, BusError> {
        self.0.config.streams.check_queue(subject)?;
        Ok(Box::new(NatsQueue::open(self.0.wire.clone(), self.0.stored.clone()).await?))
    }

    async fn lease(&self) -> Result<Option<LeaseValue>, BusError> {
        self.0.stored.lease().await
    }

    async fn swap_lease(&self, expected: Option<u64>, payload: Bytes) -> Result<LeaseSwap, BusError> {
        self.0.stored.swap_lease(expected, payload).await
    }

    async fn ensure(&self) -> Result<(), BusError> {
        self.0.stored.ensure_values().await?;
        self.0.stored.ensure_queue().await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.wire.connection.link()
    }

    fn server(&self) -> ServerInfo {
        let info = self.0.wire.connection.client().server_info();
        ServerInfo { name: info.server_name, version: info.version, payload_limit_bytes: info.max_payload }
    }

    fn dropped_messages(&self) -> u64 {
        self.0.wire.connection.dropped_messages()
    }

    async fn close(&self) -> Result<(), BusError> {
        let client = self.0.wire.connection.client();
        let limit = self.limits().answer;
        let name = || self.0.config.servers();
        // While disconnected there is nothing to drain into, and draining would wait for the reconnect.
        if self.0.wire.connection.is_up() {
            let drained = timeout(limit, client.drain()).await;
            // A client that has just ended has nothing left to drain.
            drained.map_err(|_| BusError::Timeout { subject: name(), limit })?.ok();
        }
        self.0.wire.connection.close(limit).await.map_err(|()| BusError::Timeout { subject: name(), limit })
    }
}

/// The connection with what every part of the bus does over it: limited sending and asking.
#[derive(Clone)]
pub(crate) struct Wire {
    connection: Arc<Connection>,
    answers: Arc<Answers>,
    limits: Arc<Limits>,
    inbox_prefix: Arc<str>,
}

impl Wire {
    async fn new(connection: Connection, config: &NatsConfig) -> Result<Self, BusError> {
        let limits = Arc::new(config.limits.clone());
        let inbox = connection.client().new_inbox();
        let filter = format!("{inbox}.*");
        let subscribed = timeout(limits.answer, connection.subscribe(&filter, None)).await;
        let expired = |_| BusError::Timeout { subject: inbox.clone(), limit: limits.answer };
        let answers = Answers::new(inbox.clone(), subscribed.map_err(expired)??);
        Ok(Self {
            connection: Arc::new(connection),
            answers: Arc::new(answers),
            limits,
            inbox_prefix: config.inbox_prefix.as_str().into(),
        })
    }

    /// The server's streams, over the client in use.
    fn jetstream(&self) -> jetstream::Context {
        jetstream::ContextBuilder::new().timeout(self.limits.answer).build(self.connection.client())
    }

    /// Bounds a call into the client, whose command queue makes callers wait while the connection is down.
    async fn limited<T>(&self, subject: &str, call: impl Future<Output = T>) -> Result<T, BusError> {
        let limit = self.limits.answer;
        let expired = |_| BusError::Timeout { subject: subject.to_owned(), limit };
        timeout(limit, call).await.map_err(expired)
    }

    /// Sends unless the connection is known to be down.
    async fn send(
        &self,
        subject: &str,
        reply: Option<String>,
        headers: Headers,
        payload: Bytes,
    ) -> Result<(), BusError> {
        subject::check_subject(subject)?;
        if self.connection.is_closed() {
            return Err(BusError::Closed);
        }
        if reply.is_none() && !self.connection.is_up() {
            return Err(BusError::Disconnected { subject: subject.to_owned() });
        }
        subject::check_headers(subject, &headers)?;
        let mut clients = self.connection.clients();
        loop {
            let client = clients.borrow_and_update().clone();
            let limit_bytes = self.limits.payload_bytes.min(client.max_payload());
            subject::check_size(subject, &payload, limit_bytes)?;
            let sending = publish(&client, subject, reply.as_deref(), &headers, &payload);
            let Err(error) = self.limited(subject, sending).await? else { return Ok(()) };
            match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => {
                    let payload_bytes = payload.len();
                    return Err(BusError::TooLarge {
                        subject: subject.to_owned(),
                        payload_bytes,
                        limit_bytes,
                    });
                }
                PublishErrorKind::InvalidSubject => {
                    let reason = "the client refuses it";
                    return Err(BusError::Subject { subject: subject.to_owned(), reason });
                }
                // The client has ended. Who waits for an answer waits for the next one, as for a reconnect.
                PublishErrorKind::Send if self.connection.is_closed() => return Err(BusError::Closed),
                PublishErrorKind::Send if reply.is_none() => {
                    return Err(BusError::Disconnected { subject: subject.to_owned() });
                }
                PublishErrorKind::Send => {
                    self.limited(subject, clients.changed()).await?.map_err(|_| BusError::Closed)?;
                }
            }
        }
    }

    /// Sends and waits for the first answer, the server's own answers included.
    async fn ask(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        limit: Duration,
    ) -> Result<async_nats::Message, BusError> {
        let (inbox, answer) = self.answers.expect();
        let exchange = async {
            self.send(subject, Some(inbox.subject().to_owned()), headers, payload).await?;
            answer.await.map_err(|_| BusError::Closed)
        };
        let expired = |_| BusError::Timeout { subject: subject.to_owned(), limit };
        let answer = timeout(limit, exchange).await.map_err(expired)??;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(BusError::NoResponders { subject: subject.to_owned() });
        }
        Ok(answer)
    }

    /// Turns what the client received into a message of ours.
    fn arrived(&self, message: async_nats::Message) -> Message {
        let reply = message.reply.filter(|reply| {
            let answerable = may_answer(reply, &self.inbox_prefix);
            if !answerable {
                tracing::debug!(subject = %message.subject, %reply, "reply subject refused");
            }
            answerable
        });
        Message {
            reply: reply.map(|reply| Reply::new(reply.to_string(), Arc::new(self.clone()))),
            subject: message.subject.to_string(),
            headers: message.headers.as_ref().map(headers).unwrap_or_default(),
            payload: message.payload,
        }
    }
}

#[async_trait]
impl Responder for Wire {
    async fn respond(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.send(subject, None, headers, payload).await
    }
}

/// The server checks nobody's permission to name a reply subject, so that an answer could be aimed at a stored
/// subject or the server's own. Answered are inboxes (`_INBOX…`, or our own prefix) and what the server puts in
/// place of them between accounts (`_R_.…`), nothing else.
fn may_answer(reply: &str, own_prefix: &str) -> bool {
    let inbox = ["_INBOX.", "_INBOX_", "_R_."].iter().any(|prefix| reply.starts_with(prefix));
    let own = reply.strip_prefix(own_prefix).is_some_and(|rest| rest.starts_with('.'));
    (inbox || own) && subject::check_subject(reply).is_ok()
}

async fn publish(
    client: &Client,
    subject: &str,
    reply: Option<&str>,
    headers: &Headers,
    payload: &Bytes,
) -> Result<(), PublishError> {
    let (to, payload) = (subject.to_owned(), payload.clone());
    match (reply.map(str::to_owned), headers.is_empty()) {
        (None, true) => client.publish(to, payload).await,
        (None, false) => client.publish_with_headers(to, header_map(headers), payload).await,
        (Some(reply), true) => client.publish_with_reply(to, reply, payload).await,
        (Some(reply), false) => {
            client.publish_with_reply_and_headers(to, reply, header_map(headers), payload).await
        }
    }
}

fn header_map(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.as_str(), value.as_str());
    }
    map
}

fn headers(map: &HeaderMap) -> Headers {
    let flat = map.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    flat.map(|(name, value)| (name.to_string(), value.as_str().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::may_answer;

    #[test]
    fn only_inboxes_may_be_answered() {
        for reply in ["_INBOX.abc", "_INBOX_dns.abc", "_R_.abc.def", "own.abc"] {
            assert!(may_answer(reply, "own"), "{reply}");
        }
        for reply in [
            "$JS.ACK.a.b",
            "$KV.lease.x",
            "muster.v1.a.state",
            "_INBOXES",
            "_INBOX.*",
            "_INBOX.a.>",
            "owner.a",
            "own",
        ] {
            assert!(!may_answer(reply, "own"), "{reply}");
        }
    }
}
