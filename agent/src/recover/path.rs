//! Paths of an index, which may be forged, made safe, and their order. Pure: touches no file.
//!
//! A path that has become a [`SafePath`] is relative, without `.`, `..`, empty parts or NUL.

use std::cmp::Ordering;
use std::fmt;

/// Longest part of a path in bytes: `NAME_MAX` of Linux.
pub const PART_BYTES_MAX: usize = 255;
/// Longest path in bytes. Linux takes [`CALL_BYTES_MAX`] at a time, but trees are deeper than that.
pub const PATH_BYTES_MAX: usize = 64 * 1024;
/// Longest link target in bytes, and longest path that one call takes: `PATH_MAX` of Linux without the closing NUL.
pub const CALL_BYTES_MAX: usize = 4095;

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

/// The order of entries: part by part, bytewise, so that a folder comes right before all that lies in it.
#[must_use]
pub fn compare(one: &[u8], two: &[u8]) -> Ordering {
    // A path has no NUL, so a slash that counts as the least byte compares the parts.
    let part = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    let differ = one.iter().zip(two).position(|(a, b)| a != b);
    match differ {
        Some(at) => part(&one[at]).cmp(&part(&two[at])),
        None => one.len().cmp(&two.len()),
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
pub(super) fn shown(path: &[u8]) -> String {
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

#[cfg(test)]
mod tests {
    use super::{PATH_BYTES_MAX, PathProblem, SafePath, compare};
    use std::cmp::Ordering;

    #[test]
    fn paths_that_could_leave_the_target_are_refused() {
        let long = [b'a'; 256];
        let deep = [b"a".as_slice(); PATH_BYTES_MAX / 2 + 1].join(&b'/');
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
        }
        let deep = [b"a".as_slice(); PATH_BYTES_MAX / 2].join(&b'/');
        for path in [&b"..."[..], b"a/..b", b"\xff\xfe", b"a b\n", &long[..255], &deep] {
            assert_eq!(SafePath::parse(path).expect("safe").as_bytes(), path);
        }
    }

    #[test]
    fn the_order_goes_part_by_part() {
        let ordered: [&[u8]; 8] = [b"", b"a", b"a/\x01", b"a/b", b"a/b/c", b"a\x01", b"a.txt", b"b"];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&other_at), "{one:?} {other:?}");
                let parts = |path: &[u8]| path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
                if !one.is_empty() && !other.is_empty() {
                    assert_eq!(compare(one, other), parts(one).cmp(&parts(other)));
                }
            }
        }
        assert_eq!(compare(b"a", b"a"), Ordering::Equal);
    }
}
