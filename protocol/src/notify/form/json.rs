//! The form of our own: one JSON object with a `schema`, for programs.

use serde::Serialize;

use crate::alert::{Alert, ClosedBy};
use crate::notify::notification::rfc3339;
use crate::notify::{Event, Notification};
use crate::time::UnixMillis;

/// What `schema` says.
pub const SCHEMA: &str = "muster.notification/1";

#[derive(Debug, Serialize)]
struct Body<'a> {
    schema: &'static str,
    id: &'a str,
    kind: &'static str,
    fleet: &'a str,
    channel: &'a str,
    at: String,
    summary: String,
    alerts: Vec<Told<'a>>,
    /// Alerts that are not listed.
    more: usize,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    event: &'static str,
    id: String,
    reference: String,
    code: &'static str,
    severity: &'static str,
    title: &'static str,
    subject: String,
    cause: &'a str,
    steps: Vec<String>,
    since: String,
    last: String,
    count: u64,
    acknowledged_by: Option<&'a str>,
    closed: Option<String>,
    closed_by: Option<ClosedBy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_by: Option<&'a str>,
}

/// The body, with at most `most` alerts in it.
#[must_use]
pub fn json(notification: &Notification, most: usize) -> Vec<u8> {
    let (events, more) = notification.first(most);
    let body = Body {
        schema: SCHEMA,
        id: &notification.id,
        kind: notification.kind.as_str(),
        fleet: notification.fleet.as_str(),
        channel: notification.channel.as_str(),
        at: rfc3339(notification.at),
        summary: notification.headline(),
        alerts: events.iter().map(told).collect(),
        more,
    };
    serde_json::to_vec(&body).expect("a message is JSON")
}

fn told(Event { what, alert }: &Event) -> Told<'_> {
    let Alert {
        code, about, cause, since, last, count, acknowledged, closed, closed_by, accepted_by, ..
    } = alert;
    Told {
        event: what.as_str(),
        id: alert.id().to_string(),
        reference: alert.reference().to_string(),
        code: code.as_str(),
        severity: code.severity().as_str(),
        title: code.title(),
        subject: about.to_string(),
        cause,
        steps: alert.steps(),
        since: rfc3339(*since),
        last: rfc3339(*last),
        count: *count,
        acknowledged_by: acknowledged.as_ref().map(|seen| seen.by.as_str()),
        closed: closed.map(|at: UnixMillis| rfc3339(at)),
        closed_by: *closed_by,
        accepted_by: accepted_by.as_deref(),
    }
}
