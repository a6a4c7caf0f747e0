//! What the leader answers on the query subject, as JSON. Lists come in pages, so that no answer outgrows a message:
//! a page's `next` is the cursor of the one after it.

use std::collections::BTreeMap;

use muster_protocol::alert::{Alert, AlertRef};
use muster_protocol::ids::{ChannelName, RoundId, ServiceName};
use muster_protocol::room::Outlook;
use muster_protocol::time::UnixMillis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Query {
    /// Who leads, what is open.
    Leader,
    /// The agents, after this service.
    Agents {
        /// The last service of the page before.
        after: Option<ServiceName>,
    },
    /// The services of an open (or just ended) round, after this one.
    Round {
        /// The round.
        round: RoundId,
        /// The last service of the page before.
        after: Option<ServiceName>,
    },
    /// The alerts, after this one.
    Alerts {
        /// Closed ones as well.
        #[serde(default)]
        closed: bool,
        /// The last alert of the page before.
        #[serde(default)]
        after: Option<AlertRef>,
    },
    /// The channels that tell people of alerts, after this one.
    Channels {
        /// The last channel of the page before.
        #[serde(default)]
        after: Option<ChannelName>,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Query::Leader`].
    Leader(LeaderView),
    /// To [`Query::Agents`].
    Agents(AgentsPage),
    /// To [`Query::Round`].
    Round(RoundPage),
    /// To [`Query::Alerts`].
    Alerts(AlertsPage),
    /// To [`Query::Channels`].
    Channels(ChannelsPage),
    /// The question could not be answered.
    Error {
        /// Why.
        reason: String,
    },
}

/// Who leads, and what is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeaderView {
    /// The coordinator's name.
    pub coordinator: String,
    /// Its product version.
    pub version: String,
    /// Its epoch; none while it does not lead.
    pub epoch: Option<u64>,
    /// Log head: number.
    pub head_number: u64,
    /// Log head: hash.
    pub head_hash: String,
    /// Services in the roster.
    pub services: u64,
    /// Agents heard of within the offline limit.
    pub online: u64,
    /// Open rounds, oldest first.
    pub rounds: Vec<RoundSummary>,
    /// Room on the share, as this leader saw it last; none before its first look, and where the share does not tell.
    #[serde(default)]
    #[schemars(with = "Option<crate::view::status::RoomView>")]
    pub room: Option<Outlook>,
    /// Requests that wait for a round to end.
    pub queued: u64,
    /// Messages that were ignored since the start, because they were no valid messages.
    pub ignored_messages: u64,
    /// The same by reason: `noise`, `signature`, `stranger`, …; what never happened is not named.
    #[serde(default)]
    pub ignored: BTreeMap<String, u64>,
    /// Alerts that are open.
    #[serde(default)]
    pub open_alerts: u64,
}

/// An open or just ended round in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoundSummary {
    /// The round.
    #[schemars(with = "String")]
    pub round: RoundId,
    /// Its number.
    pub number: u64,
    /// `capturing`, `committing`, `verifying`, …
    pub state: String,
    /// Services in it.
    pub services: u64,
    /// Services whose slice counts already.
    pub stored: u64,
    /// Services that will give no slice.
    pub absent: u64,
    /// Seconds since it was opened.
    pub elapsed_secs: u64,
    /// Seconds until its deadline.
    pub remaining_secs: u64,
}

/// A page of agents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentsPage {
    /// Sorted by service.
    pub agents: Vec<AgentView>,
    /// Cursor of the next page; none: this is the last.
    pub next: Option<ServiceName>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its service.
    pub service: ServiceName,
    /// Its key, in hexadecimal.
    pub key: String,
    /// `online`, `offline`, or `never-seen` since the leader started.
    pub state: String,
    /// Seconds since it was heard of.
    pub seen_secs: Option<u64>,
    /// Its product version.
    pub version: Option<String>,
    /// The round it works for.
    pub round: Option<RoundId>,
}

/// A page of a round's services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundPage {
    /// The round.
    pub summary: RoundSummary,
    /// How it ended, once it has: `complete`, `partial`, `failed`, `cancelled`.
    pub outcome: Option<String>,
    /// Whether its objects were read again and found whole.
    pub verified: bool,
    /// Sorted by service.
    pub services: Vec<ServiceView>,
    /// Cursor of the next page; none: this is the last.
    pub next: Option<ServiceName>,
}

/// A service's place in a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceView {
    /// The service.
    #[schemars(with = "String")]
    pub service: ServiceName,
    /// `queued`, `waiting`, `holding`, `capturing`, `checking`, `retrying`, `stored`, `absent`.
    pub state: String,
    /// What its agent says it is at within `capturing`: `holding`, `capturing`, `uploading`.
    pub stage: Option<String>,
    /// The attempt, from 1.
    pub attempts: u32,
    /// The last failure: code and native error.
    pub reason: Option<String>,
    /// Source bytes read so far, or in all.
    pub source_bytes: u64,
    /// Source bytes of the round before, as an estimate of the whole.
    pub expected_bytes: Option<u64>,
    /// Bytes written to the share so far, or in all.
    pub added_bytes: u64,
    /// Bytes of all objects of the slice, once stored.
    pub stored_bytes: Option<u64>,
    /// Source bytes a second of late, while it captures.
    pub bytes_per_sec: Option<u64>,
    /// Seconds until everything is read at that speed, if the round before is a measure.
    pub secs_left: Option<u64>,
}

/// A page of alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertsPage {
    /// Sorted by id, then by the time at which they opened.
    pub alerts: Vec<Alert>,
    /// Findings that found no place, because too many alerts as bad or worse were open.
    pub passed_over: u64,
    /// Cursor of the next page; none: this is the last.
    pub next: Option<AlertRef>,
}

/// A page of channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelsPage {
    /// Sorted by name.
    pub channels: Vec<ChannelView>,
    /// Cursor of the next page; none: this is the last.
    pub next: Option<ChannelName>,
}

/// How a channel does, since this coordinator leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    /// Its name.
    pub channel: ChannelName,
    /// `nats`, `webhook`, `smtp` or `ping`.
    pub kind: String,
    /// Where its messages go, up to the host.
    pub place: String,
    /// `ok`, `failing`, `untried`, or `withheld`: a ping that is not sent, because the fleet is not ready.
    pub state: String,
    /// When something was delivered last.
    pub last_success: Option<UnixMillis>,
    /// When something was not.
    pub last_failure: Option<UnixMillis>,
    /// Why it fails, or is withheld.
    pub reason: Option<String>,
    /// The last test.
    pub test: Option<TestView>,
}

/// A test of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestView {
    /// The id that the command gave it.
    pub request: String,
    /// Whether it was delivered; none: it is on its way.
    pub delivered: Option<bool>,
    /// What the other side answered, or why it was not delivered.
    pub said: Option<String>,
}
