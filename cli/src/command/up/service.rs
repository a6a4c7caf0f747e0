//! The daemons of a fleet's folder as children of `muster up`: each is a process of its own, started again when it dies.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use muster_agent::config::Config as AgentConfig;
use muster_coordinator::config::Config as CoordinatorConfig;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::folder::{self, FleetFolder};
use crate::screen;
use crate::share_access;

/// What `daemon` calls an agent.
const AGENT: &str = "agent";
/// And a coordinator.
const COORDINATOR: &str = "coordinator";
/// How long a child may take to end by itself.
const END: Duration = Duration::from_secs(10);
/// Longest wait before a dead child is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A child that lived so long starts afresh with the shortest wait.
const SETTLED: Duration = Duration::from_secs(60);
/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How old a new configuration must be: `enroll` writes it, and then tells the log.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) fn words(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// What runs of a folder, and what is new in it.
pub(super) struct Services {
    executable: PathBuf,
    dir: PathBuf,
    /// Whether one coordinator is all there is.
    only: bool,
    /// Files that were started, or cannot be.
    known: BTreeSet<PathBuf>,
}

impl Services {
    /// Those of a folder.
    ///
    /// # Errors
    /// When this executable cannot be found again.
    pub(super) fn of(folder: &FleetFolder) -> Result<Self, Failure> {
        let executable = std::env::current_exe().map_err(|error| {
            Failure::new(Exit::Failed, "this executable cannot be found again").because(error.to_string())
        })?;
        let only = folder.coordinators.len() == 1;
        let files =
            folder.coordinators.iter().map(|(file, _)| file).chain(folder.agents.iter().map(|(f, _)| f));
        Ok(Self { executable, dir: folder.dir.clone(), only, known: files.cloned().collect() })
    }

    /// All that the folder held when it was opened.
    pub(super) fn all(&self, folder: &FleetFolder) -> Vec<Service> {
        let coordinators = folder.coordinators.iter().map(|(file, config)| self.coordinator(file, config));
        let agents = folder.agents.iter().map(|(file, config)| self.agent(file, config));
        coordinators.chain(agents).collect()
    }

    /// The next one whose configuration has appeared. Ends only then.
    pub(super) async fn newcomer(&mut self) -> Service {
        loop {
            tokio::time::sleep(LOOK).await;
            let coordinators = folder::files(&self.dir, COORDINATOR).unwrap_or_default();
            let agents = folder::files(&self.dir.join("agents"), "").unwrap_or_default();
            self.known.retain(|file| coordinators.contains(file) || agents.contains(file));
            let load = |file: &PathBuf, agent: bool| -> Result<Service, Failure> {
                Ok(match agent {
                    true => self.agent(file, &AgentConfig::load(file)?),
                    false => self.coordinator(file, &CoordinatorConfig::load(file)?),
                })
            };
            let mut found =
                coordinators.iter().map(|file| (file, false)).chain(agents.iter().map(|file| (file, true)));
            let new = found.find(|(file, _)| !self.known.contains(*file) && age(file) >= SETTLE);
            let Some((file, agent)) = new else { continue };
            let loaded = load(file, agent);
            self.known.insert(file.clone());
            match loaded {
                Ok(service) => return service,
                Err(failure) => screen::asides(format!("{failure}\n  → mend it, then start muster up again")),
            }
        }
    }

    fn coordinator(&self, file: &Path, config: &CoordinatorConfig) -> Service {
        self.service(COORDINATOR, config.coordinator.name.to_string(), file, self.only)
    }

    fn agent(&self, file: &Path, config: &AgentConfig) -> Service {
        self.service(AGENT, format!("agent {}", config.agent.service), file, false)
    }

    fn service(&self, kind: &'static str, name: String, file: &Path, needed: bool) -> Service {
        let (executable, file) = (self.executable.clone(), file.as_os_str().to_owned());
        Service { executable, kind, needed, name, file }
    }
}

/// Since a file was written; nothing when that cannot be told.
fn age(file: &Path) -> Duration {
    let written = std::fs::metadata(file).and_then(|meta| meta.modified());
    written.ok().and_then(|written| written.elapsed().ok()).unwrap_or_default()
}

/// A child that is kept running.
pub(super) struct Service {
    executable: PathBuf,
    kind: &'static str,
    /// Without it there is nothing to run.
    needed: bool,
    /// As lines on the screen name it.
    pub(super) name: String,
    file: OsString,
}

impl Service {
    /// Starts it, again and again, until told to stop. An error that waiting cannot mend ends it.
    pub(super) async fn keep_running(self, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let mut wait = Duration::from_secs(1);
        loop {
            if !PathBuf::from(&self.file).exists() {
                screen::line(format!(
                    "{}: its configuration is set aside; it is not started again",
                    self.name
                ));
                return Ok(());
            }
            let began = Instant::now();
            let mut child = match self.spawn() {
                Ok(child) => child,
                Err(error) => {
                    return Err(Failure::new(Exit::Failed, format!("{} cannot be started", self.name))
                        .because(error.to_string()));
                }
            };
            // Taken out, because waiting for a child closes its input.
            let input = child.stdin.take();
            let status = tokio::select! {
                status = child.wait() => status,
                () = told(&mut stop) => {
                    drop(input);
                    end(child).await;
                    return Ok(());
                }
                () = self.set_aside() => {
                    drop(input);
                    end(child).await;
                    screen::line(format!("{} was stopped: its configuration is here no more", self.name));
                    return Ok(());
                }
            };
            let code = status.as_ref().ok().and_then(ExitStatus::code);
            let hopeless =
                [Exit::Usage, Exit::Key, Exit::Refused].into_iter().find(|exit| code == Some(*exit as i32));
            if let Some(exit) = hopeless {
                let what = format!("{} cannot run; the lines above say why", self.name);
                // One service that cannot be backed up must not keep the others from it, nor one coordinator that counts
                // no longer the fleet.
                if self.needed {
                    return Err(Failure::new(exit, what).next("mend it, then: muster up DIR"));
                }
                wait = LONGEST_WAIT;
                screen::line(what);
                screen::line(format!(
                    "→ mend what {} names, or the key files that it names; the others go on, and it is tried again in {} s",
                    PathBuf::from(&self.file).display(),
                    wait.as_secs()
                ));
                tokio::select! {
                    () = tokio::time::sleep(wait) => continue,
                    () = told(&mut stop) => return Ok(()),
                }
            }
            if began.elapsed() >= SETTLED {
                wait = Duration::from_secs(1);
            }
            screen::line(format!(
                "{} ended ({}); starting it again in {} s",
                self.name,
                words(status),
                wait.as_secs()
            ));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = told(&mut stop) => return Ok(()),
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Ends when an agent's configuration is gone, as `revoke` leaves it: the server lets it in no more, and it would try
    /// for ever. Gone at two looks, because `enroll --replace` moves it. A coordinator ends by what it reads in the log.
    async fn set_aside(&self) {
        let mut absent = 0;
        while absent < 2 {
            tokio::time::sleep(LOOK).await;
            let gone = self.kind == AGENT && !std::fs::exists(&self.file).unwrap_or(true);
            absent = if gone { absent + 1 } else { 0 };
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.executable)
            .args(["daemon", self.kind, "--attached", "--config"])
            .arg(&self.file)
            .envs(share_access::environment())
            // Its end tells the child that we are gone, however that came about.
            .stdin(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Ends when told to stop, or when nobody is left who could tell.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn end(mut child: Child) {
    if tokio::time::timeout(END, child.wait()).await.is_err() {
        // Gone already is just as well.
        drop(child.kill().await);
    }
}
