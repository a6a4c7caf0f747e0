//! The second look: folders, links and devices are made, files are planned by the packs that they need.
//!
//! In memory: 32 bytes for each run of a file's bytes, and each file's entry without its extents (about 200 bytes and
//! its path) until the slice is done.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Mutex;

use muster_share::entry::{Entry, Extent, Gap};
use muster_share::layout::ObjectPath;
use muster_share::verify::{Damage, Trouble};
use serde_bytes::ByteBuf;

use super::fill::{File, FileState};
use super::plan::{Planned, Planner, Step};
use super::slice::Prepared;
use super::survey::Survey;
use super::write::{WriteError, Writer};
use super::{RecoverError, ServiceOutcome};

/// How many paths of a kind are kept for the report.
pub(super) const FIRST: usize = 5;

/// A run of a file's bytes within a pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// Plain offset in the pack.
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Which file.
    pub(super) file: u32,
    /// Where in the file.
    pub(super) at: u64,
}

/// What is left to do once folders and links are made.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// A writer for each source of which something is selected.
    pub(super) writers: BTreeMap<usize, Writer>,
    pub(super) files: Vec<File>,
    /// Pieces by pack number, sorted by offset.
    pub(super) packs: BTreeMap<u64, Vec<Piece>>,
    /// Hard links, to be made when their files are done.
    pub(super) links: Vec<(usize, Planned, Vec<u8>)>,
    /// What keeps files from being planned at all.
    pub(super) damaged: BTreeMap<ObjectPath, Damage>,
}

/// A file outside of the filter that a selected link needs, and under which name its content went out.
type StandIn = (Entry, Option<Vec<u8>>);

/// Why outlining stops: the slice's entries, or the target.
#[derive(Debug)]
pub(super) enum Stop {
    Trouble(Trouble),
    Write(WriteError),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl Outline {
    /// Makes the sources' folders below `folder` and plans their files. Blocks.
    pub(super) fn draw(
        slice: &Prepared,
        survey: &Survey,
        folder: &Path,
        report: &mut ServiceOutcome,
    ) -> Result<Result<Self, Damage>, RecoverError> {
        let mut here = Self::default();
        let mut planner = (usize::MAX, Planner::new());
        let mut stand_ins: HashMap<(usize, Vec<u8>), StandIn> = HashMap::new();
        let drawn = slice.each_entry::<Stop>(|source, indexed, mut entry| {
            let name = indexed.name.as_str();
            if !survey.sources.contains(&source) {
                return Ok(());
            }
            if planner.0 != source {
                planner = (source, Planner::new());
                here.writers.insert(source, Writer::create(&folder.join(name))?);
            }
            if !survey.filter.selects(name, &entry.path) {
                if survey.needed.contains(&(source, entry.path.clone())) {
                    stand_ins.insert((source, entry.path.clone()), (entry, None));
                    return Ok(());
                }
                if !survey.filter.leads_to(name, &entry) {
                    return Ok(());
                }
            }
            if let Some(file) = survey.links.get(&(source, entry.path.clone())) {
                match stand_ins.get_mut(&(source, file.clone())) {
                    Some((content, went_out @ None)) => {
                        *went_out = Some(entry.path.clone());
                        entry = Entry { path: entry.path, ..content.clone() };
                    }
                    Some((_, Some(first))) => entry.hard_link = Some(ByteBuf::from(first.clone())),
                    None => entry.hard_link = Some(ByteBuf::from(file.clone())),
                }
            }
            let planned = planner.1.admit(&entry).map_err(|e| Trouble::from(slice.damage(e.to_string())))?;
            here.take(slice, source, name, planned, entry, report)
        });
        match drawn {
            Ok(()) => {}
            Err(Stop::Trouble(Trouble::Damaged(damage))) => return Ok(Err(damage)),
            Err(Stop::Trouble(Trouble::Store(error))) => return Err(error.into()),
            Err(Stop::Write(error)) => return Err(error.into()),
        }
        for pieces in here.packs.values_mut() {
            pieces.sort_unstable_by_key(|piece| piece.offset);
        }
        Ok(Ok(here))
    }

    fn take(
        &mut self,
        slice: &Prepared,
        source: usize,
        name: &str,
        planned: Planned,
        mut entry: Entry,
        report: &mut ServiceOutcome,
    ) -> Result<(), Stop> {
        if let Some(gap) = entry.gap {
            report.gaps += 1;
            if report.first_gaps.len() < FIRST {
                report.first_gaps.push((shown(name, &entry.path), describe(gap)));
            }
        }
        let writer = &self.writers[&source];
        match &planned.step {
            Step::HardLink { target } => {
                let target = target.as_bytes().to_vec();
                self.links.push((source, planned, target));
            }
            Step::File => {
                let extents = std::mem::take(&mut entry.extents);
                let pieces = match self.pieces(slice, &extents) {
                    Ok(pieces) => pieces,
                    Err(damage) => {
                        self.damaged.insert(damage.object.clone(), damage);
                        let state = Mutex::new(FileState::lost());
                        self.files.push(File { source, planned, entry, state });
                        return Ok(());
                    }
                };
                if pieces.is_empty() {
                    if let Some(handle) = writer.make(&planned, &entry)? {
                        writer.finish(handle, &entry)?;
                    }
                    report.files += 1;
                    report.bytes += entry.size;
                    return Ok(());
                }
                let state = Mutex::new(FileState::waiting(pieces.len()));
                for (pack, piece) in pieces {
                    self.packs.entry(pack).or_default().push(piece);
                }
                self.files.push(File { source, planned, entry, state });
            }
            Step::Missing(_) => {}
            Step::Directory
            | Step::Symlink { .. }
            | Step::Fifo
            | Step::CharDevice { .. }
            | Step::BlockDevice { .. } => {
                writer.make(&planned, &entry)?;
                report.others += 1;
            }
        }
        Ok(())
    }

    /// The runs of the file that comes next.
    fn pieces(&self, slice: &Prepared, extents: &[Extent]) -> Result<Vec<(u64, Piece)>, Damage> {
        let too_many = || slice.damage("it has more files than can be recovered at once".to_owned());
        let file = u32::try_from(self.files.len()).map_err(|_| too_many())?;
        let mut pieces = Vec::with_capacity(extents.len());
        let mut at = 0;
        for extent in extents {
            if let Extent::Data { pack, offset, length } = *extent
                && length > 0
            {
                slice.pack(pack)?;
                if offset.checked_add(length).is_none() {
                    return Err(slice.damage("an extent ends beyond any pack".to_owned()));
                }
                pieces.push((pack, Piece { offset, length, file, at }));
            }
            at += extent.length();
        }
        Ok(pieces)
    }
}

/// A path as reports have it: with its source before it.
pub(super) fn shown(source: &str, path: &[u8]) -> Vec<u8> {
    [source.as_bytes(), b"/", path].concat()
}

fn describe(gap: Gap) -> String {
    match gap {
        Gap::Changed => "it changed while it was captured".to_owned(),
        Gap::Unreadable(errno) => {
            format!("it could not be captured: {}", std::io::Error::from_raw_os_error(errno))
        }
        Gap::Vanished => "it was gone when it was to be captured".to_owned(),
        Gap::Skipped => "its kind is not captured".to_owned(),
        Gap::Attributes(errno) => {
            let error = std::io::Error::from_raw_os_error(errno);
            format!("some of its extended attributes could not be captured: {error}")
        }
    }
}
