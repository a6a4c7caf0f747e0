//! Arguments of the commands that keep the fleet's configuration, and make its folder again from it: `config`, `share`,
//! `rebuild`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Contact, ExpectHead};

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// The share, as it is reached from here
    #[arg(long, value_name = "URL")]
    pub(crate) share: String,
    /// The kit's folder: recovery.key and root.pub
    #[arg(long, value_name = "PATH")]
    pub(crate) kit: PathBuf,
    /// The folder with root.key
    #[arg(long, value_name = "PATH")]
    pub(crate) root: PathBuf,
    /// The new folder: absent or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    #[command(flatten)]
    pub(crate) expect: ExpectHead,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// The settings, and which files and credentials are kept sealed
    Show(Contact),
    /// Change one setting, for the whole fleet
    Set {
        /// Such as retention.keep_days
        key: String,
        /// Its new value
        value: String,
        #[command(flatten)]
        contact: Contact,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Share {
    /// Credentials of the share: entered once, sealed to the coordinators, told to the agents of each round
    Credentials(CredentialsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CredentialsArgs {
    /// The file that holds them; `-` reads standard input
    #[arg(long, value_name = "FILE|-", required_unless_present = "forget")]
    pub(crate) from: Option<PathBuf>,
    /// Keep none any more
    #[arg(long, conflicts_with = "from")]
    pub(crate) forget: bool,
    #[command(flatten)]
    pub(crate) contact: Contact,
}
