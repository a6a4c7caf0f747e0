//! A server process: found, started, waited for, stopped, killed.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// To listen; the slowest of them takes 4 s on an idle core.
const START: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A program that `./x test --servers` installed.
///
/// # Panics
/// When it is not there: a test that needs a server must not pass without one.
pub(crate) fn installed(name: &str) -> PathBuf {
    let folder = std::env::var_os("MUSTER_SERVERS").map(PathBuf::from);
    let folder = folder.expect("MUSTER_SERVERS is not set: run ./x test --servers");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run ./x test --servers", path.display());
    path
}

/// A port that nobody listens on, and whose neighbour 10,000 above is free too: one of the servers uses both.
///
/// # Panics
/// When there is none.
pub(crate) fn free_port() -> u16 {
    for _ in 0..100 {
        let Ok(listener) = TcpListener::bind(("127.0.0.1", 0)) else { continue };
        let Ok(address) = listener.local_addr() else { continue };
        let port = address.port();
        if let Some(other) = port.checked_add(10_000).filter(|_| port < 50_000)
            && TcpListener::bind(("127.0.0.1", other)).is_ok()
        {
            return port;
        }
    }
    panic!("no free port below 50000 on loopback");
}

/// A free port, on an address of loopback that belongs to it: smbcacls knows no other port than 445.
pub(crate) fn free_address() -> SocketAddr {
    let port = free_port();
    let [high, low] = port.to_be_bytes();
    SocketAddr::from(([127, 45, high, low], port))
}

/// Runs a command to its end.
///
/// # Panics
/// When it fails, with what it said.
pub(crate) fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
}

/// Waits until this is so.
///
/// # Panics
/// When it is not within a minute.
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < START, "{what}: not within {} s", START.as_secs());
        sleep(LOOK);
    }
}

/// Length of all files below a folder. What goes away meanwhile does not count.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
            Ok(_) => entry.metadata().map_or(0, |meta| meta.len()),
            Err(_) => 0,
        })
        .sum()
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: &'static str,
    /// Whether it is the first of a process group of its own.
    family: bool,
}

impl Server {
    /// Starts `command`, with its output in `folder/NAME.log`, and waits until it listens on `port`.
    ///
    /// # Panics
    /// When it cannot be started, ends, or does not listen within a minute.
    pub(crate) fn start(name: &'static str, command: Command, folder: &Path, port: u16) -> Self {
        Self::attempt(name, command, folder, port).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Like [`start`](Self::start); why it ended at once, for servers whose port another one may have taken meanwhile.
    ///
    /// # Panics
    /// When it cannot be started at all, or does not listen within a minute.
    pub(crate) fn attempt(
        name: &'static str,
        mut command: Command,
        folder: &Path,
        port: u16,
    ) -> Result<Self, String> {
        command.stdin(Stdio::null());
        Self::begin(name, command, false, folder, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// The same for a server of several processes, which all end with it. Its standard input is a pipe whose end tells it
    /// that this process is gone, however that came about.
    ///
    /// # Panics
    /// Those of [`start`](Self::start).
    pub(crate) fn start_family(
        name: &'static str,
        mut command: Command,
        folder: &Path,
        at: SocketAddr,
    ) -> Self {
        command.stdin(Stdio::piped()).process_group(0);
        Self::begin(name, command, true, folder, at).unwrap_or_else(|why| panic!("{why}"))
    }

    fn begin(
        name: &'static str,
        mut command: Command,
        family: bool,
        folder: &Path,
        at: SocketAddr,
    ) -> Result<Self, String> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().append(true).create(true).open(&log).expect("a log");
        let again = output.try_clone().expect("a second handle");
        let child = command.stdout(output).stderr(again).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let began = Instant::now();
        while TcpStream::connect_timeout(&at, LOOK).is_err() {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = child.try_wait().expect("a child") {
                return Err(format!("{name} ended ({status}) before it listened:\n{}", said()));
            }
            assert!(began.elapsed() < START, "{name} does not listen on {at}:\n{}", said());
            sleep(LOOK);
        }
        Ok(Self { child, name, family })
    }

    /// The id of its first process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Panics
    /// When it is no child of this process any more.
    pub(crate) fn kill(&mut self) {
        let name = self.name;
        self.kill_family();
        self.child.kill().and_then(|()| self.child.wait()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// The same, whether it still runs or not.
    pub(crate) fn kill_if_running(&mut self) {
        self.kill_family();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Before the first process is waited for: until then nobody else has its id.
    fn kill_family(&mut self) {
        if self.family && matches!(self.child.try_wait(), Ok(None)) {
            let group = format!("-{}", self.child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_if_running();
    }
}
