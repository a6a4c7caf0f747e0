//! The first look through a slice's entries: every one must be plannable before anything is written, and what a filter
//! selects is found.

use std::collections::{HashMap, HashSet};

use muster_share::entry::{Entry, Kind};
use muster_share::verify::Trouble;

use super::plan::Planner;
use super::slice::Prepared;

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
    fn is_open(&self) -> bool {
        self.path.is_none()
    }
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// What the survey learned.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) filter: Filter,
    /// Sources of which something is selected.
    pub(super) sources: HashSet<usize>,
    /// Bytes of the selected files.
    pub(super) bytes: u64,
    /// Where a filter cuts hard links apart: every link of each source, and the file that it leads to in the end.
    pub(super) links: HashMap<(usize, Vec<u8>), Vec<u8>>,
    /// Files that are not selected, but which a selected link needs.
    pub(super) needed: HashSet<(usize, Vec<u8>)>,
}

impl Survey {
    /// Reads all entries once.
    pub(super) fn take(slice: &Prepared, filter: Filter) -> Result<Self, Trouble> {
        let mut here = Self::of(slice, filter)?;
        if !here.filter.is_open() && !here.has_any() {
            here = Self::of(slice, Filter { within_sources: true, ..here.filter })?;
        }
        Ok(here)
    }

    /// Whether anything is selected.
    pub(super) fn has_any(&self) -> bool {
        self.filter.is_open() || !self.sources.is_empty()
    }

    fn of(slice: &Prepared, filter: Filter) -> Result<Self, Trouble> {
        let mut here =
            Self { filter, sources: HashSet::new(), bytes: 0, links: HashMap::new(), needed: HashSet::new() };
        let mut planner = (usize::MAX, Planner::new());
        slice.each_entry::<Trouble>(|source, indexed, entry| {
            if planner.0 != source {
                planner = (source, Planner::new());
            }
            planner.1.admit(&entry).map_err(|error| slice.damage(error.to_string()))?;
            here.note(source, indexed.name.as_str(), &entry);
            Ok(())
        })?;
        Ok(here)
    }

    fn note(&mut self, source: usize, name: &str, entry: &Entry) {
        let selected = self.filter.selects(name, &entry.path);
        if selected {
            self.sources.insert(source);
            self.bytes += entry.size;
        }
        let Some(target) = entry.hard_link.as_ref().filter(|_| !self.filter.is_open()) else { return };
        let target = target.to_vec();
        let file = self.links.get(&(source, target.clone())).cloned().unwrap_or(target);
        if selected && !self.filter.selects(name, &file) {
            self.needed.insert((source, file.clone()));
        }
        self.links.insert((source, entry.path.clone()), file);
    }
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
