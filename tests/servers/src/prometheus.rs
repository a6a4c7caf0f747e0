//! Prometheus, which scrapes and judges, and promtool, which checks what it is told.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::process::{Server, free_port, installed};

/// A running Prometheus with its data in a folder of its own.
#[derive(Debug)]
pub struct Prometheus {
    server: Server,
    port: u16,
    folder: TempDir,
}

impl Prometheus {
    /// Starts one with this configuration, and these files beside it (name and text) that it may name.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(config: &str, beside: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        for (name, text) in beside.iter().chain([&("prometheus.yml", config)]) {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let port = free_port();
        let server = serve(folder.path(), port);
        Self { server, port, folder }
    }

    /// Its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it said of itself.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("prometheus.log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.server.kill();
    }
}

fn serve(folder: &Path, port: u16) -> Server {
    let mut command = Command::new(installed("prometheus"));
    command.current_dir(folder).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
    command.args([&format!("--web.listen-address=127.0.0.1:{port}"), "--log.level=warn"]);
    Server::start("prometheus", command, folder, port)
}

/// Runs `promtool` with these arguments in a folder, to its end.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn promtool(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(installed("promtool"));
    command.current_dir(folder).args(args).output().expect("promtool runs")
}
