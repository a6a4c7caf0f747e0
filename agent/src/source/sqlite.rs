//! `sqlite`: a database copied by SQLite's online backup (<https://www.sqlite.org/c3ref/backup_finish.html>) into a
//! spool file, checked there, then captured. Never creates or changes the database, and never holds its lock for
//! longer than a few steps unless writers would otherwise keep the copy from ever ending.

mod put_back;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use muster_protocol::ids::SourceName;
use muster_share::entry::Kind;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::metadata::{self, Names};
use super::{CaptureContext, Cause, Sink, Source, SourceError, SourceReport, dump};

/// Pages copied while the lock is held: 4 MiB of the usual size.
const STEP_PAGES: i32 = 1024;
/// Pause between steps in which writers of a database without a write-ahead log get their turn.
const STEP_PAUSE: Duration = Duration::from_millis(5);
/// Pause before a locked database is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How often writers may make the copy start again before it holds the lock to its end.
const RESTARTS: u32 = 3;
/// Lines of the integrity check that are kept.
const PROBLEMS: usize = 5;

/// A database to capture.
#[derive(Debug, Clone)]
pub struct SqliteSource {
    name: SourceName,
    path: PathBuf,
    file: OsString,
    busy_timeout: Duration,
}

impl SqliteSource {
    pub(crate) fn new(name: SourceName, path: PathBuf, file: OsString, busy_timeout: Duration) -> Self {
        Self { name, path, file, busy_timeout }
    }

    fn error(&self, cause: Cause) -> SourceError {
        SourceError { name: self.name.clone(), kind: "sqlite", cause: Box::new(cause) }
    }

