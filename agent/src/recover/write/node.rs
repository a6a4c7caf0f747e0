//! What is no file and no folder: symbolic links, pipes, devices; and hard links.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use muster_share::entry::Entry;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::path::SafePath;
use super::super::plan::Step;
use super::{OpenFolders, Place, Published, WriteError, Writer};

/// What became of a hard link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linked {
    /// It is there, or was.
    Done(Published),
    /// What it leads to is no regular file of this target.
    NoTarget,
}

impl Writer {
    /// Makes a link, pipe or device; `None` when this user may not.
    ///
    /// # Errors
    /// When the system refuses anything else.
    pub(crate) fn make_node(
        &self,
        open: &mut OpenFolders,
        place: Place<'_>,
        step: &Step,
        entry: &Entry,
    ) -> Result<Option<Published>, WriteError> {
        let handle = open.at(place)?;
        let (kind, device) = match step {
            Step::Symlink { .. } => (FileType::Symlink, 0),
            Step::Fifo => (FileType::Fifo, 0),
            Step::CharDevice { major, minor } => {
                (FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
            }
            Step::BlockDevice { major, minor } => {
                (FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
            Step::Directory | Step::File | Step::HardLink { .. } | Step::Missing(_) => return Ok(None),
        };
        let make = |temporary: &str| match step {
            Step::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), &*handle, temporary),
            Step::Directory
            | Step::File
            | Step::HardLink { .. }
            | Step::Fifo
            | Step::CharDevice { .. }
            | Step::BlockDevice { .. }
            | Step::Missing(_) => {
                rustix::fs::mknodat(&*handle, temporary, kind, Mode::RUSR | Mode::WUSR, device)
            }
        };
        match self.make_temporary(place, &handle, make) {
            Err(Errno::PERM) if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) => {
                let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
                self.warn(place, format!("device {major}:{minor} left out: only root may create devices"));
                return Ok(None);
            }
            made => made.map_err(place.error("creating"))?,
        }
        let node = self.own(&handle, &self.temporary(place.name), kind).map_err(place.error("opening"))?;
        self.dress_node(place, &node, entry)?;
        self.publish(place, &handle).map(Some)
    }

    /// Another name for a file beneath the same root.
    ///
    /// # Errors
    /// When the system refuses, but for what the link leads to.
    pub(crate) fn hard_link(
        &self,
        open: &mut OpenFolders,
        place: Place<'_>,
        target: &SafePath,
    ) -> Result<Linked, WriteError> {
        let (folder, name) = (place.folder, place.name);
        let Some((parent, target_name)) = target.split() else { return Ok(Linked::NoTarget) };
        let from =
            if parent == folder.path { open.get(folder) } else { folder.root.open(parent).map(Arc::new) };
        let from = match from {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(Linked::NoTarget),
            from => from.map_err(place.error("opening what is linked by"))?,
        };
        let file = match rustix::fs::statat(&*from, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Linked::NoTarget),
            file => file.map_err(place.error("reading what is linked by"))?,
        };
        if FileType::from_raw_mode(file.st_mode) != FileType::RegularFile {
            return Ok(Linked::NoTarget);
        }
        let to = open.at(place)?;
        // A rename between two names of one file does nothing.
        let there = rustix::fs::statat(&*to, name, AtFlags::SYMLINK_NOFOLLOW);
        if there.is_ok_and(|there| same(&there, &file)) {
            return Ok(Linked::Done(Published::Done));
        }
        let link = |name: &str| rustix::fs::linkat(&*from, target_name, &*to, name, AtFlags::empty());
        self.make_temporary(place, &to, link).map_err(place.error("linking"))?;
        self.publish(place, &to).map(Linked::Done)
    }

    /// A handle of what was made a moment ago. Where others may write to the folder it could be something of theirs by
    /// now, which must not get an owner or a mode.
    fn own(&self, folder: &OwnedFd, temporary: &str, kind: FileType) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(folder, temporary, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&node)?;
        let own = stat.st_uid == self.user && stat.st_nlink == 1;
        if own && FileType::from_raw_mode(stat.st_mode) == kind { Ok(node) } else { Err(Errno::STALE) }
    }
}

fn same(one: &Stat, two: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
}
