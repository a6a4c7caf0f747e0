//! From the paths of an index, which may be forged, to safe steps beneath one folder. Pure: touches no file.
//!
//! A path that has become a [`SafePath`] is relative, without `.`, `..`, empty parts or NUL; its parent is a folder
//! that this plan has made, so no link can lead it out of the target.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use muster_share::entry::{Entry, Extent, Gap, Kind};

/// Longest part of a path in bytes: `NAME_MAX` of Linux.
pub const PART_BYTES_MAX: usize = 255;
/// Longest path or link target in bytes: `PATH_MAX` of Linux without the closing NUL.
pub const PATH_BYTES_MAX: usize = 4095;

/// A relative path that stays beneath its root. The root itself is the empty path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SafePath(Vec<u8>);

impl SafePath {
    /// Checks raw bytes of an entry.
    ///
    /// # Errors
    /// When the path is absolute, too long, or has an empty part, `.`, `..` or NUL.
    pub fn parse(path: &[u8]) -> Result<Self, PathProblem> {
        if path.starts_with(b"/") {
            return Err(PathProblem::Absolute);
        }
        if path.contains(&0) {
            return Err(PathProblem::Nul);
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(PathProblem::TooLong);
        }
        if !path.is_empty() {
            for part in path.split(|byte| *byte == b'/') {
                match part {
                    b"" => return Err(PathProblem::EmptyPart),
                    b"." | b".." => return Err(PathProblem::Dots),
                    part if part.len() > PART_BYTES_MAX => return Err(PathProblem::PartTooLong),
                    _ => {}
                }
            }
        }
        Ok(Self(path.to_vec()))
    }

    /// Raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Parent and last part; `None` for the root.
    #[must_use]
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (b"", &self.0),
        })
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl fmt::Debug for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SafePath({})", shown(&self.0))
    }
}

/// Path bytes for people: safe on a terminal.
fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// It begins with a slash.
    #[error("it is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("it has an empty part")]
    EmptyPart,
    /// `.` or `..`.
    #[error("it has the part . or ..")]
    Dots,
    /// A NUL byte.
    #[error("it contains a NUL byte")]
    Nul,
    /// A part is too long.
    #[error("a part is longer than {PART_BYTES_MAX} bytes")]
    PartTooLong,
    /// The whole is too long.
    #[error("it is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
}

/// Why an entry is refused. An honest agent writes none of these: the index is damaged or forged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The path is not safe.
    #[error("path \"{}\" is refused: {problem}", shown(path))]
    Path {
        /// The path, raw.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// The path came before.
    #[error("path \"{}\" comes twice", shown(path))]
    Twice {
        /// The path, raw.
        path: Vec<u8>,
    },
    /// The root is not a folder.
    #[error("the source's root is not a folder")]
    RootKind,
    /// The parent is not a folder of this plan.
    #[error("path \"{}\" lies beneath what is not a folder of this source", shown(path))]
    Parent {
        /// The path, raw.
        path: Vec<u8>,
    },
    /// A hard link to what is not a regular file of this plan.
    #[error(
        "hard link \"{}\" leads to \"{}\", which is not an earlier file of this source",
        shown(path),
        shown(target)
    )]
    HardLink {
        /// The path, raw.
        path: Vec<u8>,
        /// Where it leads, raw.
        target: Vec<u8>,
    },
    /// Fields contradict the kind or each other.
    #[error("entry \"{}\" contradicts itself: {what}", shown(path))]
    Contradiction {
        /// The path, raw.
        path: Vec<u8>,
        /// How.
        what: &'static str,
    },
}

/// What to make of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A folder.
    Directory,
    /// A regular file with content of its own.
    File,
    /// Another name of an earlier file.
    HardLink {
        /// The earlier file.
        target: SafePath,
    },
    /// A symbolic link with this raw target, which is not followed by anything here.
    Symlink {
        /// Where it leads, raw.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Nothing: the capture has only the name of it.
    Missing(Gap),
}

/// An entry that may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Where.
    pub path: SafePath,
    /// What.
    pub step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Folder,
    File,
    Other,
}

/// The plan of one source. Remembers every path as 16 bytes of its BLAKE3 hash, so that millions of entries fit.
#[derive(Debug, Default)]
pub struct Planner {
    made: HashMap<[u8; 16], Made>,
}

