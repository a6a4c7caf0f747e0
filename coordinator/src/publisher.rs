//! The publisher: brings last values onto the bus and keeps at it until the server has them.
//!
//! Level-triggered: only the newest value of each subject is ever wanted, after a reconnect all of them again, and
//! every half minute anyway, because the server's memory may be wiped while the connection stands. While the lead is
//! doubtful it waits: a leader that was paused must not lay its old document over that of its successor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use muster_bus::Bus;
use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::retry::{Attempts, Retry};
use muster_share::store::retry::delays;
use tokio::sync::mpsc;

use crate::alerts::Alerts;
use crate::lead::Standing;

const NATS: About = About::Part(Part::Nats);
const AGAIN: Duration = Duration::from_secs(30);

/// Values that are on their way at once.
const AT_ONCE: usize = 64;

/// A value for a subject; none: nobody needs it any more.
pub(crate) type Value = (String, Option<Bytes>);

/// Starts the publisher. It ends when the sender is dropped, or the lead is over.
pub(crate) fn spawn(bus: Arc<dyn Bus>, standing: Standing, alerts: Alerts) -> mpsc::Sender<Value> {
    let (sender, inbox) = mpsc::channel(1024);
    tokio::spawn(run(bus, standing, inbox, alerts));
    sender
}

async fn run(bus: Arc<dyn Bus>, standing: Standing, mut inbox: mpsc::Receiver<Value>, alerts: Alerts) {
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
        let brought = pending.iter().any(|subject| values.contains_key(subject));
        let wanted = std::mem::take(&mut pending);
        let published = publish(bus.as_ref(), &standing, &alerts, &values, wanted).await;
        let Some(failed) = published else { return };
        if failed.is_empty() {
            if brought {
                alerts.mended(Code::Bus01, &NATS);
            }
            waits = delays(&retry);
        }
        pending = failed;
    }
}

/// Publishes the newest value of each subject, in order; returns those that the server did not take. Once it takes none
/// of a batch, the others wait for the next try: thousands of orders must not wait out a limit each. None: the lead is over.
async fn publish(
    bus: &dyn Bus,
    standing: &Standing,
    alerts: &Alerts,
    values: &BTreeMap<String, Bytes>,
    pending: Vec<String>,
) -> Option<Vec<String>> {
    let mut failed = Vec::new();
    for (at, batch) in pending.chunks(AT_ONCE).enumerate() {
        if !standing.sure().await {
            return None;
        }
        let before = failed.len();
        let sent = batch.iter().filter_map(|subject| Some((subject, values.get(subject)?.clone())));
        let sent = sent.map(|(subject, payload)| async move {
            let error = bus.set_last_value(subject, payload).await.err()?;
            tracing::warn!(subject, %error, "BUS-01: not published yet, trying again");
            alerts.raise(Finding::seen(Code::Bus01, NATS, error.to_string()));
            Some(subject.clone())
        });
        failed.extend(join_all(sent).await.into_iter().flatten());
        if failed.len() - before == batch.len() {
            failed.extend(pending.iter().skip((at + 1) * AT_ONCE).cloned());
            break;
        }
    }
    Some(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use muster_bus::{Bus, EmbeddedBus, Limits, Streams};
    use muster_protocol::alert::Code;
    use tempfile::TempDir;
    use tokio::sync::watch;

    use super::{NATS, publish, spawn};
    use crate::alerts::Alerts;
    use crate::fixture;
    use crate::lead::Standing;

    const STATE: &str = "muster.v1.test.state";

    #[tokio::test]
    async fn nothing_is_laid_over_a_successors_document_while_the_lead_is_doubtful() {
        let folder = TempDir::new().expect("a folder");
        let (_share, _, log) = fixture::led().await;
        let streams = Streams::new("test", STATE, "muster.v1.test.trigger.async").expect("valid");
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::new(streams, Limits::default()));
        let alerts = Alerts::open(folder.path().join("alerts"), log.state().fleet);
        let successors = Bytes::from_static(b"the successor's");
        bus.set_last_value(STATE, successors.clone()).await.expect("stored");
        let values = BTreeMap::from([(STATE.to_owned(), Bytes::from_static(b"old"))]);
        let (tell, told) = watch::channel(Some((3, Instant::now())));
        let standing = Standing::new(3, told);

        let publishing = publish(bus.as_ref(), &standing, &alerts, &values, vec![STATE.to_owned()]);
        let waited = tokio::time::timeout(Duration::from_millis(300), publishing).await;
        assert!(waited.is_err(), "it acted while the lead was doubtful: {waited:?}");
        assert_eq!(bus.last_value(STATE).await.expect("read"), Some(successors.clone()));
        tell.send_replace(Some((4, Instant::now() + Duration::from_secs(60))));
        let published = publish(bus.as_ref(), &standing, &alerts, &values, vec![STATE.to_owned()]).await;
        assert_eq!(published, None, "another epoch: the lead is over");
        assert_eq!(bus.last_value(STATE).await.expect("read"), Some(successors));

        tell.send_replace(Some((3, Instant::now() + Duration::from_secs(60))));
        let published = publish(bus.as_ref(), &standing, &alerts, &values, vec![STATE.to_owned()]).await;
        assert_eq!(published, Some(Vec::new()));
        assert_eq!(bus.last_value(STATE).await.expect("read"), Some(Bytes::from_static(b"old")));
    }

    #[tokio::test]
    async fn what_the_server_does_not_take_is_told_until_it_takes_everything() {
        let folder = TempDir::new().expect("a folder");
        let (_share, _, log) = fixture::led().await;
        let streams = Streams::new("test", STATE, "muster.v1.test.trigger.async").expect("valid");
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::new(streams, Limits::default()));
        let alerts = Alerts::open(folder.path().join("alerts"), log.state().fleet);
        let (_tell, told) = watch::channel(Some((3, Instant::now() + Duration::from_secs(60))));
        let values = spawn(Arc::clone(&bus), Standing::new(3, told), alerts.clone());
        let becomes = |open: bool| {
            let alerts = alerts.clone();
            async move {
                let is_open = || alerts.read(|book| book.find(Code::Bus01, &NATS).is_some());
                let waited = async {
                    while is_open() != open {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(30), waited).await.expect("in time");
            }
        };
        // No stream of the fleet keeps that subject.
        let nowhere = "muster.v1.test.elsewhere".to_owned();
        values.send((nowhere.clone(), Some(Bytes::from_static(b"lost")))).await.expect("taken");
        becomes(true).await;
        values.send((STATE.to_owned(), Some(Bytes::from_static(b"kept")))).await.expect("taken");
        values.send((nowhere, None)).await.expect("taken");
        becomes(false).await;
    }
}
