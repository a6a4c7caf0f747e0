//! Subscriptions that outlive the client they were made with.

use async_nats::{Client, Message, Subscriber};
use futures::Stream;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::{Mutex, mpsc, watch};

/// What is listened to, and where it goes with the next client.
struct Listened {
    filter: String,
    group: Option<String>,
    feed: mpsc::UnboundedSender<Subscriber>,
}

/// All of one connection.
#[derive(Default)]
pub(crate) struct Subscriptions(Mutex<Vec<Listened>>);

/// The messages of one subscription, of one client after the other; over when the connection is closed.
pub(crate) struct Lasting {
    now: Option<Subscriber>,
    later: mpsc::UnboundedReceiver<Subscriber>,
}

impl Subscriptions {
    /// Listens with the client in use; if that has just ended, with the next one.
    pub(crate) async fn add(
        &self,
        clients: &watch::Sender<Client>,
        filter: &str,
        group: Option<&str>,
    ) -> Lasting {
        // Held until it is on the list, so that no client comes in between that would not know of it.
        let mut all = self.0.lock().await;
        let (feed, later) = mpsc::unbounded_channel();
        let listened = Listened { filter: filter.to_owned(), group: group.map(str::to_owned), feed };
        let client = clients.borrow().clone();
        let now = listened.with(&client).await;
        all.retain(|one| !one.feed.is_closed());
        all.push(listened);
        Lasting { now, later }
    }

    /// Goes on with another client.
    pub(crate) async fn renew(&self, client: &Client) {
        let mut all = self.0.lock().await;
        all.retain(|one| !one.feed.is_closed());
        for listened in &*all {
            if let Some(subscriber) = listened.with(client).await {
                // Whoever listened may have gone in this moment.
                listened.feed.send(subscriber).ok();
            }
        }
    }

    /// There will be no other client: all that is listened to is over with the one in use.
    pub(crate) async fn end(&self) {
        self.0.lock().await.clear();
    }
}

impl Listened {
    /// None: the client has ended.
    async fn with(&self, client: &Client) -> Option<Subscriber> {
        let filter = self.filter.clone();
        match &self.group {
            None => client.subscribe(filter).await.ok(),
            Some(group) => client.queue_subscribe(filter, group.clone()).await.ok(),
        }
    }
}

impl Stream for Lasting {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            if let Some(subscriber) = &mut self.now
                && let Some(message) = ready!(Pin::new(subscriber).poll_next(context))
            {
                return Poll::Ready(Some(message));
            }
            self.now = None;
            match ready!(self.later.poll_recv(context)) {
                Some(subscriber) => self.now = Some(subscriber),
                None => return Poll::Ready(None),
            }
        }
    }
}
