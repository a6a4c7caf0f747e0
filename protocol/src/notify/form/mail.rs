//! The form of an e-mail: a subject of one line, and plain text.

use crate::notify::notification::{plain, rfc3339};
use crate::notify::{Event, Kind, Notification, What};

/// Alerts of which all is told; of those after them one line, and the rest are counted.
const TOLD: usize = 10;
const LISTED: usize = 100;
/// Longest subject, in characters.
const SUBJECT: usize = 160;

/// A mail without its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// One line without control characters.
    pub subject: String,
    /// Lines that end with a line feed.
    pub text: String,
}

/// The mail.
#[must_use]
pub fn mail(notification: &Notification) -> Mail {
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line(match notification.kind {
        Kind::Alert | Kind::Several => "What happened in this fleet's backups:",
        Kind::Before => {
            "What was open, or closed, before the coordinator that sends this led. It may have been told already:"
        }
        Kind::Repeat => "Open still, and nobody has acknowledged it:",
        Kind::Digest => "What happened since the last digest, and what is open still:",
        Kind::Test => "An operator asked whether messages of this fleet arrive. This one did.",
    });
    let (events, more) = notification.first(LISTED);
    for (index, event) in events.iter().enumerate() {
        line("");
        line(&event.line());
        if index < TOLD {
            details(event).iter().for_each(|said| line(said));
        }
    }
    if more > 0 {
        line("");
        line(&format!("and {more} more: muster alerts"));
    }
    line("");
    line("-- ");
    line(&format!(
        "fleet {}, channel {}, {}",
        notification.fleet,
        notification.channel,
        rfc3339(notification.at)
    ));
    Mail { subject: subject(notification), text }
}

fn subject(notification: &Notification) -> String {
    let headline = plain(&notification.headline());
    if headline.chars().count() <= SUBJECT {
        return headline;
    }
    headline.chars().take(SUBJECT - 1).chain(['…']).collect()
}

fn details(Event { what, alert }: &Event) -> Vec<String> {
    let mut lines = vec![format!("  what    {}", alert.code.title())];
    lines.push(match what {
        What::Opened | What::Open => format!("  since   {}, {} times", rfc3339(alert.since), alert.count),
        What::Closed => {
            let closed = alert.closed.map(rfc3339).unwrap_or_default();
            format!("  was     {} to {closed}: {}", rfc3339(alert.since), plain(&alert.cause))
        }
    });
    if let Some(by) = &alert.accepted_by {
        lines.push(format!("  meant   {} says so; it is usual from now on", plain(by)));
    }
    match what {
        What::Closed => {}
        What::Opened | What::Open => {
            lines.extend(alert.steps().iter().map(|step| format!("  do      {step}")));
            lines.push(format!("  more    muster alerts show {}", alert.id()));
            lines.push(format!("  known   muster alerts ack {}", alert.id()));
        }
    }
    lines
}
