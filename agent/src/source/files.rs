//! `files`: a folder with all beneath it, or a single file. Never writes to what it captures, and reads nothing
//! through a symbolic link except the source's own path.
//!
//! A file that changes while it is read is read again, up to [`RETRIES`] times, and then kept with a gap. Changes
//! within one tick of the file system's clock cannot be seen.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use muster_protocol::ids::SourceName;
use muster_share::entry::{Entry, Gap, Kind};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use serde_bytes::ByteBuf;

use super::globs::Globs;
use super::metadata::{self, Attributes, Names};
use super::{BUFFER_BYTES, CaptureContext, Cause, Sink, Source, SourceError, SourceReport, Stopped, dump};

/// How often a file that changed while it was read is read again.
pub const RETRIES: u32 = 3;

/// A folder or file to capture.
#[derive(Debug, Clone)]
pub struct FilesSource {
    name: SourceName,
    path: PathBuf,
    include: Globs,
    exclude: Globs,
    one_file_system: bool,
}

impl FilesSource {
    pub(crate) fn new(
        name: SourceName,
        path: PathBuf,
        include: Globs,
        exclude: Globs,
        one_file_system: bool,
    ) -> Self {
        Self { name, path, include, exclude, one_file_system }
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
            FileType::RegularFile => drop(open(&root).map_err(|errno| error(errno.into()))?),
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
        let mut walk = Walk {
            source: self,
            context,
            sink,
            names: Names::load(),
            device: stat.st_dev,
            buffer: vec![0; BUFFER_BYTES],
            links: HashMap::new(),
            pending: Vec::new(),
            report: SourceReport {
                recipe: format!("copy the tree to {}, with owners and times kept", self.path.display()),
                ..SourceReport::default()
            },
            root,
        };
        let walked = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            walk.tree()
        } else {
            walk.single(&stat)
        };
        walked.map_err(|cause| self.error(cause))?;
        Ok(walk.report)
    }
}

/// One capture under way.
struct Walk<'a> {
    source: &'a FilesSource,
    context: &'a CaptureContext<'a>,
    sink: &'a mut dyn Sink,
    names: Names,
    root: PathBuf,
    device: u64,
    buffer: Vec<u8>,
    /// Device and inode of files with several names: the path kept, and how many names may still come.
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
    /// Folders that are pushed once something beneath them is: with `include`, others are left out.
    pending: Vec<Entry>,
    report: SourceReport,
}

/// A folder that is being walked: what is left of it, last name first.
struct Frame {
    path: Vec<u8>,
    rest: Vec<(Vec<u8>, FileType)>,
    included: bool,
    /// How many folders were pending before this one.
    pending: usize,
}

/// What became of reading a file once.
enum Read {
    Complete,
    Changed,
    Failed(Errno),
}

