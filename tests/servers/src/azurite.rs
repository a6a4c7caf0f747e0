//! Azurite: Azure Blob Storage on this machine, with its well-known account.

use std::process::Command;

use tempfile::TempDir;

use crate::process::{Server, bytes_below, free_port, installed};

/// The account and the key that every Azurite has, from its documentation.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running Azurite.
#[derive(Debug)]
pub struct Azurite {
    server: Server,
    port: u16,
    folder: TempDir,
}

impl Azurite {
    /// Starts one, with a container named `backups`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let port = free_port();
        let server = serve(&folder, port);
        let this = Self { server, port, folder };
        this.make_container("backups");
        this
    }

    fn make_container(&self, name: &str) {
        let at = format!(":azureblob,account={ACCOUNT},key='{KEY}',endpoint='{}':{name}", self.endpoint());
        let mut rclone = Command::new(installed("rclone"));
        let done = rclone.args(["mkdir", "--config", "", &at]).output().expect("rclone runs");
        assert!(done.status.success(), "rclone mkdir: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// `azblob://ACCOUNT/CONTAINER/PREFIX?…`; an empty prefix for the whole container.
    #[must_use]
    pub fn url(&self, container: &str, prefix: &str) -> String {
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("azblob://{ACCOUNT}/{container}{slash}{prefix}?endpoint={}", self.endpoint())
    }

    /// `http://host:port/account`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    /// The credentials file.
    #[must_use]
    pub fn credentials() -> String {
        format!("account_key = {KEY}\n")
    }

    /// Whether the blob with this key is on the disk: Azurite answers before it is, and writes every five seconds.
    #[must_use]
    pub fn has_saved(&self, key: &str) -> bool {
        let names = std::fs::read_to_string(self.folder.path().join("__azurite_db_blob__.json"));
        names.is_ok_and(|names| names.contains(key))
    }

    /// Bytes in its folder: they grow while something is written.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        bytes_below(self.folder.path())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again over what it holds.
    pub fn restart(&mut self) {
        self.server = serve(&self.folder, self.port);
    }
}

fn serve(folder: &TempDir, port: u16) -> Server {
    let mut command = Command::new(installed("node_modules/.bin/azurite-blob"));
    command.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobHost", "127.0.0.1"]);
    command.args(["--blobPort", &port.to_string(), "--location"]).arg(folder.path());
    Server::start("azurite", command, folder.path(), port)
}
