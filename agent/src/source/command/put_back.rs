//! Putting a dump back: the counterpart of the captured command gets it on standard input.
//!
//! The dump is a whole file by then, read and compared: the program never sees half of one. Same rules as for a
//! capture: no shell, named environment variables, a process group of its own, and the time limit.

use std::fs::File;
use std::process::{ChildStdout, Stdio};
use std::time::Instant;

use super::super::config::CommandTable;
use super::super::{Cause, SourceError};
use super::{CommandSource, GRACE};
use crate::process::{Tail, drain, wait};

impl CommandSource {
    /// The counterpart, if one is configured and there: what [`CommandSource::put_back`] would run.
    ///
    /// # Errors
    /// When it is configured and cannot be run.
    pub(crate) fn counterpart(&self) -> Result<Option<Self>, SourceError> {
        if self.table.restore.is_empty() {
            return Ok(None);
        }
        let table = CommandTable { argv: self.table.restore.clone(), ..self.table.clone() };
        let counterpart = Self { name: self.name.clone(), table };
        counterpart.locate().map_err(|cause| counterpart.error(cause))?;
        Ok(Some(counterpart))
    }

    /// Runs the counterpart on a dump. Blocks, at most for the source's time limit.
    ///
    /// # Errors
    /// When the program cannot be run, ends badly or takes too long.
    pub(crate) fn put_back(&self, dump: File) -> Result<(), SourceError> {
        self.feed(dump).map_err(|cause| self.error(cause))
    }

    fn feed(&self, dump: File) -> Result<(), Cause> {
        let limit = self.table.timeout.0;
        let deadline = Instant::now() + limit;
        let mut group = self.spawn(Stdio::from(dump), Stdio::null())?;
        let mut stderr = group.child.stderr.take();
        if let Some(pipe) = &stderr {
            rustix::io::ioctl_fionbio(pipe, true).map_err(|errno| self.follow_error(errno))?;
        }
        let mut said = Tail::default();
        while !group.has_ended() {
            if Instant::now() >= deadline {
                drain(&mut stderr, &mut said);
                group.end(&mut None::<ChildStdout>, GRACE);
                drain(&mut stderr, &mut said);
                return Err(Cause::TimedOut { program: self.program(), limit, stderr: said.text() });
            }
            wait(None::<&ChildStdout>, stderr.as_ref()).map_err(|errno| self.follow_error(errno))?;
            drain(&mut stderr, &mut said);
        }
        drain(&mut stderr, &mut said);
        let status = group.reap().map_err(|error| self.follow_error(error))?;
        if status.success() {
            Ok(())
        } else {
            Err(Cause::Status { program: self.program(), status, stderr: said.text() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CommandSource;
    use crate::source::Cause;
    use crate::source::config::CommandTable;
    use muster_protocol::units::HumanDuration;
    use std::fs::{self, File};
    use std::io::Write;
    use std::time::Duration;

    fn source(restore: &[&str], limit: Duration) -> CommandSource {
        let mut table = CommandTable::new(vec!["true".to_owned()]);
        table.restore = restore.iter().map(|word| (*word).to_owned()).collect();
        table.timeout = HumanDuration(limit);
        CommandSource::new("command".parse().expect("a name"), table)
    }

    fn dump(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewinds");
        file
    }

    #[test]
    fn the_counterpart_gets_every_byte() {
        let folder = tempfile::tempdir().expect("folder");
        let to = folder.path().join("got");
        let script = format!("cat > {}", to.display());
        let source = source(&["sh", "-c", &script], Duration::from_secs(60));
        let content: Vec<u8> = (0..=255_u8).cycle().take(3_000_000).collect();
        let counterpart = source.counterpart().expect("is there").expect("is configured");
        counterpart.put_back(dump(&content)).expect("put back");
        assert!(fs::read(to).expect("reads") == content);
    }

    #[test]
    fn what_fails_says_what_it_said_and_what_hangs_is_ended() {
        let secs = Duration::from_secs(60);
        assert!(source(&[], secs).counterpart().expect("fine").is_none());
        assert!(source(&["no-such-program-here"], secs).counterpart().is_err());
        let failing = source(&["sh", "-c", "echo no such table >&2; exit 3"], secs);
        let error = failing.counterpart().expect("there").expect("configured").put_back(dump(b"x"));
        let error = error.expect_err("it failed");
        assert!(error.to_string().contains("no such table") && error.to_string().contains('3'), "{error}");
        let hanging = source(&["sleep", "600"], Duration::from_millis(100));
        let error = hanging.counterpart().expect("there").expect("configured").put_back(dump(b"x"));
        assert!(matches!(*error.expect_err("too slow").cause, Cause::TimedOut { .. }));
    }
}
