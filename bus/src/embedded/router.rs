//! Who listens to what, inside one process. Plain filters are found by name, so that ten thousand agents cost a
//! lookup; only filters with wildcards are tried one by one.

use crate::{Message, subject};
use std::collections::HashMap;
use tokio::sync::mpsc;

/// The subscriptions of one bus.
#[derive(Default)]
pub(crate) struct Router {
    plain: HashMap<String, Vec<Listener>>,
    wild: Vec<Listener>,
    /// Rotates the choice within queue groups.
    turn: usize,
}

/// How far a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Whether anybody listens, even with a full buffer.
    pub(crate) heard: bool,
    /// How many full buffers it did not fit in.
    pub(crate) dropped: u64,
}

struct Listener {
    filter: String,
    group: Option<String>,
    sender: mpsc::Sender<Message>,
}

impl Router {
    /// Adds a listener with a buffer of `messages`.
    pub(crate) fn add(
        &mut self,
        filter: &str,
        group: Option<&str>,
        messages: usize,
    ) -> mpsc::Receiver<Message> {
        let (sender, receiver) = mpsc::channel(messages.max(1));
        let listener = Listener { filter: filter.to_owned(), group: group.map(str::to_owned), sender };
        self.sweep(filter);
        if subject::is_wild(filter) {
            self.wild.push(listener);
        } else {
            self.plain.entry(filter.to_owned()).or_default().push(listener);
        }
        receiver
    }

    /// Gives the message to every listener without a group and to one of each group.
    pub(crate) fn deliver(&mut self, message: &Message) -> Reach {
        self.turn = self.turn.wrapping_add(1);
        let plain = self.plain.get(&message.subject).into_iter().flatten();
        let wild = self.wild.iter().filter(|listener| subject::matches(&listener.filter, &message.subject));
        let mut chosen: Vec<&Listener> = Vec::new();
        let mut groups: HashMap<&str, Vec<&Listener>> = HashMap::new();
        for listener in plain.chain(wild).filter(|listener| !listener.sender.is_closed()) {
            match &listener.group {
                None => chosen.push(listener),
                Some(group) => groups.entry(group).or_default().push(listener),
            }
        }
        chosen.extend(groups.values().map(|members| members[self.turn % members.len()]));
        let mut dropped = 0;
        for listener in &chosen {
            if let Err(mpsc::error::TrySendError::Full(_)) = listener.sender.try_send(message.clone()) {
                dropped += 1;
            }
        }
        Reach { heard: !chosen.is_empty(), dropped }
    }

    /// Forgets listeners that are gone, so that subscribing again and again does not grow the table. Those under a
    /// plain filter are looked at when that filter is used, the whole table when it may have doubled.
    fn sweep(&mut self, filter: &str) {
        self.wild.retain(|listener| !listener.sender.is_closed());
        if let Some(listeners) = self.plain.get_mut(filter) {
            listeners.retain(|listener| !listener.sender.is_closed());
        }
        if self.plain.len() == self.plain.capacity() {
            self.plain.retain(|_, listeners| {
                listeners.retain(|listener| !listener.sender.is_closed());
                !listeners.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Router;

    #[test]
    fn listeners_that_are_gone_are_forgotten() {
        let mut router = Router::default();
        for number in 0..10_000 {
            drop(router.add(&format!("a.{number}"), None, 1));
            drop(router.add("a.*", None, 1));
        }
        assert!(router.wild.len() <= 1);
        assert!(router.plain.len() < 100, "{}", router.plain.len());
    }
}
