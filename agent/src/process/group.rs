//! A program with its process group.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::pipes::{is_later, wait};

/// How long the kernel may take to give a killed program back.
const REAP: Duration = Duration::from_secs(2);

/// The program with its process group, which it leads. The program stays unreaped until the group has been dealt with,
/// so that the group's number cannot have become somebody else's.
pub(crate) struct Group {
    pub(crate) child: Child,
    reaped: bool,
}

impl Group {
    /// Of a child that was started with `process_group(0)`.
    pub(crate) fn new(child: Child) -> Self {
        Self { child, reaped: false }
    }

    /// The group's number.
    pub(crate) fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Whether the program (not the group) has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.id().is_none_or(|id| !matches!(waitid(WaitId::Pid(id), options), Ok(None)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id().filter(|_| !self.reaped) {
            // Fails only when nobody is left.
            let _ = kill_process_group(id, signal);
        }
    }

    /// Ends the whole group: politely, then after `grace` for good. What it still writes to `stdout` is thrown away.
    pub(crate) fn end(&mut self, stdout: &mut Option<impl Read + AsFd>, grace: Duration) {
        self.signal(Signal::TERM);
        let since = Instant::now();
        let mut buffer = [0; 4096];
        while since.elapsed() < grace && !(stdout.is_none() && self.has_ended()) {
            // A pipe that cannot be watched costs nothing but the grace.
            let _ = wait(stdout.as_ref(), None::<&ChildStderr>);
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

    /// The program's status. Called when it has ended or was killed; waits for the kernel at most [`REAP`].
    pub(crate) fn reap(&mut self) -> io::Result<ExitStatus> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.reaped = true;
                return Ok(status);
            }
            if since.elapsed() >= REAP {
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
