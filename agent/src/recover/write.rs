//! Writes one source back into a new folder. Never touches anything outside that folder, whatever lies in it: every
//! path is opened beneath an open handle of it without following links.
//!
//! While it is written, a file has mode 0600 and a folder 0700; mode, owner and times come when they are finished,
//! folders last of all. Owners are restored by number and only as root; otherwise files lose set-user-id and
//! set-group-id bits, which would otherwise speak for the wrong user.
//!
//! At most [`OPEN_FILES_MAX`] files are open at a time: the one used longest ago is closed and opened again on demand.
//! All methods take `&self` and may be called from several threads, each file from one at a time.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_share::entry::Entry;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use serde_bytes::ByteBuf;

use super::plan::{Planned, SafePath, Step};

/// How many files are open at a time.
pub const OPEN_FILES_MAX: usize = 128;
/// How many warnings are kept; further ones are counted.
pub const WARNINGS_MAX: usize = 1000;

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The target folder is there already.
    #[error("{} already exists; recovery writes into a new folder", target.display())]
    Exists {
        /// The folder.
        target: PathBuf,
    },
    /// The system refused.
    #[error("{doing} {} failed", path.display())]
    System {
        /// The target folder joined with the entry's path.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// What could not be restored of something that is otherwise there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where, relative to the target folder.
    pub path: SafePath,
    /// What is missing.
    pub what: String,
}

/// A file that is being written.
#[derive(Debug)]
pub struct FileHandle {
    path: SafePath,
    number: u64,
}

impl FileHandle {
    /// Where, relative to the target folder.
    #[must_use]
    pub fn path(&self) -> &SafePath {
        &self.path
    }
}

/// One source's target folder.
#[derive(Debug)]
pub struct Writer {
    target: PathBuf,
    root: OwnedFd,
    privileged: bool,
    user: u32,
    group: u32,
    no_openat2: AtomicBool,
    numbers: AtomicU64,
    open: Mutex<Open>,
    /// The folder that was last written to: entries of one folder mostly come together.
    parent: Mutex<Option<(Vec<u8>, Arc<OwnedFd>)>>,
    folders: Mutex<Vec<(SafePath, Entry)>>,
    warnings: Mutex<(Vec<Warning>, u64)>,
}

/// Open files by number, each with the moment of its last use.
#[derive(Debug, Default)]
struct Open {
    files: HashMap<u64, (Arc<File>, u64)>,
    clock: u64,
}

impl Writer {
    /// Creates the target folder, whose parent must exist and is trusted.
    ///
    /// # Errors
    /// When the folder exists or cannot be created.
    pub fn create(target: &Path) -> Result<Self, WriteError> {
        let error = |doing| {
            move |errno: Errno| WriteError::System { path: target.to_owned(), doing, error: errno.into() }
        };
        match rustix::fs::mkdir(target, Mode::RWXU) {
            Err(Errno::EXIST) => return Err(WriteError::Exists { target: target.to_owned() }),
            made => made.map_err(error("creating"))?,
        }
        let root = rustix::fs::open(target, FOLDER, Mode::empty()).map_err(error("opening"))?;
        Ok(Self {
            target: target.to_owned(),
            root,
            privileged: rustix::process::geteuid().is_root(),
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            no_openat2: AtomicBool::new(false),
            numbers: AtomicU64::new(0),
            open: Mutex::default(),
            parent: Mutex::new(None),
            folders: Mutex::default(),
            warnings: Mutex::default(),
        })
    }

