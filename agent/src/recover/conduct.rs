//! The second look: entries one after the other into folders, links and batches of files.
//!
//! Memory is one batch and the folders that are not left yet. A folder gets its mode, owner and times when nothing more
//! is made in it: after the batch in which it was left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use muster_share::entry::{Entry, Extent, Gap};
use muster_share::layout::ObjectPath;
use muster_share::lists::IndexedSource;
use muster_share::verify::{Damage, Trouble};
use serde_bytes::ByteBuf;

use super::ServiceOutcome;
use super::batch::{Batch, FileState, FileTask, LinkTask, Piece};
use super::existing::Verdict;
use super::fill::Filler;
use super::path::SafePath;
use super::plan::{Planned, Planner, Step};
use super::roots::Roots;
use super::stop::Halt;
use super::survey::{CUT_LINKS_BYTES_MAX, Survey};
use super::write::owner::Owners;
use super::write::{Folder, FolderMade, Linked, OpenFolders, Published, Root};

/// How many paths of a kind are kept for the report.
const FIRST: usize = 5;

/// Where a slice goes.
#[derive(Debug)]
pub(super) struct Conductor<'a> {
    filler: Filler<'a>,
    survey: &'a Survey,
    owners: &'a Owners,
    /// Where the folders of its sources lie.
    places: &'a Roots,
    report: &'a mut ServiceOutcome,
    /// The source that is gone through, and its number.
    source: Option<(usize, Arc<Root>)>,
    roots: Vec<Arc<Root>>,
    planner: Planner,
    open: OpenFolders,
    /// Folders that are not left yet, the source's own first.
    folders: Vec<(Arc<Folder>, Option<Entry>)>,
    batch: Batch,
    /// Files outside of the filter that a selected link needs, and under which name their content went out.
    stand_ins: HashMap<Vec<u8>, (Entry, Option<Vec<u8>>)>,
    stand_in_bytes: usize,
    damaged: BTreeMap<ObjectPath, Damage>,
}

impl<'a> Conductor<'a> {
    pub(super) fn new(
        filler: Filler<'a>,
        survey: &'a Survey,
        owners: &'a Owners,
        places: &'a Roots,
        report: &'a mut ServiceOutcome,
    ) -> Self {
        Self {
            filler,
            survey,
            owners,
            places,
            report,
            source: None,
            roots: Vec::new(),
            planner: Planner::new(),
            open: OpenFolders::default(),
            folders: Vec::new(),
            batch: Batch::default(),
            stand_ins: HashMap::new(),
            stand_in_bytes: 0,
            damaged: BTreeMap::new(),
        }
    }

    /// Recovers the slice, and tells what is damaged. Blocks.
    ///
    /// # Errors
    /// The share's or the target's; what was begun is not finished.
    pub(super) fn run(mut self) -> Result<Vec<Damage>, Halt> {
        let slice = Arc::clone(self.filler.slice);
        let gone = slice.each_entry::<Halt>(|source, indexed, entry| self.entry(source, indexed, entry));
        let done = match gone {
            // The survey has read it all a moment ago. What came before is recovered all the same.
            Err(Halt::Trouble(Trouble::Damaged(damage))) => {
                self.damaged.insert(damage.object.clone(), damage);
                Ok(())
            }
            gone => gone,
        };
        let done = done.and_then(|()| {
            self.leave_all();
            self.finish_batch()?;
            self.roots.iter().try_for_each(|root| Ok(self.filler.writer.flush(root)?))
        });
        (self.report.warnings, self.report.more_warnings) = self.filler.writer.warnings();
        self.report.owners_left = self.filler.writer.owners_left();
        done.map(|()| self.damaged.into_values().collect())
    }

    fn entry(&mut self, source: usize, indexed: &IndexedSource, mut entry: Entry) -> Result<(), Halt> {
        self.filler.stop.check()?;
        let name = indexed.name.as_str();
        if !self.survey.sources.contains(&source) {
            return Ok(());
        }
        if self.source.as_ref().is_none_or(|(current, _)| *current != source) {
            self.leave_all();
            let root = self.places.open(self.filler.writer, name)?;
            self.roots.push(Arc::clone(&root));
            self.source = Some((source, root));
            self.planner = Planner::new();
            self.stand_ins.clear();
        }
        if !self.survey.filter.selects(name, &entry.path) {
            if self.survey.needed.contains(&(source, entry.path.clone())) {
                return self.stand_in(entry);
            }
            if !self.survey.filter.leads_to(name, &entry) {
                return Ok(());
            }
        }
        if let Some((content, went_out)) =
            entry.hard_link.as_ref().and_then(|target| self.stand_ins.get_mut(target.as_slice()))
        {
            match went_out {
                Some(first) => entry.hard_link = Some(ByteBuf::from(first.clone())),
                None => {
                    *went_out = Some(entry.path.clone());
                    entry = Entry { path: entry.path, ..content.clone() };
                }
            }
        }
        let planned =
            self.planner.admit(&entry).map_err(|e| Trouble::from(self.filler.slice.damage(e.to_string())))?;
        if let Some(gap) = entry.gap {
            self.report.gaps += 1;
            if self.report.first_gaps.len() < FIRST {
                self.report.first_gaps.push((shown(name, &entry.path), describe(gap)));
            }
        }
        self.take(planned, entry)?;
        if self.batch.is_full() { self.finish_batch() } else { Ok(()) }
    }

