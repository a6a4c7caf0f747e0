//! Owner, extended attributes, mode and times of what was made, in this order: a new owner clears set-id bits and
//! capabilities, an ACL changes the mode, and everything might change the times.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use muster_share::entry::{Entry, Kind};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use xattr::FileExt;

use super::{Place, WriteError, Writer};

impl Writer {
    /// Dresses an open file or folder.
    pub(super) fn dress(&self, place: Place<'_>, file: &File, entry: &Entry) -> Result<(), WriteError> {
        let owned = self.owner(place, entry, || {
            rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
        });
        for (name, value) in &entry.xattrs {
            self.attribute(place, name, file.set_xattr(OsStr::from_bytes(name), value));
        }
        let mode = Mode::from_raw_mode(self.mode(place, entry, owned));
        rustix::fs::fchmod(file, mode).map_err(place.error("setting the mode of"))?;
        rustix::fs::futimens(file, &times(entry)).map_err(place.error("setting the times of"))
    }

    /// Dresses what cannot be opened for reading: a link, pipe or device, held by a handle that only names it.
    pub(super) fn dress_node(
        &self,
        place: Place<'_>,
        handle: &OwnedFd,
        entry: &Entry,
    ) -> Result<(), WriteError> {
        let owned = self.owner(place, entry, || {
            let (user, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(handle, "", Some(user), Some(group), AtFlags::EMPTY_PATH)
        });
        // Such a handle takes neither attributes nor a mode, but the name of the handle itself does.
        let itself = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        for (name, value) in &entry.xattrs {
            let set = xattr::set_deref(&itself, OsStr::from_bytes(name), value);
            self.attribute(place, name, set);
        }
        if entry.kind != Kind::Symlink {
            let mode = std::fs::Permissions::from_mode(self.mode(place, entry, owned));
            std::fs::set_permissions(&itself, mode).map_err(place.io("setting the mode of"))?;
        }
        rustix::fs::utimensat(handle, "", &times(entry), AtFlags::EMPTY_PATH)
            .map_err(place.error("setting the times of"))
    }

    /// Whether the owner is the entry's afterwards.
    fn owner(&self, place: Place<'_>, entry: &Entry, change: impl FnOnce() -> Result<(), Errno>) -> bool {
        if !self.privileged {
            let own = entry.uid == self.user && entry.gid == self.group;
            if !own {
                self.tell_owner_left();
            }
            return own;
        }
        match change() {
            Ok(()) => true,
            Err(errno) => {
                self.tell_owner_left();
                self.warn(place, format!("owner {}:{} not restored: {errno}", entry.uid, entry.gid));
                false
            }
        }
    }

    /// Set-user-id and set-group-id bits speak for the owner, so they come back only with it.
    fn mode(&self, place: Place<'_>, entry: &Entry, owned: bool) -> u32 {
        if !owned && entry.mode & 0o6000 != 0 {
            self.warn(place, "set-user-id and set-group-id left out: the owner is another".to_owned());
            return entry.mode & 0o1777;
        }
        entry.mode & 0o7777
    }

    fn attribute(&self, place: Place<'_>, name: &[u8], set: io::Result<()>) {
        if let Err(error) = set {
            self.warn(place, format!("extended attribute {} not restored: {error}", name.escape_ascii()));
        }
    }
}

fn times(entry: &Entry) -> Timestamps {
    // Beyond a second is what only a forged entry holds.
    let nanos = i64::from(entry.mtime_nanos.min(999_999_999));
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: entry.mtime_secs, tv_nsec: nanos },
    }
}
