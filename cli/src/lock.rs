//! The lock of a fleet's folder: `up` and `once` hold it, so that never two of them work in it. The system gives it
//! back however the process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::exit::Exit;
use crate::failure::Failure;

/// The lock's file in a fleet's folder.
pub(crate) const FILE: &str = "lock";

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder.
    ///
    /// # Errors
    /// Exit 7 when another process has it; exit 2 when it is no fleet's folder.
    pub(crate) fn take(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        let file = OpenOptions::new().write(true).open(&path).map_err(|error| {
            Failure::usage(format!("{} is no fleet's folder", folder.display()))
                .because(format!("{}: {error}", path.display()))
                .next("make one with: muster init DIR …")
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Exit::Refused,
                format!("{} is in use by another muster up or once", folder.display()),
            )
            .next("ask that one: muster start --wait; or stop it first")),
            Err(TryLockError::Error(error)) => {
                Err(Failure::new(Exit::Failed, format!("{} cannot be locked", path.display()))
                    .because(error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FILE, Lock};
    use crate::exit::Exit;

    #[test]
    fn a_folder_is_taken_once() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!(Lock::take(dir.path()).expect_err("no fleet").exit(), Exit::Usage);
        std::fs::write(dir.path().join(FILE), "").expect("written");
        let lock = Lock::take(dir.path()).expect("free");
        assert_eq!(Lock::take(dir.path()).expect_err("taken").exit(), Exit::Refused);
        drop(lock);
        Lock::take(dir.path()).expect("free again");
    }
}
