//! What an entry says of a file besides its content: owner, times, extended attributes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use muster_share::entry::{Entry, Kind};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use serde_bytes::ByteBuf;

/// Names of owners, read once per capture from passwd(5) and group(5). Directory services are not asked: that could
/// hang, and numbers are what a recovery goes by.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub(crate) fn load() -> Self {
        // Names are a courtesy; a system without these files has none.
        let read = |path| fs::read(path).map(|bytes| parse(&bytes)).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }
}

/// `name:password:number:…` in both files; the first line of a number counts.
fn parse(bytes: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(number))) =
            (fields.next(), fields.next(), fields.next().map(str::parse::<u32>))
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// The entry's kind; `None` for sockets and what else a backup cannot hold.
pub(crate) fn kind(file_type: FileType) -> Option<Kind> {
    match file_type {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::Socket | FileType::Unknown => None,
    }
}

/// An entry with what stat(2) tells, except its size.
pub(crate) fn entry(path: Vec<u8>, kind: Kind, stat: &Stat, names: &Names) -> Entry {
    let mut entry = Entry::new(path, kind, stat.st_mode & 0o7777);
    entry.uid = stat.st_uid;
    entry.gid = stat.st_gid;
    entry.user = names.users.get(&stat.st_uid).cloned();
    entry.group = names.groups.get(&stat.st_gid).cloned();
    entry.mtime_secs = stat.st_mtime;
    entry.mtime_nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        entry.device = Some((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)));
    }
    entry
}

/// Where extended attributes are read from.
pub(crate) enum Attributes<'a> {
    /// An open file.
    Handle(&'a fs::File),
    /// A path, its last part not followed.
    Path(&'a Path),
}

impl Attributes<'_> {
    /// Puts all extended attributes into the entry, sorted by name; gives the first reason for which one is missing.
    pub(crate) fn read_into(&self, entry: &mut Entry) -> Option<Errno> {
        use xattr::FileExt;
        let list = match self {
            Self::Handle(file) => file.list_xattr(),
            Self::Path(path) => xattr::list(path),
        };
        let errno = |error: &io::Error| Errno::from_io_error(error).unwrap_or(Errno::IO);
        let names = match list {
            Ok(names) => names,
            Err(error) => return Some(errno(&error)).filter(|_| !is_absent(&error)),
        };
        let mut unread = None;
        for name in names {
            match self.one(&name) {
                Ok(Some(value)) => {
                    entry.xattrs.push((ByteBuf::from(name.as_bytes()), ByteBuf::from(value)));
                }
                // Gone between the listing and now.
                Ok(None) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => unread = unread.or(Some(errno(&error))),
            }
        }
        entry.xattrs.sort();
        unread
    }

    fn one(&self, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
        use xattr::FileExt;
        match self {
            Self::Handle(file) => file.get_xattr(name),
            Self::Path(path) => xattr::get(path, name),
        }
    }
}

/// The file system has no extended attributes, or not for this kind of file.
fn is_absent(error: &io::Error) -> bool {
    [Errno::NOTSUP, Errno::NODATA, Errno::NOENT]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn owners_are_parsed_and_the_first_of_a_number_counts() {
        let names = parse(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nbroken\nx:y:z\n\nop\xff:x:7:\n");
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], "root");
        assert_eq!(names[&7], "op\u{fffd}");
    }
}
