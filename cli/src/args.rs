//! The command line as clap reads it. Only shapes and help; what commands do is in [`crate::command`].

mod keeping;
mod managing;
mod retention;
mod tokens;
mod trust;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use muster_agent::recover::Existing;
use muster_protocol::ids::{ChannelName, FleetName, ServiceName};
use muster_protocol::units::{HumanDuration, HumanSize};

use crate::bus_users::Server;
use crate::reason::Reason;
use crate::round_name::RoundName;
use crate::share_access::ShareAccess;

pub(crate) use keeping::{Config, CredentialsArgs, Rebuild, Share, ShareCopy, ShareTest};
pub(crate) use managing::{Audit, Disable, Enable, Page};
pub(crate) use retention::{Hold, Prune, Unhold};
pub(crate) use tokens::Token;
pub(crate) use trust::{Adopt, Enroll, ExpectHead, Key, Prove, Revoke, RoleName, Rotate, Until};

/// Coordinated, encrypted, write-only backups of a fleet of infrastructure services.
///
/// Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 partial, 4 damaged or forged data, 5 key missing or
/// wrong, 6 share or bus unreachable, 7 refused, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "muster", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) share_access: ShareAccess,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a fleet: configurations, keys, kit, and the log on the share
    Init(Init),
    /// Run nats-server, coordinator and agents of a fleet folder in the foreground
    Up(Folder),
    /// Run one committed round of a fleet folder in this process, without NATS
    Once(Once),
    /// Show all of it on this machine, with its own data: backed up, damaged, mended, recovered, compared
    Demo(Demo),
    /// Ask for a round
    Start(Start),
    /// End an open round, or take a waiting request back
    Cancel(Cancel),
    /// Follow a round
    Watch(Watch),
    /// How the fleet stands
    Status(Reading),
    /// Look at everything that somebody who helps would ask for
    Doctor(Doctor),
    /// The rounds in the log
    Rounds(Rounds),
    /// One round: its services, sizes, absentees
    Show(Show),
    /// Whether the share still holds what its log promises
    Verify(Verify),
    /// A round from share and kit into a folder, with everything else dead
    Recover(Recover),
    /// A round recovered into a folder that is deleted again, to see whether that goes and how long it takes
    Drill(Drill),
    /// A service's slice of a round back into the running service, through its agent
    Restore(Restore),
    /// What a round holds: services, sources, and entries as ls -l shows them
    Ls(Ls),
    /// Entries of a round by name or path, kind, size and time
    Find(Find),
    /// The bytes of one file of a round
    Dump(Dump),
    /// Delete what the signed retention keeps no longer: mark first, delete after a grace
    Prune(Prune),
    /// Keep a round, whatever the retention says
    Hold(Hold),
    /// Let the retention decide about a round again
    Unhold(Unhold),
    /// The agents, and whether they are there
    Agents(Contact),
    /// What is wrong, since when, and what to do
    Alerts(Alerts),
    /// The ways by which people are told of alerts
    Notify(Notify),
    /// Let a member into the fleet: an agent for a new service, a coordinator, an operator
    Enroll(Enroll),
    /// A member counts no longer
    Revoke(Revoke),
    /// The root accepts a share as it is: a lower log head, or a copy
    Adopt(Adopt),
    /// The fleet's folder again, from share, kit and root
    Rebuild(Rebuild),
    /// Test everything, then let rounds begin, by schedule too
    Enable(Enable),
    /// Let no round begin until the fleet is enabled again
    Disable(Disable),
    /// Who did what, from the log
    Audit(Audit),
    /// The fleet-wide settings, and what else the share keeps of the configuration
    #[command(subcommand)]
    Config(Config),
    /// The share
    #[command(subcommand)]
    Share(Share),
    /// Who may use the HTTP API of the coordinators
    #[command(subcommand)]
    Token(Token),
    /// Keys
    #[command(subcommand)]
    Key(Key),
    /// Run a daemon of this executable; used by `up`
    #[command(subcommand, hide = true)]
    Daemon(Daemon),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The fleet's folder: absent or empty
    pub(crate) dir: PathBuf,
    /// The fleet's name: small letters, digits and hyphens, at most 32, a letter first
    #[arg(long)]
    pub(crate) fleet: FleetName,
    /// Where backups go: a path, smb://HOST/SHARE/FOLDER, s3://BUCKET/PREFIX?endpoint=URL or azblob://ACCOUNT/CONTAINER/PREFIX
    #[arg(long, value_name = "URL")]
    pub(crate) share: String,
    /// Where the kit goes (private recovery key, root public key): outside DIR
    #[arg(long, value_name = "PATH")]
    pub(crate) kit: Option<PathBuf>,
    /// Where the private root key goes; default KIT-root
    #[arg(long, value_name = "PATH")]
    pub(crate) root: Option<PathBuf>,
    /// A further recovery key (escrow); may repeat
    #[arg(long, value_name = "age1…")]
    pub(crate) recipient: Vec<String>,
    /// Also make a page with the private recovery key, to be printed and put into a safe
    #[arg(long)]
    pub(crate) print_private: bool,
    /// How many coordinators
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) coordinators: u8,
    /// Make a fleet of several machines: where this one's NATS server listens, as the others reach it. Each service gets a folder
    /// DIR/machines/NAME, to be copied to its machine
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<Server>,
    /// A service and what is backed up of it: files:PATH, sqlite:PATH, command:PATH or command:["PROGRAM","ARG"];
    /// repeat NAME to add a source
    #[arg(long, value_name = "NAME=KIND:ARG", required = true)]
    pub(crate) service: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// The fleet's folder, as `muster init` made it
    pub(crate) dir: PathBuf,
    /// Stop when standard input ends: whoever started this is gone
    #[arg(long, hide = true)]
    pub(crate) attached: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Once {
    /// The fleet's folder, as `muster init` made it
    pub(crate) dir: PathBuf,
    /// Only these services
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub(crate) services: Option<Vec<ServiceName>>,
    /// Take the lead at once, also from another coordinator that has a round open, and while the fleet is disabled
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave everything in its temporary folder, and print the commands to go on with
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print the made-up text that the demo's service `secrets` captures
    #[arg(long, hide = true)]
    pub(crate) secrets: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Contact {
    /// The operator's configuration; default MUSTER_CONFIG, or operator.toml here
    #[arg(long, value_name = "DIR/operator.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reading {
    /// The operator's configuration; default MUSTER_CONFIG, or operator.toml here
    #[arg(long, value_name = "DIR/operator.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Read this share instead, without a configuration
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) share: Option<String>,
    #[command(flatten)]
    pub(crate) expect: ExpectHead,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Write it all down in this new file, without secrets
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Alerts {
    #[command(subcommand)]
    pub(crate) action: Option<AlertAction>,
    /// Closed ones as well
    #[arg(long)]
    pub(crate) all: bool,
    /// The operator's configuration; default MUSTER_CONFIG, or operator.toml here
    #[arg(long, global = true, value_name = "DIR/operator.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertAction {
    /// One alert: its cause, its history, and the steps that mend it
    Show {
        /// Its id, or a unique beginning of it
        id: String,
    },
    /// Say that what is odd about a service is meant: ROUND-06 closes, and older rounds may go again
    Accept {
        /// The service
        service: ServiceName,
        /// Why, for whoever asks later
        #[arg(long, value_name = "TEXT")]
        reason: Reason,
    },
    /// Say that you know; an event is over with that
    Ack {
        /// Its id, or a unique beginning of it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Notify {
    #[command(subcommand)]
    pub(crate) action: NotifyAction,
    /// The operator's configuration; default MUSTER_CONFIG, or operator.toml here
    #[arg(long, global = true, value_name = "DIR/operator.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyAction {
    /// Send a test over every channel, or one, and say what the other side answered
    Test {
        /// The channel's name in coordinator.toml; all of them if none is given
        channel: Option<ChannelName>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) contact: Contact,
    /// Only these services
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub(crate) services: Option<Vec<ServiceName>>,
    /// Also, or only, services with one of these labels (`muster config set service.PATTERN label=NAME`)
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub(crate) labels: Option<Vec<String>>,
    /// Wait until the round is verified or has ended
    #[arg(long)]
    pub(crate) wait: bool,
    /// Longest wait
    #[arg(long, value_name = "DURATION", default_value = "6h", requires = "wait")]
    pub(crate) timeout: HumanDuration,
    /// An id of your choice: the same id is the same round
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// Why; it goes into the log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<Reason>,
    /// Also while the fleet is disabled
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// latest, a number, or a unique id prefix
    pub(crate) round: RoundName,
    /// Why; it goes into the log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<Reason>,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// latest, a number, or a unique id prefix; default the newest open round
    pub(crate) round: Option<RoundName>,
    #[command(flatten)]
    pub(crate) contact: Contact,
    /// Longest wait
    #[arg(long, value_name = "DURATION", default_value = "6h")]
    pub(crate) timeout: HumanDuration,
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "give a whole number".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Rounds {
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// How many, newest first; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = number)]
    pub(crate) last: usize,
    /// Only rounds before this number: the next page
    #[arg(long, value_name = "NUMBER")]
    pub(crate) before: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// latest, a number, or a unique id prefix
    #[arg(default_value = "latest")]
    pub(crate) round: RoundName,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// latest, a number, or a unique id prefix; default every committed round
    pub(crate) round: Option<RoundName>,
    /// The kit's folder: opens and compares contents as well, and pins the root
    #[arg(long, value_name = "PATH")]
    pub(crate) kit: Option<PathBuf>,
    /// Tells the leader what is damaged, so that the next round uploads again what it held
    #[arg(long)]
    pub(crate) heal: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// `refuse`, `keep`, `replace`
fn existing(text: &str) -> Result<Existing, String> {
    match text {
        "refuse" => Ok(Existing::Refuse),
        "keep" => Ok(Existing::Keep),
        "replace" => Ok(Existing::Replace),
        _ => Err("it is refuse, keep or replace".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The share: a path or file:///path
    #[arg(long, value_name = "URL")]
    pub(crate) share: String,
    /// The kit's folder: recovery.key and root.pub
    #[arg(long, value_name = "PATH")]
    pub(crate) kit: PathBuf,
    /// latest, a number, or a unique id prefix
    #[arg(long, value_name = "ROUND", default_value = "latest")]
    pub(crate) round: RoundName,
    /// Only this service; may repeat
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Vec<ServiceName>,
    /// Only what lies at or below this path: SOURCE/PATH, or a path within the sources
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<std::ffi::OsString>,
    #[command(flatten)]
    pub(crate) expect: ExpectHead,
    /// The folder to write to: absent or empty, unless --existing or --resume; gets DIR/SERVICE/SOURCE/…
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    /// What becomes of what is there: refuse to begin, keep it, or replace it (folders are never removed)
    #[arg(long, value_name = "HOW", default_value = "refuse", value_parser = existing)]
    pub(crate) existing: Existing,
    /// Go on with an interrupted recovery of the same round in DIR
    #[arg(long, conflicts_with = "existing")]
    pub(crate) resume: bool,
    /// Restore owners by number, even where this machine knows their names
    #[arg(long)]
    pub(crate) numeric_owner: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// latest, a number, or a unique id prefix
    #[arg(default_value = "latest")]
    pub(crate) round: RoundName,
    /// The kit's folder: recovery.key and root.pub
    #[arg(long, value_name = "PATH")]
    pub(crate) kit: PathBuf,
    /// Only this service; may repeat. Says nothing about the whole, and is noted as such
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Vec<ServiceName>,
    /// Recover into a new folder in this one; default where temporary files go (TMPDIR). The new one is deleted afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
    /// Leave what was recovered where it is
    #[arg(long, requires = "into")]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// latest, a number, or a unique id prefix
    #[arg(required_unless_present = "follow")]
    pub(crate) round: Option<RoundName>,
    /// The service
    #[arg(long, value_name = "NAME")]
    pub(crate) service: ServiceName,
    /// The kit's folder: recovery.key and root.pub
    #[arg(long, value_name = "PATH", required_unless_present = "follow")]
    pub(crate) kit: Option<PathBuf>,
    /// Only what lies at or below this path: SOURCE/PATH, or a path within the sources
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<std::ffi::OsString>,
    /// What becomes of what is there: refuse to begin, keep it, or replace it (nothing is removed)
    #[arg(long, value_name = "HOW", default_value = "refuse", value_parser = existing)]
    pub(crate) existing: Existing,
    /// Into this absolute folder of the agent's machine instead: DIR/SERVICE/SOURCE/…
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
    /// Follow the restore that runs, or tell how the last one ended
    #[arg(long, conflicts_with_all = ["round", "kit", "path", "existing", "into", "expect_head"])]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) expect: ExpectHead,
    /// The operator's configuration; default MUSTER_CONFIG, or operator.toml here
    #[arg(long, value_name = "DIR/operator.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Looking {
    /// latest, a number, or a unique id prefix
    pub(crate) round: RoundName,
    /// The kit's folder: recovery.key and root.pub
    #[arg(long, value_name = "PATH")]
    pub(crate) kit: PathBuf,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) looking: Looking,
    /// SERVICE, SERVICE/SOURCE or SERVICE/SOURCE/PATH; default the round's services
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<std::ffi::OsString>,
    /// Everything below, not one level
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    #[command(flatten)]
    pub(crate) looking: Looking,
    /// A glob: with a slash for the path (SERVICE/SOURCE/PATH, or PATH within any source), else for the name
    pub(crate) pattern: Option<String>,
    /// Only in this service; may repeat
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Vec<ServiceName>,
    /// Only these kinds: f(ile), d(irectory), l(ink), p(ipe), c(haracter device), b(lock device)
    #[arg(long = "type", value_name = "KIND", value_enum, value_delimiter = ',')]
    pub(crate) kinds: Vec<EntryKind>,
    /// Only files of more bytes than this
    #[arg(long, value_name = "SIZE")]
    pub(crate) larger: Option<HumanSize>,
    /// Only what was changed after this: 24h, 2026-11-22, 2026-11-22T03:00 or RFC 3339
    #[arg(long, value_name = "WHEN")]
    pub(crate) newer: Option<String>,
}

/// What an entry is, as `find` has been told for fifty years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EntryKind {
    F,
    D,
    L,
    P,
    C,
    B,
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    #[command(flatten)]
    pub(crate) looking: Looking,
    /// SERVICE/SOURCE/PATH of a file
    #[arg(value_name = "PATH")]
    pub(crate) path: std::ffi::OsString,
    /// Into this new file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write to standard output even where it is a terminal
    #[arg(long, conflicts_with = "output")]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Daemon {
    /// A coordinator
    Coordinator(DaemonArguments),
    /// An agent
    Agent(DaemonArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DaemonArguments {
    /// Its configuration
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Stop when standard input ends: whoever started this is gone
    #[arg(long)]
    pub(crate) attached: bool,
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn usage_errors_exit_with_2() {
        for bad in
            [vec!["muster"], vec!["muster", "show", "no such"], vec!["muster", "init", "d", "--fleet", "A"]]
        {
            let error = Arguments::try_parse_from(&bad).expect_err("refused");
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }
}
