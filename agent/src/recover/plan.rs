//! From the entries of an index, which may be forged, to safe steps beneath one folder. Pure: touches no file.
//!
//! Entries come in strictly ascending order ([`compare`]), so the plan remembers nothing but the last path and the
//! folder it is in: what comes twice is out of order, and what lies beneath a link or a file has no open folder above
//! it. Whether a hard link's target is a file is asked of the file system when the link is made; here it only has to
//! come earlier.

use std::cmp::Ordering;

use muster_share::entry::{Entry, Extent, Gap, Kind};

use super::path::{CALL_BYTES_MAX, PathProblem, SafePath, compare, shown};

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
    /// The path sorts before the one that came before it.
    #[error("path \"{}\" comes after \"{}\", which sorts behind it", shown(path), shown(after))]
    Order {
        /// The path, raw.
        path: Vec<u8>,
        /// The path before it, raw.
        after: Vec<u8>,
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
    /// A hard link to what cannot be an earlier file of this source.
    #[error("hard link \"{}\" leads to \"{}\", which does not come before it", shown(path), shown(target))]
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
    /// Another name of what must turn out to be an earlier file.
    HardLink {
        /// Its path.
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

/// The plan of one source. Holds two paths, however many entries come.
#[derive(Debug, Default)]
pub struct Planner {
    /// The last path; `None` before the root.
    last: Option<Vec<u8>>,
    /// The innermost folder that is not left yet. Those above it are folders of this plan, too.
    folder: Vec<u8>,
}

impl Planner {
    /// A plan of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Admits the next entry.
    ///
    /// # Errors
    /// When its path is not safe, comes twice or out of order, its parent is no folder of this plan, its hard link
    /// leads to nothing earlier, or its fields contradict each other. The plan is then as it was.
    pub fn admit(&mut self, entry: &Entry) -> Result<Planned, PlanError> {
        let raw = || entry.path.clone();
        let path =
            SafePath::parse(&entry.path).map_err(|problem| PlanError::Path { path: raw(), problem })?;
        match self.last.as_deref().map(|last| (last, compare(last, &entry.path))) {
            Some((_, Ordering::Less)) | None => {}
            Some((_, Ordering::Equal)) => return Err(PlanError::Twice { path: raw() }),
            Some((last, Ordering::Greater)) => {
                return Err(PlanError::Order { path: raw(), after: last.to_vec() });
            }
        }
        let parent = match path.split() {
            None if entry.kind != Kind::Directory => return Err(PlanError::RootKind),
            None => &[][..],
            Some((parent, _)) if self.is_open(parent) => parent,
            Some(_) => return Err(PlanError::Parent { path: raw() }),
        };
        let step = step(entry)?;
        self.folder.truncate(parent.len());
        if step == Step::Directory {
            self.folder.clone_from(&entry.path);
        }
        self.last.get_or_insert_default().clone_from(&entry.path);
        Ok(Planned { path, step })
    }

    /// Whether this is the innermost folder or one above it.
    fn is_open(&self, folder: &[u8]) -> bool {
        let below = self.folder.strip_prefix(folder);
        self.last.is_some()
            && (folder.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")))
    }
}

fn step(entry: &Entry) -> Result<Step, PlanError> {
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
            Some(target) if target.is_empty() || target.len() > CALL_BYTES_MAX || target.contains(&0) => {
                wrong("its target is empty, too long or has a NUL byte")
            }
            Some(target) => Ok(Step::Symlink { target: target.to_vec() }),
            None => wrong("a symbolic link has a target"),
        },
        Kind::File => match &entry.hard_link {
            Some(_) if entry.size != 0 || !entry.extents.is_empty() => {
                wrong("a hard link has no content of its own")
            }
            Some(target) => match SafePath::parse(target) {
                Ok(path) if !target.is_empty() && compare(target, &entry.path).is_lt() => {
                    Ok(Step::HardLink { target: path })
                }
                Ok(_) | Err(_) => {
                    Err(PlanError::HardLink { path: entry.path.clone(), target: target.to_vec() })
                }
            },
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
    fn unsafe_paths_are_refused() {
        for (path, problem) in [
            (&b"/etc/passwd"[..], PathProblem::Absolute),
            (b"../x", PathProblem::Dots),
            (b"a\0", PathProblem::Nul),
        ] {
            let error = planner().admit(&entry(path, Kind::File)).expect_err("refused");
            assert_eq!(error, PlanError::Path { path: path.to_vec(), problem });
        }
    }

    #[test]
    fn a_child_needs_a_folder_of_this_plan() {
        let gone = Entry { gap: Some(Gap::Vanished), ..entry(b"p", Kind::Directory) };
        for parent in [symlink(b"p", b"/etc"), entry(b"p", Kind::File), gone, entry(b"q", Kind::Directory)] {
            let mut planner = planner();
            planner.admit(&entry(b"a", Kind::Directory)).expect("a folder");
            planner.admit(&entry(b"a/b", Kind::Directory)).expect("a folder in it");
            planner.admit(&parent).expect("a link may lead anywhere");
            let path: &[u8] = if parent.path == b"q" { b"r/passwd" } else { b"p/passwd" };
            let refused = planner.admit(&entry(path, Kind::File));
            assert_eq!(refused, Err(PlanError::Parent { path: path.to_vec() }), "{:?}", parent.kind);
        }
        assert_eq!(
            Planner::new().admit(&entry(b"a", Kind::File)),
            Err(PlanError::Parent { path: b"a".to_vec() }),
            "the root comes first"
        );
        assert_eq!(Planner::new().admit(&entry(b"", Kind::File)), Err(PlanError::RootKind));
    }

    #[test]
    fn folders_above_stay_open_until_they_are_left() {
        let mut planner = planner();
        for (path, kind) in [
            (&b"a"[..], Kind::Directory),
            (b"a/b", Kind::Directory),
            (b"a/b/c", Kind::File),
            (b"a/d", Kind::File),
            (b"a.txt", Kind::File),
            (b"b", Kind::Directory),
            (b"b/x", Kind::File),
        ] {
            planner.admit(&entry(path, kind)).expect("in order");
        }
        let late = planner.admit(&entry(b"a/z", Kind::File)).expect_err("a was left");
        assert_eq!(late, PlanError::Order { path: b"a/z".to_vec(), after: b"b/x".to_vec() });
    }

    #[test]
    fn a_path_comes_once_and_in_order() {
        let mut planner = planner();
        planner.admit(&entry(b"a", Kind::Directory)).expect("folder");
        for again in [entry(b"a", Kind::Directory), symlink(b"a", b"/etc")] {
            let refused = planner.admit(&again).expect_err("refused");
            assert_eq!(refused, PlanError::Twice { path: again.path });
        }
        let root = planner.admit(&entry(b"", Kind::Directory)).expect_err("refused");
        assert_eq!(root, PlanError::Order { path: Vec::new(), after: b"a".to_vec() });
        planner.admit(&entry(b"a/b", Kind::File)).expect("the folder is still one");
    }

    #[test]
    fn hard_links_lead_to_what_came_before() {
        let mut planner = planner();
        planner.admit(&entry(b"file", Kind::File)).expect("file");
        for target in [&b"/etc/shadow"[..], b"link", b"more", b"../x", b"", b"link/below"] {
            let refused = planner.admit(&hard_link(b"link", target));
            assert_eq!(refused, Err(PlanError::HardLink { path: b"link".to_vec(), target: target.to_vec() }));
        }
        let target = SafePath::parse(b"file").expect("safe");
        assert_eq!(
            planner.admit(&hard_link(b"link", b"file")).expect("link").step,
            Step::HardLink { target }
        );
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
