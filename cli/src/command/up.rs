//! `muster up DIR`: nats-server, coordinators and agents of a folder in the foreground, as processes of their own that
//! are started again when they die. Ctrl-C stops agents and coordinators first, then nats-server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::Folder;
use crate::command::daemon;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::folder::FleetFolder;
use crate::nats_reload::Accounts;
use crate::{bus_users, nats_server, screen};

/// What `daemon` calls an agent.
const AGENT: &str = "agent";
/// How long a child may take to end by itself.
const END: Duration = Duration::from_secs(10);
/// How often an agent's configuration is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait before a dead child is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A child that lived so long starts afresh with the shortest wait.
const SETTLED: Duration = Duration::from_secs(60);

/// Runs until it is told to stop.
pub(crate) async fn run(args: Folder) -> Outcome {
    let folder = FleetFolder::open_with_any_agent(&args.dir)?;
    let no_signal =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("signals cannot be caught: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut gone = std::pin::pin!(async move {
        match args.attached {
            true => daemon::input_ends().await,
            false => std::future::pending().await,
        }
    });
    folder.warn_of_keys();
    let program = nats_server::find()?;
    // A command that was stopped between the two files left the accounts old.
    bus_users::change(&folder.dir, |_| {})?;
    let mut accounts = Accounts::of(&folder.dir);
    let mut nats = tokio::select! {
        started = nats_server::start(&program, &folder) => started?,
        _ = interrupt.recv() => return Ok(Exit::Interrupted),
        _ = terminate.recv() => return Ok(Exit::Done),
        () = &mut gone, if args.attached => return Ok(Exit::Done),
    };
    screen::line(format!("nats-server answers at {}", folder.operator.nats.url));

    let (stop, stopped) = watch::channel(false);
    let mut children = JoinSet::new();
    for service in services(&folder)? {
        children.spawn(service.keep_running(stopped.clone()));
    }
    screen::line(format!(
        "fleet {} is up: {} and {}; Ctrl-C stops it",
        folder.operator.fleet.name,
        screen::plural(folder.coordinators.len(), "coordinator"),
        screen::plural(folder.agents.len(), "agent")
    ));
    screen::line(format!(
        "→ muster start --wait --config {}",
        folder.dir.join(crate::operator::FILE).display()
    ));
    let outcome = loop {
        tokio::select! {
            _ = interrupt.recv() => break Ok(Exit::Interrupted),
            _ = terminate.recv() => break Ok(Exit::Done),
            () = &mut gone, if args.attached => break Ok(Exit::Done),
            Some(ended) = children.join_next() => {
                if let Ok(Err(failure)) = ended {
                    break Err(failure);
                }
            }
            () = accounts.changed() => accounts.reload(&nats).await,
            status = nats.wait() => {
                screen::line(format!("nats-server ended ({}); starting it again", words(status)));
                tokio::time::sleep(Duration::from_secs(1)).await;
                match nats_server::start(&program, &folder).await {
                    Ok(child) => nats = child,
                    Err(failure) => break Err(failure),
                }
            }
        }
    };
    screen::line("stopping agents and coordinators");
    stop.send_replace(true);
    while children.join_next().await.is_some() {}
    nats_server::stop(&mut nats).await;
    screen::line("stopped");
    outcome
}

fn words(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

fn services(folder: &FleetFolder) -> Result<Vec<Service>, Failure> {
    let executable = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Failed, "this executable cannot be found again").because(error.to_string())
    })?;
    let only = folder.coordinators.len() == 1;
    let service = |kind: &'static str, name: String, file: &PathBuf| Service {
        executable: executable.clone(),
        needed: kind != AGENT && only,
        kind,
        name,
        file: file.clone().into_os_string(),
    };
    let coordinators = folder
        .coordinators
        .iter()
        .map(|(file, config)| service("coordinator", config.coordinator.name.to_string(), file));
    let agents = folder
        .agents
        .iter()
        .map(|(file, config)| service(AGENT, format!("agent {}", config.agent.service), file));
    Ok(coordinators.chain(agents).collect())
}

struct Service {
    executable: PathBuf,
    kind: &'static str,
    /// Without it there is nothing to run.
    needed: bool,
    name: String,
    file: OsString,
}

impl Service {
    /// Starts it, again and again, until told to stop. An error that waiting cannot mend ends it.
    async fn keep_running(self, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let mut wait = Duration::from_secs(1);
        loop {
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

    /// Ends when an agent's configuration is gone, as `revoke` leaves it: the server lets it in no more, and it would
    /// try for ever. Gone at two looks, because `enroll --replace` moves it. A coordinator ends by what it reads in the
    /// log.
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
