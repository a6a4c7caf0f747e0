//! Finds and starts the nats-server of a fleet's folder. Which versions are good enough, the bus decides.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use muster_bus::{ConnectError, NatsBus, NatsConfig, OLDEST_SERVER};
use muster_protocol::config::BusConfig;
use muster_protocol::subject::Subjects;
use rustix::process::Signal;
use tokio::process::{Child, Command};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::folder::FleetFolder;
use crate::leader;

/// Longest wait for the server's first answer.
const START: Duration = Duration::from_secs(20);

/// The program: `MUSTER_NATS_SERVER`, else PATH, else the build folder beside this executable or above the current one.
///
/// # Errors
/// Exit 6 when there is none.
pub(crate) fn find() -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os("MUSTER_NATS_SERVER").filter(|name| !name.is_empty()) {
        let path = PathBuf::from(named);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Failure::new(
                Exit::Unreachable,
                format!("MUSTER_NATS_SERVER names {}, which is no file", path.display()),
            )
            .next("name a nats-server, or unset it"))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let executable = std::env::current_exe().unwrap_or_default();
    for start in [executable, std::env::current_dir().unwrap_or_default()] {
        folders.extend(start.ancestors().map(|folder| folder.join(".build/bin")));
    }
    folders.into_iter().map(|folder| folder.join("nats-server")).find(|file| file.is_file()).ok_or_else(
        || {
            Failure::new(
                Exit::Unreachable,
                format!("BUS-01: there is no nats-server on this machine ({OLDEST_SERVER})"),
            )
            .next("install it and put it into PATH, or name it in MUSTER_NATS_SERVER")
            .next("a round without NATS: muster once DIR")
        },
    )
}

/// Starts it in the fleet's folder and waits until it answers.
///
/// # Errors
/// Exit 6 when its port is taken, it dies, is too old, or does not answer in time.
pub(crate) async fn start(program: &Path, folder: &FleetFolder) -> Result<Child, Failure> {
    let url = &folder.operator.nats.url;
    let address = url.split_once("://").map_or(url.as_str(), |(_, address)| address);
    // A name that other machines use need not be an address of this one: the server listens on all of them then.
    let elsewhere = |error: &io::Error| error.kind() == io::ErrorKind::AddrNotAvailable;
    if let Some(error) = TcpListener::bind(address).err().filter(|error| !elsewhere(error)) {
        return Err(Failure::new(Exit::Unreachable, format!("BUS-01: {address} cannot be listened on")
            ).because(error.to_string())
            .next("stop what listens there, or change listen in nats-server.conf and [nats] url in every *.toml"));
    }
    let log = log(&folder.dir);
    let mut child = command(program, folder, &log).spawn().map_err(|error| {
        Failure::new(Exit::Unreachable, format!("{} cannot be started", program.display()))
            .because(error.to_string())
    })?;
    let began = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Failure::new(
                Exit::Unreachable,
                format!("BUS-01: nats-server ended at once ({status})"),
            )
            .next(format!("read {}", log.display())));
        }
        match connect(folder).await {
            Ok(()) => return Ok(child),
            Err(error) if error.is_transient() && began.elapsed() < START => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => {
                stop(&mut child).await;
                return Err(Failure::from(error).next(format!("read {}", log.display())));
            }
        }
    }
}

/// Its log in a fleet's folder.
pub(crate) fn log(dir: &Path) -> PathBuf {
    dir.join("state/nats-server.log")
}

fn command(program: &Path, folder: &FleetFolder, log: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(folder.dir.join("nats-server.conf"))
        .arg("-l")
        .arg(log)
        .current_dir(&folder.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own: Ctrl-C reaches us alone, and we stop things in order.
        .process_group(0)
        .kill_on_drop(true);
    command
}

async fn connect(folder: &FleetFolder) -> Result<(), ConnectError> {
    let fleet = &folder.operator.fleet.name;
    let streams =
        leader::streams(&Subjects::new(fleet), fleet.as_str()).expect("a fleet's name makes valid streams");
    let BusConfig { url, nkey, ca } = &folder.operator.nats;
    let config = NatsConfig::new(url.as_str(), "muster up", streams).with_files(nkey, ca, "operators")?;
    NatsBus::connect(config).await.map(drop)
}

/// Asks it to end, and ends it if it does not within 10 s.
pub(crate) async fn stop(child: &mut Child) {
    signal(child, Signal::TERM);
    if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
        // Gone already is just as well.
        drop(child.kill().await);
    }
}

/// Sends it a signal.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended in this moment.
        let _ = rustix::process::kill_process(pid, signal);
    }
}
