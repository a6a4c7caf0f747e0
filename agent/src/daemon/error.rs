//! Why an agent does not run, or stops running.

use std::io;
use std::path::PathBuf;

use muster_bus::{BusError, ConnectError};
use muster_protocol::ids::ServiceName;
use muster_share::log::MemoryError;
use muster_share::store::OpenStoreError;

/// Why an agent does not run, or stops running. An absent share or NATS server is none of these: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state folder cannot be used.
    #[error("the state folder {} cannot be used", path.display())]
    State {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The agent's key counts no longer.
    #[error(
        "KEY-03: key {key} of the agent of {service} was revoked by log record {record}, for good: this agent stops; \
         `muster enroll {service}` makes a new one"
    )]
    Revoked {
        /// Its service.
        service: ServiceName,
        /// The key, short.
        key: String,
        /// The record that revoked it.
        record: u64,
    },
    /// Another agent has the state folder.
    #[error("another agent uses the state folder {}: stop that one, or give this one a folder of its own", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The remembered head cannot be read.
    #[error("the log head that was seen last is not known")]
    Memory(#[from] MemoryError),
    /// A key file cannot be read.
    #[error("the key in {} cannot be used", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The share's address is wrong.
    #[error("the share cannot be opened")]
    Share(#[from] OpenStoreError),
    /// NATS refuses this agent, or its address is wrong.
    #[error("the bus cannot be used")]
    Connect(#[from] ConnectError),
    /// The fleet's name makes no streams, or a document's subject cannot be listened on.
    #[error("the bus cannot be used for {subject}")]
    Bus {
        /// The subject.
        subject: String,
        /// Why.
        source: BusError,
    },
    /// The bus was closed by somebody else.
    #[error("the bus was closed")]
    BusClosed,
    /// A task of the agent ended by a panic.
    #[error("the agent has a fault: the lines before this one say more; restart it")]
    Fault,
    /// The capture engine cannot be set up.
    #[error("the capture engine cannot be set up")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl DaemonError {
    /// The exit code of a process that ends with this error (DESIGN section 8): 1 failed, 2 configuration, 6 bus
    /// unreachable, 7 refused.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Locked { .. } => 7,
            Self::Key { .. } | Self::Share(_) => 2,
            Self::Connect(error) if error.is_configuration() => 2,
            Self::Connect(_) => 6,
            Self::Revoked { .. } => 5,
            Self::State { .. }
            | Self::Memory(_)
            | Self::Bus { .. }
            | Self::BusClosed
            | Self::Fault
            | Self::Engine(_) => 1,
        }
    }
}
