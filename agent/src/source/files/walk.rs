//! The walk: what lies in a tree, in order, each thing once.
//!
//! Goes from folder handle to folder handle and keeps one for each level that it is in; of deeper levels the outer ones
//! are closed and found again on the way back.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use muster_share::entry::{Entry, Gap, Kind};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde_bytes::ByteBuf;

use super::read::Listed;
use super::{FilesSource, open};
use crate::source::metadata::{self, Attributes, Names};
use crate::source::{CaptureContext, Cause, Sink, SourceReport, Stamp, Stopped, dump};

/// Levels of which the handles stay open.
const OPEN_LEVELS: usize = 128;

/// Name of the file that marks a folder as a cache, and how it begins (Cache Directory Tagging Specification).
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// One capture under way.
pub(super) struct Walk<'a> {
    source: &'a FilesSource,
    context: &'a CaptureContext<'a>,
    sink: &'a mut dyn Sink,
    names: Arc<Names>,
    root: PathBuf,
    device: u64,
    /// Device and inode of files with several names: the path kept, and how many names may still come.
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
    /// Folders that are pushed once something beneath them is: with `include`, others are left out.
    pending: Vec<Entry>,
    report: SourceReport,
}

/// A folder that is being walked: what is left of it, last name first.
struct Frame {
    /// Its handle, unless the walk is far below it.
    handle: Option<Arc<File>>,
    /// Device and inode.
    identity: (u64, u64),
    path: Vec<u8>,
    rest: Vec<(Vec<u8>, FileType)>,
    included: bool,
    /// How many folders were pending before this one.
    pending: usize,
}