    fn stand_in(&mut self, entry: Entry) -> Result<(), Halt> {
        self.stand_in_bytes += size_of::<Entry>() + entry.extents.len() * size_of::<Extent>();
        if self.stand_in_bytes > CUT_LINKS_BYTES_MAX {
            return Err(Halt::CutLinks);
        }
        self.stand_ins.insert(entry.path.clone(), (entry, None));
        Ok(())
    }

    fn take(&mut self, planned: Planned, mut entry: Entry) -> Result<(), Halt> {
        self.owners.resolve(&mut entry);
        let Planned { path, step } = planned;
        let Some((parent, name)) = path.split() else { return self.take_root(entry) };
        while self.folders.last().is_some_and(|(folder, _)| folder.path != parent) {
            self.leave();
        }
        let (folder, _) = self.folders.last().expect("the plan begins with the root");
        let (folder, name) = (Arc::clone(folder), name.to_vec());
        entry.path = Vec::new();
        match step {
            Step::Missing(_) => Ok(()),
            Step::Directory => self.take_folder(&folder, &path, &name, entry),
            Step::File | Step::HardLink { .. } | Step::Symlink { .. } | Step::Fifo if folder.blocked => {
                self.report.blocked += 1;
                self.filler.progress.advance(entry.size);
                Ok(())
            }
            Step::CharDevice { .. } | Step::BlockDevice { .. } if folder.blocked => {
                self.report.blocked += 1;
                Ok(())
            }
            Step::HardLink { target } => {
                self.batch.link(LinkTask { folder, name, target });
                Ok(())
            }
            Step::File => self.take_file(folder, name, entry),
            Step::Symlink { .. } | Step::Fifo | Step::CharDevice { .. } | Step::BlockDevice { .. } => {
                self.take_node(&folder, &name, &step, &entry)
            }
        }
    }

    fn take_root(&mut self, entry: Entry) -> Result<(), Halt> {
        let (_, root) = self.source.as_ref().expect("it was opened before");
        let folder = Folder { root: Arc::clone(root), path: Vec::new(), blocked: false };
        if root.stays {
            self.report.kept += 1;
        } else {
            self.report.others += 1;
        }
        let dressed = (!root.stays).then_some(entry);
        self.folders.push((Arc::new(folder), dressed));
        Ok(())
    }

    fn take_folder(
        &mut self,
        parent: &Arc<Folder>,
        path: &SafePath,
        name: &[u8],
        entry: Entry,
    ) -> Result<(), Halt> {
        let made = if parent.blocked {
            FolderMade::Blocked
        } else {
            self.filler.writer.make_folder(&mut self.open, parent.place(name))?
        };
        let blocked = made == FolderMade::Blocked;
        match made {
            FolderMade::Dress => self.report.others += 1,
            FolderMade::Stays => self.report.kept += 1,
            FolderMade::Blocked => self.report.blocked += 1,
        }
        let folder = Folder { root: Arc::clone(&parent.root), path: path.as_bytes().to_vec(), blocked };
        self.folders.push((Arc::new(folder), (made == FolderMade::Dress).then_some(entry)));
        Ok(())
    }

    fn take_file(&mut self, folder: Arc<Folder>, name: Vec<u8>, mut entry: Entry) -> Result<(), Halt> {
        match self.filler.writer.verdict(&mut self.open, folder.place(&name), &entry)? {
            Verdict::Make => {}
            Verdict::Stays => {
                self.report.kept += 1;
                self.filler.progress.advance(entry.size);
                return Ok(());
            }
            Verdict::InTheWay => {
                self.report.blocked += 1;
                self.filler.progress.advance(entry.size);
                return Ok(());
            }
        }
        let extents = std::mem::take(&mut entry.extents);
        let pieces = self.pieces(&extents);
        let task = FileTask::new(folder, name, entry);
        match pieces {
            Ok(pieces) => self.batch.file(task, &pieces),
            Err(damage) => {
                self.damaged.insert(damage.object.clone(), damage);
                task.set(FileState::Lost);
                self.batch.file(task, &[]);
            }
        }
        Ok(())
    }

