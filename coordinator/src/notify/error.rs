//! Why a channel cannot be used, and why a message did not arrive.

use std::path::PathBuf;
use std::time::Duration;

use muster_protocol::ids::ChannelName;
use muster_share::secret_file::SecretFileError;

/// Why a channel cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A file with a secret cannot be used.
    #[error("[notify] channel {channel} cannot be used")]
    Secret {
        /// The channel.
        channel: ChannelName,
        /// Why.
        source: SecretFileError,
    },
    /// A file with a secret is empty.
    #[error("[notify] channel {channel} cannot be used: {} is empty", file.display())]
    Empty {
        /// The channel.
        channel: ChannelName,
        /// The file.
        file: PathBuf,
    },
    /// The address in a file is none that may be asked.
    #[error("[notify] channel {channel} cannot be used: what {} says {why}", file.display())]
    Address {
        /// The channel.
        channel: ChannelName,
        /// The file.
        file: PathBuf,
        /// What would be right.
        why: &'static str,
    },
    /// The certificates cannot be used.
    #[error("[notify] channel {channel} cannot be used: {} holds no certificates", file.display())]
    Certificates {
        /// The channel.
        channel: ChannelName,
        /// The file.
        file: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No client can be made.
    #[error("[notify] channel {channel} cannot be used")]
    Client {
        /// The channel.
        channel: ChannelName,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What may be done about a message that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Send it again.
    Again,
    /// Send it again, not sooner than the other side asked for.
    After(Duration),
    /// The other side does not want it: somebody must mend something first.
    Never,
}

/// Why a message did not arrive. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct Undelivered {
    pub(super) why: String,
    pub(super) then: Then,
}

impl Undelivered {
    pub(super) fn again(why: impl Into<String>) -> Self {
        Self { why: why.into(), then: Then::Again }
    }

    pub(super) fn never(why: impl Into<String>) -> Self {
        Self { why: why.into(), then: Then::Never }
    }
}
