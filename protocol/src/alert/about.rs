//! What an alert is about, and the names that people and commands use for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::alert::Code;
use crate::ids::{ChannelName, KeyId, ServiceName};
use crate::time::UnixMillis;

/// A part of the system that is no service, round or key. A closed list: no input makes a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The fleet as a whole.
    Fleet,
    /// The share.
    Share,
    /// The NATS server.
    Nats,
    /// The leading coordinator.
    Coordinator,
    /// Messages that name no service of the roster.
    Messages,
    /// Requests for rounds.
    Triggers,
    /// Questions to the leader.
    Queries,
    /// Commands of operators.
    Commands,
    /// Keys beyond those that are told one by one.
    OtherKeys,
}

impl Part {
    /// The word for screens and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Share => "share",
            Self::Nats => "NATS",
            Self::Coordinator => "coordinator",
            Self::Messages => "messages",
            Self::Triggers => "triggers",
            Self::Queries => "queries",
            Self::Commands => "commands",
            Self::OtherKeys => "other keys",
        }
    }
}

/// What an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// A service of the roster.
    Service(ServiceName),
    /// A round, by its number.
    Round(u64),
    /// Whoever signs with this key.
    Key(KeyId),
    /// A part of the system.
    Part(Part),
    /// A way by which people are told of alerts.
    Channel(ChannelName),
}

impl About {
    /// The service, if it is about one.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service(service) => Some(service),
            Self::Round(_) | Self::Key(_) | Self::Part(_) | Self::Channel(_) => None,
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => service.fmt(f),
            Self::Round(number) => write!(f, "round {number}"),
            Self::Key(key) => write!(f, "key {}", key.short()),
            Self::Part(part) => f.pad(part.as_str()),
            Self::Channel(channel) => write!(f, "channel {channel}"),
        }
    }
}

/// Names an alert: the first five bytes of SHA-256 over its code, a zero byte and its subject, in hexadecimal. The same
/// condition has the same id at every coordinator and after every restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId([u8; 5]);

impl AlertId {
    /// The id of what `code` says of `subject`, as [`About`] prints it.
    #[must_use]
    pub fn of(code: Code, subject: &str) -> Self {
        let hash =
            Sha256::new().chain_update(code.as_str()).chain_update([0]).chain_update(subject).finalize();
        let mut id = [0; 5];
        id.copy_from_slice(&hash[..5]);
        Self(id)
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that names no alert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not ten hexadecimal digits.
    #[error("{text:?} is no alert id: ten hexadecimal digits, as `muster alerts` prints them")]
    Id {
        /// The text, cut to 64 characters.
        text: String,
    },
    /// No id and time.
    #[error("{text:?} names no alert: ID@MILLISECONDS, as `muster alerts --json` prints it")]
    Reference {
        /// The text, cut to 64 characters.
        text: String,
    },
}

impl FromStr for AlertId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Id { text: text.chars().take(64).collect() };
        let digits = text.as_bytes();
        if digits.len() != 10 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong());
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| wrong())?;
        let mut id = [0; 5];
        id.copy_from_slice(&number.to_be_bytes()[3..]);
        Ok(Self(id))
    }
}

impl Serialize for AlertId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AlertId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// Names one opening of an alert, `<id>@<since in milliseconds>`. An acknowledgement names it, so that one that is recorded
/// and sent again says nothing of a later opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertRef {
    /// The alert.
    pub id: AlertId,
    /// When it opened.
    pub since: UnixMillis,
}

impl fmt::Display for AlertRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.since.0)
    }
}

impl FromStr for AlertRef {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Reference { text: text.chars().take(64).collect() };
        let (id, since) = text.split_once('@').ok_or_else(wrong)?;
        let since = since.parse().map_err(|_| wrong())?;
        Ok(Self { id: id.parse()?, since: UnixMillis(since) })
    }
}

impl Serialize for AlertRef {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AlertRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}
