//! Members of a fleet: who may sign what.

use serde::{Deserialize, Serialize};

use crate::age::Recipient;
use crate::ids::{KeyId, MemberName, ServiceName};

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Role {
    /// Runs rounds.
    Coordinator,
    /// The agent of a service.
    Agent {
        /// Its service.
        service: ServiceName,
        /// Recipient of what is sealed to the agent itself: its chunk index, never data.
        sealing: Recipient,
    },
    /// May look.
    Viewer,
    /// May start, cancel and hold rounds.
    Operator,
    /// May change the configuration as well.
    Admin,
    /// The only one that may delete from the share.
    Pruner,
    /// May admit agents whose service name starts with the prefix.
    Enroller {
        /// The prefix.
        prefix: String,
        /// Last log number at which its admissions count; none: until revoked.
        until: Option<u64>,
    },
}

impl Role {
    /// The word for it on screens and in JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Agent { .. } => "agent",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Pruner => "pruner",
            Self::Enroller { .. } => "enroller",
        }
    }

    /// The service that it is the agent of.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Agent { service, .. } => Some(service),
            Self::Coordinator
            | Self::Viewer
            | Self::Operator
            | Self::Admin
            | Self::Pruner
            | Self::Enroller { .. } => None,
        }
    }
}

/// A member: a key with a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The Ed25519 key it signs with.
    pub key: KeyId,
    /// A name for people.
    pub name: MemberName,
    /// Its role.
    pub role: Role,
}

/// One change of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// A member comes in. An agent takes its service over from the agent before it, if an enroller did not sign this.
    Admit(Member),
    /// A key counts no longer, from this record on.
    Revoke(KeyId),
}
