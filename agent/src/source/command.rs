//! `command`: what a program writes to standard output, streamed straight into the engine. No shell, no temporary
//! copy; the program gets an empty standard input, an environment of named variables, and a process group of its own
//! that is killed as a whole when its time is up.
//!
//! Only output whose end was seen counts: a process left behind that keeps the pipe open makes the capture fail within
//! [`GRACE`]. A process that leaves the group (setsid(2)) escapes the killing, not the limits.

mod put_back;

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use muster_protocol::ids::SourceName;
use muster_share::entry::{Entry, Kind};

use super::config::CommandTable;
use super::{BUFFER_BYTES, CaptureContext, Cause, Sink, Source, SourceError, SourceReport, dump};
use crate::process::{self, Group, Tail, drain, is_later, search_path, wait};

/// How long a process group may take to end after SIGTERM, and how long a pipe may stay open after the program's end.
pub const GRACE: Duration = Duration::from_secs(2);

/// A command to capture.
#[derive(Debug, Clone)]
pub struct CommandSource {
    name: SourceName,
    table: CommandTable,
}

impl CommandSource {
    pub(crate) fn new(name: SourceName, table: CommandTable) -> Self {
        Self { name, table }
    }

    fn error(&self, cause: Cause) -> SourceError {
        SourceError { name: self.name.clone(), kind: "command", cause: Box::new(cause) }
    }

    fn program(&self) -> String {
        self.table.argv[0].clone()
    }

    fn start_error(&self, error: io::Error) -> Cause {
        Cause::Start { program: self.program(), error }
    }

    fn follow_error(&self, error: impl Into<io::Error>) -> Cause {
        Cause::Follow { program: self.program(), error: error.into() }
    }

    fn folder(&self) -> &Path {
        self.table.dir.as_deref().unwrap_or(Path::new("/"))
    }

    /// The program's file, as execvp(3) would find it.
    fn locate(&self) -> Result<PathBuf, Cause> {
        process::locate(&self.table.argv[0]).map_err(|error| self.start_error(error))
    }

    fn start(&self) -> Result<Group, Cause> {
        self.spawn(Stdio::null(), Stdio::piped())
    }

    fn spawn(&self, stdin: Stdio, stdout: Stdio) -> Result<Group, Cause> {
        if !self.folder().is_dir() {
            return Err(Cause::Root {
                path: self.folder().to_owned(),
                error: io::ErrorKind::NotFound.into(),
            });
        }
        let mut command = Command::new(self.locate()?);
        command
            .arg0(&self.table.argv[0])
            .args(&self.table.argv[1..])
            .env_clear()
            .env("PATH", search_path())
            .env("LANG", "C.UTF-8")
            .current_dir(self.folder())
            .process_group(0)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped());
        for name in &self.table.env {
            match std::env::var_os(name) {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.spawn().map(Group::new).map_err(|error| self.start_error(error))
    }

    fn run(&self, sink: &mut dyn Sink, context: &CaptureContext<'_>) -> Result<SourceReport, Cause> {
        context.check()?;
        let mut group = self.start()?;
        let report = SourceReport {
            recipe: format!("give the file to the counterpart of {:?}", self.table.argv[0]),
            ..SourceReport::default()
        };
        dump::begin(sink, self.entry())?;
        match self.follow(&mut group, sink, context) {
            Ok(()) => {
                sink.end(None, None)?;
                Ok(report)
            }
            Err(cause) => {
                if !matches!(cause, Cause::Stopped(_)) {
                    sink.discard();
                }
                Err(cause)
            }
        }
    }

    fn entry(&self) -> Entry {
        let mut entry = Entry::new(self.table.file.clone().into_bytes(), Kind::File, 0o600);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        entry.uid = rustix::process::geteuid().as_raw();
        entry.gid = rustix::process::getegid().as_raw();
        entry.mtime_secs = i64::try_from(now.as_secs()).unwrap_or(0);
        entry.mtime_nanos = now.subsec_nanos();
        entry
    }

    /// Streams until the program's end and the end of its output; enough bytes must have come.
    fn follow(
        &self,
        group: &mut Group,
        sink: &mut dyn Sink,
        context: &CaptureContext<'_>,
    ) -> Result<(), Cause> {
        let limit = self.table.timeout.0;
        let deadline = Instant::now() + limit;
        let mut stdout = group.child.stdout.take();
        let mut stderr = group.child.stderr.take();
        for pipe in [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)].into_iter().flatten()
        {
            rustix::io::ioctl_fionbio(pipe, true).map_err(|errno| self.follow_error(errno))?;
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut written, mut said) = (0_u64, Tail::default());
        let mut ended: Option<Instant> = None;
        loop {
            if context.cancelled() {
                group.end(&mut stdout, GRACE);
                return Err(Cause::Cancelled);
            }
            if Instant::now() >= deadline {
                drain(&mut stderr, &mut said);
                group.end(&mut stdout, GRACE);
                drain(&mut stderr, &mut said);
                return Err(Cause::TimedOut { program: self.program(), limit, stderr: said.text() });
            }
            if ended.is_none() && group.has_ended() {
                ended = Some(Instant::now());
            }
            match (&stdout, ended) {
                (None, Some(_)) => break,
                (Some(_), Some(since)) if since.elapsed() >= GRACE => {
                    drain(&mut stderr, &mut said);
                    group.end(&mut stdout, GRACE);
                    let status = group.reap().map_err(|error| self.follow_error(error))?;
                    return Err(Cause::Held { program: self.program(), status, stderr: said.text() });
                }
                (None | Some(_), None | Some(_)) => {}
            }
            wait(stdout.as_ref(), stderr.as_ref()).map_err(|errno| self.follow_error(errno))?;
            drain(&mut stderr, &mut said);
            let Some(pipe) = &mut stdout else { continue };
            match pipe.read(&mut buffer) {
                Ok(0) => stdout = None,
                Ok(count) => {
                    sink.data(&buffer[..count])?;
                    written += count as u64;
                }
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(self.follow_error(error)),
            }
        }
        drain(&mut stderr, &mut said);
        let status = group.reap().map_err(|error| self.follow_error(error))?;
        let (program, stderr, want) = (self.program(), said.text(), self.table.min_bytes);
        if !status.success() {
            return Err(Cause::Status { program, status, stderr });
        }
        if written < want {
            return Err(Cause::Short { program, have: written, want, stderr });
        }
        Ok(())
    }
}

impl Source for CommandSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "command"
    }

    fn preflight(&self) -> Result<(), SourceError> {
        self.locate().map(drop).map_err(|cause| self.error(cause))
    }

    fn capture(
        &self,
        sink: &mut dyn Sink,
        context: &CaptureContext<'_>,
    ) -> Result<SourceReport, SourceError> {
        self.run(sink, context).map_err(|cause| self.error(cause))
    }
}

#[cfg(test)]
mod tests;
