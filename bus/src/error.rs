//! What can go wrong on the bus: once while connecting, and in each later call.

use std::{error::Error, io, path::PathBuf, time::Duration};

/// How long a daemon goes on when the server refuses it at first: `muster up` lets its server read its accounts within seconds.
const READS_ACCOUNTS: Duration = Duration::from_secs(15);

/// Why no connection to a NATS server was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An address is not a NATS URL. The address itself is not repeated: it may hold a password.
    #[error("NATS address number {number} is not a URL of the form nats://host:port")]
    Address {
        /// Position in the configuration, from 1.
        number: usize,
        /// What the parser said.
        source: io::Error,
    },
    /// No address is configured.
    #[error("no NATS address is configured")]
    NoAddress,
    /// A file with credentials cannot be read.
    #[error("NATS credentials in {} cannot be read", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read a file with credentials.
    #[error("NATS credentials in {0} may be read by others (mode {mode:04o}): chmod 600 {0}", path.display())]
    CredentialsOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds no nkey. What it holds is not repeated.
    #[error("{} holds no nkey of a NATS user: its first line must be a seed that begins with SU", path.display())]
    Nkey {
        /// The file.
        path: PathBuf,
    },
    /// The certificates to trust cannot be read.
    #[error("the CA certificate {} of the NATS server cannot be used", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A server answers, but not with a certificate that is trusted.
    #[error("what answers at {servers} is not the NATS server that the configured CA vouches for")]
    Untrusted {
        /// Host and port of each configured server.
        servers: String,
        /// What the client said.
        source: async_nats::ConnectError,
    },
    /// No server took the connection.
    #[error("no NATS server accepts connections at {servers}")]
    Unreachable {
        /// Host and port of each configured server.
        servers: String,
        /// What the client said about the last one.
        source: async_nats::ConnectError,
    },
    /// The server refused who we are.
    #[error(
        "the NATS server at {servers} refuses these credentials: it does not know the nkey (any more), or has not read its accounts \
         again: nats-server --signal reload"
    )]
    Refused {
        /// Host and port of each configured server.
        servers: String,
        /// What the client said.
        source: async_nats::ConnectError,
    },
    /// No server finished the handshake in time.
    #[error("no NATS server at {servers} answered within {limit:?}")]
    Timeout {
        /// Host and port of each configured server.
        servers: String,
        /// The limit.
        limit: Duration,
    },
    /// The server is known to lack what Muster relies on, or to have faults that it cannot live with.
    #[error("the NATS server at {servers} is version {found:?}, but {wanted} is needed: upgrade nats-server")]
    ServerTooOld {
        /// Host and port of each configured server.
        servers: String,
        /// The version it gave.
        found: String,
        /// The versions that are accepted.
        wanted: &'static str,
    },
    /// The client ended right after the handshake.
    #[error("the connection to {servers} ended during set-up")]
    SetUp {
        /// Host and port of each configured server.
        servers: String,
        /// What the first call said.
        source: Box<BusError>,
    },
}

impl ConnectError {
    /// Whether the configuration itself cannot be used, before any server was asked.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Address { .. }
            | Self::NoAddress
            | Self::Credentials { .. }
            | Self::CredentialsOpen { .. }
            | Self::Nkey { .. }
            | Self::Ca { .. } => true,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Untrusted { .. }
            | Self::Timeout { .. }
            | Self::ServerTooOld { .. }
            | Self::SetUp { .. } => false,
        }
    }

    /// Whether waiting and trying again can help without anybody changing the configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::SetUp { .. } => true,
            Self::Address { .. }
            | Self::NoAddress
            | Self::Credentials { .. }
            | Self::CredentialsOpen { .. }
            | Self::Nkey { .. }
            | Self::Ca { .. }
            | Self::Untrusted { .. }
            | Self::Refused { .. }
            | Self::ServerTooOld { .. } => false,
        }
    }

    /// Whether a daemon that began to connect so long ago tries again: what passes, and for a moment credentials that the
    /// server refuses. Whoever was enrolled just now is known once the server has read its accounts.
    #[must_use]
    pub fn may_pass(&self, since: Duration) -> bool {
        self.is_transient() || (matches!(self, Self::Refused { .. }) && since < READS_ACCOUNTS)
    }
}

/// Why a call on a connected bus failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The subject or filter breaks the grammar, or the call does not go with it.
    #[error("subject {subject:?} cannot be used: {reason}")]
    Subject {
        /// The subject.
        subject: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A header would break the wire format.
    #[error("header {name:?} of a message to {subject} holds characters that headers cannot carry")]
    Header {
        /// The subject.
        subject: String,
        /// The header's name.
        name: String,
    },
    /// The payload exceeds the limit of the bus or of the server.
    #[error("a message of {payload_bytes} bytes to {subject} exceeds the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The subject.
        subject: String,
        /// Length of the payload.
        payload_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The connection is known to be down; nothing was sent.
    #[error("not connected: the message to {subject} was not sent")]
    Disconnected {
        /// The subject.
        subject: String,
    },
    /// Nobody listens on the subject.
    #[error("nobody answers on {subject}")]
    NoResponders {
        /// The subject.
        subject: String,
    },
    /// No answer in time. The message may have arrived.
    #[error("no answer on {subject} within {limit:?}")]
    Timeout {
        /// The subject, or the stream asked about.
        subject: String,
        /// The limit.
        limit: Duration,
    },
    /// No configured stream keeps this subject.
    #[error("no stream is configured to keep {subject}")]
    NotStored {
        /// The subject.
        subject: String,
    },
    /// The stream does not exist, or has no leader yet.
    #[error("stream {stream} does not exist or has no leader yet; a coordinator creates it when it starts")]
    NoStream {
        /// The stream.
        stream: String,
    },
    /// The stream takes no more messages.
    #[error("stream {stream} is full")]
    Full {
        /// The stream.
        stream: String,
    },
    /// `JetStream` refused or could not be reached.
    #[error("{action} failed on stream {stream}")]
    Stream {
        /// The stream.
        stream: String,
        /// What was tried.
        action: &'static str,
        /// What the client or the server said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
}

impl BusError {
    /// Whether the same call can succeed later without anybody changing it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Disconnected { .. }
            | Self::NoResponders { .. }
            | Self::Timeout { .. }
            | Self::NoStream { .. }
            | Self::Full { .. }
            | Self::Stream { .. } => true,
            Self::Subject { .. }
            | Self::Header { .. }
            | Self::TooLarge { .. }
            | Self::NotStored { .. }
            | Self::Closed => false,
        }
    }
}
