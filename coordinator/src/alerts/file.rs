//! The file of alerts: JSON of one version, replaced whole.
//!
//! ```text
//! {"version": 1, "fleet": "<hexadecimal>", "book": {"open": {…}, "history": […], "passed_over": n}, "rounds": {…}}
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use muster_protocol::alert::{Book, Rounds};
use muster_protocol::ids::FleetId;
use serde::{Deserialize, Serialize};

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    fleet: FleetId,
    /// What is wrong, and what was.
    pub(super) book: Book,
    /// How far rounds were told.
    pub(super) rounds: Rounds,
}

impl Kept {
    /// Nothing yet.
    pub(super) fn new(fleet: FleetId) -> Self {
        Self { version: VERSION, fleet, book: Book::default(), rounds: Rounds::default() }
    }
}

/// What the file holds; nothing where it is not there, of another fleet, or not to be understood. Then it is put aside
/// first, for whoever wants to look.
pub(super) fn read(path: &Path, fleet: FleetId) -> Kept {
    let why = match std::fs::read(path) {
        Ok(bytes) => match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.version == VERSION && kept.fleet == fleet => return kept,
            Ok(kept) => format!("version {} of fleet {}", kept.version, kept.fleet.short()),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Kept::new(fleet),
        Err(error) => error.to_string(),
    };
    put_aside(path, &why);
    Kept::new(fleet)
}

/// Keeps a file that cannot be used for whoever wants to look.
pub(crate) fn put_aside(path: &Path, why: &str) {
    let aside = path.with_extension("unreadable");
    tracing::warn!(file = %path.display(), why, aside = %aside.display(), "the file cannot be used; beginning anew");
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::debug!(%error, file = %path.display(), "the file was not put aside");
    }
}

/// The bytes of the file.
pub(super) fn print(kept: &Kept) -> Vec<u8> {
    serde_json::to_vec(kept).expect("alerts are JSON")
}

/// Writes the file, whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{Kept, print, read, write_whole};
    use muster_protocol::alert::{About, Code, Finding, Part};
    use muster_protocol::ids::{FleetId, KeyId};
    use muster_protocol::time::UnixMillis;

    /// Kept as version 1 was first written: it must be read for ever.
    const GOLDEN: &str = include_str!("golden-1.json");

    fn kept() -> Kept {
        let mut kept = Kept::new(FleetId::from_bytes([7; 32]));
        let dns = || About::Service("dns".parse().expect("name"));
        kept.book.raise(Finding::of_round(3, Code::Agent01, dns(), "round 3: offline"), UnixMillis(5));
        kept.book.raise(Finding::seen(Code::Agent01, dns(), "silent"), UnixMillis(6));
        let key = About::Key(KeyId::from_bytes([1; 32]));
        kept.book.raise(Finding::seen(Code::Sec01, key, "a command"), UnixMillis(7));
        let share = About::Part(Part::Share);
        kept.book.raise(Finding::seen(Code::Share01, share.clone(), "gone"), UnixMillis(8));
        kept.book.mended(Code::Share01, &share, UnixMillis(9));
        kept
    }

    #[test]
    fn what_was_written_is_read_and_the_first_version_stays_readable() {
        let folder = tempfile::TempDir::new().expect("folder");
        let file = folder.path().join("alerts.json");
        let fleet = FleetId::from_bytes([7; 32]);
        assert_eq!(read(&file, fleet), Kept::new(fleet), "no file is no alert");
        write_whole(&file, &print(&kept())).expect("written");
        assert_eq!(read(&file, fleet), kept());
        // What closed an alert is kept only since.
        let first = String::from_utf8(print(&kept())).expect("text").replace(r#","closed_by":"mended""#, "");
        let read = |text: &str| serde_json::from_str::<Kept>(text).expect("reads");
        assert_eq!(read(GOLDEN), read(&first));
    }

    #[test]
    fn a_file_that_is_of_no_use_is_put_aside() {
        let folder = tempfile::TempDir::new().expect("folder");
        let file = folder.path().join("alerts.json");
        let fleet = FleetId::from_bytes([8; 32]);
        for bytes in [&b"{\"version\":1"[..], &print(&kept())] {
            std::fs::write(&file, bytes).expect("written");
            assert_eq!(read(&file, fleet), Kept::new(fleet));
            assert!(!file.exists());
            assert_eq!(std::fs::read(folder.path().join("alerts.unreadable")).expect("aside"), bytes);
        }
    }
}
