//! The agent's side of a hold: starts the watchdog, follows what it says, and steps in when it says nothing any more.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::ids::{RoundId, ServiceName};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::config::HooksConfig;
use super::conversation::{Conversation, End, Stage};
use super::hook::{self, Hook, Kind, release_limit};
use super::record::{Left, Record};
use super::watchdog::COMMAND;
use super::words::Told;

/// How long a watchdog that has said its last word may take to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a service is not quiesced, or not released.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    /// The hold could not be recorded, so it was not begun.
    #[error("the hold cannot be recorded in {}: {error}", path.display())]
    Record { path: PathBuf, error: io::Error },
    /// There is no watchdog, so nothing was quiesced.
    #[error("the watchdog could not be started: {error}")]
    Start { error: io::Error },
    /// The watchdog did not answer, or died; the service was released by the agent.
    #[error("the watchdog {what}; the agent released the service itself{}", but(release))]
    Watchdog { what: &'static str, release: Option<String> },
    /// The quiesce hook failed; the service was released.
    #[error("{reason}{}", but(release))]
    Quiesce { reason: String, permanent: bool, release: Option<String> },
    /// The release hook failed, every time.
    #[error("the service may still be quiesced: {reason}")]
    Release { reason: String },
    /// A former life of the agent left a hold that does not end.
    #[error("a former hold of this service is not over: {reason}")]
    Former { reason: String },
}

fn but(release: &Option<String>) -> String {
    release.as_ref().map(|why| format!("; but the service may still be quiesced: {why}")).unwrap_or_default()
}

impl HoldError {
    /// The alert that it raises.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Record { .. } => Code::Agent04,
            Self::Start { .. }
            | Self::Watchdog { .. }
            | Self::Quiesce { .. }
            | Self::Release { .. }
            | Self::Former { .. } => Code::Agent03,
        }
    }

    /// Whether another attempt would fail again until a person has changed something.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Quiesce { permanent, .. } => *permanent,
            Self::Record { .. }
            | Self::Start { .. }
            | Self::Watchdog { .. }
            | Self::Release { .. }
            | Self::Former { .. } => false,
        }
    }
}

/// What becomes of a hold, in this order: `Quiesced`, perhaps `Lost`, then `Released`; or `Failed` alone; or `Released`
/// alone, when it was given up before.
#[derive(Debug)]
pub(crate) enum Said {
    /// The service is quiesced, until then at most.
    Quiesced { until: Instant },
    /// It is not quiesced; whatever was, is released.
    Failed(HoldError),
    /// The hold is over, or about to be, before it was given up.
    Lost { why: &'static str },
    /// The service is released, or could not be.
    Released(Result<(), HoldError>),
}

/// Holds one service, one hold at a time.
#[derive(Debug)]
pub(crate) struct Keeper {
    hooks: HooksConfig,
    service: ServiceName,
    record: Record,
    /// The watchdog's program and arguments.
    program: Vec<OsString>,
    /// Taken by whoever quiesces or releases.
    busy: Mutex<()>,
}

impl Keeper {
    /// With the checked `[hooks]` of a service, and the folder of its agent's state.
    pub(crate) fn new(hooks: HooksConfig, service: ServiceName, state: &Path) -> Self {
        Self {
            hooks,
            service,
            record: Record::in_folder(state),
            program: watchdog_program(),
            busy: Mutex::default(),
        }
    }

    /// Another program in the watchdog's place.
    #[cfg(test)]
    pub(super) fn run_instead(&mut self, argv: &[&str]) {
        self.program = argv.iter().map(OsString::from).collect();
    }

    /// Whether there is anything to quiesce.
    pub(crate) fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// The longest hold that is allowed here, and by the leader.
    pub(crate) fn limit(&self, leader: Option<Duration>) -> Duration {
        leader.map_or(self.hooks.max_hold.0, |most| most.min(self.hooks.max_hold.0))
    }

    /// Waits for a watchdog of a former life and releases what that left quiesced, if anything.
    pub(crate) async fn settle(&self) -> Result<(), HoldError> {
        let _busy = self.busy.lock().await;
        self.settle_former().await.map(drop)
    }

    /// Quiesces the service and holds it until `release` is told or dropped, at most for `limit`. `say` hears what
    /// becomes of it.
    pub(crate) async fn hold(
        &self,
        round: RoundId,
        limit: Duration,
        mut release: oneshot::Receiver<()>,
        say: impl Fn(Said),
    ) {
        // A hold that was given up may still be ending.
        let _busy = tokio::select! {
            busy = self.busy.lock() => busy,
            _ = &mut release => return say(Said::Released(Ok(()))),
        };
        let lock = match self.settle_former().await {
            Ok(lock) => lock,
            Err(error) => return say(Said::Failed(error)),
        };
        let (quiesce, thaw) = (self.hook(Kind::Quiesce, round), self.hook(Kind::Release, round));
        if let Err(error) = self.blocking(|record, thaw| record.begin(&thaw), &thaw).await {
            return say(Said::Failed(error));
        }
        let until = Instant::now() + limit;
        let (mut child, stream) = match self.start(lock) {
            Ok(started) => started,
            Err(error) => {
                self.forget().await;
                return say(Said::Failed(HoldError::Start { error }));
            }
        };
        let limit_millis = millis(limit);
        let order = Told::Hold { quiesce, release: thaw.clone(), limit_millis };
        let mut conversation = Conversation::new(stream, until, release_limit(&thaw));
        let end = conversation.follow(&order, &mut release, &say).await;
        let told = conversation.given_up();
        drop(conversation);
        let said = match end {
            End::Released { quiesce, failed } => {
                if failed.is_none() {
                    self.forget().await;
                }
                match quiesce {
                    Some((reason, permanent)) if !told => {
                        Said::Failed(HoldError::Quiesce { reason, permanent, release: failed })
                    }
                    Some(_) | None => released(failed),
                }
            }
            End::Silent { what, stage, group, quiesce } => {
                if stage == Stage::Holding && !told {
                    say(Said::Lost { why: what });
                }
                let failed = self.step_in(&mut child, group, thaw).await;
                let never = quiesce.is_some() || matches!(stage, Stage::Arming | Stage::Quiescing);
                if never && !told {
                    Said::Failed(HoldError::Watchdog { what, release: failed })
                } else {
                    released(failed)
                }
            }
        };
        // Whoever does not end in time is taken in by the runtime later.
        let _ = timeout(FAREWELL, child.wait()).await;
        say(said);
    }

