//! Reading one file: its content with holes, its attributes, and whether it changed meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_share::entry::{Entry, Gap, Kind};
use rustix::fs::{AtFlags, FileType, SeekFrom, Stat};
use rustix::io::Errno;

use super::open;
use crate::source::metadata::{self, Attributes, Names};
use crate::source::{Content, Stamp, Stopped, Unread};

/// How often a file that changed while it was read is read again.
pub const RETRIES: u32 = 3;

/// A file that was listed.
pub(super) struct Listed {
    /// Its folder.
    pub(super) folder: Arc<File>,
    /// Its name in there.
    pub(super) name: Vec<u8>,
    /// Its path for the entry.
    pub(super) path: Vec<u8>,
    /// About its length in bytes.
    pub(super) size: u64,
    /// The file, where it has several names: it was opened at once, and is read from this handle only, so that it is the
    /// file that those names lead to, whatever becomes of this one.
    pub(super) opened: Option<File>,
    pub(super) names: Arc<Names>,
}

/// What became of reading a file once.
enum Read {
    Complete,
    Changed,
    Failed(Errno),
}

impl Unread for Listed {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(self: Box<Self>, content: &mut dyn Content, cancel: &AtomicBool) -> Result<(), Stopped> {
        let mut tries = 0;
        loop {
            let named;
            let file = if let Some(file) = &self.opened {
                file
            } else {
                match open(&*self.folder, &self.name) {
                    Ok(file) => {
                        named = file;
                        &named
                    }
                    // It has just become a link or a socket: as it was listed, it is gone.
                    Err(Errno::LOOP | Errno::NXIO) => return self.gap(content, self.bare(), Errno::NOENT),
                    Err(errno) => {
                        // Owner and times are still worth keeping.
                        let stat = rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW);
                        let entry = stat.map_or_else(|_| self.bare(), |stat| self.entry(&stat));
                        return self.gap(content, entry, errno);
                    }
                }
            };
            let before = match rustix::fs::fstat(file) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat,
                Ok(_) => return self.gap(content, self.bare(), Errno::NOENT),
                Err(errno) => return self.gap(content, self.bare(), errno),
            };
            let mut entry = self.entry(&before);
            let unread = Attributes::Handle(file).read_into(&mut entry);
            content.begin(entry.clone())?;
            let size = u64::try_from(before.st_size).unwrap_or(0);
            let mut read = whole(file, &before, size, content, cancel)?;
            if matches!(read, Read::Complete) {
                read = match rustix::fs::fstat(file) {
                    Ok(after) if Stamp::of(&before) == Stamp::of(&after) => Read::Complete,
                    Ok(_) => Read::Changed,
                    Err(errno) => Read::Failed(errno),
                };
            }
            match read {
                Read::Failed(errno) => {
                    content.discard();
                    return self.gap(content, entry, errno);
                }
                Read::Changed if tries < RETRIES => {
                    content.discard();
                    tries += 1;
                }
                Read::Changed => return content.end(Some(Gap::Changed), None),
                Read::Complete => {
                    return match unread {
                        Some(errno) => content.end(Some(Gap::Attributes(errno.raw_os_error())), None),
                        None => content.end(None, Some(Stamp::of(&before))),
                    };
                }
            }
        }
    }
}

impl Listed {
    fn entry(&self, stat: &Stat) -> Entry {
        metadata::entry(self.path.clone(), Kind::File, stat, &self.names)
    }

    /// An entry of which only the path is known.
    fn bare(&self) -> Entry {
        Entry::new(self.path.clone(), Kind::File, 0)
    }

    /// An entry without content. Other names may have been listed as links to it.
    fn gap(&self, content: &mut dyn Content, mut entry: Entry, errno: Errno) -> Result<(), Stopped> {
        entry.gap = Some(super::walk::missing(errno));
        if self.opened.is_some() { content.lost(entry) } else { content.entry(entry) }
    }
}

/// Pushes `size` bytes of the file, its holes as holes.
fn whole(
    file: &File,
    stat: &Stat,
    size: u64,
    content: &mut dyn Content,
    cancel: &AtomicBool,
) -> Result<Read, Stopped> {
    // st_blocks counts units of 512 bytes (stat(2)); a file with fewer than its size needs has holes.
    let sparse = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size;
    let mut at = 0;
    while at < size {
        let (data, end) = if sparse { data_run(file, at, size) } else { (at, size) };
        if data > at {
            content.hole(data - at)?;
        }
        match run(file, data, end, content, cancel)? {
            Read::Complete => at = end,
            other @ (Read::Changed | Read::Failed(_)) => return Ok(other),
        }
    }
    Ok(Read::Complete)
}

fn run(
    file: &File,
    mut at: u64,
    end: u64,
    content: &mut dyn Content,
    cancel: &AtomicBool,
) -> Result<Read, Stopped> {
    while at < end {
        if cancel.load(Ordering::Relaxed) {
            return Err(Stopped);
        }
        let space = content.space()?;
        let want = usize::try_from(end - at).map_or(space.len(), |left| left.min(space.len()));
        match file.read_at(&mut space[..want], at) {
            Ok(0) => return Ok(Read::Changed),
            Ok(count) => {
                content.filled(count)?;
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Read::Failed(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
        }
    }
    Ok(Read::Complete)
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

#[cfg(test)]
mod tests {
    use super::Listed;
    use crate::source::Unread;
    use crate::source::metadata::Names;
    use crate::source::testing::Memory;
    use muster_share::entry::Gap;
    use std::fs::{self, File};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    /// `a`, which has another name, read by way of `opened`.
    fn read(root: &Path, opened: File, sink: &mut Memory<'_>) {
        let folder = Arc::new(File::open(root).expect("a folder"));
        let (name, path, names) = (b"a".to_vec(), b"a".to_vec(), Arc::new(Names::load()));
        let listed = Listed { folder, name, path, size: 1, opened: Some(opened), names };
        Box::new(listed).read(sink, &AtomicBool::new(false)).expect("not stopped");
    }

    #[test]
    fn a_file_with_several_names_does_not_need_its_first() {
        let root = tempfile::tempdir().expect("folder");
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        fs::write(&a, "kept").expect("file");
        fs::hard_link(&a, &b).expect("link");
        let opened = File::open(&a).expect("opens");
        // Its first name goes while it is read, which changes it: it is read once more. From the second time on this fails.
        let remove = |_: &_, _: &[u8]| drop(fs::remove_file(&a));
        let mut sink = Memory { on_data: Some(Box::new(remove)), ..Memory::default() };
        read(root.path(), opened, &mut sink);
        assert_eq!((sink.gaps(), sink.discarded), (0, 1));
        assert_eq!(sink.content[&b"a"[..]], b"kept");
    }

    #[test]
    fn a_file_with_several_names_that_breaks_is_told_so_that_they_break_with_it() {
        let root = tempfile::tempdir().expect("folder");
        fs::write(root.path().join("a"), "x").expect("file");
        let unreadable = File::options().write(true).open(root.path().join("a")).expect("opens");
        let mut sink = Memory::default();
        read(root.path(), unreadable, &mut sink);
        assert_eq!(sink.lost, [b"a"]);
        assert!(matches!(sink.get("a").gap, Some(Gap::Unreadable(_))), "{:?}", sink.get("a"));
    }
}
