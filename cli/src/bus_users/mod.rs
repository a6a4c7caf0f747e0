//! Who may sign on to a fleet's NATS server, and as what: `nats-users.toml` in the fleet's folder. The server's
//! accounts are printed from it. It holds public nkeys only; each seed is in a file of its client.
//!
//! ```text
//! init, enroll, revoke ──▶ nats-users.toml ──accounts::print──▶ nats-accounts.conf ◀──include── nats-server.conf
//! ```

mod accounts;
mod certificate;
mod files;
mod found;
mod permissions;
mod server;

use std::fmt;
use std::path::{Path, PathBuf};

use muster_bus::{UserKey, is_user_nkey};
use muster_protocol::config::{self, Checked, ConfigError, Invalid};
use muster_protocol::entropy::random;
use muster_protocol::ids::{FleetName, MemberName};
use muster_protocol::log::Role;
use muster_share::entropy::OsEntropy;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub(crate) use files::{ACCOUNTS, USERS, change, load};
pub(crate) use found::{CA, Founded, Place, found};
pub(crate) use server::Server;

/// The only version of the file that there is.
const VERSION: u32 = 1;

/// The name of the user that `init` makes for plain clients.
pub(crate) const TRIGGER: &str = "trigger";

const HEADING: &str = "Who may sign on to this fleet's NATS server: public nkeys, no secrets. muster enroll and \
                       revoke change it, and print\nnats-accounts.conf from it, which the server reads. kind: \
                       coordinator, agent (of the service of that name),\noperator, viewer or trigger.";

/// `nats-users.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BusUsers {
    version: u32,
    fleet: FleetName,
    /// Several of one name and kind may be there for a while, when an agent is replaced.
    #[serde(default, rename = "user")]
    users: Vec<BusUser>,
}

/// One client of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BusUser {
    /// An agent's is that of its service.
    pub(crate) name: MemberName,
    /// What it may say and hear.
    pub(crate) kind: UserKind,
    /// Its public nkey.
    pub(crate) nkey: PublicNkey,
}

/// What a user may say and hear: see [`permissions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UserKind {
    /// Runs rounds.
    Coordinator,
    /// The agent of a service.
    Agent,
    /// Triggers, asks, and restores.
    Operator,
    /// Asks.
    Viewer,
    /// Triggers: a plain client, such as a script's.
    Trigger,
}

impl UserKind {
    /// Whom a member is to the server; none for whoever needs the share alone.
    pub(crate) fn of(role: &Role) -> Option<Self> {
        match role {
            Role::Coordinator => Some(Self::Coordinator),
            Role::Agent { .. } => Some(Self::Agent),
            Role::Operator | Role::Admin => Some(Self::Operator),
            Role::Viewer => Some(Self::Viewer),
            Role::Pruner | Role::Enroller { .. } => None,
        }
    }

    /// Its word in the file.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Trigger => "trigger",
        }
    }
}

/// A user's public nkey.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PublicNkey(String);

impl PublicNkey {
    /// That of a key.
    pub(crate) fn of(key: &UserKey) -> Self {
        Self(key.public())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PublicNkey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // A seed that was given by mistake is not repeated.
        if is_user_nkey(&text) {
            Ok(Self(text))
        } else {
            Err("must be a user's public nkey (U…)".to_owned())
        }
    }
}

impl From<PublicNkey> for String {
    fn from(nkey: PublicNkey) -> Self {
        nkey.0
    }
}

impl fmt::Debug for PublicNkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PublicNkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BusUsers {
    /// Nobody yet.
    pub(crate) fn new(fleet: FleetName) -> Self {
        Self { version: VERSION, fleet, users: Vec::new() }
    }

    /// The users of a file's text; `file` is for messages.
    fn parse(file: &std::path::Path, text: &str) -> Result<Self, ConfigError> {
        // It is a list that commands keep, no configuration: the environment changes nothing in it.
        config::parse(file, text, |_| None)
    }

    /// The text of the file.
    fn to_toml_string(&self) -> String {
        config::print(self, HEADING, &[])
    }

    /// Adds a user, unless it is there.
    pub(crate) fn add(&mut self, user: BusUser) {
        if !self.users.contains(&user) {
            self.users.push(user);
        }
    }

    /// Removes the user of a key.
    pub(crate) fn remove_key(&mut self, nkey: &PublicNkey) {
        self.users.retain(|user| user.nkey != *nkey);
    }

    /// Removes every user of a name and kind, `except` that of one key.
    pub(crate) fn remove(&mut self, name: &MemberName, kind: UserKind, except: Option<&PublicNkey>) {
        let goes = |user: &BusUser| {
            user.name == *name && user.kind == kind && except.is_none_or(|nkey| user.nkey != *nkey)
        };
        self.users.retain(|user| !goes(user));
    }

    /// Those of one kind, in the file's order.
    fn of_kind(&self, kind: UserKind) -> impl Iterator<Item = &BusUser> {
        self.users.iter().filter(move |user| user.kind == kind)
    }
}

impl Checked for BusUsers {
    fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(self.version == VERSION, "", "version", "must be 1: a newer muster wrote this file")?;
        for (index, user) in self.users.iter().enumerate() {
            let again = self.users[..index].iter().any(|before| before.nkey == user.nkey);
            Invalid::unless(!again, "user", "nkey", &format!("{} is there twice", user.nkey))?;
        }
        Ok(())
    }
}

/// What to say of a change of the users, after `what`.
pub(crate) fn told(what: &str) -> Vec<String> {
    vec![
        format!("bus       {what} {USERS}; the nats-server of muster up reads it within seconds"),
        "          a server that was started by hand needs: nats-server --signal reload".to_owned(),
    ]
}

/// A fresh nkey.
pub(crate) fn new_key() -> UserKey {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random(&mut OsEntropy));
    UserKey::from_random(&seed)
}

/// The text of a seed's file.
pub(crate) fn seed_file(key: &UserKey) -> Zeroizing<String> {
    Zeroizing::new(format!("{}\n", key.seed().as_str()))
}

/// Where `init` puts a user's seed, from the fleet's folder on.
pub(crate) fn seed_path(kind: UserKind, name: &str) -> PathBuf {
    match kind {
        UserKind::Agent => PathBuf::from(format!("keys/agent-{name}.nk")),
        UserKind::Coordinator | UserKind::Operator | UserKind::Viewer | UserKind::Trigger => {
            PathBuf::from(format!("keys/{name}.nk"))
        }
    }
}

/// Where the folder of an agent's machine lies, from the fleet's folder on, until it is copied there.
pub(crate) fn machine_path(service: &str) -> PathBuf {
    Path::new("machines").join(service)
}

#[cfg(test)]
mod tests;
