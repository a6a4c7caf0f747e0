//! Putting a database back: SQLite's own backup writes the dump into the live file, so that whoever has it open sees
//! either what was there or what the dump holds, never a mixture; where there is none, the dump is given its name last.
//!
//! The dump is checked before the live file is touched, and the live file after.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::{Cause, SourceError};
use super::{BUSY_PAUSE, PROBLEMS, STEP_PAGES, SqliteSource};

impl SqliteSource {
    /// The database's file, if something has its name.
    pub(crate) fn there(&self) -> Option<&Path> {
        fs::symlink_metadata(&self.path).is_ok().then_some(self.path.as_path())
    }

    /// Whether a dump is a whole database. Blocks.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn check_dump(&self, dump: &Path) -> Result<(), SourceError> {
        self.whole(dump).map_err(|cause| self.error(cause))
    }

    /// Puts a dump in the database's place. Blocks.
    ///
    /// # Errors
    /// When the live database stays locked for its `busy_timeout`, has another page size under a write-ahead log, or
    /// fails the check afterwards.
    pub(crate) fn put_back(&self, dump: &Path) -> Result<(), SourceError> {
        let put = || {
            match fs::metadata(&self.path) {
                Ok(there) if there.is_file() => self.over(dump)?,
                Ok(_) => return Err(Cause::NoFile { path: self.path.clone() }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.anew(dump)?,
                Err(error) => return Err(Cause::Root { path: self.path.clone(), error }),
            }
            self.whole(&self.path)
        };
        put().map_err(|cause| self.error(cause))
    }

    fn whole(&self, database: &Path) -> Result<(), Cause> {
        let damaged = |problems| Cause::Damaged { path: self.path.clone(), problems };
        let open = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(self.sqlite("checking"))?;
        open.busy_timeout(self.busy_timeout).map_err(self.sqlite("checking"))?;
        let lines = || -> rusqlite::Result<Vec<String>> {
            let mut statement = open.prepare(&format!("PRAGMA integrity_check({PROBLEMS})"))?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let lines = lines().map_err(|error| damaged(vec![error.to_string()]))?;
        if lines == ["ok"] { Ok(()) } else { Err(damaged(lines)) }
    }

    fn over(&self, dump: &Path) -> Result<(), Cause> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let from = Connection::open_with_flags(dump, flags).map_err(self.sqlite("reading the dump for"))?;
        let mut live = Connection::open_with_flags(&self.path, flags).map_err(self.sqlite("opening"))?;
        let backup = Backup::new(&from, &mut live).map_err(self.sqlite("restoring"))?;
        let mut moved = Instant::now();
        loop {
            match backup.step(STEP_PAGES).map_err(self.sqlite("restoring"))? {
                StepResult::Done => return Ok(()),
                StepResult::More => moved = Instant::now(),
                StepResult::Busy | StepResult::Locked if moved.elapsed() >= self.busy_timeout => {
                    return Err(Cause::Locked { path: self.path.clone(), waited: self.busy_timeout });
                }
                StepResult::Busy | StepResult::Locked => thread::sleep(BUSY_PAUSE.min(self.busy_timeout)),
                // The type may grow; a new outcome is no success.
                _ => {
                    let error = rusqlite::Error::InvalidQuery;
                    return Err(Cause::Sqlite { path: self.path.clone(), doing: "restoring", error });
                }
            }
        }
    }

    fn anew(&self, dump: &Path) -> Result<(), Cause> {
        let failed = |error: io::Error| Cause::Spool { path: self.path.clone(), error };
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        // They belong to a database that is gone, and would be taken for this one's.
        for suffix in ["-wal", "-shm", "-journal"] {
            match fs::remove_file(self.beside(suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                Ok(()) | Err(_) => {}
            }
        }
        let part = self.beside(".muster-part");
        let place = || -> io::Result<()> {
            fs::copy(dump, &part)?;
            let meta = fs::metadata(dump)?;
            if rustix::process::geteuid().is_root() {
                use std::os::unix::fs::MetadataExt;
                std::os::unix::fs::chown(&part, Some(meta.uid()), Some(meta.gid()))?;
            }
            File::open(&part)?.sync_all()?;
            Ok(renameat_with(CWD, &part, CWD, &self.path, RenameFlags::NOREPLACE)?)
        };
        place().map_err(|error| {
            // What is left of it is taken away; the first error is the one that counts.
            drop(fs::remove_file(&part));
            failed(error)
        })
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    }
}

#[cfg(test)]
mod tests {
    use super::SqliteSource;
    use crate::source::Cause;
    use rusqlite::Connection;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    fn source(path: &Path, busy: Duration) -> SqliteSource {
        let name = "sqlite".parse().expect("a name");
        SqliteSource::new(name, path.to_owned(), "live.db".into(), busy)
    }

    fn fill(path: &Path, journal: &str, word: &str) -> Connection {
        let database = Connection::open(path).expect("opens");
        database.pragma_update(None, "journal_mode", journal).expect("journal");
        database
            .execute_batch(&format!(
                "CREATE TABLE t (a TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                 INSERT INTO t SELECT '{word} ' || i FROM n;"
            ))
            .expect("fills");
        database
    }

    fn words(database: &Connection) -> (u32, String) {
        database
            .query_row("SELECT count(*), min(a) FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("reads")
    }

    #[test]
    fn a_database_that_others_have_open_becomes_the_dump() {
        for journal in ["wal", "delete"] {
            let folder = tempfile::tempdir().expect("folder");
            let (live, dump) = (folder.path().join("live.db"), folder.path().join("dump"));
            drop(fill(&dump, "delete", "old"));
            let other = fill(&live, journal, "new");
            other.execute("DELETE FROM t WHERE rowid > 10", []).expect("deletes");
            let source = source(&live, Duration::from_secs(10));
            source.check_dump(&dump).expect("whole");
            source.put_back(&dump).expect(journal);
            assert_eq!(words(&other), (5000, "old 1".to_owned()), "{journal}");
        }
    }

    #[test]
    fn an_absent_database_is_put_there_and_a_stale_journal_goes() {
        let folder = tempfile::tempdir().expect("folder");
        let (live, dump) = (folder.path().join("new/live.db"), folder.path().join("dump"));
        drop(fill(&dump, "delete", "old"));
        fs::create_dir(folder.path().join("new")).expect("folder");
        fs::write(folder.path().join("new/live.db-journal"), b"of another").expect("written");
        source(&live, Duration::from_secs(10)).put_back(&dump).expect("put back");
        assert_eq!(words(&Connection::open(&live).expect("opens")), (5000, "old 1".to_owned()));
        assert_eq!(fs::read_dir(folder.path().join("new")).expect("lists").count(), 1);
    }

    #[test]
    fn a_locked_database_and_a_damaged_dump_change_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let (live, dump) = (folder.path().join("live.db"), folder.path().join("dump"));
        drop(fill(&dump, "delete", "old"));
        let other = fill(&live, "delete", "new");
        other.execute_batch("BEGIN EXCLUSIVE").expect("locks");
        let source = source(&live, Duration::from_millis(60));
        let error = source.put_back(&dump).expect_err("locked");
        assert!(matches!(*error.cause, Cause::Locked { .. }), "{error}");
        other.execute_batch("COMMIT").expect("unlocks");
        assert_eq!(words(&other).1, "new 1");
        let mut bytes = fs::read(&dump).expect("reads");
        bytes[20_000..40_000].fill(0xa5);
        fs::write(&dump, bytes).expect("written");
        let error = source.check_dump(&dump).expect_err("damaged");
        assert!(matches!(*error.cause, Cause::Damaged { .. }), "{error}");
    }
}
