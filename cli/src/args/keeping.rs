//! Arguments of the commands that keep the fleet's configuration, and make its folder again from it: `config`, `share`,
//! `rebuild`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use muster_protocol::units::HumanSize;

use super::{Contact, ExpectHead, Reading};
use crate::bus_users::Server;

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
    /// For a fleet of several machines: where this one's NATS server listens, as the others reach it. Each agent gets a folder
    /// DIR/machines/NAME, to be copied to its machine
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<Server>,
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
    /// Change settings, for the whole fleet: all of them or none
    Set {
        /// KEY VALUE or KEY=VALUE, such as retention.keep_days 14; several are judged together
        #[arg(required = true, value_name = "KEY VALUE|KEY=VALUE")]
        changes: Vec<String>,
        #[command(flatten)]
        contact: Contact,
    },
    /// Let settings be what they are where nobody sets them
    Unset {
        /// Such as schedule.windows
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        contact: Contact,
    },
    /// Who changed which setting, from the log
    History {
        #[command(flatten)]
        page: super::managing::Page,
        #[command(flatten)]
        reading: Reading,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Share {
    /// Credentials of the share: entered once, sealed to the coordinators, told to the agents of each round
    Credentials(CredentialsArgs),
    /// Use the share as a round would, and say what it can do: rights, promises, throughput, room
    Test(ShareTest),
    /// Copy what the share holds to a second share, and bring that up to date with each further run
    Copy(ShareCopy),
}

#[derive(Debug, Args)]
pub(crate) struct ShareCopy {
    /// The second share: empty, not there yet, or a copy that an earlier run made
    #[arg(value_name = "URL")]
    pub(crate) to: String,
    /// File with the second share's credentials; --share-credentials are those of the first
    #[arg(long, value_name = "FILE")]
    pub(crate) to_credentials: Option<PathBuf>,
    /// File with certificates that are trusted for the second share
    #[arg(long, value_name = "FILE")]
    pub(crate) to_ca: Option<PathBuf>,
    /// Bytes a second to write to the copy at most; 0B: no limit
    #[arg(long, value_name = "SIZE", default_value = "0B")]
    pub(crate) bandwidth: HumanSize,
    /// Delete on the copy what `prune` deleted on the share; without it, the copy keeps it
    #[arg(long)]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Args)]
pub(crate) struct ShareTest {
    /// The share; without it that of the configuration
    #[arg(long, value_name = "URL")]
    pub(crate) share: Option<String>,
    /// Bytes to write and read for the throughput; 0B for none
    #[arg(long, value_name = "SIZE", default_value = "48MiB")]
    pub(crate) size: HumanSize,
    /// The coordinators that will use it; without it those of the fleet
    #[arg(long, value_name = "N")]
    pub(crate) coordinators: Option<usize>,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// The operator's configuration; default MUSTER_CONFIG, or operator.toml here
    #[arg(long, value_name = "FILE", conflicts_with = "share")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CredentialsArgs {
    /// The file that holds them; `-` reads standard input
    #[arg(long, value_name = "FILE|-", required_unless_present = "forget")]
    pub(crate) from: Option<PathBuf>,
    /// Keep none any more
    #[arg(long, conflicts_with = "from")]
    pub(crate) forget: bool,
    /// Keep them untried: the share cannot be reached from here, or they may create below agents/ alone
    #[arg(long, conflicts_with = "forget")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) contact: Contact,
}
