//! What `find` looks for: a glob over the name of an entry, or over its path.

use crate::source::globs::Globs;

pub use crate::source::globs::PatternError;

/// A glob over raw bytes: `*` and `?` never cross a slash, `**` does, `[ab]` and `{a,b}` choose. Without a slash, it is
/// compared with names; with one, with whole paths: `SERVICE/SOURCE/PATH`, or `PATH` within any source.
#[derive(Debug, Clone)]
pub struct Pattern {
    globs: Globs,
    whole_path: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        let whole_path = pattern.strip_suffix('/').unwrap_or(pattern).contains('/');
        Ok(Self { globs: Globs::new(&[pattern.to_owned()])?, whole_path })
    }

    /// Whether an entry fits. `below` is `SERVICE/SOURCE`, `path` lies within the source.
    #[must_use]
    pub fn fits(&self, below: &str, path: &[u8], folder: bool) -> bool {
        if !self.whole_path {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            return !name.is_empty() && self.globs.matches(name, folder);
        }
        self.globs.matches(path, folder)
            || self.globs.matches(&[below.as_bytes(), b"/", path].concat(), folder)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_name_or_a_path_is_compared() {
        for (pattern, path, folder, want) in [
            ("*.conf", &b"etc/app.conf"[..], false, true),
            ("*.conf", b"etc/app.conf/x", false, false),
            ("etc", b"etc", true, true),
            ("etc/", b"etc", false, false),
            ("etc/*", b"etc/app.conf", false, true),
            ("/etc/*", b"etc/app.conf", false, true),
            ("dns/files/etc/*", b"etc/app.conf", false, true),
            ("*/files/**", b"etc/app.conf", false, true),
            ("etc/*", b"usr/etc/app.conf", false, false),
            ("**/etc/*", b"usr/etc/app.conf", false, true),
            ("app?conf", b"etc/app\xffconf", false, true),
            ("*", b"", true, false),
        ] {
            let fits = Pattern::parse(pattern).expect("a pattern").fits("dns/files", path, folder);
            assert_eq!(fits, want, "{pattern} {}", path.escape_ascii());
        }
        assert!(Pattern::parse("[a").is_err());
    }
}