/// The gap of something that cannot be read for this reason.
pub(super) fn missing(errno: Errno) -> Gap {
    if errno == Errno::NOENT { Gap::Vanished } else { Gap::Unreadable(errno.raw_os_error()) }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        source: &'a FilesSource,
        context: &'a CaptureContext<'a>,
        sink: &'a mut dyn Sink,
        root: PathBuf,
        stat: &Stat,
    ) -> Self {
        let report = SourceReport {
            recipe: format!("copy the tree to {}, with owners and times kept", source.path.display()),
            ..SourceReport::default()
        };
        Self {
            source,
            context,
            sink,
            names: Arc::new(Names::load()),
            root,
            device: stat.st_dev,
            links: HashMap::new(),
            pending: Vec::new(),
            report,
        }
    }

    pub(super) fn into_report(self) -> SourceReport {
        self.report
    }

    pub(super) fn tree(&mut self) -> Result<(), Cause> {
        let included = self.source.include.is_empty();
        let mut frames = Vec::new();
        let root = self.root.clone();
        // The root was readable a moment ago; if it is no more, its gap says so.
        match rustix::fs::lstat(&root) {
            Ok(stat) => self.folder(&mut frames, Vec::new(), rustix::fs::CWD, &root, &stat, included)?,
            Err(errno) => self.gap(Entry::new(Vec::new(), Kind::Directory, 0o700), errno)?,
        }
        while let Some(frame) = frames.last_mut() {
            self.context.check()?;
            if let (Some((name, file_type)), Some(handle)) = (frame.rest.pop(), &frame.handle) {
                let handle = Arc::clone(handle);
                self.visit(&mut frames, &handle, &name, file_type)?;
            } else if let Some(left) = frames.pop() {
                self.pending.truncate(left.pending);
                if let Some(outer) = frames.last_mut() {
                    self.find_again(outer, left.handle.as_deref())?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn single(&mut self, stat: &Stat) -> Result<(), Cause> {
        let name =
            self.source.path.file_name().or_else(|| self.root.file_name()).unwrap_or(OsStr::new("file"));
        let path = name.as_bytes().to_vec();
        let file = metadata::entry(path.clone(), Kind::File, stat, &self.names);
        self.push(dump::root(&file))?;
        let (Some(folder), Some(name)) = (self.root.parent(), self.root.file_name()) else { return Ok(()) };
        let failed = |errno: Errno| Cause::Root { path: self.source.path.clone(), error: errno.into() };
        let folder = open_folder(rustix::fs::CWD, folder.as_os_str()).map_err(failed)?;
        let name = name.as_bytes().to_vec();
        self.file(&Arc::new(folder), &name, path, stat)
    }

    /// Captures one name of the innermost frame; a folder becomes the next frame.
    fn visit(
        &mut self,
        frames: &mut Vec<Frame>,
        handle: &Arc<File>,
        name: &[u8],
        listed: FileType,
    ) -> Result<(), Cause> {
        let Some(frame) = frames.last() else { return Ok(()) };
        let included = frame.included;
        let path =
            if frame.path.is_empty() { name.to_vec() } else { [&frame.path, &b"/"[..], name].concat() };
        let stat = match rustix::fs::statat(handle, name, AtFlags::SYMLINK_NOFOLLOW) {
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
        if self.source.exclude.matches(&path, folder) {
            return Ok(());
        }
        let included = included || self.source.include.matches(&path, folder);
        if folder {
            return self.folder(frames, path, &**handle, OsStr::from_bytes(name), &stat, included);
        }
        if !included {
            return Ok(());
        }
        let Some(kind) = metadata::kind(file_type) else {
            self.report.sockets += 1;
            return Ok(());
        };
        if kind == Kind::File {
            return self.file(handle, name, path, &stat);
        }
        let mut entry = metadata::entry(path, kind, &stat, &self.names);
        if kind == Kind::Symlink {
            match rustix::fs::readlinkat(handle, name, Vec::new()) {
                Ok(target) => entry.target = Some(ByteBuf::from(target.into_bytes())),
                Err(errno) => return Ok(self.gap(entry, errno)?),
            }
        }
        // Attributes of what cannot be opened are reached by path only, and this one is short.
        let short =
            PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd())).join(OsStr::from_bytes(name));
        if let Some(errno) = Attributes::Path(&short).read_into(&mut entry) {
            entry.gap = Some(Gap::Attributes(errno.raw_os_error()));
        }
        Ok(self.push(entry)?)
    }

    fn kept(&self, path: &[u8], folder: bool, included: bool) -> bool {
        !self.source.exclude.matches(path, folder) && (included || self.source.include.matches(path, folder))
    }

    fn folder(
        &mut self,
        frames: &mut Vec<Frame>,
        path: Vec<u8>,
        above: impl std::os::fd::AsFd,
        name: impl AsRef<OsStr>,
        stat: &Stat,
        included: bool,
    ) -> Result<(), Cause> {
        let mut entry = metadata::entry(path.clone(), Kind::Directory, stat, &self.names);
        let (identity, mut handle, mut rest) = ((stat.st_dev, stat.st_ino), None, Vec::new());
        let opened = open_folder(above, name.as_ref());
        if let Ok(opened) = &opened
            && let Some(errno) = Attributes::Handle(opened).read_into(&mut entry)
        {
            entry.gap = Some(Gap::Attributes(errno.raw_os_error()));
        }
        if self.source.one_file_system && stat.st_dev != self.device {
            self.report.mounts += 1;
        } else if frames.iter().any(|frame| frame.identity == identity) {
            // A mount of a folder beneath itself: what it holds is being captured already.
            entry.gap = Some(missing(Errno::LOOP));
        } else {
            match opened.and_then(|opened| list(&opened).map(|names| (opened, names))) {
                Ok((opened, names)) => {
                    rest = names;
                    if self.source.skip_caches && is_cache(&opened, &rest) {
                        rest.retain(|(name, _)| name == CACHE_TAG);
                    }
                    handle = Some(Arc::new(opened));
                }
                Err(errno) => entry.gap = Some(missing(errno)),
            }
        }
        let pending = self.pending.len();
        // A root of which nothing is included is still a root.
        if included || path.is_empty() || entry.gap.is_some() {
            self.push(entry)?;
        } else {
            self.pending.push(entry);
        }
        frames.push(Frame { handle, identity, path, rest, included, pending });
        if let Some(outer) = frames.len().checked_sub(OPEN_LEVELS + 1) {
            frames[outer].handle = None;
        }
        Ok(())
    }

    /// Opens an outer folder again whose handle was given up, from one that lies in it.
    fn find_again(&mut self, outer: &mut Frame, inner: Option<&File>) -> Result<(), Cause> {
        if outer.handle.is_some() {
            return Ok(());
        }
        let found = inner.ok_or(Errno::NOENT).and_then(|inner| {
            let found = open_folder(inner, OsStr::new(".."))?;
            let stat = rustix::fs::fstat(&found)?;
            // Something else lies there when a folder was moved in between.
            if (stat.st_dev, stat.st_ino) == outer.identity { Ok(found) } else { Err(Errno::NOENT) }
        });
        match found {
            Ok(found) => outer.handle = Some(Arc::new(found)),
            Err(errno) => {
                for (name, file_type) in std::mem::take(&mut outer.rest).into_iter().rev() {
                    let path = [&outer.path, &b"/"[..], &name].concat();
                    if self.kept(&path, file_type == FileType::Directory, outer.included) {
                        let kind = metadata::kind(file_type).unwrap_or(Kind::File);
                        self.gap(Entry::new(path, kind, 0), errno)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, folder: &Arc<File>, name: &[u8], path: Vec<u8>, stat: &Stat) -> Result<(), Cause> {
        let mut entry = metadata::entry(path, Kind::File, stat, &self.names);
        if let Some(first) = self.earlier_name(stat) {
            entry.hard_link = Some(ByteBuf::from(first));
            return Ok(self.push(entry)?);
        }
        self.flush()?;
        let stamp = Stamp::of(stat);
        if !self.sink.known(&entry, &stamp)? {
            let mut opened = None;
            if stat.st_nlink > 1 {
                // Opened before another of its names refers to this one, which may be gone by the time it is read.
                match open(&**folder, name) {
                    Ok(file) => opened = Some(file),
                    Err(errno) => return Ok(self.gap(entry, errno)?),
                }
            }
            self.sink.file(Box::new(Listed {
                folder: Arc::clone(folder),
                name: name.to_vec(),
                path: entry.path.clone(),
                size: stamp.size,
                opened,
                names: Arc::clone(&self.names),
            }))?;
        }
        if stat.st_nlink > 1 {
            #[expect(clippy::useless_conversion, reason = "the link count's width differs by machine")]
            let more = u64::from(stat.st_nlink) - 1;
            self.links.insert((stat.st_dev, stat.st_ino), (entry.path, more));
        }
        Ok(())
    }

    /// The path under which this file was already kept.
    fn earlier_name(&mut self, stat: &Stat) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let key = (stat.st_dev, stat.st_ino);
        let (path, more) = self.links.get_mut(&key)?;
        *more -= 1;
        if *more == 0 { self.links.remove(&key).map(|(path, _)| path) } else { Some(path.clone()) }
    }

    fn gap(&mut self, mut entry: Entry, errno: Errno) -> Result<(), Stopped> {
        entry.gap = Some(missing(errno));
        self.push(entry)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        for folder in std::mem::take(&mut self.pending) {
            self.sink.entry(folder)?;
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.flush()?;
        self.sink.entry(entry)
    }
}

fn open_folder(above: impl std::os::fd::AsFd, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&above, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&above, name, flags, Mode::empty()),
        other => other,
    };
    opened.map(File::from)
}

/// The names in a folder with their listed types, last first, so that they are taken from the end.
fn list(folder: &File) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let mut names = Vec::new();
    for item in rustix::fs::Dir::read_from(folder)? {
        let item = item?;
        let name = item.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), item.file_type()));
        }
    }
    names.sort_unstable_by(|one, two| two.0.cmp(&one.0));
    Ok(names)
}

/// Whether the folder says of itself that it holds a cache.
fn is_cache(folder: &File, names: &[(Vec<u8>, FileType)]) -> bool {
    let mut start = [0; CACHE_SIGNATURE.len()];
    names.iter().any(|(name, _)| name == CACHE_TAG)
        && open(folder, CACHE_TAG).is_ok_and(|tag| tag.read_exact_at(&mut start, 0).is_ok())
        && &start == CACHE_SIGNATURE
}
