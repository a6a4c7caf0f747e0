//! The record of a hold, in the agent's state folder: what releases the service, should everybody die who knew.
//!
//! `hold.json` is written before anything is quiesced and goes when the service is released. `hold.lock` is locked for as
//! long as a watchdog lives: it inherits the lock, which the system gives back however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::hook::Hook;

const RECORD: &str = "hold.json";
const LOCK: &str = "hold.lock";

/// Between two looks at a lock that somebody has.
const LOOK: Duration = Duration::from_millis(50);

/// Where an agent records its holds. Calls block on the local disk.
#[derive(Debug, Clone)]
pub(super) struct Record {
    folder: PathBuf,
}

/// What a former life of the agent left.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// A hold that this releases.
    Hold(Hook),
    /// A hold of which only that is known.
    Unreadable,
}

impl Record {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The file, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(RECORD)
    }

    /// The lock that shows whether a watchdog lives, once the one before is gone; none after `limit`. Opened for reading
    /// only, so that whoever inherits it can write nothing.
    pub(super) fn lock(&self, limit: Duration) -> io::Result<Option<File>> {
        let path = self.folder.join(LOCK);
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let file = File::open(&path)?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if since.elapsed() >= limit => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// What is recorded.
    pub(super) fn left(&self) -> io::Result<Left> {
        match fs::read(self.path()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_or(Left::Unreadable, Left::Hold)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Left::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Records that a hold begins which `release` ends; durable when it returns.
    pub(super) fn begin(&self, release: &Hook) -> io::Result<()> {
        let temporary = self.folder.join(format!("{RECORD}.new"));
        let bytes = serde_json::to_vec(release)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path())?;
        File::open(&self.folder)?.sync_all()
    }

    /// Keeps what is no record of a hold for whoever wants to know.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        fs::rename(self.path(), self.folder.join(format!("{RECORD}.damaged")))
    }

    /// The service is released.
    pub(super) fn end(&self) -> io::Result<()> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hook::{Hook, Kind};
    use super::{Left, Record};
    use std::time::Duration;

    #[test]
    fn a_hold_is_recorded_until_it_ends() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let record = Record::in_folder(folder.path());
        assert_eq!(record.left().expect("reads"), Left::Nothing);
        let env = vec![("MUSTER_ROUND".to_owned(), "7".to_owned())];
        let hook = Hook { kind: Kind::Release, argv: vec!["thaw".to_owned()], env, limit_millis: 5 };
        record.begin(&hook).expect("recorded");
        assert_eq!(record.left().expect("reads"), Left::Hold(hook));
        std::fs::write(record.path(), b"{").expect("torn");
        assert_eq!(record.left().expect("reads"), Left::Unreadable);
        record.set_aside().expect("kept");
        assert_eq!(std::fs::read(folder.path().join("hold.json.damaged")).expect("kept"), b"{");
        assert_eq!(record.left().expect("reads"), Left::Nothing);
        std::fs::write(record.path(), b"{").expect("torn");
        record.end().expect("gone");
        record.end().expect("gone already");
        assert_eq!(record.left().expect("reads"), Left::Nothing);
    }

    #[test]
    fn a_watchdog_that_lives_is_seen() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let record = Record::in_folder(folder.path());
        let held = record.lock(Duration::ZERO).expect("works").expect("free");
        assert!(record.lock(Duration::from_millis(1)).expect("works").is_none());
        let inherited = held.try_clone().expect("duplicated");
        drop(held);
        assert!(record.lock(Duration::ZERO).expect("works").is_none(), "whoever inherited it has it");
        drop(inherited);
        assert!(record.lock(Duration::ZERO).expect("works").is_some());
    }
}
