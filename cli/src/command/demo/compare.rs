//! Compares a recovered tree with its source, entry by entry: type, mode, owner (as root), size, time of change,
//! content, target of links. Knows nothing of how Muster stores anything, so that it proves something.
//!
//! The source may be alive: what was changed there after the round began is counted, not held against the recovery. So
//! are gaps: what may not be read here was not captured either.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::halt::Halt;
use crate::failure::Failure;

/// How much of two files is compared at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Mode bits: permissions, sticky, set-user-id, set-group-id.
const MODE: u32 = 0o7777;
/// Differences that are kept with their words.
const KEPT: usize = 10;

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Regular files that are the same.
    pub(super) files: u64,
    /// Folders that are the same.
    pub(super) folders: u64,
    /// Links and other entries that are the same.
    pub(super) others: u64,
    /// Bytes in those files.
    pub(super) bytes: u64,
    /// Entries that may not be read, or not be made, by this user.
    pub(super) gaps: u64,
    /// Entries that were changed in the source since the round began.
    pub(super) changed: u64,
    /// Entries that are different.
    pub(super) different: u64,
    /// The first of them, in words.
    pub(super) differences: Vec<String>,
}

impl Comparison {
    /// Adds another one.
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.folders += other.folders;
        self.others += other.others;
        self.bytes += other.bytes;
        self.gaps += other.gaps;
        self.changed += other.changed;
        self.differ(other.different, other.differences);
    }

    fn differ(&mut self, count: u64, words: impl IntoIterator<Item = String>) {
        self.different += count;
        let free = KEPT.saturating_sub(self.differences.len());
        self.differences.extend(words.into_iter().take(free));
    }
}

/// Compares the trees; `since` is when the round began that was recovered.
pub(super) fn trees(
    source: &Path,
    copy: &Path,
    since: SystemTime,
    halt: &Halt,
) -> Result<Comparison, Failure> {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut walk = Walk {
        found: Comparison::default(),
        since: (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), i64::from(since.subsec_nanos())),
        root: rustix::process::geteuid().is_root(),
        device: fs::metadata(source).map(|metadata| metadata.dev()).unwrap_or_default(),
        folders: vec![PathBuf::new()],
    };
    walk.entry(source, copy, Path::new(""));
    while let Some(folder) = walk.folders.pop() {
        halt.check()?;
        walk.folder(source, copy, &folder);
    }
    Ok(walk.found)
}

struct Walk {
    found: Comparison,
    since: (i64, i64),
    root: bool,
    device: u64,
    folders: Vec<PathBuf>,
}

impl Walk {
    fn folder(&mut self, source: &Path, copy: &Path, path: &Path) {
        let (from, to) = (source.join(path), copy.join(path));
        let (there, back) = match (names(&from), names(&to)) {
            (Ok(there), Ok(back)) => (there, back),
            // Counted as an entry of its parent; only what it holds is out of reach.
            (Err(error), _) if unreadable(&error) => {
                self.found.gaps += 1;
                return;
            }
            (Err(error), _) => return self.problem(&from, &from, &error.to_string()),
            (Ok(_), Err(error)) => return self.problem(&from, &to, &error.to_string()),
        };
        for name in there.union(&back) {
            let path = path.join(name);
            if !there.contains(name) {
                // A name that has gone shows in the time of its folder.
                self.problem(&from, &copy.join(&path), "is not in the source");
            } else if self.entry(&source.join(&path), &copy.join(&path), &path) {
                self.folders.push(path);
            }
        }
    }

    /// Compares one entry; true if it is a folder to go into.
    fn entry(&mut self, from: &Path, to: &Path, path: &Path) -> bool {
        let Ok(source) = fs::symlink_metadata(from) else {
            // It was listed a moment ago.
            self.found.changed += 1;
            return false;
        };
        if source.file_type().is_socket() {
            return false;
        }
        let copy = match fs::symlink_metadata(to) {
            Ok(copy) => copy,
            Err(error) => {
                if self.is_gap(from, &source) {
                    self.found.gaps += 1;
                } else {
                    self.problem(from, to, &error.to_string());
                }
                return false;
            }
        };
        match self.same(from, to, &source, &copy) {
            Ok(None) => self.count(&source),
            Ok(Some(difference)) => self.problem(from, to, &difference),
            Err(error) => self.problem(from, to, &error.to_string()),
        }
        // What is mounted in the source is left out of a backup; the folder that it is mounted on is not.
        source.is_dir() && copy.is_dir() && source.dev() == self.device && !path.as_os_str().is_empty()
    }

    fn same(&self, from: &Path, to: &Path, source: &Metadata, copy: &Metadata) -> io::Result<Option<String>> {
        if source.file_type() != copy.file_type() {
            return Ok(Some("is of another type".to_owned()));
        }
        let link = source.is_symlink();
        // Without root, set-id bits would speak for another owner: they are left out by intent.
        let bits = if self.root { MODE } else { 0o1777 };
        let (want, have) = (source.mode() & bits, copy.mode() & bits);
        if !link && want != have {
            return Ok(Some(format!("has mode {have:04o}, not {want:04o}")));
        }
        let (want, have) = ((source.uid(), source.gid()), (copy.uid(), copy.gid()));
        if self.root && want != have {
            return Ok(Some(format!("belongs to {}:{}, not {}:{}", have.0, have.1, want.0, want.1)));
        }
        if (source.mtime(), source.mtime_nsec()) != (copy.mtime(), copy.mtime_nsec()) {
            return Ok(Some("has another time of change".to_owned()));
        }
        if link && fs::read_link(from)? != fs::read_link(to)? {
            return Ok(Some("leads elsewhere".to_owned()));
        }
        if source.is_file() {
            if source.len() != copy.len() {
                return Ok(Some(format!("has {} bytes, not {}", copy.len(), source.len())));
            }
            if !same_content(from, to)? {
                return Ok(Some("has other content".to_owned()));
            }
        }
        Ok(None)
    }

