//! Where the demo plays: one new folder, and the processes that run for it. Takes both away at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_protocol::units::format_size;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::halt::Halt;
use super::operator::Operator;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{scratch, screen};

/// Free space that is asked for: the data, the share, the recovered copy, and nats-server's files, twice over.
const FREE_BYTES: u64 = 1536 << 20;
/// How often agents say that they are there.
const HEARTBEAT: &str = "1s";
/// How long the fleet may take to stop: its own children have 10 s, one after the other.
const STOP: Duration = Duration::from_secs(30);
/// Lines of the fleet's log that are shown after a failure.
const LOG_LINES: usize = 12;

/// The demo's place.
#[derive(Debug)]
pub(super) struct Stage {
    folder: PathBuf,
    keep: bool,
    fleet: Option<Child>,
    /// Tells threads to stop.
    pub(super) halt: Halt,
}

impl Stage {
    /// A new folder, for its owner alone, with enough room.
    pub(super) fn set(keep: bool) -> Result<Self, Failure> {
        let below = std::env::temp_dir();
        let unusable = |error: io::Error| {
            Failure::new(
                Exit::Usage,
                format!("the folder for temporary files, {}, cannot be used", below.display()),
            )
            .because(error.to_string())
            .next("name another one in TMPDIR")
        };
        let free = scratch::free(&below).map_err(unusable)?;
        if free < FREE_BYTES {
            let (have, want) = (format_size(free), format_size(FREE_BYTES));
            return Err(Failure::new(
                Exit::Failed,
                format!("the demo needs {want} free, {} has {have}", below.display()),
            )
            .next("make room, or name another folder in TMPDIR"));
        }
        let folder = scratch::make(&below, "muster-demo-").map_err(unusable)?;
        let folder = folder.canonicalize().map_err(unusable)?;
        Ok(Self { folder, keep, fleet: None, halt: Halt::default() })
    }

    /// A place in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether everything stays.
    pub(super) fn keeps(&self) -> bool {
        self.keep
    }

    /// Starts nats-server, coordinator and agents: `muster up`, in the background.
    pub(super) fn start_fleet(&mut self, operator: &Operator) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            Failure::new(Exit::Failed, "muster up cannot be started").because(error.to_string())
        };
        let log = fs::File::options().create(true).append(true).open(self.log()).map_err(failed)?;
        let mut command = operator.command(&[Path::new("up"), Path::new("--attached"), &self.path("fleet")]);
        // A group of its own: Ctrl-C reaches the demo alone, which then stops the fleet in order.
        command
            .process_group(0)
            // Its end tells the fleet that the demo is gone, however that came about.
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log.try_clone().map_err(failed)?))
            .stderr(Stdio::from(log));
        // Whoever leads anew knows an agent by its next heartbeat; nobody watches a demo for the usual 15 s.
        command.env("MUSTER_AGENT_HEARTBEAT", HEARTBEAT);
        self.fleet = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// # Errors
    /// When the fleet has ended by itself.
    pub(super) fn check_fleet(&mut self) -> Result<(), Failure> {
        match self.fleet.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(status))) => Err(Failure::new(Exit::Failed, format!("muster up ended ({status})"))),
            Some(Err(error)) => {
                Err(Failure::new(Exit::Failed, "muster up is lost").because(error.to_string()))
            }
            None => Err(Failure::new(Exit::Failed, "muster up does not run")),
        }
    }

    /// Stops nats-server, coordinator and agents.
    pub(super) async fn stop_fleet(&mut self) -> Result<(), Failure> {
        let Some(mut fleet) = self.fleet.take() else { return Ok(()) };
        if let Some(pid) = fleet.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // It may have ended in this moment.
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
        if tokio::time::timeout(STOP, fleet.wait()).await.is_ok() {
            return Ok(());
        }
        drop(fleet.kill().await);
        Err(Failure::new(
            Exit::Failed,
            format!("muster up did not stop within {} s and was killed", STOP.as_secs()),
        ))
    }

    /// Adds to a failure what the fleet said last.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let said = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        let mut failure = failure;
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            failure = failure.because(format!("muster up: {line}"));
        }
        if self.keep {
            failure
        } else {
            failure.next("muster demo --keep leaves everything in place to look at")
        }
    }

    /// Stops what runs and removes the folder, unless it is to be kept.
    pub(super) async fn clear(mut self, played: bool) -> Result<(), Failure> {
        self.halt.set();
        let stopped = self.stop_fleet().await;
        if self.keep {
            if !played {
                screen::aside(format!("everything is kept in {}", self.folder.display()));
            }
            return stopped;
        }
        scratch::clear(&self.folder).await?;
        stopped
    }

    fn log(&self) -> PathBuf {
        self.path("up.log")
    }
}

#[cfg(test)]
mod tests {
    use super::Stage;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_cleared_stage_leaves_nothing() {
        let stage = Stage::set(false).expect("set");
        let folder = stage.folder().to_owned();
        assert_eq!(fs::metadata(&folder).expect("there").permissions().mode() & 0o777, 0o700);
        fs::write(stage.path("file"), "x").expect("a file");
        stage.clear(true).await.expect("cleared");
        assert!(!folder.exists());
    }
}
