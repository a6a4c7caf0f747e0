//! `[[notify]]` of `coordinator.toml`: the ways by which people are told of alerts. Holds paths of secrets, never secrets.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use muster_protocol::alert::Severity;
use muster_protocol::config::{Invalid, Places};
use muster_protocol::ids::ChannelName;
use muster_protocol::units::HumanDuration;
use serde::{Deserialize, Serialize};

pub use super::address::Address;
use super::address::is_loopback;

/// Most channels of one coordinator.
const MOST: usize = 16;
const SECTION: &str = "notify";

/// How messages leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    /// A message on the bus, for whoever listens.
    Nats,
    /// An HTTP request with the message in it.
    Webhook,
    /// An e-mail.
    Smtp,
    /// An HTTP request as long as the fleet could be recovered as promised, and no longer.
    Ping,
}

impl ChannelKind {
    /// As the configuration says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Webhook => "webhook",
            Self::Smtp => "smtp",
            Self::Ping => "ping",
        }
    }

    /// The keys that only some kinds have.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Nats => &["min_severity", "repeat", "digest"],
            Self::Webhook => &[
                "min_severity",
                "repeat",
                "digest",
                "url",
                "url_file",
                "secret_file",
                "form",
                "ca_file",
                "insecure",
            ],
            Self::Smtp => &[
                "min_severity",
                "repeat",
                "digest",
                "host",
                "port",
                "tls",
                "user",
                "password_file",
                "from",
                "to",
                "ca_file",
            ],
            Self::Ping => &["url", "url_file", "every", "ca_file", "insecure"],
        }
    }
}

/// How a webhook's message reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Our own.
    #[default]
    Json,
    /// That of the Prometheus Alertmanager's API.
    Alertmanager,
    /// That of Slack's incoming webhooks.
    Slack,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// It begins in clear text and goes no further without TLS.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// None: to this machine only.
    None,
}

/// One `[[notify]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Its name, for people.
    pub name: ChannelName,
    /// How messages leave.
    pub kind: ChannelKind,
    /// What is less bad is not told; default `warning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
    /// After how long what nobody acknowledged is told again; `0s`: never; default a day, to an Alertmanager an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<HumanDuration>,
    /// What is not critical is collected for so long; none: told at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<HumanDuration>,
    /// Where requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// The file that says so, where the address itself is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// The file with the secret that requests are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// How the message reads; default `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// The file with certificates (PEM) that are trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether `http://` to other machines is allowed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// How often a ping is sent while the fleet is ready; default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<HumanDuration>,
    /// The mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port; default 587, with implicit TLS 465, without TLS 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is protected; default `starttls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<MailTls>,
    /// Who signs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The file with the user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whom mails are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whom they go to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Wait before the second attempt; doubles from then on; default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_first: Option<HumanDuration>,
    /// Longest wait between two attempts; default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_longest: Option<HumanDuration>,
}

/// Checks all channels against each other and each in itself.
pub(crate) fn check(channels: &[NotifyConfig]) -> Result<(), Invalid> {
    Invalid::unless(channels.len() <= MOST, SECTION, "name", "there must be at most 16 channels")?;
    let mut names = BTreeSet::new();
    for channel in channels {
        let why = format!("there are two channels {}", channel.name);
        Invalid::unless(names.insert(&channel.name), SECTION, "name", &why)?;
        channel.check()?;
    }
    Ok(())
}

impl NotifyConfig {
    pub(super) fn retry(&self) -> (Duration, Duration) {
        let or = |set: Option<HumanDuration>, secs| set.map_or(Duration::from_secs(secs), |set| set.0);
        (or(self.retry_first, 1), or(self.retry_longest, 300))
    }

    /// Makes the paths of its files absolute.
    pub(crate) fn resolve(&mut self, places: &Places) -> Result<(), Invalid> {
        let files = [
            ("url_file", &mut self.url_file),
            ("secret_file", &mut self.secret_file),
            ("password_file", &mut self.password_file),
            ("ca_file", &mut self.ca_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                places.key_file(SECTION, key, file)?;
            }
        }
        Ok(())
    }