impl Planner {
    /// A plan of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Admits the next entry, parents before children.
    ///
    /// # Errors
    /// When its path is not safe or came before, its parent is no folder of this plan, its hard link leads to no
    /// earlier file, or its fields contradict each other. The plan is then as it was.
    pub fn admit(&mut self, entry: &Entry) -> Result<Planned, PlanError> {
        let raw = || entry.path.clone();
        let path =
            SafePath::parse(&entry.path).map_err(|problem| PlanError::Path { path: raw(), problem })?;
        match path.split() {
            None if entry.kind != Kind::Directory => return Err(PlanError::RootKind),
            Some((parent, _)) if self.made.get(&key(parent)) != Some(&Made::Folder) => {
                return Err(PlanError::Parent { path: raw() });
            }
            None | Some(_) => {}
        }
        if self.made.contains_key(&key(&entry.path)) {
            return Err(PlanError::Twice { path: raw() });
        }
        let step = self.step(entry)?;
        let made = match step {
            Step::Directory => Made::Folder,
            Step::File => Made::File,
            // A hard link to a hard link is one to the same file.
            Step::HardLink { .. } => Made::File,
            Step::Symlink { .. }
            | Step::Fifo
            | Step::CharDevice { .. }
            | Step::BlockDevice { .. }
            | Step::Missing(_) => Made::Other,
        };
        self.made.insert(key(&entry.path), made);
        Ok(Planned { path, step })
    }

    fn step(&self, entry: &Entry) -> Result<Step, PlanError> {
        let wrong = |what| Err(PlanError::Contradiction { path: entry.path.clone(), what });
        let file = entry.kind == Kind::File;
        if !file && (entry.size != 0 || !entry.extents.is_empty()) {
            return wrong("only files have content");
        }
        if !file && entry.hard_link.is_some() {
            return wrong("only files have hard links");
        }
        if entry.kind != Kind::Symlink && entry.target.is_some() {
            return wrong("only symbolic links have a target");
        }
        match entry.gap {
            Some(gap @ (Gap::Vanished | Gap::Skipped)) if !entry.path.is_empty() => {
                return Ok(Step::Missing(gap));
            }
            Some(gap @ Gap::Unreadable(_)) if entry.kind != Kind::Directory => return Ok(Step::Missing(gap)),
            Some(Gap::Vanished | Gap::Skipped | Gap::Unreadable(_) | Gap::Changed | Gap::Attributes(_))
            | None => {}
        }
        let device = |make: fn(u32, u32) -> Step| match entry.device {
            Some((major, minor)) => Ok(make(major, minor)),
            None => wrong("a device has numbers"),
        };
        match entry.kind {
            Kind::Directory => Ok(Step::Directory),
            Kind::Fifo => Ok(Step::Fifo),
            Kind::CharDevice => device(|major, minor| Step::CharDevice { major, minor }),
            Kind::BlockDevice => device(|major, minor| Step::BlockDevice { major, minor }),
            Kind::Symlink => match &entry.target {
                Some(target) if target.is_empty() || target.len() > PATH_BYTES_MAX || target.contains(&0) => {
                    wrong("its target is empty, too long or has a NUL byte")
                }
                Some(target) => Ok(Step::Symlink { target: target.to_vec() }),
                None => wrong("a symbolic link has a target"),
            },
            Kind::File => match &entry.hard_link {
                Some(_) if entry.size != 0 || !entry.extents.is_empty() => {
                    wrong("a hard link has no content of its own")
                }
                Some(target) => {
                    let error = || PlanError::HardLink { path: entry.path.clone(), target: target.to_vec() };
                    if self.made.get(&key(target)) != Some(&Made::File) {
                        return Err(error());
                    }
                    Ok(Step::HardLink { target: SafePath::parse(target).map_err(|_| error())? })
                }
                None => {
                    let total = entry.extents.iter().map(Extent::length).try_fold(0_u64, u64::checked_add);
                    if total == Some(entry.size) && i64::try_from(entry.size).is_ok() {
                        Ok(Step::File)
                    } else {
                        wrong("its extents do not add up to its size")
                    }
                }
            },
        }
    }
}

