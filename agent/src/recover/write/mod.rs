//! Writes a slice back beneath the folders of its sources. Never touches anything outside them, whatever lies in them:
//! everything is done relative to an open handle of its folder, which is opened beneath the source's own without
//! following links.
//!
//! Whatever is no folder is made under a temporary name, which only tells this recovery, dressed (mode, owner, times),
//! and renamed last: what has its own name is whole. Until then a file has mode 0600 and a new folder 0700. What is left
//! of an interrupted run is taken away when the same thing is made again. Nothing is synchronised to the disk before
//! [`Writer::flush`].
//!
//! Owners are restored only as root; otherwise files lose set-user-id and set-group-id bits, which would speak for the
//! wrong user. All methods take `&self` and may be called from several threads, for each name from one at a time.

mod dress;
mod folder;
mod node;
pub(super) mod owner;
mod publish;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_share::entry::Entry;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::existing::{Meeting, Verdict};
use folder::FOLDER;
pub(super) use folder::{Folder, OpenFolders, Root};
pub(super) use node::Linked;
pub(super) use publish::Published;

/// How many warnings of a service are kept; further ones are counted.
pub(super) const WARNINGS_MAX: usize = 1000;

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused.
    #[error("{doing} {} failed", path.display())]
    System {
        /// The source's folder joined with the entry's path.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// A name in a folder; the folder itself where the name is empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a Arc<Folder>,
    pub(super) name: &'a [u8],
}

impl Place<'_> {
    fn path(self) -> PathBuf {
        self.folder.root.path.join(std::ffi::OsStr::from_bytes(&self.folder.join(self.name)))
    }

    fn error(self, doing: &'static str) -> impl Fn(Errno) -> WriteError {
        move |errno| WriteError::System { path: self.path(), doing, error: errno.into() }
    }

    pub(super) fn io(self, doing: &'static str) -> impl Fn(io::Error) -> WriteError {
        move |error| WriteError::System { path: self.path(), doing, error }
    }
}

/// What became of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FolderMade {
    /// It is there; the entry's mode, owner and times are to come.
    Dress,
    /// It was there and stays as it is; things are made in it.
    Stays,
    /// Something else has its name and stays.
    Blocked,
}

/// Warnings: path with its source before it, and what.
pub(super) type Warnings = (Vec<(Vec<u8>, String)>, u64);

/// What writes one slice.
#[derive(Debug)]
pub(super) struct Writer {
    meeting: Meeting,
    /// Makes temporary names this recovery's own.
    salt: [u8; 16],
    privileged: bool,
    user: u32,
    group: u32,
    warnings: Mutex<Warnings>,
    owners_left: AtomicU64,
}

impl Writer {
    /// `salt` is the round's id: no slice of it can hold the temporary names that come of it, as it was not known when
    /// they were captured.
    pub(super) fn new(meeting: Meeting, salt: [u8; 16]) -> Self {
        Self {
            meeting,
            salt,
            privileged: rustix::process::geteuid().is_root(),
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            warnings: Mutex::default(),
            owners_left: AtomicU64::new(0),
        }
    }

    /// Makes or opens a folder beneath `parent`, which is trusted, for a source.
    ///
    /// # Errors
    /// When it cannot be made or opened, or something else has its name.
    pub(super) fn root(&self, parent: &OwnedFd, path: &Path, source: &str) -> Result<Arc<Root>, WriteError> {
        let (handle, made) = open_or_make(parent, path, source)?;
        if !made && matches!(self.meeting, Meeting::Resume { .. }) {
            // An earlier run may have closed it already, also to its owner. What that matters shows soon enough.
            let _ = rustix::fs::fchmod(&handle, Mode::RWXU);
        }
        Ok(self.root_at(handle, path.join(source), source, made))
    }

    /// The folder of a source, which lies anywhere and is open.
    pub(super) fn root_at(&self, handle: OwnedFd, path: PathBuf, source: &str, made: bool) -> Arc<Root> {
        let stays = !made && self.meeting == Meeting::Keep;
        let (source, no_openat2) = (source.to_owned(), AtomicBool::new(false));
        Arc::new(Root { handle, stays, path, source, no_openat2 })
    }

    /// The folder that a single file lies in: it is not the source's, and stays as it is.
    pub(super) fn foreign_root(&self, handle: OwnedFd, path: PathBuf, source: &str) -> Arc<Root> {
        let (source, no_openat2) = (source.to_owned(), AtomicBool::new(false));
        Arc::new(Root { handle, stays: true, path, source, no_openat2 })
    }

