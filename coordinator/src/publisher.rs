//! The publisher: brings last values onto the bus and keeps at it until the server has them.
//!
//! Level-triggered: only the newest value of each subject is ever wanted, after a reconnect all of them again, and
//! every half minute anyway, because the server's memory may be wiped while the connection stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::Bus;
use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::retry::{Attempts, Retry};
use muster_share::store::retry::delays;
use tokio::sync::mpsc;

use crate::alerts::Alerts;

const NATS: About = About::Part(Part::Nats);
const AGAIN: Duration = Duration::from_secs(30);

/// A value for a subject; none: nobody needs it any more.
pub(crate) type Value = (String, Option<Bytes>);

/// Starts the publisher. It ends when the sender is dropped.
pub(crate) fn spawn(bus: Arc<dyn Bus>, alerts: Alerts) -> mpsc::Sender<Value> {
    let (sender, inbox) = mpsc::channel(1024);
    tokio::spawn(run(bus, inbox, alerts));
    sender
}

async fn run(bus: Arc<dyn Bus>, mut inbox: mpsc::Receiver<Value>, alerts: Alerts) {
    let retry = Retry::new(Duration::from_millis(200), Duration::from_secs(5), Attempts::Unlimited)
        .expect("a fixed policy is valid");
    let mut values: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut pending: Vec<String> = Vec::new();
    let mut link = bus.link();
    let mut waits = delays(&retry);
    let mut again = tokio::time::interval(AGAIN);
    loop {
        let wait = if pending.is_empty() { AGAIN } else { waits.next().unwrap_or(AGAIN) };
        tokio::select! {
            value = inbox.recv() => match value {
                Some((subject, Some(payload))) => {
                    values.insert(subject.clone(), payload);
                    pending.push(subject);
                }
                Some((subject, None)) => { values.remove(&subject); }
                None => return,
            },
            changed = link.changed() => {
                if changed.is_err() { return; }
                pending = values.keys().cloned().collect();
            }
            _ = again.tick() => pending = values.keys().cloned().collect(),
            () = tokio::time::sleep(wait), if !pending.is_empty() => {}
        }
        while let Ok((subject, value)) = inbox.try_recv() {
            match value {
                Some(payload) => {
                    values.insert(subject.clone(), payload);
                    pending.push(subject);
                }
                None => {
                    values.remove(&subject);
                }
            }
        }
        pending.sort();
        pending.dedup();
        let brought = !pending.is_empty();
        let mut failed = Vec::new();
        for subject in pending.drain(..) {
            let Some(payload) = values.get(&subject) else { continue };
            if let Err(error) = bus.set_last_value(&subject, payload.clone()).await {
                tracing::warn!(subject, %error, "BUS-01: not published yet, trying again");
                alerts.raise(Finding::seen(Code::Bus01, NATS, error.to_string()));
                failed.push(subject);
            }
        }
        if failed.is_empty() {
            if !values.is_empty() && brought {
                alerts.mended(Code::Bus01, &NATS);
            }
            waits = delays(&retry);
        }
        pending = failed;
    }
}
