//! Rotel: a collector of OpenTelemetry, configured by a file of variables and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Server, free_port, installed};

/// A running collector: takes OTLP by HTTP, hands on by OTLP.
#[derive(Debug)]
pub struct Rotel {
    server: Server,
    config: PathBuf,
    to: String,
    ports: [u16; 2],
    folder: TempDir,
}

impl Rotel {
    /// Starts one with exactly the variables of this file (`KEY=VALUE` a line), but for the addresses: it listens on free ports
    /// of loopback, and hands on to the base URL `to`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(config: &Path, to: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let ports = [free_port(), free_port()];
        let server = serve(config, to, ports, folder.path());
        Self { server, config: config.to_owned(), to: to.to_owned(), ports, folder }
    }

    /// Where it takes OTLP by HTTP, a base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// What it said of itself.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("rotel.log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same ports.
    pub fn restart(&mut self) {
        self.server = serve(&self.config, &self.to, self.ports, self.folder.path());
    }
}

fn serve(config: &Path, to: &str, ports: [u16; 2], folder: &Path) -> Server {
    let text = std::fs::read_to_string(config);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", config.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let [http, grpc] = ports.map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(installed("rotel"));
    command.arg("start").current_dir(folder).envs(lines.filter_map(|line| line.split_once('=')));
    command.env("ROTEL_OTLP_HTTP_ENDPOINT", http).env("ROTEL_OTLP_GRPC_ENDPOINT", grpc);
    command.env("ROTEL_OTLP_EXPORTER_ENDPOINT", to);
    Server::start("rotel", command, folder, ports[0])
}
