//! The bus inside one process: for `muster once`, tests and simulations. Behaves as the one over NATS does, except
//! that it is never disconnected and that its streams always exist.

mod queue;
mod router;

use crate::{
    Bus, BusError, Enqueued, Headers, LeaseSwap, LeaseValue, Limits, Link, Message, Reply, Responder,
    ServerInfo, Streams, Subscription, Watch, WorkQueue, subject,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use queue::{EmbeddedQueue, Jobs};
use router::{Reach, Router};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

/// The bus inside one process. Clones are the same bus.
#[derive(Clone)]
pub struct EmbeddedBus(Arc<Inner>);

struct Inner {
    streams: Streams,
    limits: Limits,
    state: Mutex<State>,
    link: watch::Sender<Link>,
    jobs: Arc<Jobs>,
}

#[derive(Default)]
struct State {
    closed: bool,
    router: Router,
    waiting: HashMap<String, oneshot::Sender<Message>>,
    inboxes: u64,
    values: HashMap<String, Bytes>,
    sequence: u64,
    lease: Option<LeaseValue>,
    dropped: u64,
}

impl EmbeddedBus {
    /// An empty bus.
    #[must_use]
    pub fn new(streams: Streams, limits: Limits) -> Self {
        let jobs = Arc::new(Jobs::new(&limits));
        let (link, _) = watch::channel(Link { connected: true, connects: 1 });
        Self(Arc::new(Inner { streams, limits, state: Mutex::default(), link, jobs }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, BusError> {
        let state = self.state();
        if state.closed { Err(BusError::Closed) } else { Ok(state) }
    }

    fn check(&self, subject: &str, headers: &Headers, payload: &Bytes) -> Result<(), BusError> {
        subject::check_subject(subject)?;
        subject::check_headers(subject, headers)?;
        subject::check_size(subject, payload, self.0.limits.payload_bytes)
    }

    /// Stores what a stream keeps, as the server does with any message to such a subject, then delivers.
    fn accept(&self, state: &mut State, message: &Message) -> Reach {
        if self.0.streams.keeps_value(&message.subject) {
            state.sequence += 1;
            state.values.insert(message.subject.clone(), message.payload.clone());
        }
        let reach = state.router.deliver(message);
        state.dropped += reach.dropped;
        reach
    }

    /// Reserves an inbox; the guard gives it back.
    fn inbox(&self) -> Result<(Inbox, oneshot::Receiver<Message>), BusError> {
        let mut state = self.open_state()?;
        state.inboxes += 1;
        let subject = format!("_INBOX.{}", state.inboxes);
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(subject.clone(), sender);
        drop(state);
        Ok((Inbox { bus: self.clone(), subject }, receiver))
    }
}

struct Inbox {
    bus: EmbeddedBus,
    subject: String,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.bus.state().waiting.remove(&self.subject);
    }
}

#[async_trait]
impl Responder for EmbeddedBus {
    async fn respond(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.check(subject, &headers, &payload)?;
        let waiting = self.open_state()?.waiting.remove(subject);
        if let Some(waiting) = waiting {
            // The requester may have given up in between; its answer is then nobody's.
            waiting.send(Message { subject: subject.to_owned(), headers, payload, reply: None }).ok();
        }
        Ok(())
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn publish(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.check(subject, &headers, &payload)?;
        let message = Message { subject: subject.to_owned(), headers, payload, reply: None };
        self.accept(&mut *self.open_state()?, &message);
        if subject == self.0.streams.queue_subject {
            // A bare publisher never learns that the queue is full.
            let _ = self.0.jobs.push(&message);
        }
        Ok(())
    }

    async fn request(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Message, BusError> {
        self.check(subject, &headers, &payload)?;
        self.0.streams.check_request(subject)?;
        let (inbox, answer) = self.inbox()?;
        let reply = Some(Reply::new(inbox.subject.clone(), Arc::new(self.clone())));
        let message = Message { subject: subject.to_owned(), headers, payload, reply };
        if !self.accept(&mut *self.open_state()?, &message).heard {
            return Err(BusError::NoResponders { subject: subject.to_owned() });
        }
        match timeout(limit, answer).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => Err(BusError::Timeout { subject: subject.to_owned(), limit }),
        }
    }

    async fn subscribe(&self, filter: &str, group: Option<&str>) -> Result<Subscription, BusError> {
        subject::check_filter(filter)?;
        if let Some(group) = group {
            subject::check_group(group)?;
        }
        let receiver = self.open_state()?.router.add(filter, group, self.0.limits.subscription_messages);
        Ok(Subscription::new(stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        })))
    }

    async fn set_last_value(&self, subject: &str, payload: Bytes) -> Result<u64, BusError> {
        self.0.streams.check_value(subject)?;
        subject::check_size(subject, &payload, self.0.limits.payload_bytes)?;
        let mut state = self.open_state()?;
        let message = Message { subject: subject.to_owned(), headers: Headers::new(), payload, reply: None };
        self.accept(&mut state, &message);
        Ok(state.sequence)
    }

    async fn last_value(&self, subject: &str) -> Result<Option<Bytes>, BusError> {
        self.0.streams.check_value(subject)?;
        Ok(self.open_state()?.values.get(subject).cloned())
    }

    async fn watch_last_value(&self, subject: &str) -> Result<Watch, BusError> {
        self.0.streams.check_value(subject)?;
        Ok(Watch::new(self.subscribe(subject, None).await?))
    }

    async fn enqueue(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<Enqueued, BusError> {
        self.check(subject, &headers, &payload)?;
        self.0.streams.check_queue(subject)?;
        let message = Message { subject: subject.to_owned(), headers, payload, reply: None };
        self.accept(&mut *self.open_state()?, &message);
        self.0.jobs.push(&message).ok_or_else(|| BusError::Full { stream: self.0.streams.queue.clone() })
    }

    async fn queue(&self, subject: &str) -> Result<Box<dyn WorkQueue>, BusError> {
        self.0.streams.check_queue(subject)?;
        drop(self.open_state()?);
        Ok(Box::new(EmbeddedQueue::new(Arc::clone(&self.0.jobs))))
    }

    async fn lease(&self) -> Result<Option<LeaseValue>, BusError> {
        Ok(self.open_state()?.lease.clone())
    }

    async fn swap_lease(&self, expected: Option<u64>, payload: Bytes) -> Result<LeaseSwap, BusError> {
        let mut state = self.open_state()?;
        let last = state.lease.as_ref().map(|lease| lease.revision);
        if last != expected {
            return Ok(LeaseSwap::Lost);
        }
        let revision = last.unwrap_or_default() + 1;
        state.lease = Some(LeaseValue { revision, payload });
        Ok(LeaseSwap::Stored(revision))
    }

    async fn ensure(&self) -> Result<(), BusError> {
        self.open_state().map(drop)
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.link.subscribe()
    }

    fn server(&self) -> ServerInfo {
        let payload_limit_bytes = self.0.limits.payload_bytes;
        ServerInfo { name: "embedded".to_owned(), version: String::new(), payload_limit_bytes }
    }

    fn dropped_messages(&self) -> u64 {
        self.state().dropped
    }

    async fn close(&self) -> Result<(), BusError> {
        // Taken out first: dropping a waiting message must not meet the lock held here.
        let taken = {
            let mut state = self.state();
            state.closed = true;
            (std::mem::take(&mut state.router), std::mem::take(&mut state.waiting))
        };
        drop(taken);
        self.0.jobs.close();
        self.0.link.send_modify(|link| link.connected = false);
        Ok(())
    }
}
