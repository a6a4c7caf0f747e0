//! The form of Slack's incoming webhooks, which others understand as well: `{"text": …}` with its markup.

use serde::Serialize;

use crate::notify::notification::plain;
use crate::notify::{Event, Kind, Notification, What};

/// Alerts that are listed.
const LISTED: usize = 20;

#[derive(Debug, Serialize)]
struct Body {
    text: String,
}

/// The body.
#[must_use]
pub fn slack(notification: &Notification) -> Vec<u8> {
    let mut lines = vec![escaped(&notification.headline())];
    let (events, more) = notification.first(LISTED);
    match (notification.kind, events) {
        (Kind::Test, _) => {}
        (Kind::Alert | Kind::Several | Kind::Before | Kind::Repeat | Kind::Digest, [event]) => {
            lines.extend(details(event));
        }
        (Kind::Alert | Kind::Several | Kind::Before | Kind::Repeat | Kind::Digest, events) => {
            lines.extend(events.iter().map(|event| format!("• {}", escaped(&event.line()))));
        }
    }
    if more > 0 {
        lines.push(format!("and {more} more: muster alerts"));
    }
    serde_json::to_vec(&Body { text: lines.join("\n") }).expect("a message is JSON")
}

fn details(Event { what, alert }: &Event) -> Vec<String> {
    match what {
        What::Closed => Vec::new(),
        What::Opened | What::Open => {
            let mut lines = vec![escaped(alert.code.title())];
            lines.extend(alert.steps().iter().map(|step| format!("→ {}", escaped(step))));
            lines.push(format!("muster alerts show {}", alert.id()));
            lines
        }
    }
}

/// Without its three characters of control a text names no user, no channel and no link (Slack, *Formatting text for app
/// surfaces*, *Escaping text*).
fn escaped(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
