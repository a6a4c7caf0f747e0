//! The first look through a slice's entries: every one must be plannable before anything is written, and what a filter
//! selects is found. Holds nothing of what it has passed, but for the files that a filter cuts off their hard links.

use std::collections::{BTreeSet, HashSet};

use muster_share::entry::Entry;
use muster_share::verify::Trouble;

use super::filter::Filter;
use super::slice::Slice;
use super::stop::{Halt, Stop};

/// Most bytes of paths of files that a selected hard link needs and that are not selected themselves.
pub(super) const CUT_LINKS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the survey learned.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) filter: Filter,
    /// Sources of which something is selected.
    pub(super) sources: BTreeSet<usize>,
    /// Bytes of the selected files.
    pub(super) bytes: u64,
    /// Files that are not selected, but which a selected hard link needs.
    pub(super) needed: HashSet<(usize, Vec<u8>)>,
    needed_bytes: usize,
}

impl Survey {
    /// Reads all entries once.
    pub(super) fn take(slice: &Slice, filter: Filter, stop: &Stop) -> Result<Self, Halt> {
        let here = Self::of(slice, filter.clone(), stop)?;
        if here.has_any() { Ok(here) } else { Self::of(slice, filter.within_sources(), stop) }
    }

    /// The same of these sources alone.
    pub(super) fn only(&self, sources: BTreeSet<usize>) -> Self {
        Self {
            filter: self.filter.clone(),
            sources,
            bytes: self.bytes,
            needed: self.needed.clone(),
            needed_bytes: self.needed_bytes,
        }
    }

    /// Whether anything is selected.
    pub(super) fn has_any(&self) -> bool {
        self.filter.is_open() || !self.sources.is_empty()
    }

    fn of(slice: &Slice, filter: Filter, stop: &Stop) -> Result<Self, Halt> {
        let mut here =
            Self { filter, sources: BTreeSet::new(), bytes: 0, needed: HashSet::new(), needed_bytes: 0 };
        let mut names = HashSet::new();
        if let Some(twice) = slice.index.sources.iter().find(|source| !names.insert(&source.name)) {
            return Err(
                Trouble::from(slice.damage(format!("it has two sources named {}", twice.name))).into()
            );
        }
        slice.each_planned::<Halt>(|source, indexed, entry| {
            stop.check()?;
            here.note(source, indexed.name.as_str(), &entry)
        })?;
        Ok(here)
    }

    fn note(&mut self, source: usize, name: &str, entry: &Entry) -> Result<(), Halt> {
        if !self.filter.selects(name, &entry.path) {
            return Ok(());
        }
        self.sources.insert(source);
        self.bytes = self.bytes.saturating_add(entry.size);
        let Some(target) = entry.hard_link.as_ref().filter(|file| !self.filter.selects(name, file)) else {
            return Ok(());
        };
        if self.needed.insert((source, target.to_vec())) {
            self.needed_bytes += target.len() + 64;
        }
        if self.needed_bytes > CUT_LINKS_BYTES_MAX { Err(Halt::CutLinks) } else { Ok(()) }
    }
}