    fn wrong(&self, key: &'static str, why: &str) -> Invalid {
        Invalid { section: SECTION, key, why: format!("channel {}: {why}", self.name) }
    }

    fn unless(&self, right: bool, key: &'static str, why: &str) -> Result<(), Invalid> {
        if right { Ok(()) } else { Err(self.wrong(key, why)) }
    }

    fn check(&self) -> Result<(), Invalid> {
        let known = self.kind.keys();
        if let Some(key) = self.given().into_iter().find(|key| !known.contains(key)) {
            let why = format!(
                "a channel of kind {} has no such key; it has {}",
                self.kind.as_str(),
                known.join(", ")
            );
            return Err(self.wrong(key, &why));
        }
        for (key, set) in [("digest", self.digest), ("every", self.every), ("retry_first", self.retry_first)]
        {
            let positive = set.is_none_or(|set| !set.0.is_zero());
            self.unless(positive, key, "must be longer than nothing")?;
        }
        let (first, longest) = self.retry();
        self.unless(longest >= first, "retry_longest", "must be at least as long as retry_first")?;
        match self.kind {
            ChannelKind::Nats => Ok(()),
            ChannelKind::Webhook | ChannelKind::Ping => self.check_address(),
            ChannelKind::Smtp => self.check_mail(),
        }
    }

    /// The keys that are set and not every kind has.
    fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("min_severity", self.min_severity.is_some()),
            ("repeat", self.repeat.is_some()),
            ("digest", self.digest.is_some()),
            ("url", self.url.is_some()),
            ("url_file", self.url_file.is_some()),
            ("secret_file", self.secret_file.is_some()),
            ("form", self.form.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("insecure", self.insecure),
            ("every", self.every.is_some()),
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("tls", self.tls.is_some()),
            ("user", self.user.is_some()),
            ("password_file", self.password_file.is_some()),
            ("from", self.from.is_some()),
            ("to", !self.to.is_empty()),
        ];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
    }

    fn check_address(&self) -> Result<(), Invalid> {
        match (&self.url, &self.url_file) {
            (Some(url), None) => url.check(self.insecure).map(drop).map_err(|why| self.wrong("url", why)),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(self.wrong(
                "url",
                "is missing: where do its requests go? (or url_file, where the address is a secret)",
            )),
            (Some(_), Some(_)) => Err(self.wrong("url", "must not be set beside url_file")),
        }
    }

    fn check_mail(&self) -> Result<(), Invalid> {
        let host = self.host.as_deref().unwrap_or_default();
        self.unless(!host.is_empty(), "host", "is missing: which server takes its mails?")?;
        let tls = self.tls.unwrap_or_default();
        let guarded = tls != MailTls::None || is_loopback(host);
        self.unless(
            guarded,
            "tls",
            "must be \"starttls\" or \"implicit\": mails go to another machine in clear text otherwise",
        )?;
        let both = self.user.is_some() == self.password_file.is_some();
        self.unless(both, "user", "must be set together with password_file")?;
        let from = self.from.as_deref().unwrap_or_default();
        self.unless(is_address(from), "from", "must be an address such as muster@example.org")?;
        self.unless(!self.to.is_empty(), "to", "is missing: whom do its mails go to?")?;
        let all = self.to.iter().all(|to| is_address(to));
        self.unless(all, "to", "must be addresses such as [\"ops@example.org\"]")
    }
}

/// Whether a text is one mailbox and nothing else: the parser passes over what follows the first.
fn is_address(text: &str) -> bool {
    let ends_with = |mailbox: Mailbox| text.trim_end_matches('>').ends_with(&mailbox.email.to_string());
    !text.chars().any(char::is_control) && text.parse::<Mailbox>().is_ok_and(ends_with)
}
