//! What agents say.

use serde::{Deserialize, Serialize};

use crate::alert::Code;
use crate::document::SliceTotals;
use crate::ids::{Nonce, ObjectId, RoundId, ServiceName};
use crate::message::message;
use crate::time::UnixMillis;

/// An agent answers a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// The epoch it answers to.
    pub epoch: u64,
    /// The attempt it is about to make.
    pub attempt: u32,
    /// Fresh; the welcome repeats it.
    pub nonce: Nonce,
    /// The agent's X25519 public key for this hello.
    #[serde(with = "serde_bytes")]
    pub ephemeral: [u8; 32],
    /// The agent's product version.
    pub version: String,
    /// It hears and says the rest of the conversation under the session's keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
}
message!(Hello, "hello");

/// How a slice went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NoticeOutcome {
    /// The receipt is on the share.
    Stored {
        /// Its hash.
        receipt: ObjectId,
        /// Its length in bytes.
        receipt_size: u64,
        /// Its totals.
        totals: SliceTotals,
    },
    /// There is no slice.
    Failed {
        /// The reason's code.
        code: Code,
        /// The native error.
        reason: String,
        /// True when another attempt would fail as well.
        permanent: bool,
    },
    /// The service is quiesced and waits for the cut.
    Quiesced,
    /// Everything was read while the service was still held, after the cut was announced.
    Snapped {
        /// The announcement's nonce.
        nonce: Nonce,
    },
}

/// An agent tells how its slice goes; repeated until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// The epoch it answers to.
    pub epoch: u64,
    /// The attempt.
    pub attempt: u32,
    /// How it went.
    pub outcome: NoticeOutcome,
}
message!(Notice, "notice");

/// An agent is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The service.
    pub service: ServiceName,
    /// Random at the process's start.
    pub instance: Nonce,
    /// Grows within an instance: an older one is a replay.
    pub sequence: u64,
    /// The agent's product version.
    pub version: String,
    /// The round it works for.
    pub round: Option<RoundId>,
    /// The time on its clock, so that one that is wrong is seen (AGENT-06). Nothing else rests on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
    /// It was told to stop, and says nothing more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}
message!(Heartbeat, "heartbeat");

/// What an agent is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Its service is being quiesced, or is held for the cut.
    Holding,
    /// Reading its sources.
    Capturing,
    /// Everything is read, the last packs are under way.
    Uploading,
}

impl Stage {
    /// The word for screens and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Holding => "holding",
            Self::Capturing => "capturing",
            Self::Uploading => "uploading",
        }
    }
}

/// How far a slice is. Lossy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// The attempt.
    pub attempt: u32,
    /// What it is at.
    pub stage: Stage,
    /// Source bytes read so far.
    pub done_bytes: u64,
    /// Source bytes of the round before, as an estimate of the whole.
    pub expected_bytes: Option<u64>,
    /// Bytes written to the share so far.
    pub added_bytes: u64,
}
message!(Progress, "progress");
