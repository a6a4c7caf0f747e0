//! What a recovery does about what lies in its target already.

use muster_share::entry::{Entry, Kind};
use rustix::fs::{FileType, Stat};

/// What becomes of what is there. Folders are never removed, and nothing is touched that the index does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// The target must be absent or empty.
    #[default]
    Refuse,
    /// What is there stays as it is; only what is absent is made.
    Keep,
    /// What is there and is no folder is replaced, by renaming the new over it.
    Replace,
}

/// How a recovery meets what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// Nothing is there but what this recovery made.
    Fresh,
    /// An earlier run of this recovery was here: what it finished is not made again, where that can be believed.
    Resume {
        /// The machine has run on since, so what was renamed was also written.
        believed: bool,
    },
    /// See [`Existing::Keep`].
    Keep,
    /// See [`Existing::Replace`].
    Replace,
}

/// What to do about one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Make it.
    Make,
    /// It is there and stays.
    Stays,
    /// A folder is in its place, and folders are never removed.
    InTheWay,
}

impl Meeting {
    /// What to do about `entry`, which is no folder, where `there` has its name. `same_target` tells of symbolic links
    /// whether they lead to the same.
    pub(super) fn verdict(self, there: &Stat, entry: &Entry, same_target: impl FnOnce() -> bool) -> Verdict {
        let folder = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        match self {
            Self::Fresh => Verdict::Make,
            Self::Keep => Verdict::Stays,
            Self::Resume { .. } | Self::Replace if folder => Verdict::InTheWay,
            Self::Resume { believed: true }
                if is_whole(there, entry) && (entry.kind != Kind::Symlink || same_target()) =>
            {
                Verdict::Stays
            }
            Self::Resume { .. } | Self::Replace => Verdict::Make,
        }
    }
}

/// An earlier run gave things their names last, so what has kind, length and time of the entry is finished.
fn is_whole(there: &Stat, entry: &Entry) -> bool {
    let kind = match entry.kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    };
    let device = entry.device.map(|(major, minor)| rustix::fs::makedev(major, minor));
    FileType::from_raw_mode(there.st_mode) == kind
        && (kind != FileType::RegularFile || u64::try_from(there.st_size) == Ok(entry.size))
        && there.st_mtime == entry.mtime_secs
        && u32::try_from(there.st_mtime_nsec) == Ok(entry.mtime_nanos)
        && device.is_none_or(|device| device == there.st_rdev)
}
