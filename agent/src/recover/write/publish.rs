//! Temporary names, and the rename that gives a finished thing its own.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::{IN_THE_WAY, Meeting, Place, WriteError, Writer};

/// What became of a finished thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// It has its name.
    Done,
    /// Something with its name was there already and stays.
    Stays,
    /// A folder is in its place.
    InTheWay,
}

impl Writer {
    /// The temporary name of what will have `name` in the same folder.
    pub(super) fn temporary(&self, name: &[u8]) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.salt).update(name);
        let hash = hasher.finalize().to_hex();
        format!(".muster-part-{}", &hash[..24])
    }

    /// Makes something under the temporary name of a place. What an interrupted run left there is removed.
    pub(super) fn make_temporary<T>(
        &self,
        place: Place<'_>,
        folder: &OwnedFd,
        make: impl Fn(&str) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let temporary = self.temporary(place.name);
        match make(&temporary) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(folder, &temporary, AtFlags::empty())?;
                make(&temporary)
            }
            made => made,
        }
    }

    /// Gives what is finished under its temporary name its own.
    pub(super) fn publish(&self, place: Place<'_>, folder: &OwnedFd) -> Result<Published, WriteError> {
        let temporary = self.temporary(place.name);
        let error = place.error("naming");
        let renamed = match self.meeting {
            Meeting::Fresh | Meeting::Keep => rename_new(folder, &temporary, place.name),
            Meeting::Resume { .. } | Meeting::Replace => {
                rustix::fs::renameat(folder, &temporary, folder, place.name)
            }
        };
        let published = match renamed {
            Ok(()) => return Ok(Published::Done),
            Err(Errno::EXIST) if self.meeting == Meeting::Keep => Published::Stays,
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) if self.meeting != Meeting::Fresh => {
                self.warn(place, IN_THE_WAY.to_owned());
                Published::InTheWay
            }
            Err(errno) => return Err(error(errno)),
        };
        rustix::fs::unlinkat(folder, &temporary, AtFlags::empty()).map_err(error)?;
        Ok(published)
    }
}

/// A rename that replaces nothing, also where the file system has no such call.
fn rename_new(folder: &OwnedFd, from: &str, to: &[u8]) -> Result<(), Errno> {
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to),
            Ok(_) => Err(Errno::EXIST),
            Err(errno) => Err(errno),
        },
        renamed => renamed,
    }
}
