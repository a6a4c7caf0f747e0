//! Why a coordinator ends, and with which exit code.

use std::path::PathBuf;

use muster_bus::{BusError, ConnectError};
use muster_protocol::alert::Code;
use muster_protocol::pem;
use muster_protocol::retry::RetryError;
use muster_share::log::{AppendError, LogError, MemoryError};
use muster_share::secret_file::SecretFileError;
use muster_share::store::OpenStoreError;

use crate::http::TlsError;
use crate::notify::NotifyError;

/// Why a coordinator ends.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its key cannot be read.
    #[error("the coordinator's key cannot be used")]
    Key(#[from] SecretFileError),
    /// A channel that tells people of alerts cannot be used.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// Its key file holds something else.
    #[error("{} holds no Ed25519 key in PEM form", path.display())]
    KeyFormat {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::PemError,
    },
    /// The retry policy contradicts itself.
    #[error("[round] retry_first, retry_longest or attempts do not fit together")]
    Retry(#[from] RetryError),
    /// The share's address is no address.
    #[error("[share] url cannot be used")]
    Share(#[from] OpenStoreError),
    /// The fleet's subjects cannot be used.
    #[error("[fleet] name cannot be used on the bus")]
    Bus(#[from] BusError),
    /// The server cannot be used, now or ever.
    #[error("[nats] url cannot be used")]
    Connect(#[from] ConnectError),
    /// The HTTP API cannot be served as it is configured.
    #[error(transparent)]
    Http(#[from] TlsError),
    /// The state folder cannot be used.
    #[error("state folder {} cannot be used", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process of this coordinator runs.
    #[error("{} is locked: another process runs this coordinator; stop it first", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The remembered head cannot be read or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The log cannot be trusted or understood.
    #[error("SHARE-08: the coordinator stops, because the log cannot be believed")]
    Log(#[from] LogError),
    /// The share takes no `epoch` record.
    #[error("{code}: the coordinator cannot take the lead: {}", code.title())]
    Lead {
        /// What is wrong with the share.
        code: Code,
        /// The append's error.
        source: AppendError,
    },
    /// A part of this process failed.
    #[error("a part of the coordinator failed; start it again")]
    Task(#[source] tokio::task::JoinError),
    /// The key is no coordinator's in this fleet.
    #[error(
        "KEY-03: key {key} is no coordinator in the fleet's roster; enroll it, or use the right key file"
    )]
    NotCoordinator {
        /// The key, short.
        key: String,
    },
    /// The share lets two coordinators write the same record, and the fleet has several.
    #[error(
        "SHARE-08: {share} cannot serve {coordinators} coordinators: {said}. Revoke all but one (muster revoke NAME), or move to a \
         share that creates exclusively: muster share test"
    )]
    NotExclusive {
        /// The share's address.
        share: String,
        /// How many the fleet has.
        coordinators: usize,
        /// What the test of the share found.
        said: String,
    },
    /// The share is a copy.
    #[error(
        "SHARE-08: {share} is a copy of the fleet's share, and takes no records. Name the share itself; once that is lost for \
         good, `muster adopt --share URL --root PATH` makes the copy the share"
    )]
    Copy {
        /// The share's address.
        share: String,
    },
    /// The key was revoked while this coordinator ran.
    #[error(
        "KEY-03: key {key} was revoked, for good: this coordinator stops. Another one takes the lead; `muster enroll NAME --role coordinator` makes one. \
         If the fleet was rebuilt elsewhere, this folder is of no use any more"
    )]
    Revoked {
        /// The key, short.
        key: String,
    },
}

impl DaemonError {
    /// Whether it is the log, or the share under it, that must be mended before anybody leads (SHARE-08).
    #[must_use]
    pub fn is_of_the_log(&self) -> bool {
        match self {
            Self::Log(error) => error.alert() == Some(Code::Share08),
            Self::Lead { code, .. } => *code == Code::Share08,
            Self::NotExclusive { .. } | Self::Copy { .. } => true,
            Self::Key(_)
            | Self::KeyFormat { .. }
            | Self::Http(_)
            | Self::Notify(_)
            | Self::Retry(_)
            | Self::Share(_)
            | Self::Bus(_)
            | Self::Connect(_)
            | Self::State { .. }
            | Self::Locked { .. }
            | Self::Memory(_)
            | Self::Task(_)
            | Self::NotCoordinator { .. }
            | Self::Revoked { .. } => false,
        }
    }

    /// The exit code of a process that ends with this error (DESIGN section 8): 1 failed, 2 configuration, 4 damaged
    /// log, 5 wrong key, 6 bus unreachable, 7 refused.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Locked { .. } | Self::NotExclusive { .. } | Self::Copy { .. } => 7,
            Self::Key(_)
            | Self::KeyFormat { .. }
            | Self::Retry(_)
            | Self::Share(_)
            | Self::Bus(_)
            | Self::Http(_)
            | Self::Notify(_) => 2,
            Self::NotCoordinator { .. } | Self::Revoked { .. } => 5,
            Self::Connect(error) if error.is_configuration() => 2,
            Self::Connect(_) | Self::Lead { .. } => 6,
            Self::Log(_) => 4,
            Self::State { .. } | Self::Memory(_) | Self::Task(_) => 1,
        }
    }
}
