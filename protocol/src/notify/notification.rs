//! One message for people: of one alert, or of several.

use sha2::{Digest, Sha256};

use crate::alert::{About, Alert, Severity};
use crate::ids::{ChannelName, FleetName, hex};
use crate::time::UnixMillis;

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It opened.
    Opened,
    /// It is open still.
    Open,
    /// It closed.
    Closed,
}

impl What {
    /// The word for JSON and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// Something to be told of one alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What became of it.
    pub what: What,
    /// As the book has it.
    pub alert: Alert,
}

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One alert opened or closed.
    Alert,
    /// So many at once that they come in one message.
    Several,
    /// What was open, or closed, before this coordinator led: somebody may have told it already.
    Before,
    /// What is open still, and nobody has acknowledged.
    Repeat,
    /// What is not critical, once a period.
    Digest,
    /// An operator asked whether messages arrive.
    Test,
}

impl Kind {
    /// The word for JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Several => "several",
            Self::Before => "before",
            Self::Repeat => "repeat",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}

/// A message, before it has a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The same over all attempts to deliver it, and after a restart of the sender.
    pub id: String,
    /// Why it is sent.
    pub kind: Kind,
    /// The fleet.
    pub fleet: FleetName,
    /// The channel that it goes over.
    pub channel: ChannelName,
    /// When it was made.
    pub at: UnixMillis,
    /// What it tells, the worst first; nothing in a test.
    pub events: Vec<Event>,
}

impl Notification {
    /// A message about these events. `before` is when the channel last said something of them: two messages about the same
    /// opening differ by it.
    #[must_use]
    pub fn new(
        fleet: FleetName,
        channel: ChannelName,
        kind: Kind,
        events: Vec<Event>,
        before: UnixMillis,
        at: UnixMillis,
    ) -> Self {
        let mut hash = Sha256::new();
        for part in [fleet.as_str(), channel.as_str(), kind.as_str()] {
            hash.update(part);
            hash.update([0]);
        }
        hash.update(before.0.to_be_bytes());
        for event in &events {
            hash.update(event.what.as_str());
            hash.update(event.alert.reference().to_string());
            hash.update([0]);
        }
        let id = hex(&hash.finalize()[..16]);
        Self { id, kind, fleet, channel, at, events }
    }

    /// The test with this id, over `channel`.
    #[must_use]
    pub fn test(fleet: FleetName, channel: ChannelName, request: &str, at: UnixMillis) -> Self {
        let hash = Sha256::new().chain_update(channel.as_str()).chain_update([0]).chain_update(request);
        let id = hex(&hash.finalize()[..16]);
        Self { id, kind: Kind::Test, fleet, channel, at, events: Vec::new() }
    }

    /// All of it in one line of plain text.
    #[must_use]
    pub fn headline(&self) -> String {
        format!("[muster {}] {}", self.fleet, self.said())
    }

    fn said(&self) -> String {
        match (self.kind, self.events.as_slice()) {
            (Kind::Test, _) => format!("test of channel {}: messages arrive", self.channel),
            (Kind::Digest, events) => format!("digest: {}", counted(events)),
            (Kind::Before, events @ [_, _, ..]) => {
                format!("{}, from before this coordinator led", counted(events))
            }
            (Kind::Repeat, [event]) => format!("still open: {}", event.line()),
            (Kind::Alert | Kind::Before | Kind::Several, [event]) => event.line(),
            (Kind::Alert | Kind::Before | Kind::Several | Kind::Repeat, events) => counted(events),
        }
    }

    /// The first `most` events, and how many more there are.
    #[must_use]
    pub fn first(&self, most: usize) -> (&[Event], usize) {
        let shown = self.events.len().min(most);
        (&self.events[..shown], self.events.len() - shown)
    }
}

impl Event {
    /// One line of plain text.
    #[must_use]
    pub fn line(&self) -> String {
        let alert = &self.alert;
        let (code, severity) = (alert.code, alert.code.severity().as_str());
        let (about, cause) = (plain(&alert.about.to_string()), plain(&alert.cause));
        match self.what {
            What::Opened | What::Open => format!("{code} {severity}: {about}: {cause}"),
            What::Closed => {
                let title = alert.code.title();
                match &alert.accepted_by {
                    Some(by) => format!("accepted by {}: {code}: {about} ({title})", plain(by)),
                    None => format!("closed: {code}: {about} ({title})"),
                }
            }
        }
    }
}

/// `2 opened (1 critical, 1 error), 1 still open, 3 closed`
fn counted(events: &[Event]) -> String {
    let mut parts = Vec::new();
    for (what, word) in [(What::Opened, "opened"), (What::Open, "still open"), (What::Closed, "closed")] {
        let of: Vec<&Event> = events.iter().filter(|event| event.what == what).collect();
        if of.is_empty() {
            continue;
        }
        let by = |severity: Severity| {
            let count = of.iter().filter(|event| event.alert.code.severity() == severity).count();
            (count > 0).then(|| format!("{count} {}", severity.as_str()))
        };
        let by: Vec<String> =
            [Severity::Critical, Severity::Error, Severity::Warning].into_iter().filter_map(by).collect();
        parts.push(match what {
            What::Opened | What::Open => format!("{} {word} ({})", of.len(), by.join(", ")),
            What::Closed => format!("{} {word}", of.len()),
        });
    }
    parts.join(", ")
}

impl Alert {
    /// What to do, in order; where it is about a service, its steps name it.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let step = |step: &&str| match &self.about {
            About::Service(service) => step.replace("NAME", service.as_str()),
            About::Round(_) | About::Key(_) | About::Part(_) | About::Channel(_) => (*step).to_owned(),
        };
        self.code.steps().iter().map(step).collect()
    }
}

/// `text` on one line, without what would steer a terminal or turn the direction in which it reads: names and causes hold what
/// others said.
pub(super) fn plain(text: &str) -> String {
    let steers = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|c| !steers(c)).collect()
}

/// RFC 3339 in UTC; nothing where the year has more than four digits.
pub(super) fn rfc3339(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|time| time.to_string()).unwrap_or_default()
}
