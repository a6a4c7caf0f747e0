//! Lets the nats-server of `muster up` read its accounts again when their file changes: `enroll` and `revoke` take
//! effect without a restart. A server that refuses what it reads goes on with what it has.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Child;

use crate::bus_users::ACCOUNTS;
use crate::{nats_server, screen};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for the server's word about what it has read.
const ANSWER: Duration = Duration::from_secs(5);
/// What the server logs when it has read everything, and when it refuses.
const DONE: &str = "Reloaded server configuration";
const REFUSED: &str = "Failed to reload server configuration";

/// The accounts' file as the server has read it.
pub(crate) struct Accounts {
    file: PathBuf,
    log: PathBuf,
    read: Option<Vec<u8>>,
}

impl Accounts {
    /// Those of a fleet's folder, before its server starts.
    pub(crate) fn of(dir: &Path) -> Self {
        let file = dir.join(ACCOUNTS);
        let read = std::fs::read(&file).ok();
        Self { file, log: nats_server::log(dir), read }
    }

    /// Ends when the file is another one.
    pub(crate) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            // Absent, it is no change: the server would refuse.
            if let Ok(now) = tokio::fs::read(&self.file).await
                && self.read.as_ref() != Some(&now)
            {
                self.read = Some(now);
                return;
            }
        }
    }

    /// Lets the server read it, and says what came of it.
    pub(crate) async fn reload(&self, server: &Child) {
        let before = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        nats_server::signal(server, Signal::HUP);
        let began = Instant::now();
        while began.elapsed() < ANSWER {
            let said = std::fs::read(&self.log).unwrap_or_default();
            let new = usize::try_from(before).ok().and_then(|before| said.get(before..)).unwrap_or_default();
            let new = String::from_utf8_lossy(new);
            if let Some(why) = new.lines().find_map(|line| line.split_once(REFUSED)).map(|(_, why)| why) {
                screen::line(format!("nats-server refuses {}{why}", self.file.display()));
                screen::line("→ it goes on with the users that it had; mend the file, and it is read again");
                return;
            }
            if new.contains(DONE) {
                screen::line("nats-server has read its users again");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        screen::line(format!("nats-server does not say whether it has read {}", self.file.display()));
        screen::line(format!("→ look into {}", self.log.display()));
    }
}
