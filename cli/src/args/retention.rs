//! Arguments of the commands that decide which rounds stay: `prune`, `hold`, `unhold`.

use std::path::PathBuf;

use clap::Args;

use super::Contact;
use crate::reason::Reason;
use crate::round_name::RoundName;

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The pruner's private key; default the key of operator.toml if it is a pruner's, else keys/pruner.key beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Hold {
    /// latest, a number, or a unique id prefix
    pub(crate) round: RoundName,
    /// Why, for whoever finds it held later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Unhold {
    /// latest, a number, or a unique id prefix
    pub(crate) round: RoundName,
    #[command(flatten)]
    pub(crate) contact: Contact,
}
