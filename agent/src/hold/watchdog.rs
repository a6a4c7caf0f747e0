//! The watchdog: the process that quiesces a service, and releases it whatever becomes of the agent.
//!
//! A process in a session of its own, so that nothing that is sent to the agent or its process group reaches it; signals
//! that ask it to end are not followed, as it ends by itself within its limit. It opens no file for writing, its outputs
//! lead nowhere, and its memory is locked where the system allows it: it must go on when file systems are frozen. Its own
//! executable and the hooks' programs must be readable then, which is the user's duty.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::hook::{Hook, HookError, release};
use super::words::{Answer, Came, Lines, Told};

/// The hidden first argument by which an executable becomes a watchdog.
pub const COMMAND: &str = "hold-watchdog";

/// How long the agent may take to say what shall be held.
const ORDER: Duration = Duration::from_secs(10);

/// Runs as the watchdog of the agent at the other end of standard input, until the service is released.
#[must_use]
pub fn run() -> ExitCode {
    match session() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn session() -> io::Result<()> {
    // Fails only when it leads a group already, which is as good.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let _signals = unheeded()?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut lines = Lines::new(socket)?;
    if let Came::Word(Told::Hold { quiesce, release, limit_millis }) = lines.next(ORDER) {
        hold(&mut lines, &quiesce, &release, Duration::from_millis(limit_millis));
    }
    Ok(())
}

/// Listens to the signals that would end it, and never looks. Not ignored: that would pass on to the hooks.
fn unheeded() -> io::Result<Vec<Signal>> {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
    kinds.into_iter().map(signal).collect()
}

fn hold(lines: &mut Lines, quiesce: &Hook, release_hook: &Hook, limit: Duration) {
    let deadline = Instant::now() + limit;
    // What is in use now; what comes later is a few pages that a system short of memory can still give.
    let unlocked = mlockall(MlockAllFlags::CURRENT).err().map(|errno| io::Error::from(errno).to_string());
    lines.say(&Answer::Armed { unlocked });
    match run_quiesce(lines, quiesce, deadline) {
        Ok(()) => {
            lines.say(&Answer::Quiesced);
            if wait_until_over(lines, deadline) == Over::Time {
                lines.say(&Answer::Expired);
            }
        }
        Err((reason, permanent)) => lines.say(&Answer::Failed { reason, permanent }),
    }
    let failed = release(release_hook).err().map(|error| error.to_string());
    lines.say(&Answer::Released { failed });
}

/// The quiesce hook, killed when the agent wants it no more or is gone, or when the time is over.
fn run_quiesce(lines: &mut Lines, hook: &Hook, deadline: Instant) -> Result<(), (String, bool)> {
    let mut over = None;
    // Both ends of the run talk over the one connection, never at once.
    let lines = RefCell::new(lines);
    let began = |group: Pid| lines.borrow_mut().say(&Answer::Began { group: group.as_raw_nonzero().get() });
    let stop = || {
        over = ended(&mut lines.borrow_mut(), deadline, Duration::ZERO);
        over.is_some()
    };
    match hook.run(began, stop) {
        Ok(()) => Ok(()),
        Err(HookError::Stopped { .. }) if over == Some(Over::Time) => {
            Err(("the service was not quiesced before max_hold was over".to_owned(), false))
        }
        Err(error) => Err((error.to_string(), error.is_permanent())),
    }
}

/// Why a hold is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The agent wants it no more, or is gone.
    Agent,
    Time,
}

fn wait_until_over(lines: &mut Lines, deadline: Instant) -> Over {
    loop {
        if let Some(over) = ended(lines, deadline, deadline.saturating_duration_since(Instant::now())) {
            return over;
        }
    }
}

/// Whether the hold is over, after `patience` at most.
fn ended(lines: &mut Lines, deadline: Instant, patience: Duration) -> Option<Over> {
    match lines.next::<Told>(patience) {
        Came::Nothing => (Instant::now() >= deadline).then_some(Over::Time),
        Came::Word(Told::Release | Told::Hold { .. }) | Came::End => Some(Over::Agent),
    }
}
