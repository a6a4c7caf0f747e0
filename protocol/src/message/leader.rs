//! What the leading coordinator says.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroize;

use crate::ids::{Nonce, ObjectId, RoundId, ServiceName};
use crate::message::message;

/// What a cut asks of the agents of its round now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CutOrder {
    /// Quiesce, say so, and wait.
    Hold,
    /// Whoever holds captures now; so does everybody else, outside the cut.
    Capture {
        /// The announcement's nonce.
        nonce: Nonce,
    },
}

/// An open round. Which services it is for stands in its `open` record, which an agent reads from the share anyway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRound {
    /// The round.
    pub round: RoundId,
    /// Log number of its `open` record.
    pub position: u64,
    /// Milliseconds until its deadline, when this was published.
    pub remaining_millis: u64,
    /// The leader's X25519 public key for this round.
    #[serde(with = "serde_bytes")]
    pub ephemeral: [u8; 32],
    /// Grows whenever further services may begin: who was told that it is not wanted asks again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turn: u32,
    /// What the cut asks for; none: there is no cut, or it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutOrder>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The level-triggered state: what agents should be doing now. Never an edge: a late reader needs no history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateDocument {
    /// The leader's epoch.
    pub epoch: u64,
    /// Grows within an epoch.
    pub revision: u64,
    /// Open rounds, at most [`crate::log::MAX_OPEN_ROUNDS`].
    pub rounds: Vec<OpenRound>,
}
message!(StateDocument, "state");

/// Asks one service for a further attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceState {
    /// The leader's epoch.
    pub epoch: u64,
    /// Grows within an epoch.
    pub revision: u64,
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// The attempt that is wanted.
    pub attempt: u32,
}
message!(ServiceState, "service-state");

/// The answer to a hello that is not wanted, or of an agent that hears no sealed messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// The round.
    pub round: RoundId,
    /// The epoch.
    pub epoch: u64,
    /// The attempt that the agent may make, or none if it is not wanted.
    pub attempt: Option<u32>,
    /// The hello's nonce.
    pub nonce: Nonce,
    /// An [`Order`] under the session's key; empty when not wanted.
    pub sealed: ByteBuf,
}
message!(Welcome, "welcome");

/// What only the agent of this round may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The attempt's nonce, for the receipt.
    pub nonce: Nonce,
    /// Credentials of the share, where it needs any.
    pub credentials: Option<ByteBuf>,
    /// The longest that the service may be held quiesced, in milliseconds; none: as the agent is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_hold_millis: Option<u64>,
    /// Bytes a second that are uploaded at most; none: as the agent is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
}

impl Drop for Order {
    fn drop(&mut self) {
        if let Some(secret) = &mut self.credentials {
            secret.zeroize();
        }
    }
}

/// The answer to a hello that is welcome, of an agent that hears sealed messages: never signed, always sealed
/// ([`crate::session`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    /// The attempt that the agent may make.
    pub attempt: u32,
    /// The order.
    pub order: Order,
}
message!(Ordered, "order");

/// What became of a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verdict {
    /// The slice is checked and counts, or the failure is noted.
    Accepted,
    /// The slice does not count.
    Refused {
        /// Why.
        reason: String,
    },
    /// The round is over, or never was.
    Over,
}

/// The answer to a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// The round.
    pub round: RoundId,
    /// The epoch.
    pub epoch: u64,
    /// The attempt.
    pub attempt: u32,
    /// The receipt that was noticed, if it was one.
    pub receipt: Option<ObjectId>,
    /// What became of it.
    pub verdict: Verdict,
}
message!(Acknowledgement, "acknowledgement");
