//! What of one opened slice is wanted, and its writing: the same reading and the same writer as for a recovery, for one
//! service and to any places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_protocol::ids::{ObjectId, RoundId};
use muster_share::entry::{Entry, Extent, Kind};
use muster_share::layout::ObjectPath;
use muster_share::lists::IndexedSource;
use muster_share::pack::PackContext;
use muster_share::verify::{Damage, Progress};
use tokio::sync::Semaphore;

use super::conduct::Conductor;
use super::existing::{Existing, Meeting};
use super::fill::{Filler, SEALED_BYTES_MAX};
use super::filter::Filter;
use super::roots::Roots;
use super::slice::Slice;
use super::stop::{Halt, Stop};
use super::survey::Survey;
use super::write::Writer;
use super::write::owner::Owners;
use super::{RecoverError, ServiceOutcome, blocking, failure};

/// What of a slice is wanted.
#[derive(Debug)]
pub struct Selection {
    slice: Arc<Slice>,
    survey: Survey,
}

impl Selection {
    /// Reads all entries once; none when nothing lies at or below `path`.
    ///
    /// # Errors
    /// When the entries are damaged or the share fails.
    pub async fn take(slice: Arc<Slice>, path: Option<Vec<u8>>) -> Result<Option<Self>, RecoverError> {
        let surveyed = Arc::clone(&slice);
        let survey = blocking(move || Survey::take(&surveyed, Filter::new(path), &Stop::default())).await;
        let survey = survey.map_err(|halt| failure(halt, &slice))?;
        Ok(survey.has_any().then_some(Self { slice, survey }))
    }

    /// The packs that it needs, those of the entries among them. Reads all entries again.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub async fn packs(self) -> Result<Vec<(ObjectPath, ObjectId, u64)>, RecoverError> {
        let slice = Arc::clone(&self.slice);
        let numbers = blocking(move || {
            let mut numbers = BTreeSet::new();
            let mut note = |extents: &[Extent]| {
                for extent in extents {
                    if let Extent::Data { pack, .. } = extent {
                        numbers.insert(*pack);
                    }
                }
            };
            note(&self.slice.index.entries);
            self.slice.each_planned::<Halt>(|at, source, entry| {
                if self.survey.filter.selects(source.name.as_str(), &entry.path)
                    || self.survey.needed.contains(&(at, entry.path.clone()))
                {
                    note(&entry.extents);
                }
                Ok(())
            })?;
            let packs = numbers.into_iter().map(|number| self.slice.pack(number));
            packs.collect::<Result<Vec<_>, Damage>>().map_err(|damage| Halt::Trouble(damage.into()))
        })
        .await
        .map_err(|halt| failure(halt, &slice))?;
        Ok(numbers.into_iter().map(|(path, pack)| (path, pack.id, pack.size)).collect())
    }

    /// Bytes of the selected files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.survey.bytes
    }

    /// Pack lists that could not be read.
    #[must_use]
    pub fn damaged(&self) -> &[Damage] {
        &self.slice.damaged
    }

    /// The sources of which something is selected, with their numbers.
    pub fn sources(&self) -> impl Iterator<Item = (usize, &IndexedSource)> {
        let open = self.survey.filter.is_open();
        let sources = self.slice.index.sources.iter().enumerate();
        sources.filter(move |(number, _)| open || self.survey.sources.contains(number))
    }

    /// For each source of two entries, its root and what lies in it: such a source may have been a single file. Reads
    /// all entries again if there is one.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) async fn pairs(&self) -> Result<BTreeMap<usize, (Entry, Entry)>, RecoverError> {
        if self.sources().all(|(_, source)| source.entries != 2) {
            return Ok(BTreeMap::new());
        }
        let slice = Arc::clone(&self.slice);
        let pairs = blocking(move || {
            let (mut pairs, mut first) = (BTreeMap::new(), None);
            slice.each_planned::<Halt>(|at, source, entry| {
                if source.entries == 2 {
                    match first.take() {
                        Some(root) => drop(pairs.insert(at, (root, entry))),
                        None => first = Some(entry),
                    }
                }
                Ok(())
            })?;
            Ok(pairs)
        });
        pairs.await.map_err(|halt| failure(halt, &self.slice))
    }

    /// Writes what is selected of these sources. What is damaged is left out and told.
    ///
    /// # Errors
    /// When the share or the target fails; what was begun is not finished.
    pub(crate) async fn write(
        self: &Arc<Self>,
        sources: BTreeSet<usize>,
        places: Roots,
        existing: Existing,
        progress: &Arc<Progress>,
        workers: usize,
    ) -> Result<(ServiceOutcome, Vec<Damage>), RecoverError> {
        let (this, progress) = (Arc::clone(self), Arc::clone(progress));
        let (done, report) = blocking(move || {
            let meeting = match existing {
                Existing::Refuse => Meeting::Fresh,
                Existing::Keep => Meeting::Keep,
                Existing::Replace => Meeting::Replace,
            };
            let (stop, owners) = (Stop::default(), Owners::load());
            let writer = Writer::new(meeting, *this.slice.receipt.round.as_bytes());
            let filler = Filler {
                slice: &this.slice,
                writer: &writer,
                progress: &progress,
                stop: &stop,
                workers,
                budget: Arc::new(Semaphore::new(usize::try_from(SEALED_BYTES_MAX / 1024).unwrap_or(1))),
            };
            let mut report = ServiceOutcome::default();
            let survey = this.survey.only(sources);
            let done = Conductor::new(filler, &survey, &owners, &places, &mut report).run();
            (done, report)
        })
        .await;
        done.map(|damaged| (report, damaged)).map_err(|halt| failure(halt, &self.slice))
    }
}

impl Slice {
    /// All its packs.
    pub fn all_packs(&self) -> Vec<(ObjectPath, ObjectId, u64)> {
        let service = &self.receipt.service;
        let path = |id| ObjectPath::Pack { service: service.clone(), id };
        self.listed().map(|pack| (path(pack.id), pack.id, pack.size)).collect()
    }

    /// The name of its receipt.
    #[must_use]
    pub fn receipt_id(&self) -> ObjectId {
        self.receipt_id
    }

    /// Its round.
    #[must_use]
    pub fn round(&self) -> RoundId {
        self.receipt.round
    }

    /// Its index.
    #[must_use]
    pub fn index_object(&self) -> (ObjectPath, ObjectId, u64) {
        (self.index_path.clone(), self.receipt.index.id, self.receipt.index.size)
    }

    /// What everything in it says of itself.
    #[must_use]
    pub fn sealed_context(&self) -> &PackContext {
        self.opening().context
    }
}

/// Whether a `files` source of these two entries was one file, named as the source's path is, and no folder: its root
/// was made up of the file then.
pub(crate) fn was_single(root: &Entry, file: &Entry, path: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let made_up = crate::source::made_up_root(file);
    let name = path.file_name().map(OsStrExt::as_bytes);
    file.kind == Kind::File
        && name == Some(file.path.as_slice())
        && (root.mode, root.mtime_secs, root.mtime_nanos, root.uid, root.gid)
            == (made_up.mode, made_up.mtime_secs, made_up.mtime_nanos, made_up.uid, made_up.gid)
}
