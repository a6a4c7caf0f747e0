//! Folders of a target: found again from the source's own folder without following any link, however deep.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::path::CALL_BYTES_MAX;
use super::{Place, WriteError};

/// How many folders a thread keeps open.
const OPEN_FOLDERS_MAX: usize = 16;

/// How folders are opened.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder that one source is recovered to.
#[derive(Debug)]
pub(crate) struct Root {
    /// Where, for messages.
    pub(super) path: PathBuf,
    /// The source's name.
    pub(crate) source: String,
    /// It was there before, and stays as it is.
    pub(crate) stays: bool,
    pub(super) handle: OwnedFd,
    pub(super) no_openat2: AtomicBool,
}

/// A folder beneath it, or itself.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) root: Arc<Root>,
    /// Path in the source, raw.
    pub(crate) path: Vec<u8>,
    /// Something else has its name and stays: nothing can be made in it.
    pub(crate) blocked: bool,
}

impl Folder {
    /// The place of this name in it; its own without a name.
    pub(crate) fn place<'a>(self: &'a Arc<Self>, name: &'a [u8]) -> Place<'a> {
        Place { folder: self, name }
    }

    /// The path of what has this name in it; of itself without a name.
    pub(crate) fn join(&self, name: &[u8]) -> Vec<u8> {
        match (self.path.as_slice(), name) {
            ([], name) => name.to_vec(),
            (path, []) => path.to_vec(),
            (path, name) => [path, b"/", name].concat(),
        }
    }

    /// The same with the source's name before it, as reports have it.
    pub(crate) fn shown(&self, name: &[u8]) -> Vec<u8> {
        [self.root.source.as_bytes(), b"/", &self.join(name)].concat()
    }
}

impl Root {
    /// Opens a folder beneath the root: by openat2(2), or part by part where that is missing (before Linux 5.6) or
    /// filtered. Takes as much of the path at once as the system does.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut handle = rustix::fs::openat(&self.handle, ".", FOLDER, Mode::empty())?;
        let mut rest = path;
        while !rest.is_empty() {
            let whole = self.no_openat2.load(Ordering::Relaxed);
            let (first, after) = cut(rest, if whole { 0 } else { CALL_BYTES_MAX });
            let opened = if whole {
                rustix::fs::openat(&handle, first, FOLDER, Mode::empty())
            } else {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                rustix::fs::openat2(&handle, first, FOLDER, Mode::empty(), resolve)
            };
            match opened {
                Err(Errno::NOSYS | Errno::PERM) if !whole => {
                    self.no_openat2.store(true, Ordering::Relaxed);
                    continue;
                }
                opened => handle = opened?,
            }
            rest = after;
        }
        Ok(handle)
    }
}

/// As many parts of a path as fit `most` bytes, at least one, and those behind them.
fn cut(path: &[u8], most: usize) -> (&[u8], &[u8]) {
    if path.len() <= most {
        return (path, &[]);
    }
    let within = path[..most].iter().rposition(|byte| *byte == b'/');
    match within.or_else(|| path.iter().position(|byte| *byte == b'/')) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, &[]),
    }
}

/// The folders that a thread used last, open. Entries of one folder mostly come together.
#[derive(Debug, Default)]
pub(crate) struct OpenFolders(VecDeque<(Arc<Folder>, Arc<OwnedFd>)>);

impl OpenFolders {
    /// The folder that a name is in.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn at(&mut self, place: Place<'_>) -> Result<Arc<OwnedFd>, WriteError> {
        self.get(place.folder).map_err(place.error("opening the folder of"))
    }

    pub(super) fn get(&mut self, folder: &Arc<Folder>) -> Result<Arc<OwnedFd>, Errno> {
        if let Some((_, handle)) = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, folder)) {
            return Ok(Arc::clone(handle));
        }
        let handle = Arc::new(folder.root.open(&folder.path)?);
        self.put(folder, &handle);
        Ok(handle)
    }

    pub(super) fn put(&mut self, folder: &Arc<Folder>, handle: &Arc<OwnedFd>) {
        self.0.truncate(OPEN_FOLDERS_MAX - 1);
        self.0.push_front((Arc::clone(folder), Arc::clone(handle)));
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn long_paths_are_cut_between_parts() {
        assert_eq!(cut(b"a/b/c", 5), (&b"a/b/c"[..], &b""[..]));
        assert_eq!(cut(b"a/b/c", 4), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(cut(b"a/b/c", 0), (&b"a"[..], &b"b/c"[..]));
        assert_eq!(cut(b"long/b", 2), (&b"long"[..], &b"b"[..]));
        assert_eq!(cut(b"long", 2), (&b"long"[..], &b""[..]));
    }
}
