//! Which paths of a `files` source are kept: a small part of what gitignore(5) means, over raw bytes.
//!
//! A pattern without a slash (apart from one at its end) is compared with the name at any depth; one with a slash is
//! anchored at the source's root. `*` and `?` never cross a slash, `**` does. A slash at the end means folders only.
//! There is no negation. What lies beneath an excluded folder is never looked at; what lies beneath an included folder
//! is included.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?}: {why}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong.
    pub why: String,
}

/// Compiled patterns.
#[derive(Debug, Clone)]
pub(crate) struct Globs {
    any: GlobSet,
    folders: GlobSet,
}

impl Globs {
    pub(crate) fn new(patterns: &[String]) -> Result<Self, PatternError> {
        let mut any = GlobSetBuilder::new();
        let mut folders = GlobSetBuilder::new();
        for pattern in patterns {
            let error = |why: &str| PatternError { pattern: pattern.clone(), why: why.to_owned() };
            if pattern.starts_with('!') {
                return Err(error("there is no negation; write \\! for a name that begins with !"));
            }
            let body = pattern.strip_suffix('/').unwrap_or(pattern);
            let folders_only = body.len() < pattern.len();
            let anchored = body.contains('/');
            let body = body.strip_prefix('/').unwrap_or(body);
            if body.is_empty() {
                return Err(error("it is empty"));
            }
            if body.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(error("it has an empty part, . or .., so it can match nothing"));
            }
            let body = if anchored { body.to_owned() } else { format!("**/{body}") };
            let glob = GlobBuilder::new(&body)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error_| error(&error_.kind().to_string()))?;
            if folders_only { &mut folders } else { &mut any }.add(glob);
        }
        let build = |set: GlobSetBuilder| {
            set.build()
                .map_err(|error| PatternError { pattern: patterns.join(" "), why: error.kind().to_string() })
        };
        Ok(Self { any: build(any)?, folders: build(folders)? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.any.is_empty() && self.folders.is_empty()
    }

    /// Whether a pattern matches the path (relative to the root, raw bytes).
    pub(crate) fn matches(&self, path: &[u8], folder: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.any.is_match(path) || (folder && self.folders.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::Globs;

    fn matches(pattern: &str, path: &[u8], folder: bool) -> bool {
        Globs::new(&[pattern.to_owned()]).expect(pattern).matches(path, folder)
    }

    #[test]
    fn patterns_mean_what_the_module_says() {
        for (pattern, path, folder, want) in [
            ("*.log", &b"a.log"[..], false, true),
            ("*.log", b"x/y/a.log", false, true),
            ("*.log", b"a.log/b", false, false),
            ("/a", b"a", false, true),
            ("/a", b"x/a", false, false),
            ("x/*", b"x/a", false, true),
            ("x/*", b"x/a/b", false, false),
            ("x/**", b"x/a/b", false, true),
            ("x/a", b"y/x/a", false, false),
            ("**/x/a", b"y/x/a", false, true),
            ("cache/", b"cache", true, true),
            ("cache/", b"cache", false, false),
            ("cache/", b"v/cache", true, true),
            ("a?", b"a\xff", false, true),
            ("*", b"\xff\xfe", false, true),
            ("[ab]", b"b", false, true),
            ("\\!x", b"!x", false, true),
        ] {
            assert_eq!(matches(pattern, path, folder), want, "{pattern} {}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn patterns_that_are_none_are_named() {
        for bad in ["", "/", "!a", "a//b", "../a", "./a", "[a", "{a"] {
            let error = Globs::new(&[bad.to_owned()]).expect_err(bad);
            assert_eq!(error.pattern, bad);
        }
    }
}
