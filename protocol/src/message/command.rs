//! What an operator demands of the leader, beyond a trigger: signed, because permission on the bus is not enough.
//!
//! A command names the very thing that it is about, so that one that is recorded and sent again changes nothing new.

use serde::{Deserialize, Serialize};

use crate::ids::{ChannelName, MemberName, Nonce, ObjectId, RoundId, ServiceName};
use crate::log::Found;
use crate::message::{TriggerReply, message};

/// Most objects that one command names: what fits into a message.
pub const MAX_SUSPECTS: usize = 64;

/// What is demanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Demand {
    /// End a round that is not committed yet.
    Cancel {
        /// The round.
        round: RoundId,
        /// Why, for people; at most [`crate::message::MAX_REASON_LEN`] bytes.
        reason: String,
    },
    /// An alert has been seen by somebody.
    Acknowledge {
        /// The alert, as `muster alerts` names it.
        alert: String,
    },
    /// Objects that an operator found damaged are looked at by the leader now; what is damaged goes into quarantine.
    Suspect {
        /// Whose objects; none: those of the fleet itself, its manifests and its sealed configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<ServiceName>,
        /// Which, at most [`MAX_SUSPECTS`]; none: all that the service has.
        objects: Vec<ObjectId>,
        /// How it showed.
        found: Found,
    },
    /// A round, as a trigger asks for one, in the name of whoever signs.
    Start {
        /// Only these services; none: all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        services: Option<Vec<ServiceName>>,
        /// Only services with one of these labels, beside those that are named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        labels: Option<Vec<String>>,
        /// An id of the sender's choice: the same id is the same round, so that one that is recorded and sent again is none anew.
        request: String,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Also while the fleet is disabled.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// A test message on the channels that tell people of alerts.
    TestNotification {
        /// An id of the sender's choice: the same id is the same test, so that one that is sent again is none anew.
        request: String,
        /// Only this channel; none: all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<ChannelName>,
    },
}

/// A signed demand of an operator or admin; or of a coordinator, for whoever uses its HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Random; the reply repeats it.
    pub nonce: Nonce,
    /// What.
    pub demand: Demand,
    /// The token in whose name a coordinator demands it. Its secret never goes anywhere: the coordinator has seen it, and who
    /// leads looks up what a token of this name may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<MemberName>,
}
message!(Command, "command");

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandState {
    /// It is done, or under way.
    Done,
    /// There was nothing to do: no such round or alert, or it is over.
    Nothing,
    /// The key may not demand this.
    Refused,
}

/// The leader's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandReply {
    /// The command's nonce.
    pub nonce: Nonce,
    /// What became of it.
    pub state: CommandState,
    /// Why, for people.
    pub reason: String,
    /// What became of a demand for a round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<TriggerReply>,
}
message!(CommandReply, "command-reply");