    fn take_node(
        &mut self,
        folder: &Arc<Folder>,
        name: &[u8],
        step: &Step,
        entry: &Entry,
    ) -> Result<(), Halt> {
        let writer = self.filler.writer;
        match writer.verdict(&mut self.open, folder.place(name), entry)? {
            Verdict::Make => match writer.make_node(&mut self.open, folder.place(name), step, entry)? {
                Some(Published::Done) => self.report.others += 1,
                Some(Published::Stays) => self.report.kept += 1,
                Some(Published::InTheWay) => self.report.blocked += 1,
                None => {}
            },
            Verdict::Stays => self.report.kept += 1,
            Verdict::InTheWay => self.report.blocked += 1,
        }
        Ok(())
    }

    fn pieces(&self, extents: &[Extent]) -> Result<Vec<(u64, Piece)>, Damage> {
        let mut pieces = Vec::with_capacity(extents.len());
        let mut at = 0;
        for extent in extents {
            if let Extent::Data { pack, offset, length } = *extent
                && length > 0
            {
                self.filler.slice.pack(pack)?;
                if offset.checked_add(length).is_none() {
                    return Err(self.filler.slice.damage("an extent ends beyond any pack".to_owned()));
                }
                // The batch knows which file it is.
                pieces.push((pack, Piece { offset, length, file: 0, at }));
            }
            at += extent.length();
        }
        Ok(pieces)
    }

    fn leave(&mut self) {
        if let Some((folder, Some(entry))) = self.folders.pop() {
            self.batch.folder(folder, entry);
        }
    }

    fn leave_all(&mut self) {
        while !self.folders.is_empty() {
            self.leave();
        }
    }

    /// Files, then hard links, then folders that were left.
    fn finish_batch(&mut self) -> Result<(), Halt> {
        let mut batch = std::mem::take(&mut self.batch);
        let filled = self.filler.fill(&mut batch);
        for task in &batch.files {
            self.count(task);
        }
        self.damaged.extend(filled?);
        for link in &batch.links {
            self.filler.stop.check()?;
            self.link(link)?;
        }
        for (folder, entry) in &batch.folders {
            self.filler.stop.check()?;
            self.filler.writer.finish_folder(folder, entry)?;
        }
        Ok(())
    }

    fn count(&mut self, task: &FileTask) {
        self.filler.progress.advance(task.entry.size - task.data_bytes);
        match task.state() {
            FileState::Done => {
                self.report.files += 1;
                self.report.bytes += task.entry.size;
            }
            FileState::Stays => self.report.kept += 1,
            FileState::InTheWay => self.report.blocked += 1,
            FileState::Waiting | FileState::Lost => self.lose(&task.folder, &task.name),
        }
    }

    fn lose(&mut self, folder: &Folder, name: &[u8]) {
        self.report.lost += 1;
        if self.report.first_lost.len() < FIRST {
            self.report.first_lost.push(folder.shown(name));
        }
    }

    fn link(&mut self, link: &LinkTask) -> Result<(), Halt> {
        let LinkTask { folder, name, target } = link;
        match self.filler.writer.hard_link(&mut self.open, folder.place(name), target)? {
            Linked::Done(Published::Done) => self.report.files += 1,
            Linked::Done(Published::Stays) => self.report.kept += 1,
            Linked::Done(Published::InTheWay) => self.report.blocked += 1,
            Linked::NoTarget => {
                // Whoever lost its file is lost with it; otherwise no such file was ever in the index.
                if self.report.lost == 0 && self.report.blocked == 0 {
                    let path = folder.join(name);
                    let why = format!(
                        "hard link \"{}\" leads to \"{target}\", which is no file of this source",
                        path.escape_ascii()
                    );
                    let damage = self.filler.slice.damage(why);
                    self.damaged.insert(damage.object.clone(), damage);
                }
                self.filler
                    .writer
                    .warn(folder.place(name), "left out: the file it is linked to is not there".to_owned());
                self.lose(folder, name);
            }
        }
        Ok(())
    }
}

/// A path as reports have it: with its source before it.
fn shown(source: &str, path: &[u8]) -> Vec<u8> {
    [source.as_bytes(), b"/", path].concat()
}

fn describe(gap: Gap) -> String {
    let failed = |errno| std::io::Error::from_raw_os_error(errno);
    match gap {
        Gap::Changed => "it changed while it was captured".to_owned(),
        Gap::Unreadable(errno) => format!("it could not be captured: {}", failed(errno)),
        Gap::Vanished => "it was gone when it was to be captured".to_owned(),
        Gap::Skipped => "its kind is not captured".to_owned(),
        Gap::Attributes(errno) => {
            format!("some of its extended attributes could not be captured: {}", failed(errno))
        }
    }
}