    fn count(&mut self, source: &Metadata) {
        if source.is_file() {
            self.found.files += 1;
            self.found.bytes += source.len();
        } else if source.is_dir() {
            self.found.folders += 1;
        } else {
            self.found.others += 1;
        }
    }

    fn is_gap(&self, from: &Path, source: &Metadata) -> bool {
        let kind = source.file_type();
        if kind.is_file() {
            File::open(from).is_err_and(|error| unreadable(&error))
        } else {
            !self.root && (kind.is_char_device() || kind.is_block_device())
        }
    }

    /// A difference, unless `witness` in the source was changed since the round began.
    fn problem(&mut self, witness: &Path, what: &Path, how: &str) {
        let changed = fs::symlink_metadata(witness)
            .map_or(true, |metadata| (metadata.ctime(), metadata.ctime_nsec()) >= self.since);
        if changed {
            self.found.changed += 1;
        } else {
            self.found.differ(1, [format!("{}: {how}", what.display())]);
        }
    }
}

fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

fn unreadable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut first, mut second) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let count = one.read(&mut first)?;
        if count == 0 {
            return Ok(other.read(&mut second)? == 0);
        }
        match other.read_exact(&mut second[..count]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        if first[..count] != second[..count] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, trees};
    use crate::command::demo::halt::Halt;
    use std::fs::{self, File, FileTimes, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    fn tree(root: &Path) {
        fs::create_dir_all(root.join("sub/empty")).expect("folders");
        fs::write(root.join("one"), "one").expect("a file");
        fs::write(root.join("sub/two"), vec![2; 600_000]).expect("a file");
        std::os::unix::fs::symlink("nowhere", root.join("link")).expect("a link");
    }

    /// As a recovery would leave it: same modes and times.
    fn copy(from: &Path, to: &Path) {
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
        assert!(copied.success());
    }

    fn compare(from: &Path, to: &Path, since: SystemTime) -> Comparison {
        trees(from, to, since, &Halt::default()).expect("not halted")
    }

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(3600)
    }

    #[test]
    fn a_true_copy_is_identical() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        tree(&from);
        copy(&from, &to);
        let found = compare(&from, &to, later());
        assert_eq!((found.files, found.folders, found.others, found.bytes), (2, 3, 1, 600_003), "{found:?}");
        assert_eq!((found.different, found.changed, found.gaps), (0, 0, 0), "{found:?}");
    }

    #[test]
    fn every_kind_of_difference_is_found_and_named() {
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 8] = [
            ("sub/two", |to| {
                let times = FileTimes::new().set_modified(
                    fs::metadata(to.join("sub/two")).expect("there").modified().expect("a time"),
                );
                let mut bytes = vec![2; 600_000];
                bytes[599_999] = 3;
                fs::write(to.join("sub/two"), bytes).expect("written");
                File::open(to.join("sub/two")).expect("opened").set_times(times).expect("times");
            }),
            ("one", |to| fs::write(to.join("one"), "longer").expect("written")),
            ("one", |to| fs::set_permissions(to.join("one"), Permissions::from_mode(0o604)).expect("a mode")),
            ("sub", |to| fs::set_permissions(to.join("sub"), Permissions::from_mode(0o711)).expect("a mode")),
            ("one", |to| {
                let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
                File::open(to.join("one")).expect("opened").set_times(times).expect("times");
            }),
            ("sub/empty", |to| fs::remove_dir(to.join("sub/empty")).expect("removed")),
            ("extra", |to| fs::write(to.join("extra"), "").expect("written")),
            ("link", |to| {
                fs::remove_file(to.join("link")).expect("removed");
                std::os::unix::fs::symlink("elsewhere", to.join("link")).expect("a link");
            }),
        ];
        for (index, (name, harm)) in harms.into_iter().enumerate() {
            let folder = tempfile::tempdir().expect("a folder");
            let (from, to) = (folder.path().join("from"), folder.path().join("to"));
            tree(&from);
            copy(&from, &to);
            harm(&to);
            let found = compare(&from, &to, later());
            let named = found
                .differences
                .iter()
                .any(|words| words.starts_with(&format!("{}: ", to.join(name).display())));
            assert!(found.different > 0 && named, "{index} {name}: {found:?}");
            assert_eq!(found.changed, 0, "{index} {name}: {found:?}");
        }
    }

    #[test]
    fn what_changed_in_a_living_source_is_counted_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        tree(&from);
        copy(&from, &to);
        fs::write(from.join("one"), "changed since").expect("written");
        fs::remove_file(from.join("sub/two")).expect("removed");
        let found = compare(&from, &to, SystemTime::UNIX_EPOCH);
        assert_eq!(found.different, 0, "{found:?}");
        assert!(found.changed >= 2, "{found:?}");
        assert!(compare(&from, &to, later()).different >= 2);
    }
}
