//! The form of the Prometheus Alertmanager's API: `POST /api/v2/alerts`, an array of alerts with labels and annotations.
//!
//! Alertmanager drops an alert that it does not hear of again by its `endsAt`: an open one ends, for it, `lasts` after the message,
//! and every repeat moves that on.

use std::time::Duration;

use serde::Serialize;

use crate::notify::notification::{plain, rfc3339};
use crate::notify::{Event, Kind, Notification, What};
use crate::time::UnixMillis;

#[derive(Debug, Serialize)]
struct Entry {
    labels: Labels,
    annotations: Annotations,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "endsAt")]
    ends_at: String,
}

/// What makes an alert the same one.
#[derive(Debug, Serialize)]
struct Labels {
    alertname: String,
    severity: &'static str,
    fleet: String,
    subject: String,
}

#[derive(Debug, Serialize)]
struct Annotations {
    summary: String,
    cause: String,
    steps: String,
}

/// The body: every alert of the message. A test is one of its own name that ends at once.
#[must_use]
pub fn alertmanager(notification: &Notification, lasts: Duration) -> Vec<u8> {
    let entries: Vec<Entry> = match notification.kind {
        Kind::Test => vec![test(notification)],
        Kind::Alert | Kind::Several | Kind::Before | Kind::Repeat | Kind::Digest => {
            notification.events.iter().map(|event| entry(notification, event, lasts)).collect()
        }
    };
    serde_json::to_vec(&entries).expect("a message is JSON")
}

fn entry(notification: &Notification, Event { what, alert }: &Event, lasts: Duration) -> Entry {
    let ends = match what {
        What::Opened | What::Open => later(notification.at, lasts),
        What::Closed => alert.closed.unwrap_or(notification.at),
    };
    Entry {
        labels: Labels {
            alertname: alert.code.as_str().to_owned(),
            severity: alert.code.severity().as_str(),
            fleet: notification.fleet.to_string(),
            subject: plain(&alert.about.to_string()),
        },
        annotations: Annotations {
            summary: alert.code.title().to_owned(),
            cause: plain(&alert.cause),
            steps: alert.steps().join("\n"),
        },
        starts_at: rfc3339(alert.since),
        ends_at: rfc3339(ends),
    }
}

fn test(notification: &Notification) -> Entry {
    Entry {
        labels: Labels {
            alertname: "MUSTER-TEST".to_owned(),
            severity: "none",
            fleet: notification.fleet.to_string(),
            subject: format!("channel {}", notification.channel),
        },
        annotations: Annotations {
            summary: notification.headline(),
            cause: "an operator asked for it".to_owned(),
            steps: String::new(),
        },
        starts_at: rfc3339(notification.at),
        ends_at: rfc3339(later(notification.at, Duration::from_secs(60))),
    }
}

fn later(at: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}
