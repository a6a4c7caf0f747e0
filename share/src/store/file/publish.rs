//! Creating files durably and only once.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use muster_protocol::entropy::random;
use muster_protocol::ids::hex;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::Failure;
use super::system::{create_exclusive, is_symlink, open_read, sync_folder, uninterrupted};
use crate::entropy::OsEntropy;
use crate::layout::TEMPORARY;
use crate::store::Exclusive;

const FILE_MODE: u32 = 0o640;

/// Creates an object whose name is its hash. A torn one is harmless (its length or hash betrays it), so what cannot be
/// finished is only removed where the credential allows it.
pub(super) fn create_object(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = match create_exclusive(path, FILE_MODE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Failure::Taken),
        Err(error) => return Err(error.into()),
    };
    let written = fill(file, bytes).and_then(|()| sync_parent(path));
    if written.is_err() {
        // The file is ours alone: this call created it. A full share gets its room back.
        let _ = fs::remove_file(path);
    }
    Ok(written?)
}

/// How slots of the log appear on this file system: the first way of the three that works, remembered.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    way: AtomicU8,
}

/// Ways to publish, best first. The numbers are those of [`Publisher::way`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Link,
    Rename,
    Plain,
}

const UNTESTED: u8 = 0;

impl Way {
    const ALL: [Self; 3] = [Self::Link, Self::Rename, Self::Plain];

    fn number(self) -> u8 {
        match self {
            Self::Link => 1,
            Self::Rename => 2,
            Self::Plain => 3,
        }
    }
}

impl Publisher {
    /// A publisher that starts with this way, as if the better ones had failed.
    #[cfg(test)]
    pub(super) fn starting_with(way: Way) -> Self {
        Self { way: AtomicU8::new(way.number()) }
    }

    pub(super) fn exclusive(&self) -> Exclusive {
        let way = self.way.load(Ordering::Relaxed);
        if way == UNTESTED {
            Exclusive::Untested
        } else if way == Way::Plain.number() || way == Way::Rename.number() {
            // Over the network a rename that replaces nothing may be a look and then a rename (decision 0026).
            Exclusive::OneCoordinator
        } else {
            Exclusive::Atomic
        }
    }

    /// Creates `slot` with these bytes, whole or not at all where the file system can; own bytes there are success,
    /// whatever the call that put them there reported.
    pub(super) fn publish(&self, temporaries: &Path, slot: &Path, bytes: &[u8]) -> Result<(), Failure> {
        match holds(slot, bytes) {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(Failure::Taken),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let known = self.way.load(Ordering::Relaxed);
        for way in Way::ALL.into_iter().filter(|way| way.number() >= known) {
            let done = match way {
                Way::Link | Way::Rename => {
                    let temporary = Temporary::write(temporaries, bytes)?;
                    temporary.publish(way, slot)
                }
                Way::Plain => create_exclusive(slot, FILE_MODE).and_then(|file| fill(file, bytes)),
            };
            match done {
                Ok(()) => {
                    self.way.store(way.number(), Ordering::Relaxed);
                    return Ok(sync_parent(slot)?);
                }
                Err(error) => match holds(slot, bytes) {
                    Ok(true) => return Ok(sync_parent(slot)?),
                    Ok(false) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Failure::Taken),
                    Ok(false) | Err(_) if way == Way::Plain || !is_unsupported(&error) => {
                        return Err(error.into());
                    }
                    Ok(false) | Err(_) => {}
                },
            }
        }
        unreachable!("the plain way returns")
    }
}

/// A complete, durable file of a name that no reader looks at. Removed when dropped; what a crash leaves is foreign.
struct Temporary<'a> {
    path: std::path::PathBuf,
    folder: &'a Path,
}

impl<'a> Temporary<'a> {
    fn write(folder: &'a Path, bytes: &[u8]) -> io::Result<Self> {
        let name = format!("{TEMPORARY}{}", hex(&random::<16>(&mut OsEntropy)));
        let temporary = Self { path: folder.join(name), folder };
        fill(create_exclusive(&temporary.path, FILE_MODE)?, bytes)?;
        Ok(temporary)
    }

