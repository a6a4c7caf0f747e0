//! Arguments of `token`: who may use the HTTP API of the coordinators.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use muster_protocol::ids::MemberName;
use muster_protocol::token::TokenRole;

use super::{Contact, Reading};

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make one: its secret goes to a new file, and nowhere else
    New {
        /// A name for it, for people and the audit trail
        name: MemberName,
        /// viewer looks; operator also starts and cancels rounds, and acknowledges alerts
        #[arg(long, value_enum)]
        role: Role,
        /// When it ends by itself: a duration (90d), a moment (2027-03-01, UTC), or never
        #[arg(long, value_name = "DURATION|TIME|never", default_value = "90d")]
        expires: String,
        /// A new file for the secret, which only its owner may read
        #[arg(long, value_name = "FILE")]
        into: PathBuf,
        #[command(flatten)]
        contact: Contact,
    },
    /// Those that there are; never a secret
    List(Reading),
    /// End one at once
    Revoke {
        /// Its name
        name: MemberName,
        #[command(flatten)]
        contact: Contact,
    },
}

/// What a token may do, as clap reads it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    Viewer,
    Operator,
}

impl From<Role> for TokenRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
        }
    }
}
