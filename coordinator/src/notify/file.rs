//! The file of what was told over which channel: JSON of one version, replaced whole, so that neither a restart nor a lead that
//! comes back tells anything twice.
//!
//! ```text
//! {"version": 1, "fleet": "<hexadecimal>", "channels": {"<name>": {"told": {…}, "digest_at": n}}}
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_protocol::ids::{ChannelName, FleetId};
use muster_protocol::notify::Ledger;
use serde::{Deserialize, Serialize};

use crate::alerts::{put_aside, write_whole};

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
/// The file in a coordinator's state folder.
pub(crate) const NOTIFY_FILE: &str = "notify.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    version: u32,
    fleet: FleetId,
    channels: BTreeMap<ChannelName, Ledger>,
}

/// The ledgers of all channels, and their file.
pub(super) struct Ledgers {
    kept: Mutex<Kept>,
    path: PathBuf,
}

impl Ledgers {
    /// Those in the state folder. A file that cannot be used is put aside: what is open is told once more, then.
    pub(super) fn open(state: &Path, fleet: FleetId) -> Self {
        let path = state.join(NOTIFY_FILE);
        Self { kept: Mutex::new(read(&path, fleet)), path }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the ledger of a channel, and may change it.
    pub(super) fn with<T>(&self, channel: &ChannelName, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(self.kept().channels.entry(channel.clone()).or_default())
    }

    /// Writes the file. One writer at a time, so that no older state overwrites a newer one.
    pub(super) fn save(&self) {
        let kept = self.kept();
        let bytes = serde_json::to_vec(&*kept).expect("ledgers are JSON");
        if let Err(error) = write_whole(&self.path, &bytes) {
            tracing::warn!(file = %self.path.display(), %error, "AGENT-04: what was told was not kept on disk");
        }
    }
}

fn read(path: &Path, fleet: FleetId) -> Kept {
    let why = match std::fs::read(path) {
        Ok(bytes) => match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.version == VERSION && kept.fleet == fleet => return kept,
            Ok(kept) => format!("version {} of fleet {}", kept.version, kept.fleet.short()),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return new(fleet),
        Err(error) => error.to_string(),
    };
    put_aside(path, &why);
    new(fleet)
}

fn new(fleet: FleetId) -> Kept {
    Kept { version: VERSION, fleet, channels: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use muster_protocol::alert::{About, Alert, Book, Code, Finding, Part};
    use muster_protocol::ids::FleetId;
    use muster_protocol::notify::{Event, Kind, What};
    use muster_protocol::time::UnixMillis;

    use super::{Ledgers, NOTIFY_FILE};

    /// Kept as version 1 was first written: it must be read for ever.
    const GOLDEN: &str = concat!(
        r#"{"version":1,"fleet":"0707070707070707070707070707070707070707070707070707070707070707","#,
        r#""channels":{"mail":{"told":{"26c0e4a8b3":{"since":5,"at":9,"open":true}},"digest_at":7}}}"#
    );

    fn alert() -> Alert {
        let mut book = Book::default();
        book.raise(Finding::seen(Code::Share01, About::Part(Part::Share), "gone"), UnixMillis(5));
        book.open().next().expect("open").clone()
    }

    #[test]
    fn what_was_told_is_known_after_a_restart_and_the_first_version_stays_readable() {
        let folder = tempfile::TempDir::new().expect("folder");
        let fleet = FleetId::from_bytes([7; 32]);
        let channel = "mail".parse().expect("name");
        let events = [Event { what: What::Opened, alert: alert() }];
        let ledgers = Ledgers::open(folder.path(), fleet);
        ledgers.with(&channel, |ledger| ledger.take(Kind::Alert, &events, UnixMillis(9)));
        ledgers.save();
        let again = Ledgers::open(folder.path(), fleet);
        assert_eq!(again.with(&channel, |ledger| ledger.last_told(&events)), UnixMillis(9));

        let id = alert().id().to_string();
        std::fs::write(folder.path().join(NOTIFY_FILE), GOLDEN.replace("26c0e4a8b3", &id)).expect("written");
        let first = Ledgers::open(folder.path(), fleet);
        assert_eq!(first.with(&channel, |ledger| ledger.last_told(&events)), UnixMillis(9));
    }

    #[test]
    fn a_file_that_is_of_no_use_is_put_aside() {
        let folder = tempfile::TempDir::new().expect("folder");
        let file = folder.path().join(NOTIFY_FILE);
        for bytes in ["{", GOLDEN] {
            std::fs::write(&file, bytes).expect("written");
            let _ = Ledgers::open(folder.path(), FleetId::from_bytes([8; 32]));
            assert!(!file.exists(), "{bytes}");
            assert_eq!(std::fs::read_to_string(file.with_extension("unreadable")).expect("aside"), bytes);
        }
    }
}