impl Walk<'_> {
    fn tree(&mut self) -> Result<(), Cause> {
        let included = self.source.include.is_empty();
        let mut frames = Vec::new();
        // The root was readable a moment ago; if it is no more, its gap says so.
        self.visit(&mut frames, Vec::new(), FileType::Directory, included)?;
        while let Some(frame) = frames.last_mut() {
            self.context.check()?;
            let Some((name, file_type)) = frame.rest.pop() else {
                self.pending.truncate(frame.pending);
                frames.pop();
                continue;
            };
            let mut path = frame.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let included = frame.included;
            self.visit(&mut frames, path, file_type, included)?;
        }
        Ok(())
    }

    fn single(&mut self, stat: &Stat) -> Result<(), Cause> {
        let name =
            self.source.path.file_name().or_else(|| self.root.file_name()).unwrap_or(OsStr::new("file"));
        let path = name.as_bytes().to_vec();
        let file = metadata::entry(path.clone(), Kind::File, stat, &self.names);
        self.push(dump::root(&file))?;
        let real = self.root.clone();
        self.file(path, &real)
    }

    fn real(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(OsStr::from_bytes(path)) }
    }

    /// Captures one path; a folder also becomes the next frame.
    fn visit(
        &mut self,
        frames: &mut Vec<Frame>,
        path: Vec<u8>,
        listed: FileType,
        included: bool,
    ) -> Result<(), Cause> {
        let real = self.real(&path);
        let stat = match rustix::fs::lstat(&real) {
            Ok(stat) => stat,
            Err(errno) => {
                let folder = listed == FileType::Directory;
                if self.kept(&path, folder, included) {
                    let kind = metadata::kind(listed).unwrap_or(Kind::File);
                    self.gap(Entry::new(path, kind, 0), errno)?;
                }
                return Ok(());
            }
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let folder = file_type == FileType::Directory;
        if !path.is_empty() && self.source.exclude.matches(&path, folder) {
            return Ok(());
        }
        let included = included || self.source.include.matches(&path, folder);
        if folder {
            return self.folder(frames, path, &real, &stat, included);
        }
        if !included {
            return Ok(());
        }
        let Some(kind) = metadata::kind(file_type) else {
            self.report.sockets += 1;
            return Ok(());
        };
        if kind == Kind::File {
            return self.file(path, &real);
        }
        let mut entry = metadata::entry(path, kind, &stat, &self.names);
        if kind == Kind::Symlink {
            match rustix::fs::readlink(&real, Vec::new()) {
                Ok(target) => entry.target = Some(ByteBuf::from(target.into_bytes())),
                Err(errno) => return Ok(self.gap(entry, errno)?),
            }
        }
        self.attributes(&mut entry, &Attributes::Path(&real));
        Ok(self.push(entry)?)
    }

    fn kept(&self, path: &[u8], folder: bool, included: bool) -> bool {
        !self.source.exclude.matches(path, folder) && (included || self.source.include.matches(path, folder))
    }

    fn folder(
        &mut self,
        frames: &mut Vec<Frame>,
        path: Vec<u8>,
        real: &Path,
        stat: &Stat,
        included: bool,
    ) -> Result<(), Cause> {
        let mut entry = metadata::entry(path.clone(), Kind::Directory, stat, &self.names);
        self.attributes(&mut entry, &Attributes::Path(real));
        let foreign = self.source.one_file_system && stat.st_dev != self.device;
        let mut rest = Vec::new();
        if foreign {
            self.report.mounts += 1;
        } else {
            match list(real) {
                Ok(names) => rest = names,
                Err(Errno::NOENT) => entry.gap = Some(Gap::Vanished),
                Err(errno) => entry.gap = Some(Gap::Unreadable(errno.raw_os_error())),
            }
        }
        let pending = self.pending.len();
        // A root of which nothing is included is still a root.
        if included || path.is_empty() || entry.gap.is_some() {
            self.push(entry)?;
        } else {
            self.pending.push(entry);
        }
        frames.push(Frame { path, rest, included, pending });
        Ok(())
    }

    fn file(&mut self, path: Vec<u8>, real: &Path) -> Result<(), Cause> {
        let mut tries = 0;
        loop {
            self.context.check()?;
            let file = match open(real) {
                Ok(file) => file,
                // It has just become a link or a socket: as it was listed, it is gone.
                Err(Errno::LOOP | Errno::NXIO) => {
                    return Ok(self.gap(Entry::new(path, Kind::File, 0), Errno::NOENT)?);
                }
                Err(errno) => {
                    // Owner and times are still worth keeping.
                    let entry = match rustix::fs::lstat(real) {
                        Ok(stat) => metadata::entry(path, Kind::File, &stat, &self.names),
                        Err(_) => Entry::new(path, Kind::File, 0),
                    };
                    return Ok(self.gap(entry, errno)?);
                }
            };
            let before = match rustix::fs::fstat(&file) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat,
                Ok(_) => return Ok(self.gap(Entry::new(path, Kind::File, 0), Errno::NOENT)?),
                Err(errno) => return Ok(self.gap(Entry::new(path, Kind::File, 0), errno)?),
            };
            let mut entry = metadata::entry(path.clone(), Kind::File, &before, &self.names);
            self.attributes(&mut entry, &Attributes::Handle(&file));
            if let Some(first) = self.earlier_name(&before) {
                entry.hard_link = Some(ByteBuf::from(first));
                return Ok(self.push(entry)?);
            }
            self.flush()?;
            self.sink.begin(entry.clone())?;
            let size = u64::try_from(before.st_size).unwrap_or(0);
            let mut read = self.content(&file, &before, size)?;
            if matches!(read, Read::Complete) {
                read = match rustix::fs::fstat(&file) {
                    Ok(after) if same(&before, &after) => Read::Complete,
                    Ok(_) => Read::Changed,
                    Err(errno) => Read::Failed(errno),
                };
            }
            match read {
                Read::Failed(errno) => {
                    self.sink.discard();
                    return Ok(self.gap(entry, errno)?);
                }
                Read::Changed if tries < RETRIES => {
                    self.sink.discard();
                    tries += 1;
                }
                Read::Complete | Read::Changed => {
                    let changed = matches!(read, Read::Changed);
                    self.sink.end(changed.then_some(Gap::Changed))?;
                    self.report.entries += 1;
                    self.report.gaps += u64::from(changed);
                    self.report.source_bytes += size;
                    if before.st_nlink > 1 {
                        #[expect(
                            clippy::useless_conversion,
                            reason = "the link count's width differs by machine"
                        )]
                        let more = u64::from(before.st_nlink) - 1;
                        self.links.insert((before.st_dev, before.st_ino), (path, more));
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The path under which this file was already kept.
    fn earlier_name(&mut self, stat: &Stat) -> Option<Vec<u8>> {
        let key = (stat.st_dev, stat.st_ino);
        let (path, more) = self.links.get_mut(&key)?;
        *more -= 1;
        if *more == 0 { self.links.remove(&key).map(|(path, _)| path) } else { Some(path.clone()) }
    }

    /// Pushes `size` bytes of the file, its holes as holes.
    fn content(&mut self, file: &File, stat: &Stat, size: u64) -> Result<Read, Cause> {
        // st_blocks counts units of 512 bytes (stat(2)); a file with fewer than its size needs has holes.
        let sparse = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size;
        let mut at = 0;
        while at < size {
            let (data, end) = if sparse { data_run(file, at, size) } else { (at, size) };
            if data > at {
                self.sink.hole(data - at)?;
            }
            match self.run(file, data, end)? {
                Read::Complete => at = end,
                other @ (Read::Changed | Read::Failed(_)) => return Ok(other),
            }
        }
        Ok(Read::Complete)
    }

    fn run(&mut self, file: &File, mut at: u64, end: u64) -> Result<Read, Cause> {
        while at < end {
            self.context.check().inspect_err(|_| self.sink.discard())?;
            let want = usize::try_from(end - at).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            match file.read_at(&mut self.buffer[..want], at) {
                Ok(0) => return Ok(Read::Changed),
                Ok(count) => {
                    self.sink.data(&self.buffer[..count])?;
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Read::Failed(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
            }
        }
        Ok(Read::Complete)
    }

    fn attributes(&mut self, entry: &mut Entry, from: &Attributes<'_>) {
        let (xattrs, unread) = from.read();
        entry.xattrs = xattrs;
        self.report.unread_xattrs += unread;
    }

    fn gap(&mut self, mut entry: Entry, errno: Errno) -> Result<(), Stopped> {
        entry.gap =
            Some(if errno == Errno::NOENT { Gap::Vanished } else { Gap::Unreadable(errno.raw_os_error()) });
        self.push(entry)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        for folder in std::mem::take(&mut self.pending) {
            self.report.entries += 1;
            self.sink.entry(folder)?;
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.flush()?;
        self.report.entries += 1;
        self.report.gaps += u64::from(entry.gap.is_some());
        self.sink.entry(entry)
    }
}

/// Opens for reading: a link is not followed, a pipe does not block, and the access time stays where that is allowed.
fn open(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may leave the access time alone (open(2)).
        Err(Errno::PERM) => rustix::fs::open(path, flags, Mode::empty()),
        other => other,
    };
    opened.map(File::from)
}

/// The names in a folder with their listed types, last first, so that they are taken from the end.
fn list(path: &Path) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(path, flags, Mode::empty())?;
    let mut names = Vec::new();
    for item in rustix::fs::Dir::new(handle)? {
        let item = item?;
        let name = item.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), item.file_type()));
        }
    }
    names.sort_unstable_by(|one, two| two.0.cmp(&one.0));
    Ok(names)
}

/// The next run of data at or after `at`, as start and end; (`size`, `size`) when only a hole is left. A file system
/// that does not know gives all as data.
fn data_run(file: &File, at: u64, size: u64) -> (u64, u64) {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) if data < size => {
            let end = rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap_or(size).min(size);
            (data, if end > data { end } else { size })
        }
        Ok(_) | Err(Errno::NXIO) => (size, size),
        Err(_) => (at, size),
    }
}

fn same(before: &Stat, after: &Stat) -> bool {
    before.st_size == after.st_size
        && (before.st_mtime, before.st_mtime_nsec) == (after.st_mtime, after.st_mtime_nsec)
        && (before.st_ctime, before.st_ctime_nsec) == (after.st_ctime, after.st_ctime_nsec)
}

#[cfg(test)]
mod tests;
