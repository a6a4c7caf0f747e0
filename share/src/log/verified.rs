//! Segments whose every signature this reader has verified: they need not be verified again.
//!
//! ```text
//! muster verified <version> <program> <fleet id> <root key>\n
//! <first slot> <SHA-256 of the segment>\n                        once for each segment
//! sum <SHA-256 of the lines before>\n
//! ```
//!
//! A note to oneself that proves nothing to anybody. It is taken only from a file that nobody else could have written, and
//! for the very bytes that were verified by this version of the program; any doubt costs a verification. Whoever forges
//! it gets no further either: the last record of each segment is verified all the same, which names those before it by
//! hash, and so is every statement of root, admins and enrollers. A memory that cannot be read or written is none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use muster_protocol::ids::{FleetId, KeyId, ObjectId};

/// Raised whenever what makes a signature valid or a record readable changes.
const VERSION: u32 = 1;
/// The file's name in a state folder.
const FILE: &str = "verified";
/// Most segments that are remembered, the newest: four million records.
const MOST: usize = 4096;
/// Longest file in bytes: a heading and as many lines.
const MAX_LEN: u64 = 512 * 1024;

/// The segments of one log that were verified, by their first slot.
#[derive(Debug, Clone)]
pub struct VerifiedSegments {
    path: PathBuf,
    heading: String,
    segments: BTreeMap<u64, ObjectId>,
    /// Whether there are more than the file has.
    news: bool,
}

impl VerifiedSegments {
    /// What `folder` remembers of the log of this fleet under this root; nothing where there is any doubt.
    #[must_use]
    pub fn recall(folder: &Path, fleet: &FleetId, root: &KeyId) -> Self {
        let path = folder.join(FILE);
        let heading = format!("muster verified {VERSION} {} {fleet} {root}\n", env!("CARGO_PKG_VERSION"));
        let segments = match read(&path) {
            Ok(text) => parse(&text, &heading).unwrap_or_default(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let file = path.display();
                    tracing::debug!(%file, %error, "what was verified is not remembered");
                }
                BTreeMap::new()
            }
        };
        Self { path, heading, segments, news: false }
    }

    /// Whether the segment of this slot with this hash was verified.
    pub(super) fn has(&self, first: u64, hash: &ObjectId) -> bool {
        self.segments.get(&first) == Some(hash)
    }

    /// The segment was verified, every record of it.
    pub(super) fn add(&mut self, first: u64, hash: ObjectId) {
        self.news |= self.segments.insert(first, hash) != Some(hash);
        while self.segments.len() > MOST {
            self.segments.pop_first();
        }
    }

    /// Writes the file whole or not at all, if there is anything new. A folder that is not there is made, for its owner alone.
    pub(super) fn keep(&self) {
        if self.news
            && let Err(error) = self.write()
        {
            let file = self.path.display();
            tracing::debug!(%file, %error, "what was verified is not remembered");
        }
    }

    fn write(&self) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = self.path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        if let Some(folder) = self.path.parent() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(
            |mut file| {
                file.write_all(self.print().as_bytes())?;
                std::fs::rename(&temporary, &self.path)
            },
        );
        written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))
    }

    fn print(&self) -> String {
        let mut text = self.heading.clone();
        for (first, hash) in &self.segments {
            writeln!(text, "{first} {hash}").expect("a text takes what is written to it");
        }
        let sum = ObjectId::of(text.as_bytes());
        text + &format!("sum {sum}\n")
    }
}

/// The text of a plain file that only its owner, who runs this process, could have written.
fn read(path: &Path) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).expect("the flags of open(2) fit an int");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    let refused = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if !meta.is_file() {
        return refused("it is no plain file");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return refused("others could have written it");
    }
    if meta.len() > MAX_LEN {
        return refused("it is too long");
    }
    let mut text = String::new();
    file.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str, heading: &str) -> Option<BTreeMap<u64, ObjectId>> {
    let sum = text.trim_end_matches(|c| c != ' ');
    let (body, last) = text.split_at_checked(sum.len().checked_sub("sum ".len())?)?;
    if last != format!("sum {}\n", ObjectId::of(body.as_bytes())) {
        return None;
    }
    let lines = body.strip_prefix(heading)?.lines();
    lines
        .map(|line| {
            let (first, hash) = line.split_once(' ')?;
            Some((first.parse().ok()?, hash.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use muster_protocol::ids::{FleetId, KeyId, ObjectId};

    use super::{FILE, MOST, VerifiedSegments};

    const FLEET: FleetId = FleetId::from_bytes([1; 32]);
    const ROOT: KeyId = KeyId::from_bytes([2; 32]);

    fn hash(n: u64) -> ObjectId {
        ObjectId::of(&n.to_be_bytes())
    }

    #[test]
    fn what_was_verified_is_remembered_for_that_fleet_and_root_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("made/by/it");
        let mut verified = VerifiedSegments::recall(&state, &FLEET, &ROOT);
        verified.keep();
        assert!(!state.exists(), "nothing new, nothing written");
        verified.add(0, hash(1));
        verified.add(1000, hash(2));
        verified.keep();
        let mode = fs::metadata(state.join(FILE)).expect("written").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let again = VerifiedSegments::recall(&state, &FLEET, &ROOT);
        assert!(again.has(0, &hash(1)) && again.has(1000, &hash(2)), "{again:?}");
        assert!(!again.has(0, &hash(2)) && !again.has(2000, &hash(1)), "{again:?}");
        for (fleet, root) in [(FleetId::from_bytes([3; 32]), ROOT), (FLEET, KeyId::from_bytes([3; 32]))] {
            assert!(!VerifiedSegments::recall(&state, &fleet, &root).has(0, &hash(1)));
        }
        assert_eq!(fs::read_dir(&state).expect("folder").count(), 1, "nothing temporary is left");
    }

    #[test]
    fn a_damaged_or_loose_or_borrowed_memory_is_none() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join(FILE);
        let recalls = || VerifiedSegments::recall(folder.path(), &FLEET, &ROOT).has(0, &hash(1));
        let mut verified = VerifiedSegments::recall(folder.path(), &FLEET, &ROOT);
        verified.add(0, hash(1));
        verified.keep();
        assert!(recalls());
        let bytes = fs::read(&file).expect("read");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&file, &damaged).expect("written");
            assert!(!recalls(), "bit flipped in byte {at}");
            fs::write(&file, &bytes[..at]).expect("written");
            assert!(!recalls(), "cut at {at}");
        }
        fs::write(&file, &bytes).expect("written");
        assert!(recalls());
        for mode in [0o640, 0o604, 0o620, 0o602] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("changed");
            assert!(!recalls(), "{mode:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
        let other = folder.path().join("other");
        fs::rename(&file, &other).expect("renamed");
        symlink(&other, &file).expect("linked");
        assert!(!recalls(), "a link");
    }

    #[test]
    fn it_is_bounded_and_keeps_the_newest() {
        let folder = tempfile::tempdir().expect("folder");
        let mut verified = VerifiedSegments::recall(folder.path(), &FLEET, &ROOT);
        let most = MOST as u64;
        for n in 0..most + 10 {
            verified.add(n * 1000, hash(n));
        }
        verified.keep();
        let again = VerifiedSegments::recall(folder.path(), &FLEET, &ROOT);
        assert_eq!(again.segments.len(), MOST);
        assert!(again.has((most + 9) * 1000, &hash(most + 9)) && !again.has(0, &hash(0)));
    }
}