    /// Makes a folder, closed to others until it is dressed. The source's own is there already.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn make_folder(
        &self,
        open: &mut OpenFolders,
        place: Place<'_>,
    ) -> Result<FolderMade, WriteError> {
        let (handle, name) = (open.at(place)?, place.name);
        let make = || rustix::fs::mkdirat(&*handle, name, Mode::RWXU);
        match make() {
            Err(Errno::EXIST) if self.meeting != Meeting::Fresh => {}
            made => return made.map(|()| FolderMade::Dress).map_err(place.error("creating")),
        }
        let stat =
            rustix::fs::statat(&*handle, name, AtFlags::SYMLINK_NOFOLLOW).map_err(place.error("reading"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return match self.meeting {
                Meeting::Keep => Ok(FolderMade::Stays),
                Meeting::Fresh | Meeting::Replace => Ok(FolderMade::Dress),
                Meeting::Resume { .. } => {
                    // An earlier run may have closed it already, also to its owner.
                    let there = rustix::fs::openat(&*handle, name, FOLDER, Mode::empty());
                    if let Ok(there) = there {
                        rustix::fs::fchmod(there, Mode::RWXU).map_err(place.error("opening"))?;
                    }
                    Ok(FolderMade::Dress)
                }
            };
        }
        if self.meeting == Meeting::Keep {
            self.warn(
                place,
                "what is there is no folder and stays: nothing beneath it is recovered".to_owned(),
            );
            return Ok(FolderMade::Blocked);
        }
        rustix::fs::unlinkat(&*handle, name, AtFlags::empty()).map_err(place.error("replacing"))?;
        make().map(|()| FolderMade::Dress).map_err(place.error("creating"))
    }

    /// Gives a folder its owner, attributes, mode and times: when nothing more will be made in it.
    ///
    /// # Errors
    /// When the system refuses mode or times; attributes and owners only cause warnings.
    pub(super) fn finish_folder(&self, folder: &Arc<Folder>, entry: &Entry) -> Result<(), WriteError> {
        let place = folder.place(b"");
        let handle = folder.root.open(&folder.path).map_err(place.error("opening"))?;
        self.dress(place, &File::from(handle), entry)
    }

    /// What to do about a name that `entry`, no folder, wants. Cheap where nothing can be there.
    ///
    /// # Errors
    /// When the system refuses to tell.
    pub(super) fn verdict(
        &self,
        open: &mut OpenFolders,
        place: Place<'_>,
        entry: &Entry,
    ) -> Result<Verdict, WriteError> {
        if self.meeting == Meeting::Fresh {
            return Ok(Verdict::Make);
        }
        let (handle, name) = (open.at(place)?, place.name);
        let there = match rustix::fs::statat(&*handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Verdict::Make),
            there => there.map_err(place.error("reading"))?,
        };
        let same_target = || {
            let target = rustix::fs::readlinkat(&*handle, name, Vec::new());
            target.is_ok_and(|target| entry.target.as_ref().is_some_and(|want| want == target.as_bytes()))
        };
        let verdict = self.meeting.verdict(&there, entry, same_target);
        if verdict == Verdict::InTheWay {
            self.warn(place, IN_THE_WAY.to_owned());
        }
        Ok(verdict)
    }

    /// Creates an empty file under its temporary name; only its owner may read it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn create_file(&self, open: &mut OpenFolders, place: Place<'_>) -> Result<File, WriteError> {
        let handle = open.at(place)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = |name: &str| rustix::fs::openat(&*handle, name, flags, Mode::RUSR | Mode::WUSR);
        self.make_temporary(place, &handle, create).map(File::from).map_err(place.error("creating"))
    }

    /// Opens a file again that [`Self::create_file`] created and that is not finished.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn reopen_file(&self, open: &mut OpenFolders, place: Place<'_>) -> Result<File, WriteError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*open.at(place)?, self.temporary(place.name), flags, Mode::empty());
        file.map(File::from).map_err(place.error("opening"))
    }

    /// Gives a whole file its length (`entry.size`), owner, extended attributes, mode, times and, last, its name.
    ///
    /// # Errors
    /// When the system refuses length, mode, times or name; attributes and owners only cause warnings.
    pub(super) fn finish_file(
        &self,
        open: &mut OpenFolders,
        place: Place<'_>,
        file: &File,
        entry: &Entry,
    ) -> Result<Published, WriteError> {
        let have = file.metadata().map_err(place.io("reading"))?.len();
        if have != entry.size {
            file.set_len(entry.size).map_err(place.io("setting the length of"))?;
        }
        self.dress(place, file, entry)?;
        self.publish(place, &*open.at(place)?)
    }

    /// Removes what there is of a file that will not be finished.
    pub(super) fn abandon(&self, open: &mut OpenFolders, place: Place<'_>) {
        // What cannot be removed is under a temporary name, and goes when it is recovered after all.
        if let Ok(handle) = open.at(place) {
            let _ = rustix::fs::unlinkat(&*handle, self.temporary(place.name), AtFlags::empty());
        }
    }

    /// Flushes everything that was made beneath `root` to the disk: the only synchronisation of a recovery.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn flush(&self, root: &Root) -> Result<(), WriteError> {
        rustix::fs::syncfs(&root.handle).map_err(|errno| WriteError::System {
            path: root.path.clone(),
            doing: "flushing",
            error: errno.into(),
        })
    }

    /// What could not be restored so far, and how many more warnings there were.
    pub(super) fn warnings(&self) -> Warnings {
        lock(&self.warnings).clone()
    }

    /// How many things have another owner than the entry says.
    pub(super) fn owners_left(&self) -> u64 {
        self.owners_left.load(Ordering::Relaxed)
    }

    fn tell_owner_left(&self) {
        self.owners_left.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn warn(&self, place: Place<'_>, what: String) {
        let mut warnings = lock(&self.warnings);
        if warnings.0.len() < WARNINGS_MAX {
            warnings.0.push((place.folder.shown(place.name), what));
        } else {
            warnings.1 += 1;
        }
    }
}

/// A folder beneath a trusted one, and whether it had to be made; a link in its place is not followed.
///
/// # Errors
/// When it cannot be made or opened, or something else has its name.
pub(super) fn open_or_make(parent: &OwnedFd, path: &Path, name: &str) -> Result<(OwnedFd, bool), WriteError> {
    let error =
        |doing| move |errno: Errno| WriteError::System { path: path.join(name), doing, error: errno.into() };
    let made = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => false,
        made => made.map(|()| true).map_err(error("creating"))?,
    };
    let opened = rustix::fs::openat(parent, name, FOLDER, Mode::empty()).map_err(error("opening"))?;
    Ok((opened, made))
}

const IN_THE_WAY: &str = "left out: a folder is in its place";

/// A thread that panicked has left nothing half done behind these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
