//! Triggers: the one message that a bare NATS client may send, in JSON or MessagePack by its `Content-Type`.

use serde::{Deserialize, Serialize};

use crate::ids::{RoundId, ServiceName};
use crate::message::MAX_MESSAGE_LEN;
use crate::service_policy::is_label;
use crate::wire;

/// Asks for a round. Every field may be absent; an empty payload asks for all services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Only these services; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<ServiceName>>,
    /// Only services with one of these labels, beside those that are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// An id of the sender's choice: the same id is the same round. The `Nats-Msg-Id` header stands in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TriggerState {
    /// The round is open.
    Opened,
    /// The same request came before; its round is open.
    Running,
    /// The same request came before; its round has ended.
    Ended,
    /// It waits until the services of another round are free.
    Queued,
    /// Another round has one of its services, and the policy is to skip.
    Skipped,
    /// It was refused.
    Refused,
}

/// The answer to a trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerReply {
    /// The round, unless it was refused.
    pub round: Option<RoundId>,
    /// Its number, once it is open.
    pub number: Option<u64>,
    /// What became of it.
    pub state: TriggerState,
    /// Why, where that needs saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The formats of triggers and their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`, and what is taken when there is no header.
    Json,
    /// `application/msgpack`, `application/x-msgpack` or `application/vnd.msgpack`.
    MessagePack,
}

/// Why a payload is no trigger.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// Longer than any message may be.
    #[error("the trigger has {len} bytes, more than {MAX_MESSAGE_LEN}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The header names another format.
    #[error("content type {given:?} is neither application/json nor application/msgpack")]
    ContentType {
        /// What it says.
        given: String,
    },
    /// No JSON of that shape.
    #[error("the trigger is no JSON object with services, labels, request, reason")]
    Json(#[source] serde_json::Error),
    /// No MessagePack of that shape.
    #[error("the trigger is no MessagePack map with services, labels, request, reason")]
    MessagePack(#[source] wire::WireError),
    /// Some other value.
    #[error("the trigger is no JSON object or MessagePack map with services, labels, request, reason")]
    NoObject,
    /// An empty list asks for nothing.
    #[error("the list of services or labels is empty; leave it out to ask for all")]
    NoServices,
    /// No label.
    #[error("{given:?} is no label: labels are written as service names are")]
    Label {
        /// What was given, cut to 64 characters.
        given: String,
    },
    /// Request ids are short.
    #[error("the request id is empty or longer than 128 bytes")]
    RequestId,
}

impl Format {
    /// The format that a `Content-Type` header names.
    ///
    /// # Errors
    /// When it names another one.
    pub fn from_content_type(header: Option<&str>) -> Result<Self, TriggerError> {
        let given = header.unwrap_or("application/json");
        let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "text/json" => Ok(Self::Json),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
                Ok(Self::MessagePack)
            }
            _ => Err(TriggerError::ContentType { given: given.chars().take(64).collect() }),
        }
    }

    /// The `Content-Type` of this format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
        }
    }

    /// `reply` in this format.
    #[must_use]
    pub fn encode(self, reply: &TriggerReply) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(reply).expect("a trigger reply always encodes"),
            Self::MessagePack => wire::encode(reply),
        }
    }
}

impl Trigger {
    /// The trigger in `payload`.
    ///
    /// # Errors
    /// When it is too long, does not parse, or asks for nothing.
    pub fn parse(format: Format, payload: &[u8]) -> Result<Self, TriggerError> {
        if payload.len() > MAX_MESSAGE_LEN {
            return Err(TriggerError::TooLong { len: payload.len() });
        }
        // serde takes a sequence for a struct as well; `[]` would ask for everything.
        let object = match (format, payload.trim_ascii_start().first()) {
            (_, None) => return Ok(Self::default()),
            (Format::Json, Some(first)) => *first == b'{',
            (Format::MessagePack, Some(first)) => matches!(first, 0x80..=0x8f | 0xde | 0xdf),
        };
        if !object {
            return Err(TriggerError::NoObject);
        }
        let trigger: Self = match format {
            Format::Json => serde_json::from_slice(payload).map_err(TriggerError::Json)?,
            Format::MessagePack => wire::decode(payload).map_err(TriggerError::MessagePack)?,
        };
        trigger.checked()
    }

    /// The same, if it asks for something.
    ///
    /// # Errors
    /// When a list is empty, a label is none, or the request id is too long.
    pub fn checked(self) -> Result<Self, TriggerError> {
        if self.services.as_ref().is_some_and(Vec::is_empty)
            || self.labels.as_ref().is_some_and(Vec::is_empty)
        {
            return Err(TriggerError::NoServices);
        }
        if let Some(bad) = self.labels.iter().flatten().find(|label| !is_label(label)) {
            return Err(TriggerError::Label { given: bad.chars().take(64).collect() });
        }
        if self.request.as_ref().is_some_and(|id| id.is_empty() || id.len() > 128) {
            return Err(TriggerError::RequestId);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Trigger, TriggerError};
    use crate::wire;

    #[test]
    fn both_formats_say_the_same() {
        let json = Trigger::parse(Format::Json, br#"{"services":["dns-2"],"request":"x"}"#).expect("parses");
        let pack = Trigger::parse(Format::MessagePack, &wire::encode(&json)).expect("parses");
        assert_eq!(json, pack);
        assert_eq!(Trigger::parse(Format::Json, b"").expect("parses"), Trigger::default());
    }

    #[test]
    fn nonsense_is_named() {
        assert!(matches!(Trigger::parse(Format::Json, b"{\"service\":1}"), Err(TriggerError::Json(_))));
        assert!(matches!(Trigger::parse(Format::Json, b"{\"services\":[]}"), Err(TriggerError::NoServices)));
        assert!(matches!(Trigger::parse(Format::Json, b" []"), Err(TriggerError::NoObject)));
        assert!(matches!(Trigger::parse(Format::MessagePack, b"\x90"), Err(TriggerError::NoObject)));
        assert!(matches!(Trigger::parse(Format::Json, &[b' '; 5000]), Err(TriggerError::TooLong { .. })));
        assert!(matches!(
            Format::from_content_type(Some("text/html")),
            Err(TriggerError::ContentType { .. })
        ));
        assert_eq!(
            Format::from_content_type(Some("application/json; charset=utf-8")).ok(),
            Some(Format::Json)
        );
    }
}
