//! The configuration of a coordinator: `coordinator.toml`.
//!
//! Pure data, checked once when it is loaded. Holds paths of keys, never keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::config::{
    self, BusConfig, Checked, ConfigError, FleetConfig, Invalid, LogConfig, ShareConfig, TelemetryConfig,
};
use muster_protocol::ids::MemberName;
use muster_protocol::log::OnBreak;
use muster_protocol::units::HumanDuration;
use muster_share::config_file;
use serde::{Deserialize, Serialize};

pub use crate::http::config::HttpConfig;
use crate::notify::config as notify;
pub use crate::notify::config::{Address, ChannelKind, Form, MailTls, NotifyConfig};

/// `coordinator.toml`. Paths are absolute once it is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The fleet, pinned.
    pub fleet: FleetConfig,
    /// Who this is.
    pub coordinator: CoordinatorConfig,
    /// Where objects go.
    pub share: ShareConfig,
    /// Where the conversation happens.
    pub nats: BusConfig,
    /// What the server keeps of it.
    #[serde(default)]
    pub streams: StreamsConfig,
    /// How rounds go.
    #[serde(default)]
    pub round: RoundConfig,
    /// Whether, and how, all services are captured at one moment.
    #[serde(default)]
    pub cut: CutConfig,
    /// How the lead changes.
    #[serde(default)]
    pub lead: LeadConfig,
    /// The HTTP API.
    #[serde(default)]
    pub http: HttpConfig,
    /// Lines on standard error.
    #[serde(default)]
    pub log: LogConfig,
    /// Traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The ways by which people are told of alerts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyConfig>,
}

/// `[coordinator]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// Its name, as in the roster.
    pub name: MemberName,
    /// The file of its signing key (PKCS#8 PEM).
    pub key: PathBuf,
    /// The file of its age identity, to which the sealed part of the fleet's configuration goes; empty: it reads none. Opens
    /// no backup.
    #[serde(default)]
    pub sealing_key: PathBuf,
    /// Its folder: the highest log head that it saw. Losing it loses nothing else.
    pub state: PathBuf,
}

/// `[streams]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    /// Copies of each `JetStream` stream, each on another server of the cluster: 1, 3 or 5. Applies to streams made from
    /// then on; one that is there keeps what it has.
    pub replicas: u8,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

/// What happens to a request for services that another round has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlapPolicy {
    /// It waits.
    #[default]
    Queue,
    /// It is answered `skipped`.
    Skip,
}

/// `[round]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoundConfig {
    /// From opening to the end, whatever happens.
    pub deadline: HumanDuration,
    /// How long the agents have to answer a new round.
    pub recruit: HumanDuration,
    /// Attempts of each service.
    pub attempts: u32,
    /// An agent that was not heard of for so long is offline.
    pub offline_after: HumanDuration,
    /// What happens to a request for services that another round has.
    pub overlap: OverlapPolicy,
    /// Wait before the second attempt; doubles from then on.
    pub retry_first: HumanDuration,
    /// Longest wait between two attempts.
    pub retry_longest: HumanDuration,
    /// How long the services of a tier may keep those of the next one waiting.
    pub tier_wait: HumanDuration,
}

impl Default for RoundConfig {
    fn default() -> Self {
        Self {
            deadline: seconds(4 * 3600),
            recruit: seconds(45),
            attempts: 3,
            offline_after: seconds(45),
            overlap: OverlapPolicy::Queue,
            retry_first: seconds(5),
            retry_longest: seconds(120),
            tier_wait: seconds(600),
        }
    }
}

/// `[cut]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CutConfig {
    /// Whether rounds have one.
    pub enabled: bool,
    /// From the opening of a round until its capture is announced, whoever holds by then. Shorter than the agents' maximum
    /// hold, or those that hold first lose their place.
    pub barrier: HumanDuration,
    /// What happens when a required service has no place in it.
    pub on_break: OnBreak,
}

impl Default for CutConfig {
    fn default() -> Self {
        Self { enabled: false, barrier: seconds(20), on_break: OnBreak::Break }
    }
}

/// `[lead]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeadConfig {
    /// A leader that did not renew its lease for so long may be followed; it renews it three times in each.
    pub lease: HumanDuration,
    /// How long after a new leader nobody else takes the lead, so that coordinators do not take turns.
    pub takeover: HumanDuration,
}

impl Default for LeadConfig {
    fn default() -> Self {
        Self { lease: seconds(20), takeover: seconds(60) }
    }
}

/// Below, a moment of load would look like the leader's end.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

fn seconds(seconds: u64) -> HumanDuration {
    HumanDuration(Duration::from_secs(seconds))
}

const HEADING: &str = "A coordinator of Muster. Every key is here with its default; MUSTER_<SECTION>_<KEY> in the \
                       environment\noverrides it. Relative paths start at the folder of this file.";

