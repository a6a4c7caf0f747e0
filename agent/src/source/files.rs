//! `files`: a folder with all beneath it, or a single file. Never writes to what it captures, and reads nothing
//! through a symbolic link except the source's own path.
//!
//! A file that changes while it is read is read again, up to [`RETRIES`] times, and then kept with a gap. Changes
//! within one tick of the file system's clock cannot be seen. Everything is reached from its folder's handle, so that
//! paths may be of any length and a folder that is moved meanwhile leads nowhere else.

mod read;
mod walk;

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use muster_protocol::ids::SourceName;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::globs::Globs;
use super::{CaptureContext, Cause, Sink, Source, SourceError, SourceReport};
use walk::Walk;

pub use read::RETRIES;

/// A folder or file to capture.
#[derive(Debug, Clone)]
pub struct FilesSource {
    name: SourceName,
    path: PathBuf,
    include: Globs,
    exclude: Globs,
    one_file_system: bool,
    skip_caches: bool,
}

impl FilesSource {
    pub(crate) fn new(
        name: SourceName,
        path: PathBuf,
        include: Globs,
        exclude: Globs,
        one_file_system: bool,
        skip_caches: bool,
    ) -> Self {
        Self { name, path, include, exclude, one_file_system, skip_caches }
    }

    /// What it captures, as configured.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    fn error(&self, cause: Cause) -> SourceError {
        SourceError { name: self.name.clone(), kind: "files", cause: Box::new(cause) }
    }

    /// The path with links resolved, and what is there.
    fn root(&self) -> Result<(PathBuf, Stat), Cause> {
        let error = |error: io::Error| Cause::Root { path: self.path.clone(), error };
        let root = fs::canonicalize(&self.path).map_err(error)?;
        let stat = rustix::fs::lstat(&root).map_err(|errno| error(errno.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => drop(fs::read_dir(&root).map_err(error)?),
            FileType::RegularFile => drop(open(rustix::fs::CWD, &root).map_err(|errno| error(errno.into()))?),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Err(Cause::RootKind { path: self.path.clone() }),
        }
        Ok((root, stat))
    }
}

impl Source for FilesSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "files"
    }

    fn preflight(&self) -> Result<(), SourceError> {
        self.root().map(drop).map_err(|cause| self.error(cause))
    }

    fn capture(
        &self,
        sink: &mut dyn Sink,
        context: &CaptureContext<'_>,
    ) -> Result<SourceReport, SourceError> {
        let (root, stat) = self.root().map_err(|cause| self.error(cause))?;
        let mut walk = Walk::new(self, context, sink, root, &stat);
        let walked = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            walk.tree()
        } else {
            walk.single(&stat)
        };
        walked.map_err(|cause| self.error(cause))?;
        Ok(walk.into_report())
    }
}

/// Opens for reading: a link is not followed, a pipe does not block, and the access time stays where that is allowed.
fn open<P: rustix::path::Arg + Copy>(folder: impl std::os::fd::AsFd, path: P) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&folder, path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may leave the access time alone (open(2)).
        Err(Errno::PERM) => rustix::fs::openat(&folder, path, flags, Mode::empty()),
        other => other,
    };
    opened.map(File::from)
}

#[cfg(test)]
mod tests;
