//! A channel: what it is for, and the way that its messages take.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, MSG_ID};
use muster_protocol::alert::Severity;
use muster_protocol::causes::causes;
use muster_protocol::ids::ChannelName;
use muster_protocol::notify::form::json;
use muster_protocol::notify::{Notification, Repeat, Terms};
use muster_protocol::retry::{Attempts, Retry};
use muster_protocol::subject::{Subject, Subjects};
use muster_share::secret_file;
use zeroize::Zeroizing;

use super::config::{ChannelKind, Form, NotifyConfig};
use super::error::{NotifyError, Undelivered};
use super::http::Http;
use super::smtp::Smtp;
use super::webhook::Webhook;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
/// Pings while the fleet is ready.
const EVERY: Duration = Duration::from_secs(300);
/// Longest delivery, all steps of it.
const LIMIT: Duration = Duration::from_secs(30);
/// Alerts of which a message on the bus tells one by one: it must fit a server that takes 64 KiB.
const LISTED: usize = 24;

/// A channel that can be used.
pub(crate) struct Channel {
    pub(super) kind: ChannelKind,
    pub(super) terms: Terms,
    /// How often a ping is sent.
    pub(super) every: Duration,
    pub(super) retry: Retry,
    way: Way,
}

enum Way {
    Nats,
    Webhook(Webhook),
    Smtp(Box<Smtp>),
    Ping(Http),
}

impl Channel {
    /// Reads the files that the configuration names.
    pub(super) fn open(config: &NotifyConfig) -> Result<Self, NotifyError> {
        let client = |source: Box<dyn std::error::Error + Send + Sync>| NotifyError::Client {
            channel: config.name.clone(),
            source,
        };
        let syncs = config.form == Some(Form::Alertmanager);
        let repeat = config.repeat.map_or(if syncs { HOUR } else { DAY }, |repeat| repeat.0);
        let terms = Terms {
            channel: config.name.clone(),
            least: config.min_severity.unwrap_or(Severity::Warning),
            repeat: match repeat {
                repeat if repeat.is_zero() => Repeat::Never,
                repeat if syncs => Repeat::Everything(repeat),
                repeat => Repeat::Unacknowledged(repeat),
            },
            digest: config.digest.map(|digest| digest.0),
        };
        let (first, longest) = config.retry();
        let retry = Retry::new(first, longest, Attempts::Unlimited).map_err(|error| client(error.into()))?;
        let way = match config.kind {
            ChannelKind::Nats => Way::Nats,
            ChannelKind::Webhook => Way::Webhook(Webhook::open(config, repeat)?),
            ChannelKind::Smtp => Way::Smtp(Box::new(Smtp::open(config)?)),
            ChannelKind::Ping => Way::Ping(Http::open(config)?),
        };
        let every = config.every.map_or(EVERY, |every| every.0);
        Ok(Self { kind: config.kind, terms, every, retry, way })
    }

    pub(crate) fn name(&self) -> &ChannelName {
        &self.terms.channel
    }

    /// Where its messages go, without what may be secret.
    pub(super) fn place(&self, subjects: &Subjects) -> String {
        match &self.way {
            Way::Nats => subjects.print(&Subject::Alert),
            Way::Webhook(webhook) => webhook.shown().to_owned(),
            Way::Smtp(smtp) => smtp.shown().to_owned(),
            Way::Ping(http) => http.shown().to_owned(),
        }
    }

    /// Brings a message to the other side, within a limit; a ping says nothing but that there is one. What the other side
    /// answered.
    pub(super) async fn deliver(
        &self,
        notification: &Notification,
        bus: &dyn Bus,
        subjects: &Subjects,
    ) -> Result<String, Undelivered> {
        let delivery = async {
            match &self.way {
                Way::Nats => publish(notification, bus, subjects).await,
                Way::Webhook(webhook) => webhook.deliver(notification).await,
                Way::Smtp(smtp) => smtp.deliver(notification).await,
                Way::Ping(http) => http.send(http.get()).await,
            }
        };
        match tokio::time::timeout(LIMIT, delivery).await {
            Ok(delivered) => delivered,
            Err(_) => Err(Undelivered::again(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    }
}

/// JSON, for whoever may listen. A stream that somebody keeps of it knows by the header what it has already.
async fn publish(
    notification: &Notification,
    bus: &dyn Bus,
    subjects: &Subjects,
) -> Result<String, Undelivered> {
    let subject = subjects.print(&Subject::Alert);
    let headers = vec![
        ("Content-Type".to_owned(), "application/json".to_owned()),
        (MSG_ID.to_owned(), notification.id.clone()),
    ];
    let sent = bus.publish(&subject, headers, Bytes::from(json(notification, LISTED))).await;
    sent.map_err(|error| Undelivered::again(causes(&error)))?;
    Ok(format!("published on {subject}"))
}

/// The secret in a file, without the line break at its end.
pub(super) fn secret(channel: &ChannelName, file: &Path) -> Result<Zeroizing<String>, NotifyError> {
    let text =
        secret_file::read(file).map_err(|source| NotifyError::Secret { channel: channel.clone(), source })?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(NotifyError::Empty { channel: channel.clone(), file: file.to_owned() });
    }
    Ok(Zeroizing::new(secret.to_owned()))
}
