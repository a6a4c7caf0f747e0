//! The stamp of a file: as long as it is the same, so are content and attributes.

use rustix::fs::Stat;

/// What stat(2) tells that changes with content or attributes. The device is no part of it: its number may be another
/// after a restart. Setting times back changes the time of change, and that cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the inode.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content: seconds since 1970, nanoseconds.
    pub modified: (i64, u32),
    /// Last change of content or attributes: seconds since 1970, nanoseconds.
    pub changed: (i64, u32),
}

impl Stamp {
    /// Length of [`Stamp::to_bytes`].
    pub const LEN: usize = 40;

    /// The stamp of a file with this status.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        let nanos = |nanos| u32::try_from(nanos).unwrap_or(0);
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
        }
    }

    /// Its fields in order, big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.inode.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.size.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.modified.0.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.modified.1.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.changed.0.to_be_bytes());
        bytes[36..].copy_from_slice(&self.changed.1.to_be_bytes());
        bytes
    }

    /// What [`Stamp::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let half = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Self {
            inode: word(0),
            size: word(8),
            modified: (word(16).cast_signed(), half(24)),
            changed: (word(28).cast_signed(), half(36)),
        }
    }
}