fn key(path: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(path).as_bytes()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::{PathProblem, PlanError, Planner, SafePath, Step};
    use muster_share::entry::{Entry, Extent, Gap, Kind};
    use serde_bytes::ByteBuf;

    fn entry(path: &[u8], kind: Kind) -> Entry {
        Entry::new(path.to_vec(), kind, 0o644)
    }

    fn symlink(path: &[u8], target: &[u8]) -> Entry {
        Entry { target: Some(ByteBuf::from(target)), ..entry(path, Kind::Symlink) }
    }

    fn hard_link(path: &[u8], target: &[u8]) -> Entry {
        Entry { hard_link: Some(ByteBuf::from(target)), ..entry(path, Kind::File) }
    }

    fn planner() -> Planner {
        let mut planner = Planner::new();
        planner.admit(&entry(b"", Kind::Directory)).expect("root");
        planner
    }

    #[test]
    fn paths_that_could_leave_the_target_are_refused() {
        let long = [b'a'; 256];
        let deep = [b"a".as_slice(); 2049].join(&b'/');
        for (path, want) in [
            (&b"/etc/passwd"[..], PathProblem::Absolute),
            (b"/", PathProblem::Absolute),
            (b"..", PathProblem::Dots),
            (b"../x", PathProblem::Dots),
            (b"a/../../x", PathProblem::Dots),
            (b"a/..", PathProblem::Dots),
            (b".", PathProblem::Dots),
            (b"./a", PathProblem::Dots),
            (b"a//b", PathProblem::EmptyPart),
            (b"a/", PathProblem::EmptyPart),
            (b"a\0b", PathProblem::Nul),
            (&long, PathProblem::PartTooLong),
            (&deep, PathProblem::TooLong),
        ] {
            assert_eq!(SafePath::parse(path), Err(want), "{}", path.escape_ascii());
            let error = planner().admit(&entry(path, Kind::File)).expect_err("refused");
            assert_eq!(error, PlanError::Path { path: path.to_vec(), problem: want });
        }
        for path in [&b"..."[..], b"a/..b", b"\xff\xfe", b"a b\n", &long[..255]] {
            assert!(planner().admit(&entry(path, Kind::Directory)).is_ok() || path.contains(&b'/'));
            assert_eq!(SafePath::parse(path).expect("safe").as_bytes(), path);
        }
    }

    #[test]
    fn a_child_needs_a_folder_of_this_plan() {
        let mut planner = planner();
        planner.admit(&symlink(b"link", b"/etc")).expect("a link may lead anywhere");
        planner.admit(&entry(b"file", Kind::File)).expect("file");
        let gone = Entry { gap: Some(Gap::Vanished), ..entry(b"gone", Kind::Directory) };
        assert_eq!(planner.admit(&gone).expect("gone").step, Step::Missing(Gap::Vanished));
        for path in [&b"link/passwd"[..], b"file/x", b"none/x", b"gone/x"] {
            let refused = planner.admit(&entry(path, Kind::File));
            assert_eq!(refused, Err(PlanError::Parent { path: path.to_vec() }));
        }
        assert_eq!(
            Planner::new().admit(&entry(b"a", Kind::File)),
            Err(PlanError::Parent { path: b"a".to_vec() }),
            "the root comes first"
        );
        assert_eq!(Planner::new().admit(&entry(b"", Kind::File)), Err(PlanError::RootKind));
    }

    #[test]
    fn a_path_comes_once() {
        let mut planner = planner();
        planner.admit(&entry(b"a", Kind::Directory)).expect("folder");
        for again in [entry(b"a", Kind::Directory), symlink(b"a", b"/etc"), entry(b"", Kind::Directory)] {
            let refused = planner.admit(&again).expect_err("refused");
            assert_eq!(refused, PlanError::Twice { path: again.path });
        }
        planner.admit(&entry(b"a/b", Kind::File)).expect("the folder is still one");
    }

    #[test]
    fn hard_links_lead_to_earlier_files_only() {
        let mut planner = planner();
        planner.admit(&symlink(b"link", b"/etc/shadow")).expect("link");
        planner.admit(&entry(b"folder", Kind::Directory)).expect("folder");
        let unread = Entry { gap: Some(Gap::Unreadable(13)), ..entry(b"unread", Kind::File) };
        planner.admit(&unread).expect("unread");
        for target in [&b"/etc/shadow"[..], b"link", b"folder", b"later", b"../x", b"unread", b"", b"self"] {
            let refused = planner.admit(&hard_link(b"self", target));
            assert_eq!(refused, Err(PlanError::HardLink { path: b"self".to_vec(), target: target.to_vec() }));
        }
        planner.admit(&entry(b"file", Kind::File)).expect("file");
        let target = SafePath::parse(b"file").expect("safe");
        assert_eq!(
            planner.admit(&hard_link(b"other", b"file")).expect("link").step,
            Step::HardLink { target }
        );
        planner.admit(&hard_link(b"third", b"other")).expect("a link to a link");
    }

    #[test]
    fn contradictions_are_refused() {
        let data = |length| Extent::Data { pack: 0, offset: 0, length };
        let with = |size, extents: &[Extent], base: Entry| Entry { size, extents: extents.to_vec(), ..base };
        let huge = [data(u64::MAX), data(2)];
        for bad in [
            symlink(b"x", b""),
            symlink(b"x", b"a\0"),
            entry(b"x", Kind::Symlink),
            entry(b"x", Kind::CharDevice),
            with(5, &[data(4)], entry(b"x", Kind::File)),
            with(1, &huge, entry(b"x", Kind::File)),
            with(1 << 63, &[Extent::Hole { length: 1 << 63 }], entry(b"x", Kind::File)),
            with(4, &[data(4)], entry(b"x", Kind::Fifo)),
            with(0, &[data(4)], hard_link(b"x", b"f")),
            Entry { kind: Kind::Directory, ..hard_link(b"x", b"f") },
            Entry { kind: Kind::File, ..symlink(b"x", b"a") },
        ] {
            let mut planner = planner();
            planner.admit(&entry(b"f", Kind::File)).expect("file");
            let refused = planner.admit(&bad);
            assert!(matches!(refused, Err(PlanError::Contradiction { .. })), "{bad:?}: {refused:?}");
            planner.admit(&entry(b"x", Kind::File)).expect("what was refused left no trace");
        }
    }
}
