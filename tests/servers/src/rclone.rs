//! rclone as an S3 service: it overwrites where a conditional create should be refused.

use std::process::Command;

use tempfile::TempDir;

use crate::process::{Server, free_port, installed};

/// A running `rclone serve s3` over a folder, with one bucket named `backups`.
#[derive(Debug)]
pub struct RcloneS3 {
    _server: Server,
    port: u16,
    _folder: TempDir,
}

impl RcloneS3 {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("backups")).expect("a bucket");
        let port = free_port();
        let mut command = Command::new(installed("rclone"));
        command.args(["serve", "s3", "--config", "", "--auth-key", "AKADMIN,SKADMIN"]);
        command.args(["--addr", &format!("127.0.0.1:{port}")]).arg(root);
        let server = Server::start("rclone", command, folder.path(), port);
        Self { _server: server, port, _folder: folder }
    }

    /// `s3://backups/PREFIX?…`
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://backups/{prefix}?endpoint=http://127.0.0.1:{}", self.port)
    }

    /// The credentials file.
    #[must_use]
    pub fn credentials() -> String {
        "access_key_id = AKADMIN\nsecret_access_key = SKADMIN\n".to_owned()
    }
}