    fn sqlite(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> Cause {
        let (path, waited) = (self.path.clone(), self.busy_timeout);
        move |error| {
            use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
            match error.sqlite_error_code() {
                Some(DatabaseBusy | DatabaseLocked) => Cause::Locked { path: path.clone(), waited },
                Some(_) | None => Cause::Sqlite { path: path.clone(), doing, error },
            }
        }
    }

    /// The database, open for reading only.
    fn open(&self) -> Result<Connection, Cause> {
        // SQLite's own message for a missing file says less than the system's, and opening a named pipe would wait for
        // ever.
        let root = |error| Cause::Root { path: self.path.clone(), error };
        if !std::fs::metadata(&self.path).map_err(root)?.is_file() {
            return Err(Cause::NoFile { path: self.path.clone() });
        }
        File::open(&self.path).map_err(root)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(&self.path, flags).map_err(self.sqlite("opening"))?;
        database.busy_timeout(self.busy_timeout).map_err(self.sqlite("opening"))?;
        Ok(database)
    }

    fn copy(&self, spool: &Path, context: &CaptureContext<'_>) -> Result<(), Cause> {
        let database = self.open()?;
        let journal: String = database
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(self.sqlite("reading"))?;
        // Beside a write-ahead log a reader holds nobody up, so the copy is of one moment and never starts again.
        let mut holding = journal.eq_ignore_ascii_case("wal");
        if holding {
            self.hold(&database)?;
        }
        let mut copy = Connection::open_with_flags(spool, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(self.sqlite("copying"))?;
        copy.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF")
            .map_err(self.sqlite("copying"))?;
        // Waiting is done below, where a cancelled capture ends it.
        database.busy_timeout(Duration::ZERO).map_err(self.sqlite("copying"))?;
        let backup = Backup::new(&database, &mut copy).map_err(self.sqlite("copying"))?;
        let (mut moved, mut remaining, mut restarts) = (Instant::now(), i32::MAX, 0);
        loop {
            context.check()?;
            match backup.step(STEP_PAGES).map_err(self.sqlite("copying"))? {
                StepResult::Done => return Ok(()),
                StepResult::More => {
                    moved = Instant::now();
                    let left = backup.progress().remaining;
                    if left >= remaining {
                        restarts += 1;
                    }
                    remaining = left;
                    if restarts >= RESTARTS && !holding {
                        // The lock may be taken at this moment; then the next step tries again.
                        holding = self.hold(&database).is_ok();
                    }
                    if !holding {
                        thread::sleep(STEP_PAUSE);
                    }
                }
                StepResult::Busy | StepResult::Locked => {
                    if moved.elapsed() >= self.busy_timeout {
                        return Err(Cause::Locked { path: self.path.clone(), waited: self.busy_timeout });
                    }
                    thread::sleep(BUSY_PAUSE.min(self.busy_timeout));
                }
                // The type may grow; a new outcome is no success.
                _ => {
                    return Err(Cause::Sqlite {
                        path: self.path.clone(),
                        doing: "copying",
                        error: rusqlite::Error::InvalidQuery,
                    });
                }
            }
        }
    }

    /// Takes the read lock and keeps it until the connection closes.
    fn hold(&self, database: &Connection) -> Result<(), Cause> {
        let begun = if database.is_autocommit() { database.execute_batch("BEGIN") } else { Ok(()) };
        begun
            .and_then(|()| database.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
            .map_err(self.sqlite("reading"))
    }

    fn check(&self, spool: &Path, context: &CaptureContext<'_>) -> Result<(), Cause> {
        let damaged = |problems| Cause::Damaged { path: self.path.clone(), problems };
        let copy = Connection::open_with_flags(spool, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(self.sqlite("checking the copy of"))?;
        let query = || -> rusqlite::Result<Vec<String>> {
            let mut statement = copy.prepare(&format!("PRAGMA integrity_check({PROBLEMS})"))?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        };
        let interrupt = copy.get_interrupt_handle();
        let checked = thread::scope(|scope| {
            let (ended, watch) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                use std::sync::mpsc::RecvTimeoutError::Timeout;
                while watch.recv_timeout(Duration::from_millis(50)) == Err(Timeout) {
                    if context.cancelled() {
                        interrupt.interrupt();
                    }
                }
            });
            let checked = query();
            drop(ended);
            checked
        });
        context.check()?;
        let lines = checked.map_err(|error| damaged(vec![error.to_string()]))?;
        // "If the integrity_check pragma finds no problems, it returns a single row with the value 'ok'."
        if lines == ["ok"] { Ok(()) } else { Err(damaged(lines)) }
    }

    fn push(
        &self,
        spool: &Path,
        sink: &mut dyn Sink,
        context: &CaptureContext<'_>,
    ) -> Result<SourceReport, Cause> {
        let error = |error: io::Error| Cause::Spool { path: spool.to_owned(), error };
        let stat = rustix::fs::stat(&self.path)
            .map_err(|errno| Cause::Root { path: self.path.clone(), error: errno.into() })?;
        let mut copy = File::open(spool).map_err(error)?;
        let mut report = SourceReport {
            recipe: format!(
                "stop the service, put the file in place of {0}, remove {0}-wal, {0}-shm and {0}-journal",
                self.path.display()
            ),
            ..SourceReport::default()
        };
        report.tool_versions.insert("sqlite".to_owned(), rusqlite::version().to_owned());
        let file = metadata::entry(self.file.as_bytes().to_vec(), Kind::File, &stat, &Names::load());
        dump::begin(sink, file)?;
        loop {
            context.check().inspect_err(|_| sink.discard())?;
            let count = copy.read(sink.space()?).map_err(error).inspect_err(|_| sink.discard())?;
            if count == 0 {
                break;
            }
            sink.filled(count)?;
        }
        sink.end(None, None)?;
        Ok(report)
    }
}

impl Source for SqliteSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn preflight(&self) -> Result<(), SourceError> {
        let database = self.open().map_err(|cause| self.error(cause))?;
        database
            .query_row("PRAGMA schema_version", [], |_| Ok(()))
            .map_err(self.sqlite("reading"))
            .map_err(|cause| self.error(cause))
    }

    fn capture(
        &self,
        sink: &mut dyn Sink,
        context: &CaptureContext<'_>,
    ) -> Result<SourceReport, SourceError> {
        let mut captured = || {
            // Before the spool file, so that a missing database leaves no trace.
            drop(self.open()?);
            let spool = Spool::create(context.spool, &self.name)?;
            self.copy(&spool.path, context)?;
            self.check(&spool.path, context)?;
            self.push(&spool.path, sink, context)
        };
        captured().map_err(|cause| self.error(cause))
    }
}

/// A file of the agent's own, gone when this is dropped.
struct Spool {
    path: PathBuf,
}

impl Spool {
    fn create(folder: &Path, name: &SourceName) -> Result<Self, Cause> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("sqlite-{name}-{}-{number}", std::process::id()));
        // What a killed agent of the same process id left.
        let spool = Self { path };
        spool.remove();
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&spool.path)
            .map_err(|error| Cause::Spool { path: spool.path.clone(), error })?;
        Ok(spool)
    }

    fn remove(&self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            // Mostly absent; what cannot be removed is found again at the agent's next start.
            drop(fs::remove_file(path));
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Memory, capture};
    use super::super::{Cause, SourceConfig, SourceTable};
    use crate::source::Source;
    use crate::source::config::SqliteTable;
    use muster_protocol::units::HumanDuration;
    use rusqlite::Connection;
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    fn source(path: &Path, busy: Duration) -> Box<dyn Source> {
        let table = SqliteTable { busy_timeout: HumanDuration(busy), ..SqliteTable::new(path) };
        let mut configs =
            SourceConfig::resolve(&[SourceTable::Sqlite(table)], Path::new("/")).expect("resolves");
        configs.remove(0).build()
    }

    fn database(path: &Path, journal: &str, rows: u32) -> Connection {
        let database = Connection::open(path).expect("opens");
        database.pragma_update(None, "journal_mode", journal).expect("journal mode");
        database
            .execute_batch(&format!(
                "CREATE TABLE pair (a INTEGER, b INTEGER, pad BLOB);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                 INSERT INTO pair SELECT i, 0, randomblob(900) FROM n;"
            ))
            .expect("fills");
        database
    }

    fn copied(sink: &Memory<'_>, to: &Path) -> Connection {
        fs::write(to, &sink.content[&b"live.db"[..]]).expect("writes");
        Connection::open(to).expect("opens")
    }

    /// A writer that changes all rows in one transaction, again and again: a torn copy would show two values.
    #[test]
    fn a_copy_taken_beside_a_writer_is_of_one_moment() {
        for journal in ["wal", "delete"] {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("live.db");
            let spool = tempfile::tempdir().expect("spool");
            let writer = database(&path, journal, 12_000);
            writer.busy_timeout(Duration::from_secs(30)).expect("timeout");
            writer.pragma_update(None, "cache_size", -65_536).expect("cache");
            let (stop, written) = (AtomicBool::new(false), AtomicBool::new(false));
            let mut sink = Memory::default();
            std::thread::scope(|scope| {
                let (stop, written) = (&stop, &written);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        writer.execute("UPDATE pair SET b = b + 1", []).expect("updates");
                        written.store(true, Ordering::Relaxed);
                        // A service does not write without a break either.
                        std::thread::sleep(Duration::from_millis(10));
                    }
                });
                while !written.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                let report = capture(&*source(&path, Duration::from_secs(30)), &mut sink, spool.path());
                stop.store(true, Ordering::Relaxed);
                let report = report.expect(journal);
                assert!(report.tool_versions.contains_key("sqlite"));
            });
            assert_eq!(sink.paths(), ["", "live.db"]);
            assert!(sink.gaps() == 0 && sink.source_bytes() > 10_000_000);
            let copy = copied(&sink, &folder.path().join("copy.db"));
            let (count, low, high): (u32, u32, u32) = copy
                .query_row("SELECT count(*), min(b), max(b) FROM pair", [], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .expect("reads");
            assert_eq!(count, 12_000, "{journal}");
            assert_eq!(low, high, "{journal}");
            assert_eq!(fs::read_dir(spool.path()).expect("lists").count(), 0, "the spool is empty again");
        }
    }

    #[test]
    fn a_damaged_database_is_an_error_and_nothing_is_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("live.db");
        drop(database(&path, "delete", 2_000));
        let mut bytes = fs::read(&path).expect("reads");
        for byte in &mut bytes[40_000..60_000] {
            *byte = 0xa5;
        }
        fs::write(&path, bytes).expect("writes");
        let mut sink = Memory::default();
        let error =
            capture(&*source(&path, Duration::from_secs(1)), &mut sink, folder.path()).expect_err("damaged");
        assert!(matches!(&*error.cause, Cause::Damaged { problems, .. } if !problems.is_empty()), "{error}");
        assert!(error.is_permanent());
        assert!(sink.entries.is_empty());
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1);

        fs::write(&path, b"this has never been a database, but it is long enough to look at")
            .expect("writes");
        let error = source(&path, Duration::from_secs(1)).preflight().expect_err("no database");
        assert!(matches!(*error.cause, Cause::Sqlite { .. }) && error.is_permanent(), "{error}");
    }

    #[test]
    fn a_missing_database_is_not_created() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("none.db");
        let source = source(&path, Duration::from_secs(1));
        let error = capture(&*source, &mut Memory::default(), folder.path()).expect_err("missing");
        assert!(matches!(*error.cause, Cause::Root { .. }) && error.is_permanent(), "{error}");
        assert!(source.preflight().is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
    }

    #[test]
    fn a_locked_database_is_given_up_on() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("live.db");
        let writer = database(&path, "delete", 10);
        writer.execute_batch("BEGIN EXCLUSIVE").expect("locks");
        let mut sink = Memory::default();
        let error = capture(&*source(&path, Duration::from_millis(60)), &mut sink, folder.path())
            .expect_err("locked");
        assert!(matches!(*error.cause, Cause::Locked { .. }) && !error.is_permanent(), "{error}");
        writer.execute_batch("COMMIT").expect("unlocks");
        capture(&*source(&path, Duration::from_millis(60)), &mut sink, folder.path()).expect("captures");
        assert_eq!(sink.get("live.db").size, fs::metadata(&path).expect("stat").len());
    }
}