const COMMENTS: &[(&str, &str)] = &[
    (
        "fleet",
        "Pinned: nothing of another fleet, and nothing that this root does not vouch for, is believed.",
    ),
    (
        "coordinator",
        "Its signing key, and the folder where it remembers the highest log head that it saw. sealing_key opens the sealed\n\
         part of the fleet's configuration, and no backup.",
    ),
    (
        "share",
        "Where backups go: an absolute path, file:///path, smb://host/share/folder, s3://bucket/prefix or\n\
         azblob://account/container/prefix. credentials: file with what the share asks for. ca: file with certificates that\n\
         are trusted besides the system's.",
    ),
    (
        "nats",
        "Where coordinator and agents talk. nkey: file with the seed that the server knows this client by. ca: file with\nthe certificates that alone are trusted; with it TLS is required.",
    ),
    (
        "streams",
        "replicas: 3 where the NATS servers are a cluster of three or more, so that one of them may die. Applies to streams\n\
         made from then on.",
    ),
    (
        "round",
        "deadline: every round ends by then. recruit: how long agents have to answer. attempts: of each service.\n\
         overlap: \"queue\" or \"skip\" requests for services that another round has. tier_wait: how long a tier of services may\n\
         keep the next one waiting.",
    ),
    (
        "cut",
        "enabled: quiesce all services, capture them at one moment, release them. barrier: how long to wait for the last one;\n\
         shorter than the agents' max_hold. on_break: \"break\" (ROUND-05; each is captured by itself) or \"go-on\" without\n\
         those that lost their place.",
    ),
    (
        "lead",
        "lease: a leader that was silent on the bus for so long may be followed by another coordinator. takeover: how long\n\
         after a change of leaders there is no other.",
    ),
    (
        "http",
        "listen: where the HTTP API answers (docs/http.md), for whoever has a token; \"\" for nowhere. certificate, key: PEM files\n\
         for TLS, which other machines need. insecure: true where something else encrypts. hosts: names besides the address\n\
         that it is called by on loopback, such as a proxy's.",
    ),
    (
        "log",
        "Lines on standard error. format: \"text\", \"json\", or \"auto\": for people on a terminal, else JSON.",
    ),
    (
        "telemetry",
        "otlp_endpoint: base URL of an OTLP/HTTP collector for traces, metrics and logs, empty for none. sample: share of traces,\n\
         0 to 1. interval: how often metrics go there. metrics: ADDRESS:PORT where /metrics answers, \"\" for nowhere.\n\
         Below: one [[notify]] for each way by which people are told of alerts; docs/notifications.md has examples.",
    ),
];

impl Config {
    /// The configuration in `path`, with the environment laid over it.
    ///
    /// # Errors
    /// One that names file and key, or the variable, and what would be right.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (mut config, places) = config_file::load::<Self>(path)?;
        let own = &mut config.coordinator;
        let placed = places.key_file("coordinator", "key", &mut own.key);
        placed
            .and_then(|()| places.key_file("coordinator", "sealing_key", &mut own.sealing_key))
            .and_then(|()| config.nats.resolve(&places))
            .and_then(|()| config.share.resolve(&places))
            .and_then(|()| config.http.resolve(&places))
            .and_then(|()| config.notify.iter_mut().try_for_each(|channel| channel.resolve(&places)))
            .map_err(|invalid| ConfigError::invalid(path, invalid))?;
        config.coordinator.state = places.folder.join(&config.coordinator.state);
        config.share.url = config_file::share_url(&config.share.url, &places.folder);
        Ok(config)
    }

    /// The configuration as text, every key with its value and a comment for each section.
    #[must_use]
    pub fn to_toml_string(&self) -> String {
        config::print(self, HEADING, COMMENTS)
    }

    /// What the process tells about itself.
    #[must_use]
    pub fn telemetry(&self) -> muster_telemetry::Config {
        let (name, fleet) = (self.coordinator.name.as_str(), self.fleet.name.as_str());
        muster_telemetry::Config::of(&self.log, &self.telemetry, "muster-coordinator", name, fleet)
    }
}

impl Checked for Config {
    fn check(&self) -> Result<(), Invalid> {
        notify::check(&self.notify)?;
        let round = &self.round;
        for (key, duration) in [
            ("deadline", round.deadline),
            ("recruit", round.recruit),
            ("offline_after", round.offline_after),
            ("retry_first", round.retry_first),
            ("tier_wait", round.tier_wait),
        ] {
            Invalid::unless(!duration.0.is_zero(), "round", key, "must be longer than nothing")?;
        }
        let ordered = round.retry_longest >= round.retry_first;
        Invalid::unless(ordered, "round", "retry_longest", "must be at least as long as retry_first")?;
        Invalid::unless((1..=100).contains(&round.attempts), "round", "attempts", "must be from 1 to 100")?;
        let replicas = matches!(self.streams.replicas, 1 | 3 | 5);
        Invalid::unless(replicas, "streams", "replicas", "must be 1, 3 or 5")?;
        let barrier = self.cut.barrier;
        Invalid::unless(!barrier.0.is_zero(), "cut", "barrier", "must be longer than nothing")?;
        // Rounds without one may be as short as they like.
        let fits = !self.cut.enabled || barrier < round.deadline;
        Invalid::unless(fits, "cut", "barrier", "must be shorter than [round] deadline")?;
        let lease = self.lead.lease.0 >= SHORTEST_LEASE;
        Invalid::unless(lease, "lead", "lease", "must be at least 1s")?;
        Invalid::unless(!self.lead.takeover.0.is_zero(), "lead", "takeover", "must be longer than nothing")?;
        Invalid::unless(!self.share.url.is_empty(), "share", "url", "must be a path or an address")?;
        Invalid::unless(
            !self.nats.url.is_empty(),
            "nats",
            "url",
            "must be an address such as nats://127.0.0.1:4222",
        )?;
        self.http.check()?;
        self.telemetry.check()
    }
}

#[cfg(test)]
mod tests;
