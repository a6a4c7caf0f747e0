//! `command`: what a program writes to standard output, streamed straight into the engine. No shell, no temporary
//! copy; the program gets an empty standard input, an environment of named variables, and a process group of its own
//! that is killed as a whole when its time is up.
//!
//! Only output whose end was seen counts: a process left behind that keeps the pipe open makes the capture fail within
//! [`GRACE`]. A process that leaves the group (setsid(2)) escapes the killing, not the limits.

mod put_back;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use muster_protocol::ids::SourceName;
use muster_share::entry::{Entry, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::config::CommandTable;
use super::{BUFFER_BYTES, CaptureContext, Cause, Sink, Source, SourceError, SourceReport, dump};

/// How long a process group may take to end after SIGTERM, and how long a pipe may stay open after the program's end.
pub const GRACE: Duration = Duration::from_secs(2);
/// How often the clock, the cancel flag and the program's end are looked at while nothing is written.
const TICK: Duration = Duration::from_millis(20);
/// How much of standard error is kept.
const STDERR_BYTES: usize = 4096;
/// Where programs are looked up when the agent itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
        let program = &self.table.argv[0];
        let executable =
            |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
        if program.contains('/') {
            let path = PathBuf::from(program);
            path.metadata().map_err(|error| self.start_error(error))?;
            return if executable(&path) {
                Ok(path)
            } else {
                Err(self.start_error(io::ErrorKind::PermissionDenied.into()))
            };
        }
        std::env::split_paths(&search_path())
            .map(|folder| folder.join(program))
            .find(|path| executable(path))
            .ok_or_else(|| self.start_error(io::ErrorKind::NotFound.into()))
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
        command.spawn().map(|child| Group { child, reaped: false }).map_err(|error| self.start_error(error))
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
                group.end(&mut stdout);
                return Err(Cause::Cancelled);
            }
            if Instant::now() >= deadline {
                drain(&mut stderr, &mut said);
                group.end(&mut stdout);
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
                    group.end(&mut stdout);
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

fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
}

fn is_later(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind())
}

/// Waits for either pipe, at most one tick.
fn wait(stdout: Option<&impl AsFd>, stderr: Option<&impl AsFd>) -> Result<(), rustix::io::Errno> {
    let mut pipes: Vec<PollFd<'_>> = Vec::with_capacity(2);
    pipes.extend(stdout.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    pipes.extend(stderr.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    match poll(&mut pipes, Some(&tick)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Takes what standard error holds now, without waiting and without end: a flood is taken up in turns.
fn drain(stderr: &mut Option<impl Read>, said: &mut Tail) {
    let mut buffer = [0; STDERR_BYTES];
    for _ in 0..16 {
        let Some(pipe) = stderr else { return };
        match pipe.read(&mut buffer) {
            Ok(0) => *stderr = None,
            Ok(count) => said.push(&buffer[..count]),
            Err(error) if is_later(&error) => return,
            Err(_) => *stderr = None,
        }
    }
}

/// The last bytes of standard error.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(STDERR_BYTES);
        self.0.drain(..excess);
    }

    /// As text that is safe on a terminal.
    fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text: String = String::from_utf8_lossy(&bytes)
            .chars()
            .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
            .collect();
        text.trim().to_owned()
    }
}

/// The program with its process group. The program stays unreaped until the group has been dealt with, so that the
/// group's number cannot have become somebody else's.
struct Group {
    child: Child,
    reaped: bool,
}

impl Group {
    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Whether the program (not the group) has ended.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.id().is_none_or(|id| !matches!(waitid(WaitId::Pid(id), options), Ok(None)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id().filter(|_| !self.reaped) {
            // Fails only when nobody is left.
            let _ = kill_process_group(id, signal);
        }
    }

    /// Ends the whole group: politely, then after [`GRACE`] for good. What it still writes is thrown away.
    fn end(&mut self, stdout: &mut Option<impl Read + AsFd>) {
        self.signal(Signal::TERM);
        let since = Instant::now();
        let mut buffer = [0; 4096];
        while since.elapsed() < GRACE && !(stdout.is_none() && self.has_ended()) {
            // A pipe that cannot be watched costs nothing but the grace.
            let _ = wait(stdout.as_ref(), None::<&std::process::ChildStderr>);
            let Some(pipe) = stdout else { continue };
            match pipe.read(&mut buffer) {
                Ok(0) => *stdout = None,
                Ok(_) => {}
                Err(error) if is_later(&error) => {}
                Err(_) => *stdout = None,
            }
        }
        self.signal(Signal::KILL);
    }

    /// The program's status. Called when it has ended or was killed; waits for the kernel at most [`GRACE`].
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.reaped = true;
                return Ok(status);
            }
            if since.elapsed() >= GRACE {
                return Ok(ExitStatus::from_raw(9));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            drop(self.reap());
        }
    }
}

#[cfg(test)]
mod tests;
