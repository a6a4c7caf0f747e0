//! What the operating system says, in the share's terms; and the few calls that need flags.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::store::StoreError;

/// What a refused call wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To look.
    Enter,
    /// To write or delete.
    Write,
}

/// The error of a call on `path` by what can be done about it. A missing file is the caller's matter; here it means
/// that the share itself is missing.
pub(super) fn classify(path: String, access: Access, source: io::Error) -> StoreError {
    let Some(errno) = Errno::from_io_error(&source) else { return StoreError::Io { path, source } };
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => StoreError::Full { path, source },
        Errno::ROFS => StoreError::WriteRefused { path, source },
        Errno::ACCESS | Errno::PERM => match access {
            Access::Enter => StoreError::Denied { path, source },
            Access::Write => StoreError::WriteRefused { path, source },
        },
        Errno::NOENT
        | Errno::NOTCONN
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::TIMEDOUT
        | Errno::STALE
        | Errno::NODEV
        | Errno::NXIO
        | Errno::SHUTDOWN
        | Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::CONNABORTED => StoreError::Unreachable { path, source },
        Errno::EXIST => StoreError::AlreadyExists { path },
        Errno::NOTDIR | Errno::NAMETOOLONG => {
            StoreError::InvalidPath { path, reason: "a part of it is no folder, or too long".to_owned() }
        }
        _ => StoreError::Io { path, source },
    }
}

/// Opens for reading, without following a link in the last place or waiting for the other end of a pipe.
pub(super) fn open_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(path)
}

/// Whether [`open_read`] met a symbolic link.
pub(super) fn is_symlink(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// Creates for writing, only if absent.
pub(super) fn create_exclusive(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Makes the names of a folder durable. File systems that cannot (`EINVAL`, `ENOTSUP`) keep them durable by themselves
/// or not at all; there is nothing else to call.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(flags(OFlags::DIRECTORY)).open(folder)?;
    match file.sync_all() {
        Ok(()) => Ok(()),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::OPNOTSUPP)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Repeats a call that a signal interrupted (`EINTR`); the standard library does so only for some.
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::{Access, classify, uninterrupted};
    use crate::store::StoreError;
    use rustix::io::Errno;
    use std::io;

    #[test]
    fn system_errors_are_sorted() {
        let sorted = |errno: Errno, access| classify("x".to_owned(), access, errno.into());
        assert!(matches!(sorted(Errno::NOSPC, Access::Write), StoreError::Full { .. }));
        assert!(matches!(sorted(Errno::DQUOT, Access::Write), StoreError::Full { .. }));
        assert!(matches!(sorted(Errno::ROFS, Access::Write), StoreError::WriteRefused { .. }));
        assert!(matches!(sorted(Errno::ACCESS, Access::Write), StoreError::WriteRefused { .. }));
        assert!(matches!(sorted(Errno::ACCESS, Access::Enter), StoreError::Denied { .. }));
        assert!(matches!(sorted(Errno::STALE, Access::Enter), StoreError::Unreachable { .. }));
        assert!(matches!(sorted(Errno::IO, Access::Enter), StoreError::Io { .. }));
    }

    #[test]
    fn signals_do_not_fail_a_call() {
        let mut tries = 0;
        let done = uninterrupted(|| {
            tries += 1;
            if tries < 3 { Err(io::Error::from(Errno::INTR)) } else { Ok(tries) }
        });
        assert_eq!(done.expect("third try"), 3);
    }
}