    fn publish(&self, way: Way, slot: &Path) -> io::Result<()> {
        match way {
            Way::Link => uninterrupted(|| fs::hard_link(&self.path, slot)),
            Way::Rename => uninterrupted(|| {
                Ok(rustix::fs::renameat_with(CWD, &self.path, CWD, slot, RenameFlags::NOREPLACE)?)
            }),
            Way::Plain => create_exclusive(slot, FILE_MODE).map(drop),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // After a rename it is gone already; one that stays is listed as foreign and harms nobody.
        if fs::remove_file(&self.path).is_ok() {
            let _ = sync_folder(self.folder);
        }
    }
}

/// The file system has no such call, rather than this call having failed.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::MLINK | Errno::XDEV)
    )
}

/// Writes everything and makes it durable. After the fsync nothing is left for `close` to report.
fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    let have = file.metadata()?.len();
    if have == bytes.len() as u64 {
        Ok(())
    } else {
        Err(io::Error::other(format!("{have} of {} bytes arrived", bytes.len())))
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// Whether the file holds exactly these bytes. Something that is no file holds others.
fn holds(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let file = match open_read(path) {
        Ok(file) => file,
        Err(error) if is_symlink(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut there = Vec::new();
    file.take(bytes.len() as u64 + 1).read_to_end(&mut there)?;
    Ok(there == bytes)
}

#[cfg(test)]
mod tests {
    use super::{Failure, Publisher, UNTESTED, Way};
    use crate::store::Exclusive;
    use std::fs;
    use std::sync::atomic::Ordering;

    #[test]
    fn every_way_creates_once_and_leaves_no_temporary() {
        for way in Way::ALL {
            let dir = tempfile::tempdir().expect("temporary folder");
            let publisher = Publisher::starting_with(way);
            let slot = dir.path().join("0000000001");
            publisher.publish(dir.path(), &slot, b"one").unwrap_or_else(|_| panic!("{way:?}"));
            publisher.publish(dir.path(), &slot, b"one").unwrap_or_else(|_| panic!("{way:?}: own bytes"));
            for other in [&b"two"[..], b"on", b"one+", b""] {
                assert!(
                    matches!(publisher.publish(dir.path(), &slot, other), Err(Failure::Taken)),
                    "{way:?}"
                );
            }
            assert_eq!(fs::read(&slot).expect("there"), b"one");
            let names: Vec<_> = fs::read_dir(dir.path()).expect("lists").collect();
            assert_eq!(names.len(), 1, "{way:?}: {names:?}");
            assert_eq!(publisher.way.load(Ordering::Relaxed), way.number(), "{way:?} is remembered");
        }
    }

    #[test]
    fn the_publish_call_itself_never_replaces() {
        // The look before the call is only a short cut: the calls have to be exclusive by themselves.
        for way in [Way::Link, Way::Rename, Way::Plain] {
            let dir = tempfile::tempdir().expect("temporary folder");
            let slot = dir.path().join("0000000001");
            fs::write(&slot, b"one").expect("written");
            let temporary = super::Temporary::write(dir.path(), b"two").expect("written");
            let error = temporary.publish(way, &slot).expect_err("taken");
            assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{way:?}");
            assert_eq!(fs::read(&slot).expect("there"), b"one");
        }
    }

    #[test]
    fn what_is_known_of_the_share_is_told() {
        assert_eq!(Publisher::default().way.load(Ordering::Relaxed), UNTESTED);
        assert_eq!(Publisher::default().exclusive(), Exclusive::Untested);
        assert_eq!(Publisher::starting_with(Way::Link).exclusive(), Exclusive::Atomic);
        assert_eq!(Publisher::starting_with(Way::Rename).exclusive(), Exclusive::OneCoordinator);
        assert_eq!(Publisher::starting_with(Way::Plain).exclusive(), Exclusive::OneCoordinator);
    }
}
