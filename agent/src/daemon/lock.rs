//! The state folder belongs to one agent at a time: a lock on `agent.lock` in it, which the system gives back however
//! the process ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::error::DaemonError;

/// The file in an agent's state folder that a running agent has locked.
pub const LOCK_FILE: &str = "agent.lock";

/// Holds the folder until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, and makes it when it is not there.
    pub(crate) fn take(folder: &Path) -> Result<Self, DaemonError> {
        let path = folder.join(LOCK_FILE);
        std::fs::create_dir_all(folder)
            .map_err(|source| DaemonError::State { path: folder.to_owned(), source })?;
        let file = File::create(&path).map_err(|source| DaemonError::State { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DaemonError::Locked { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(DaemonError::State { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DaemonError, Lock};

    #[test]
    fn a_folder_has_one_agent() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = folder.path().join("state");
        let lock = Lock::take(&state).expect("free");
        assert!(matches!(Lock::take(&state), Err(DaemonError::Locked { .. })));
        drop(lock);
        Lock::take(&state).expect("free again");
    }
}