    /// Releases in the watchdog's place. `group` is that of a quiesce hook that may still run.
    async fn step_in(
        &self,
        child: &mut Child,
        group: Option<rustix::process::Pid>,
        thaw: Hook,
    ) -> Option<String> {
        // It may only be stopped; whatever it does later would be too late.
        let _ = child.start_kill();
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let failed = match spawn_blocking(move || hook::release(&thaw)).await {
            Ok(released) => released.err().map(|error| error.to_string()),
            Err(_) => Some("releasing ended by a fault of the program".to_owned()),
        };
        if failed.is_none() {
            self.forget().await;
        }
        failed
    }

    fn hook(&self, kind: Kind, round: RoundId) -> Hook {
        let argv = match kind {
            Kind::Quiesce => self.hooks.quiesce.clone(),
            Kind::Release => self.hooks.release.clone(),
        };
        let env = vec![
            ("MUSTER_SERVICE".to_owned(), self.service.as_str().to_owned()),
            ("MUSTER_ROUND".to_owned(), round.to_string()),
        ];
        Hook { kind, argv, env, limit_millis: millis(self.hooks.timeout.0) }
    }

    fn start(&self, lock: File) -> io::Result<(Child, StdStream)> {
        let (ours, theirs) = StdStream::pair()?;
        let [program, arguments @ ..] = self.program.as_slice() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let child = Command::new(program)
            .args(arguments)
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            // Not for writing: it lives as long as the watchdog does.
            .stdout(Stdio::from(lock))
            .stderr(Stdio::null())
            .kill_on_drop(false)
            .spawn()?;
        Ok((child, ours))
    }

    /// The lock, once no former watchdog lives and what a former life left quiesced is released.
    async fn settle_former(&self) -> Result<File, HoldError> {
        let failed = |error| HoldError::Record { path: self.record.path(), error };
        let configured = self.hook(Kind::Release, RoundId::from_bytes([0; 16]));
        let record = self.record.clone();
        let settled = spawn_blocking(move || {
            let left = record.left()?;
            let hook = match &left {
                Left::Hold(hook) => hook.clone(),
                Left::Nothing | Left::Unreadable => configured,
            };
            let Some(lock) = record.lock(release_limit(&hook))? else {
                return Ok(Err("its watchdog has not ended".to_owned()));
            };
            // Read again: the watchdog's agent may be this one, and have recorded the end.
            if left != Left::Nothing && record.left()? != Left::Nothing {
                if hook.argv.is_empty() {
                    let file = record.path().display().to_string();
                    tracing::warn!(
                        file,
                        "it tells of no hold, and no hook could release one: set aside, begun anew"
                    );
                    record.set_aside()?;
                    return Ok(Ok(lock));
                }
                tracing::warn!("a former life of this agent left a hold; releasing the service");
                if let Err(error) = hook::release(&hook) {
                    return Ok(Err(error.to_string()));
                }
                record.end()?;
                tracing::info!("the service is released");
            }
            Ok(Ok(lock))
        });
        match settled.await {
            Ok(Ok(Ok(lock))) => Ok(lock),
            Ok(Ok(Err(reason))) => Err(HoldError::Former { reason }),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => {
                Err(HoldError::Former { reason: "releasing it ended by a fault of the program".to_owned() })
            }
        }
    }

    async fn blocking(
        &self,
        call: impl FnOnce(Record, Hook) -> io::Result<()> + Send + 'static,
        hook: &Hook,
    ) -> Result<(), HoldError> {
        let (record, hook, path) = (self.record.clone(), hook.clone(), self.record.path());
        match spawn_blocking(move || call(record, hook)).await {
            Ok(done) => done.map_err(|error| HoldError::Record { path, error }),
            Err(_) => Err(HoldError::Record { path, error: io::Error::other("a fault of the program") }),
        }
    }

    /// The hold is over. A record that stays only costs another release.
    async fn forget(&self) {
        let record = self.record.clone();
        if let Ok(Err(error)) = spawn_blocking(move || record.end()).await {
            tracing::warn!(%error, "the record of a hold that is over cannot be removed");
        }
    }
}

fn released(failed: Option<String>) -> Said {
    Said::Released(failed.map_or(Ok(()), |reason| Err(HoldError::Release { reason })))
}

/// This executable as a watchdog. By the link that the kernel keeps, so that it is the same one even when the file was
/// replaced by a newer version.
#[cfg(not(test))]
fn watchdog_program() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), COMMAND.into()]
}

/// The test program, with the one test of it that is a watchdog.
#[cfg(test)]
fn watchdog_program() -> Vec<OsString> {
    let test =
        ["--exact", "hold::tests::is_a_watchdog", "--ignored", "--test-threads", "1", "--quiet", COMMAND];
    std::iter::once("/proc/self/exe").chain(test).map(OsString::from).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
