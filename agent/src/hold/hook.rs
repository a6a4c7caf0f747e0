//! One run of a hook: no shell, a process group of its own, an environment of a few variables, a time limit.
//!
//! Blocks. What the hook leaves running when it ends well is left alone: a lock may live in a process that stays.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use muster_protocol::units::format_duration;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::process::{Group, Tail, drain, locate, search_path, wait};

/// How long a hook's process group may take to end after SIGTERM. Short: a service waits.
const GRACE: Duration = Duration::from_millis(300);

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Quiesce,
    Release,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Quiesce => "quiesce",
            Self::Release => "release",
        }
    }
}

/// A hook that can be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hook {
    pub(super) kind: Kind,
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// The environment besides `PATH` and `LANG`; no secret.
    pub(super) env: Vec<(String, String)>,
    /// How long it may take, in milliseconds.
    pub(super) limit_millis: u64,
}

/// Why a hook did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    /// It could not be started.
    #[error("the {} hook {program:?} could not be started: {error}", kind.as_str())]
    Start {
        kind: Kind,
        program: String,
        // Part of the text: it crosses to the agent as such.
        error: io::Error,
    },
    /// Its pipes or its end could not be watched.
    #[error("the {} hook {program:?} could not be followed: {error}", kind.as_str())]
    Follow { kind: Kind, program: String, error: io::Error },
    /// It ended badly.
    #[error("the {} hook {program:?} ended with {status}{}", kind.as_str(), tail(said))]
    Status { kind: Kind, program: String, status: ExitStatus, said: String },
    /// It took too long.
    #[error(
        "the {} hook {program:?} did not end within {} and was killed{}",
        kind.as_str(), format_duration(*limit), tail(said)
    )]
    TimedOut { kind: Kind, program: String, limit: Duration, said: String },
    /// Nobody waits for it any more.
    #[error("the {} hook {program:?} was killed before it ended{}", kind.as_str(), tail(said))]
    Stopped { kind: Kind, program: String, said: String },
}

fn tail(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl HookError {
    /// Whether it would fail again until a person has changed something.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Start { error, .. } => {
                [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::NotADirectory]
                    .contains(&error.kind())
            }
            Self::Follow { .. } | Self::Status { .. } | Self::TimedOut { .. } | Self::Stopped { .. } => false,
        }
    }
}

impl Hook {
    /// Runs it. `began` hears the number of its process group; `stop` is asked every few milliseconds whether it shall be
    /// killed.
    pub(super) fn run(
        &self,
        began: impl FnOnce(Pid),
        mut stop: impl FnMut() -> bool,
    ) -> Result<(), HookError> {
        let (kind, program) = (self.kind, self.argv.first().cloned().unwrap_or_default());
        let limit = Duration::from_millis(self.limit_millis);
        let deadline = Instant::now() + limit;
        let mut group =
            self.start().map_err(|error| HookError::Start { kind, program: program.clone(), error })?;
        if let Some(id) = group.id() {
            began(id);
        }
        let follow = |error: io::Error| HookError::Follow { kind, program: program.clone(), error };
        let mut ears = Ears::new(&mut group).map_err(follow)?;
        while !group.has_ended() {
            let stopped = stop();
            if stopped || Instant::now() >= deadline {
                ears.hear();
                group.end(&mut None::<ChildStdout>, GRACE);
                ears.hear();
                let said = ears.said.text();
                return Err(if stopped {
                    HookError::Stopped { kind, program, said }
                } else {
                    HookError::TimedOut { kind, program, limit, said }
                });
            }
            wait(ears.stdout.as_ref(), ears.stderr.as_ref()).map_err(|errno| follow(errno.into()))?;
            ears.hear();
        }
        ears.hear();
        let status = group.reap().map_err(follow)?;
        if status.success() {
            Ok(())
        } else {
            Err(HookError::Status { kind, program, status, said: ears.said.text() })
        }
    }

    fn start(&self) -> io::Result<Group> {
        let [program, arguments @ ..] = self.argv.as_slice() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let child = Command::new(locate(program)?)
            .arg0(program)
            .args(arguments)
            .env_clear()
            .env("PATH", search_path())
            .env("LANG", "C.UTF-8")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("MUSTER_HOOK", self.kind.as_str())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Group::new(child))
    }
}

/// What a hook says, on either of its outputs.
struct Ears {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    said: Tail,
}

impl Ears {
    fn new(group: &mut Group) -> io::Result<Self> {
        let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
        let pipes = [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
        for pipe in pipes.into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { stdout, stderr, said: Tail::default() })
    }

    fn hear(&mut self) {
        drain(&mut self.stdout, &mut self.said);
        drain(&mut self.stderr, &mut self.said);
    }
}

/// How often a release hook that fails is run.
const TRIES: u32 = 4;
/// Pause before the second run; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs a release hook until it ends well, a few times at most: a service that stays quiesced is the worst that can come
/// of a backup.
pub(super) fn release(hook: &Hook) -> Result<(), HookError> {
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        match hook.run(|_| (), || false) {
            Ok(()) => return Ok(()),
            Err(error) if tries >= TRIES => return Err(error),
            Err(_) => {}
        }
        tries += 1;
        std::thread::sleep(pause);
        pause *= 2;
    }
}

/// The longest that [`release`] may take.
pub(super) fn release_limit(hook: &Hook) -> Duration {
    // Each run may need the grace, and the kernel's time to give the program back, on top.
    let run = Duration::from_millis(hook.limit_millis) + GRACE + Duration::from_secs(2);
    run * TRIES + PAUSE * (1 << (TRIES - 1))
}
