//! Who waits for which answer. The client's own bookkeeping of requests keeps an entry for every request that was
//! never answered (async-nats 0.51), and an agent may ask for days; here an entry lives as long as its caller waits.

use super::subscriptions::Lasting;
use async_nats::Message;
use futures::StreamExt;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{sync::oneshot, task::JoinHandle};

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Message>>>>;

/// The callers that wait, and the task that hands them their answers.
pub(crate) struct Answers {
    inbox: String,
    next: AtomicU64,
    waiting: Waiting,
    task: JoinHandle<()>,
}

/// One caller's place to receive its answer; dropping it forgets the caller.
pub(crate) struct Inbox {
    subject: String,
    waiting: Waiting,
}

impl Answers {
    /// Hands out what arrives on `subscriber`, a subscription to all subjects one token below `inbox`.
    pub(crate) fn new(inbox: String, mut subscriber: Lasting) -> Self {
        let waiting = Waiting::default();
        let shared = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                if let Some(caller) = remove(&shared, &message.subject) {
                    // The caller may have given up in this moment.
                    caller.send(message).ok();
                }
            }
            // The connection is closed for good: callers learn it from their dropped senders.
            shared.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        Self { inbox, next: AtomicU64::new(0), waiting, task }
    }

    /// A new place for one answer.
    pub(crate) fn expect(&self) -> (Inbox, oneshot::Receiver<Message>) {
        let subject = format!("{}.{}", self.inbox, self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(subject.clone(), sender);
        drop(waiting);
        (Inbox { subject, waiting: Arc::clone(&self.waiting) }, receiver)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inbox {
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        remove(&self.waiting, &self.subject);
    }
}

fn remove(waiting: &Waiting, subject: &str) -> Option<oneshot::Sender<Message>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(subject)
}
