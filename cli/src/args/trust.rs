//! Arguments of the commands that say who and what is trusted: `enroll`, `revoke`, `adopt`, `key`, and the head that a
//! reading command may be held to.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use muster_protocol::ids::MemberName;
use muster_protocol::log::Head;
use muster_share::log::parse_head;

use super::Contact;

/// What a member is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Captures one service
    Agent,
    /// Runs rounds
    Coordinator,
    /// May look
    Viewer,
    /// May hold rounds
    Operator,
    /// May change the configuration as well
    Admin,
    /// May delete what the signed retention keeps no longer, and nothing else
    Pruner,
    /// May let agents in whose names begin with --prefix
    Enroller,
}

#[derive(Debug, Args)]
pub(crate) struct Enroll {
    /// The new member's name; an agent's is that of its service
    pub(crate) name: MemberName,
    /// What it is
    #[arg(long, value_enum, default_value = "agent")]
    pub(crate) role: RoleName,
    /// What is backed up of the service: files:PATH, sqlite:PATH, command:PATH or command:["PROGRAM","ARG"]; may repeat
    #[arg(long, value_name = "KIND:ARG")]
    pub(crate) source: Vec<String>,
    /// The folder with root.key
    #[arg(long, value_name = "PATH", required_unless_present = "enroller")]
    pub(crate) root: Option<PathBuf>,
    /// An enroller's key file instead of the root: lets new agents in, and nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub(crate) enroller: Option<PathBuf>,
    /// A new folder for what the new machine needs; default enroll-NAME
    #[arg(long, value_name = "PATH", conflicts_with = "here")]
    pub(crate) into: Option<PathBuf>,
    /// Into the fleet's own folder instead
    #[arg(long)]
    pub(crate) here: bool,
    /// Give the service a new agent in the place of the one that it has; needs the root
    #[arg(long)]
    pub(crate) replace: bool,
    /// For an enroller: how the names of its agents begin
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// For an enroller: the last log number at which it counts, or +N records from now
    #[arg(long, value_name = "N|+N")]
    pub(crate) until: Option<Until>,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

/// How long an enroller counts. In log numbers: replay asks no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Up to this record.
    Number(u64),
    /// So many records from now.
    More(u64),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            digits.parse().map_err(|_| {
                "write a log number, or +N for N records from now: no clock decides what counts in a log"
                    .to_owned()
            })
        };
        match text.strip_prefix('+') {
            Some(digits) => number(digits).map(Self::More),
            None => number(text).map(Self::Number),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The member's name
    pub(crate) name: MemberName,
    /// Its role, where several members have the name
    #[arg(long, value_enum)]
    pub(crate) role: Option<RoleName>,
    /// The folder with root.key
    #[arg(long, value_name = "PATH")]
    pub(crate) root: PathBuf,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// The share as it is now
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) share: Option<String>,
    /// The folder with root.key
    #[arg(long, value_name = "PATH")]
    pub(crate) root: PathBuf,
    /// The operator's configuration instead of --share, else MUSTER_CONFIG; what it remembers is given up, too
    #[arg(long, value_name = "DIR/operator.toml")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) expect: ExpectHead,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A log head that the share must hold.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct ExpectHead {
    /// A log head that was seen: a share that does not hold it is refused
    #[arg(long, value_name = "N:HASH", value_parser = head)]
    pub(crate) expect_head: Option<Head>,
}

fn head(text: &str) -> Result<Head, String> {
    parse_head(text).ok_or_else(|| {
        "write it as `muster show` prints it: NUMBER:HASH, the hash with 64 characters".to_owned()
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// A new recovery key: an age identity file; prints its recipient
    Generate {
        /// The new file; `-` writes the private key to standard output
        #[arg(long, value_name = "PATH")]
        out: PathBuf,
    },
    /// New recovery keys from the next round on; earlier rounds keep theirs
    Rotate(Rotate),
    /// Whether a kit's private key opens the newest round; the key stays where it is, the share is only read
    Prove(Prove),
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The folder with root.key
    #[arg(long, value_name = "PATH")]
    pub(crate) root: PathBuf,
    /// A recovery key of the new keyset; may repeat. Keys that are not named again open no new round
    #[arg(long, value_name = "age1…", required_unless_present = "kit")]
    pub(crate) recipient: Vec<String>,
    /// Make a new kit with a new recovery key here
    #[arg(long, value_name = "NEWKIT")]
    pub(crate) kit: Option<PathBuf>,
    /// Also make a page with the new private key, to be printed and put into a safe
    #[arg(long, requires = "kit")]
    pub(crate) print_private: bool,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The kit's folder: recovery.key and root.pub
    #[arg(long, value_name = "PATH")]
    pub(crate) kit: PathBuf,
    #[command(flatten)]
    pub(crate) reading: super::Reading,
}

#[cfg(test)]
mod tests {
    use super::Until;

    #[test]
    fn an_enroller_is_limited_in_log_numbers() {
        assert_eq!("40".parse(), Ok(Until::Number(40)));
        assert_eq!("+40".parse(), Ok(Until::More(40)));
        for bad in ["", "+", "7d", "-1", "2026-11-22"] {
            assert!(bad.parse::<Until>().expect_err(bad).contains("no clock"), "{bad}");
        }
    }
}