    /// Makes what the plan says. A file is only begun: its handle is returned.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn make(&self, planned: &Planned, entry: &Entry) -> Result<Option<FileHandle>, WriteError> {
        let path = &planned.path;
        match &planned.step {
            Step::Directory => self.directory(path, entry)?,
            Step::File => return self.create_file(path).map(Some),
            Step::HardLink { target } => self.hard_link(path, target)?,
            Step::Symlink { target } => self.symlink(path, target, entry)?,
            Step::Fifo => self.node(path, entry, FileType::Fifo, 0)?,
            Step::CharDevice { major, minor } => {
                self.device(path, entry, FileType::CharacterDevice, *major, *minor)?
            }
            Step::BlockDevice { major, minor } => {
                self.device(path, entry, FileType::BlockDevice, *major, *minor)?
            }
            Step::Missing(_) => {}
        }
        Ok(None)
    }

    /// Creates a folder; its mode, owner and times come with [`Self::finish_directories`]. The root is there already.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn directory(&self, path: &SafePath, entry: &Entry) -> Result<(), WriteError> {
        if let Some((parent, name)) = path.split() {
            let parent = self.parent(path, parent)?;
            rustix::fs::mkdirat(&*parent, name, Mode::RWXU).map_err(self.error(path, "creating"))?;
        }
        lock(&self.folders).push((path.clone(), entry.clone()));
        Ok(())
    }

    /// Creates an empty file that only its owner may read.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create_file(&self, path: &SafePath) -> Result<FileHandle, WriteError> {
        let (parent, name) = self.place(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(self.error(path, "creating"))?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(number, Arc::new(File::from(file)));
        Ok(FileHandle { path: path.clone(), number })
    }

    /// Writes `bytes` at `offset`, in bytes. What is never written stays a hole.
    ///
    /// # Errors
    /// When the system refuses; the file is then unfinished.
    pub fn write_at(&self, handle: &FileHandle, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.file(handle)?.write_all_at(bytes, offset).map_err(self.io(&handle.path, "writing"))
    }

    /// Gives the file its length (`entry.size`), owner, extended attributes, mode and times.
    ///
    /// # Errors
    /// When the system refuses length, mode or times; attributes and owners only cause warnings.
    pub fn finish(&self, handle: FileHandle, entry: &Entry) -> Result<(), WriteError> {
        let path = &handle.path;
        let file = self.file(&handle)?;
        lock(&self.open).files.remove(&handle.number);
        file.set_len(entry.size).map_err(self.io(path, "setting the length of"))?;
        self.dress(path, &file, entry)
    }

    /// Removes a file that will not be finished.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn abandon(&self, handle: FileHandle) -> Result<(), WriteError> {
        lock(&self.open).files.remove(&handle.number);
        let (parent, name) = self.place(&handle.path)?;
        rustix::fs::unlinkat(&*parent, name, AtFlags::empty()).map_err(self.error(&handle.path, "removing"))
    }

    /// Gives another name to a file that this writer has created.
    ///
    /// # Errors
    /// When the system refuses, or `target` is not a regular file.
    pub fn hard_link(&self, path: &SafePath, target: &SafePath) -> Result<(), WriteError> {
        let (from, from_name) = self.place(target)?;
        let stat = rustix::fs::statat(&*from, from_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.error(target, "reading"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error(path, "linking")(Errno::INVAL));
        }
        let (to, to_name) = self.place(path)?;
        rustix::fs::linkat(&*from, from_name, &*to, to_name, AtFlags::empty())
            .map_err(self.error(path, "linking"))
    }

    /// Creates a symbolic link; `target` is kept raw and never followed.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn symlink(&self, path: &SafePath, target: &[u8], entry: &Entry) -> Result<(), WriteError> {
        let (parent, name) = self.place(path)?;
        rustix::fs::symlinkat(target, &*parent, name).map_err(self.error(path, "creating"))?;
        self.dress_node(path, &parent, name, entry, false)
    }

    /// Gives all folders their owner, attributes, mode and times, deepest first, and flushes everything to the disk.
    ///
    /// # Errors
    /// When the system refuses; the folders not reached keep mode 0700.
    pub fn finish_directories(&self) -> Result<(), WriteError> {
        *lock(&self.parent) = None;
        let folders = std::mem::take(&mut *lock(&self.folders));
        // Parents were created before their children.
        for (path, entry) in folders.iter().rev() {
            let folder = self.folder(path.as_bytes()).map_err(self.error(path, "opening"))?;
            self.dress(path, &File::from(folder), entry)?;
        }
        let root = SafePath::parse(b"").expect("the empty path is the root");
        rustix::fs::syncfs(&self.root).map_err(self.error(&root, "flushing"))
    }

    /// What could not be restored so far, and how many more warnings there were.
    #[must_use]
    pub fn warnings(&self) -> (Vec<Warning>, u64) {
        lock(&self.warnings).clone()
    }

    fn device(
        &self,
        path: &SafePath,
        entry: &Entry,
        kind: FileType,
        major: u32,
        minor: u32,
    ) -> Result<(), WriteError> {
        if !self.privileged {
            self.warn(path, format!("device {major}:{minor} left out: only root may create devices"));
            return Ok(());
        }
        self.node(path, entry, kind, rustix::fs::makedev(major, minor))
    }

    fn node(&self, path: &SafePath, entry: &Entry, kind: FileType, device: u64) -> Result<(), WriteError> {
        let (parent, name) = self.place(path)?;
        match rustix::fs::mknodat(&*parent, name, kind, Mode::RUSR | Mode::WUSR, device) {
            Err(Errno::PERM) if kind != FileType::Fifo => {
                self.warn(path, "device left out: the system does not permit it".to_owned());
                return Ok(());
            }
            made => made.map_err(self.error(path, "creating"))?,
        }
        self.dress_node(path, &parent, name, entry, true)
    }

    /// Owner, attributes, mode, times, in this order: a new owner clears set-id bits and capabilities, an ACL changes
    /// the mode, and everything might change the times.
    fn dress(&self, path: &SafePath, file: &File, entry: &Entry) -> Result<(), WriteError> {
        if self.privileged {
            let (user, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            self.owner(path, entry, rustix::fs::fchown(file, Some(user), Some(group)));
        }
        for (name, value) in &entry.xattrs {
            use xattr::FileExt;
            self.attribute(path, name, file.set_xattr(OsStr::from_bytes(name), value));
        }
        rustix::fs::fchmod(file, self.mode(path, entry)).map_err(self.error(path, "setting the mode of"))?;
        rustix::fs::futimens(file, &times(entry)).map_err(self.error(path, "setting the times of"))
    }

    fn dress_node(
        &self,
        path: &SafePath,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        has_mode: bool,
    ) -> Result<(), WriteError> {
        if self.privileged {
            let (user, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            let owned = rustix::fs::chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW);
            self.owner(path, entry, owned);
        }
        if !entry.xattrs.is_empty() {
            // There is no call that sets attributes beside a handle; the handle's own name stands in for the folder.
            let real =
                Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(OsStr::from_bytes(name));
            for (name, value) in &entry.xattrs {
                self.attribute(path, name, xattr::set(&real, OsStr::from_bytes(name), value));
            }
        }
        if has_mode {
            // The name is not a link: it was made a moment ago in a folder that is closed to others.
            rustix::fs::chmodat(parent, name, self.mode(path, entry), AtFlags::empty())
                .map_err(self.error(path, "setting the mode of"))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.error(path, "setting the times of"))
    }

    fn mode(&self, path: &SafePath, entry: &Entry) -> Mode {
        let foreign = entry.uid != self.user || entry.gid != self.group;
        if !self.privileged && foreign && entry.mode & 0o6000 != 0 {
            self.warn(path, "set-user-id and set-group-id left out: the owner is another".to_owned());
            return Mode::from_raw_mode(entry.mode & 0o1777);
        }
        Mode::from_raw_mode(entry.mode & 0o7777)
    }

    fn owner(&self, path: &SafePath, entry: &Entry, owned: Result<(), Errno>) {
        if let Err(errno) = owned {
            self.warn(path, format!("owner {}:{} not restored: {errno}", entry.uid, entry.gid));
        }
    }

    fn attribute(&self, path: &SafePath, name: &ByteBuf, set: io::Result<()>) {
        if let Err(error) = set {
            self.warn(path, format!("extended attribute {} not restored: {error}", name.escape_ascii()));
        }
    }

    fn warn(&self, path: &SafePath, what: String) {
        let mut warnings = lock(&self.warnings);
        if warnings.0.len() < WARNINGS_MAX {
            warnings.0.push(Warning { path: path.clone(), what });
        } else {
            warnings.1 += 1;
        }
    }

    fn file(&self, handle: &FileHandle) -> Result<Arc<File>, WriteError> {
        if let Some(file) = lock(&self.open).touch(handle.number) {
            return Ok(file);
        }
        let (parent, name) = self.place(&handle.path)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*parent, name, flags, Mode::empty())
            .map_err(self.error(&handle.path, "opening"))?;
        let file = Arc::new(File::from(file));
        lock(&self.open).insert(handle.number, Arc::clone(&file));
        Ok(file)
    }

    /// The open parent folder and the last part of a path that is not the root.
    fn place<'a>(&self, path: &'a SafePath) -> Result<(Arc<OwnedFd>, &'a [u8]), WriteError> {
        let (parent, name) = path.split().ok_or_else(|| self.error(path, "replacing")(Errno::ISDIR))?;
        Ok((self.parent(path, parent)?, name))
    }

    fn parent(&self, path: &SafePath, parent: &[u8]) -> Result<Arc<OwnedFd>, WriteError> {
        if let Some((_, handle)) = lock(&self.parent).as_ref().filter(|(known, _)| known == parent) {
            return Ok(Arc::clone(handle));
        }
        let handle = Arc::new(self.folder(parent).map_err(self.error(path, "opening the folder of"))?);
        *lock(&self.parent) = Some((parent.to_vec(), Arc::clone(&handle)));
        Ok(handle)
    }

    /// Opens a folder beneath the root without following any link: at once by openat2(2), or part by part where that
    /// is missing (before Linux 5.6) or filtered.
    fn folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return rustix::fs::openat(&self.root, ".", FOLDER, Mode::empty());
        }
        if !self.no_openat2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.root, path, FOLDER, Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM) => self.no_openat2.store(true, Ordering::Relaxed),
                opened => return opened,
            }
        }
        let mut handle = rustix::fs::openat(&self.root, ".", FOLDER, Mode::empty())?;
        for part in path.split(|byte| *byte == b'/') {
            handle = rustix::fs::openat(&handle, part, FOLDER, Mode::empty())?;
        }
        Ok(handle)
    }

    fn error<'a>(&'a self, path: &'a SafePath, doing: &'static str) -> impl Fn(Errno) -> WriteError + 'a {
        move |errno| WriteError::System { path: self.target.join(path.as_path()), doing, error: errno.into() }
    }

    fn io<'a>(&'a self, path: &'a SafePath, doing: &'static str) -> impl Fn(io::Error) -> WriteError + 'a {
        move |error| WriteError::System { path: self.target.join(path.as_path()), doing, error }
    }
}

/// How folders are opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Open {
    fn touch(&mut self, number: u64) -> Option<Arc<File>> {
        self.clock += 1;
        let (file, used) = self.files.get_mut(&number)?;
        *used = self.clock;
        Some(Arc::clone(file))
    }

    fn insert(&mut self, number: u64, file: Arc<File>) {
        if self.files.len() >= OPEN_FILES_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(number, _)| *number);
            oldest.and_then(|number| self.files.remove(&number));
        }
        self.clock += 1;
        self.files.insert(number, (file, self.clock));
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

/// A thread that panicked has left nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
