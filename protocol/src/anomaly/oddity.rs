//! What can be odd about a slice, and how it is told.

use std::fmt;
use std::time::Duration;

use crate::units::{format_duration, format_size};

/// One way in which a slice is not like those before it, with the figures that say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// Less than half of the data is left.
    Shrunk {
        /// Bytes now.
        bytes: u64,
        /// And usually.
        usual: u64,
    },
    /// The data has more than doubled.
    Grown {
        /// Bytes now.
        bytes: u64,
        /// And usually.
        usual: u64,
    },
    /// Less than half of the files and folders are left.
    Fewer {
        /// Entries now.
        entries: u64,
        /// And usually.
        usual: u64,
    },
    /// Half or more of the data is new, and usually a fifth of that at most.
    Rewritten {
        /// What is new, in thousandths.
        changed: u64,
        /// What usually is.
        usual: u64,
        /// What the data takes on the share, in thousandths of its size.
        packed: u64,
        /// What it usually takes.
        usual_packed: u64,
        /// It hardly compresses: encryption cannot be told from any other reason.
        opaque: bool,
    },
    /// It took more than four times as long as usual.
    Slow {
        /// Milliseconds now.
        millis: u64,
        /// And usually.
        usual: u64,
    },
}

impl Oddity {
    /// Whether data may be lost: then time alone makes nothing usual.
    #[must_use]
    pub fn may_be_loss(&self) -> bool {
        match self {
            Self::Shrunk { .. } | Self::Fewer { .. } => true,
            Self::Rewritten { opaque, .. } => *opaque,
            Self::Grown { .. } | Self::Slow { .. } => false,
        }
    }

    /// Whether a later slice that is like the former ones proves nothing: whoever encrypts data does it once, and what follows
    /// is quiet.
    #[must_use]
    pub fn outlasts_quiet(&self) -> bool {
        match self {
            Self::Rewritten { opaque, .. } => *opaque,
            Self::Shrunk { .. } | Self::Fewer { .. } | Self::Grown { .. } | Self::Slow { .. } => false,
        }
    }

    /// Whether both are of one kind, whatever the figures.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shrunk { bytes, usual } | Self::Grown { bytes, usual } => {
                write!(f, "it holds {}, usually {}", format_size(*bytes), format_size(*usual))
            }
            Self::Fewer { entries, usual } => write!(f, "it holds {entries} entries, usually {usual}"),
            Self::Rewritten { changed, usual, packed, usual_packed, opaque } => {
                write!(f, "{} of its data is new, usually {}", Percent(*changed), Percent(*usual))?;
                if !opaque {
                    return write!(f, "; it compresses as before, which encrypted data does not");
                }
                let (packed, usual) = (Percent(*packed), Percent(*usual_packed));
                write!(
                    f,
                    "; compressed it takes {packed} of its size, usually {usual}: so does encrypted data"
                )
            }
            Self::Slow { millis, usual } => {
                let time = |millis: &u64| format_duration(Duration::from_secs(millis / 1_000));
                write!(f, "it took {}, usually {}", time(millis), time(usual))
            }
        }
    }
}

/// Thousandths, for people.
struct Percent(u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0.saturating_add(5) / 10)
    }
}
