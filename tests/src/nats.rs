//! A real nats-server on a free port of the loopback interface.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Running, wait_for};

/// A server, its configuration and its store.
#[derive(Debug)]
pub struct NatsServer {
    config: PathBuf,
    log: PathBuf,
    /// Its port.
    pub port: u16,
    running: Option<Running>,
}

/// The nats-server of this machine: `MUSTER_NATS_SERVER`, the path, or what `x` installed.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("MUSTER_NATS_SERVER") {
        return named.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.build/bin/nats-server");
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .map(|folder| folder.join("nats-server"))
        .chain([installed])
        .find(|path| path.exists())
        .expect("there is a nats-server: `./x test` installs one")
}

impl NatsServer {
    /// Starts the server of a fleet's folder, as `muster up` would.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(config: &Path, port: u16, log: &Path) -> Self {
        let mut server = Self { config: config.to_owned(), log: log.to_owned(), port, running: None };
        server.restart();
        server
    }

    /// Starts it again, if it does not run.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        let mut command = Command::new(program());
        command.arg("-c").arg(&self.config);
        command.current_dir(self.config.parent().expect("a file has a folder"));
        let mut running = Running::start(command, &self.log);
        let port = self.port;
        wait_for("nats-server answers", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        assert!(running.is_running(), "another server has port {port}");
        self.running = Some(running);
    }

    /// Lets it read its configuration again, and waits until it has.
    ///
    /// # Panics
    /// When it does not run, or refuses.
    pub fn reload(&self) {
        let done = || {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            log.matches("Reloaded server configuration").count()
        };
        let before = done();
        self.running.as_ref().expect("it runs").signal("HUP");
        wait_for("nats-server has read it", || (done() > before).then_some(()));
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(Running::id)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.running = None;
    }
}
