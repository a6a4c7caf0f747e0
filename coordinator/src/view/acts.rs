//! What is told of an act: a round asked for or cancelled, an alert acknowledged.

use muster_protocol::ids::RoundId;
use muster_protocol::message::{CommandReply, CommandState, TriggerReply, TriggerState};
use schemars::JsonSchema;
use serde::Serialize;

/// `{"schema":"muster.start/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct StartView<'a> {
    /// `muster.start/1`
    pub schema: &'static str,
    /// The round's id; null: it became none.
    pub round: Option<String>,
    /// Its number, once it is in the log.
    pub number: Option<u64>,
    /// `opened`, `running`, `ended`, `queued`, `skipped`, `refused`
    #[schemars(with = "String")]
    pub state: TriggerState,
    /// Why it is not opened.
    pub reason: Option<&'a str>,
    /// With this id the same request is the same round.
    pub request: &'a str,
}

impl<'a> StartView<'a> {
    /// The answer to a request with this id.
    #[must_use]
    pub fn of(reply: &'a TriggerReply, request: &'a str) -> Self {
        Self {
            schema: "muster.start/1",
            round: reply.round.map(|round| round.to_string()),
            number: reply.number,
            state: reply.state,
            reason: reply.reason.as_deref(),
            request,
        }
    }
}

/// `{"schema":"muster.cancel/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct CancelView<'a> {
    /// `muster.cancel/1`
    pub schema: &'static str,
    /// The round's id.
    pub round: String,
    /// `done`, `nothing`, `refused`
    #[schemars(with = "String")]
    pub state: CommandState,
    /// What became of it, for people.
    pub reason: &'a str,
}

impl<'a> CancelView<'a> {
    /// The answer to a demand to end this round.
    #[must_use]
    pub fn of(reply: &'a CommandReply, round: RoundId) -> Self {
        let reason = &reply.reason;
        Self { schema: "muster.cancel/1", round: round.to_string(), state: reply.state, reason }
    }
}

/// `{"schema":"muster.alerts.ack/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct AckView<'a> {
    /// `muster.alerts.ack/1`
    pub schema: &'static str,
    /// The alert's id.
    pub id: String,
    /// `done`, `nothing`, `refused`
    #[schemars(with = "String")]
    pub state: CommandState,
    /// What became of it, for people.
    pub reason: &'a str,
}

impl<'a> AckView<'a> {
    /// The answer to an acknowledgement of this alert.
    #[must_use]
    pub fn of(reply: &'a CommandReply, id: String) -> Self {
        Self { schema: "muster.alerts.ack/1", id, state: reply.state, reason: &reply.reason }
    }
}
