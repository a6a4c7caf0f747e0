//! `--path`: what of a slice is selected.

use muster_share::entry::{Entry, Kind};

/// Only what lies at or below a path. The path is meant as the recovered folders have it, `<source>/…`; if nothing is
/// there, within every source.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    path: Option<Vec<u8>>,
    within_sources: bool,
}

impl Filter {
    pub(super) fn new(path: Option<Vec<u8>>) -> Self {
        let path = path.map(|path| {
            let mut path = path.as_slice();
            while let Some(rest) = path.strip_prefix(b"./") {
                path = rest;
            }
            while let Some(rest) = path.strip_suffix(b"/") {
                path = rest;
            }
            if path == b"." { Vec::new() } else { path.to_vec() }
        });
        Self { path, within_sources: false }
    }

    /// The same path, within every source.
    pub(super) fn within_sources(self) -> Self {
        Self { within_sources: true, ..self }
    }

    fn full(&self, source: &str, path: &[u8]) -> Vec<u8> {
        match (self.within_sources, path.is_empty()) {
            (true, _) => path.to_vec(),
            (false, true) => source.as_bytes().to_vec(),
            (false, false) => [source.as_bytes(), b"/", path].concat(),
        }
    }

    /// Whether this entry is selected.
    pub(super) fn selects(&self, source: &str, path: &[u8]) -> bool {
        self.path.as_deref().is_none_or(|wanted| is_at_or_below(&self.full(source, path), wanted))
    }

    /// Whether it is a folder above the path.
    pub(super) fn leads_to(&self, source: &str, entry: &Entry) -> bool {
        let above = |wanted| is_at_or_below(wanted, &self.full(source, &entry.path));
        entry.kind == Kind::Directory && self.path.as_deref().is_some_and(above)
    }

    /// Whether it selects everything.
    pub(super) fn is_open(&self) -> bool {
        self.path.is_none()
    }
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use muster_share::entry::{Entry, Kind};

    #[test]
    fn a_filter_takes_what_lies_below_and_the_folders_above() {
        let folder = |path: &[u8]| Entry::new(path.to_vec(), Kind::Directory, 0o755);
        for given in [&b"files/etc"[..], b"./files/etc/", b"files/etc//"] {
            let filter = Filter::new(Some(given.to_vec()));
            assert!(filter.selects("files", b"etc") && filter.selects("files", b"etc/passwd"));
            assert!(!filter.selects("files", b"etcetera") && !filter.selects("files-2", b"etc"));
            assert!(!filter.selects("files", b"") && filter.leads_to("files", &folder(b"")));
            assert!(!filter.leads_to("files", &folder(b"usr")));
            let within = Filter { within_sources: true, ..filter };
            assert!(within.selects("any", b"files/etc/x") && within.leads_to("any", &folder(b"files")));
        }
        assert!(
            Filter::new(None).selects("files", b"") && Filter::new(Some(b".".to_vec())).selects("a", b"b")
        );
    }
}
