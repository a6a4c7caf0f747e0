//! One channel at work: what is to be told next goes out, again if need be, and then stands in the ledger.
//!
//! A task of its own for each channel, so that a slow one holds up nobody else. Nothing queues in front of it: while a message is on
//! its way, what happens meanwhile is in the book.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_protocol::alert::{About, Code, Finding};
use muster_protocol::entropy::random;
use muster_protocol::notify::{Notification, Pace};
use muster_protocol::time::Time;
use muster_share::entropy::OsEntropy;
use muster_telemetry::metrics::{CHANNEL, NOTIFICATIONS, OUTCOME};

use super::Office;
use super::channel::Channel;
use super::error::{Then, Undelivered};
use crate::scribe::unix_now;

/// How often the book is looked at although nothing changed: repeats, digests, and room for more come with time.
const LOOK: Duration = Duration::from_secs(2);
/// What happens within so short a time may come in one message.
const GATHER: Duration = Duration::from_millis(300);
/// A channel that failed so often in a row is told to be failing.
const FAILING: u32 = 4;
/// A message is sent so often; then it is made anew, of how things stand by then.
const ATTEMPTS: u32 = 8;

/// Works for one channel until the lead is over.
pub(super) async fn work(office: Arc<Office>, channel: Arc<Channel>) {
    let mut changes = office.alerts.changes();
    let (origin, mut pace) = (Instant::now(), Pace::default());
    let time = || Time(u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX));
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() { return }
                tokio::time::sleep(GATHER).await;
                changes.borrow_and_update();
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        while let Some(notification) = office.next(&channel, pace.room(time())) {
            office.begins(&channel, &notification).await;
            if !bring(&office, &channel, &notification).await {
                office.gave_up(&channel, &notification);
                break;
            }
            pace.sent(time());
            office.told(&channel, &notification).await;
        }
        if !office.standing.sure().await {
            return;
        }
    }
}

/// Brings one message, trying again; false: it was given up, and there is a pause behind it.
async fn bring(office: &Office, channel: &Channel, notification: &Notification) -> bool {
    for attempt in 1..=ATTEMPTS {
        // A leader that was deposed tells nothing: its successor does.
        if !office.standing.sure().await {
            return false;
        }
        match attempt_once(office, channel, notification).await {
            Ok(()) => return true,
            Err(wait) => {
                tokio::time::sleep(wait.pause).await;
                if wait.is_final || attempt == ATTEMPTS {
                    return false;
                }
            }
        }
    }
    false
}

/// What follows from a failure.
pub(super) struct Wait {
    /// How long to wait before anything is sent again.
    pub(super) pause: Duration,
    /// Whether the other side does not want this message.
    is_final: bool,
}

/// One attempt, with all that follows from how it ended.
pub(super) async fn attempt_once(
    office: &Office,
    channel: &Channel,
    notification: &Notification,
) -> Result<(), Wait> {
    match channel.deliver(notification, office.bus.as_ref(), &office.subjects).await {
        Ok(said) => {
            tracing::debug!(channel = %channel.name(), id = notification.id, said, "told");
            arrived(office, channel);
            Ok(())
        }
        Err(error) => {
            Err(Wait { pause: failed(office, channel, &error), is_final: error.then == Then::Never })
        }
    }
}

/// Something arrived: the channel is well.
pub(super) fn arrived(office: &Office, channel: &Channel) {
    count(channel, "sent");
    office.health.with(channel.name(), |health| health.succeeded(unix_now()));
    office.alerts.mended(Code::Notify01, &About::Channel(channel.name().clone()));
}

/// Something did not: how long to wait now.
pub(super) fn failed(office: &Office, channel: &Channel, error: &Undelivered) -> Duration {
    count(channel, "failed");
    let failures = office.health.with(channel.name(), |health| {
        health.failed(&error.why, unix_now());
        health.failures
    });
    let Undelivered { why, then } = error;
    tracing::warn!(channel = %channel.name(), why, failures, "NOTIFY-01: a message was not delivered");
    if failures >= FAILING || *then == Then::Never {
        let about = About::Channel(channel.name().clone());
        office.alerts.raise(Finding::seen(Code::Notify01, about, why.clone()));
    }
    let own = channel.retry.delay(failures, u64::from_be_bytes(random(&mut OsEntropy)));
    match then {
        Then::Again => own,
        Then::After(asked) => own.max(*asked),
        // Somebody must mend something first, and nobody tells when that is done.
        Then::Never => channel.retry.longest(),
    }
}

fn count(channel: &Channel, outcome: &str) {
    NOTIFICATIONS.one(vec![(CHANNEL, channel.name().to_string()), (OUTCOME, outcome.to_owned())]);
}
