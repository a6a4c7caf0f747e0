//! Packs into files: each pack is fetched once, its hash compared, and every chunk that a file needs is named again
//! before it is written. Several packs at once; each holds its sealed bytes and one frame.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use muster_protocol::causes::causes;
use muster_share::entry::Entry;
use muster_share::layout::ObjectPath;
use muster_share::pack::{PackError, PackReader, Unlock};
use muster_share::verify::{Damage, Fault, Trouble};

use super::outline::{FIRST, Outline, Piece, shown};
use super::plan::{Planned, SafePath};
use super::slice::{Prepared, fetch};
use super::survey::Survey;
use super::write::{FileHandle, WriteError, Writer};
use super::{RecoverError, Request, ServiceOutcome, Watch};

/// A file that is being recovered.
#[derive(Debug)]
pub(super) struct File {
    pub(super) source: usize,
    pub(super) planned: Planned,
    /// Without its extents.
    pub(super) entry: Entry,
    pub(super) state: Mutex<FileState>,
}

/// How far it is.
#[derive(Debug)]
pub(super) struct FileState {
    /// Runs that are not written yet.
    left: usize,
    handle: Option<FileHandle>,
    lost: bool,
}

impl FileState {
    pub(super) fn waiting(pieces: usize) -> Self {
        Self { left: pieces, handle: None, lost: false }
    }

    pub(super) fn lost() -> Self {
        Self { left: 0, handle: None, lost: true }
    }
}

impl File {
    fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, writer: &Writer, at: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let mut state = self.state();
        if state.lost {
            return Ok(());
        }
        if state.handle.is_none() {
            state.handle = writer.make(&self.planned, &self.entry)?;
        }
        match &state.handle {
            Some(handle) => writer.write_at(handle, at, bytes),
            None => Ok(()),
        }
    }

    /// One run is written whole.
    fn done(&self, writer: &Writer) -> Result<(), WriteError> {
        let mut state = self.state();
        state.left = state.left.saturating_sub(1);
        let last = state.left == 0;
        match state.handle.take_if(|_| last) {
            Some(handle) => writer.finish(handle, &self.entry),
            None => Ok(()),
        }
    }

    /// One run cannot be had: the file is left out.
    fn lose(&self, writer: &Writer) -> Result<(), WriteError> {
        let mut state = self.state();
        state.lost = true;
        match state.handle.take() {
            Some(handle) => writer.abandon(handle),
            None => Ok(()),
        }
    }
}

/// Recovers one slice below `folder`, and tells what is damaged.
pub(super) async fn slice(
    request: &Request,
    watch: &Watch,
    slice: Arc<Prepared>,
    survey: Survey,
    folder: &Path,
    report: &mut ServiceOutcome,
) -> Result<Vec<Damage>, RecoverError> {
    let (drawn, counted) = {
        let (slice, folder) = (Arc::clone(&slice), folder.to_owned());
        let mut counted = report.clone();
        let task = tokio::task::spawn_blocking(move || {
            let drawn = Outline::draw(&slice, &survey, &folder, &mut counted);
            (drawn, counted)
        });
        joined(task.await)
    };
    *report = counted;
    let outline = match drawn? {
        Ok(outline) => Arc::new(outline),
        Err(damage) => return Ok(vec![damage]),
    };
    let filled = packs(request, watch, &slice, &outline).await;
    let task = tokio::task::spawn_blocking({
        let (outline, slice) = (Arc::clone(&outline), Arc::clone(&slice));
        let (mut counted, whole) = (report.clone(), filled.is_ok());
        move || {
            let done = finish(&slice, &outline, whole, &mut counted);
            (done, counted)
        }
    });
    let (finished, counted) = joined(task.await);
    *report = counted;
    let mut damaged = outline.damaged.clone();
    damaged.extend(filled?);
    finished?;
    Ok(damaged.into_values().collect())
}

fn joined<T>(task: Result<T, tokio::task::JoinError>) -> T {
    match task {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Goes through all packs; an error is the share's or the target's and ends it.
async fn packs(
    request: &Request,
    watch: &Watch,
    slice: &Arc<Prepared>,
    outline: &Arc<Outline>,
) -> Result<BTreeMap<ObjectPath, Damage>, RecoverError> {
    let mut damaged = BTreeMap::new();
    let numbers: Vec<u64> = outline.packs.keys().copied().collect();
    let mut running = stream::iter(numbers)
        .map(|number| {
            let (slice, outline) = (Arc::clone(slice), Arc::clone(outline));
            async move {
                let pieces = outline.packs[&number].iter().map(|piece| piece.length).sum::<u64>();
                (pieces, one_pack(slice, outline, number).await)
            }
        })
        .buffer_unordered(request.workers.max(1));
    while let Some((bytes, done)) = running.next().await {
        watch.progress.advance(bytes);
        if let Some(damage) = done? {
            damaged.insert(damage.object.clone(), damage);
        }
    }
    Ok(damaged)
}

async fn one_pack(
    slice: Arc<Prepared>,
    outline: Arc<Outline>,
    number: u64,
) -> Result<Option<Damage>, RecoverError> {
    let fetched = match slice.pack(number) {
        Ok((path, pack)) => fetch(slice.store.as_ref(), &path, &pack.id, pack.size).await.map(|b| (path, b)),
        Err(damage) => Err(damage.into()),
    };
    let fetched = match fetched {
        Ok(fetched) => Ok(fetched),
        Err(Trouble::Damaged(damage)) => Err(damage),
        Err(Trouble::Store(error)) => return Err(error.into()),
    };
    let task = tokio::task::spawn_blocking(move || {
        let pieces = &outline.packs[&number];
        match fetched {
            Ok((path, bytes)) => fill(&slice, &outline, pieces, &path, &bytes),
            Err(damage) => {
                pieces.iter().try_for_each(|piece| lose(&outline, piece))?;
                Ok(Some(damage))
            }
        }
    });
    joined(task.await).map_err(RecoverError::from)
}

fn lose(outline: &Outline, piece: &Piece) -> Result<(), WriteError> {
    let file = &outline.files[piece.file as usize];
    file.lose(&outline.writers[&file.source])
}

/// Why a pack's chunks are not gone through to the end.
enum Stop {
    Write(WriteError),
    /// A chunk that is needed does not have its name.
    Chunk(PackError),
}

/// Writes the runs that lie in one pack. Whatever cannot be had loses its file.
fn fill(
    slice: &Prepared,
    outline: &Outline,
    pieces: &[Piece],
    path: &ObjectPath,
    bytes: &Bytes,
) -> Result<Option<Damage>, WriteError> {
    let opening = slice.opening();
    let mut left: Vec<u64> = pieces.iter().map(|piece| piece.length).collect();
    let mut stop = None;
    let read = PackReader::open(bytes, None, Unlock::Identities(opening.keys)).and_then(|pack| {
        if pack.context() != opening.context {
            return Err(PackError::Contents { what: "it is sealed for another service or keyset" });
        }
        // Runs that begin before the chunk's end and are not whole yet; runs may overlap, where content came twice.
        let (mut next, mut active) = (0, Vec::<usize>::new());
        pack.for_each_chunk(|start, id, chunk| {
            let end = start + chunk.len() as u64;
            while next < pieces.len() && pieces[next].offset < end {
                active.push(next);
                next += 1;
            }
            if active.is_empty() {
                return Ok(());
            }
            if opening.chunk_key.id(chunk) != id {
                stop = Some(Stop::Chunk(PackError::Chunk { id }));
                return Err(PackError::Chunk { id });
            }
            for at in std::mem::take(&mut active) {
                let piece = &pieces[at];
                let (from, to) = (piece.offset.max(start), (piece.offset + piece.length).min(end));
                let within = |place: u64| usize::try_from(place - start).expect("it lies within the chunk");
                let file = &outline.files[piece.file as usize];
                let writer = &outline.writers[&file.source];
                left[at] -= to - from;
                let written = file
                    .write(writer, piece.at + (from - piece.offset), &chunk[within(from)..within(to)])
                    .and_then(|()| if left[at] == 0 { file.done(writer) } else { Ok(()) });
                if let Err(error) = written {
                    stop = Some(Stop::Write(error));
                    return Err(PackError::Chunk { id });
                }
                if left[at] > 0 {
                    active.push(at);
                }
            }
            Ok(())
        })
    });
    let fault = match (stop, read) {
        (Some(Stop::Write(error)), _) => return Err(error),
        (Some(Stop::Chunk(error)), _) | (None, Err(error)) => Some(causes(&error)),
        (None, Ok(())) => None,
    };
    let mut short = false;
    for (piece, _) in pieces.iter().zip(&left).filter(|(_, left)| **left > 0) {
        short = true;
        lose(outline, piece)?;
    }
    let of_pack = |why| Damage::new(path.clone(), Fault::Content { why });
    Ok(match fault {
        Some(why) => Some(of_pack(why)),
        None if short => Some(slice.damage(format!("a file needs more of {path} than it has"))),
        None => None,
    })
}

/// Hard links, then folders, and the count. After an error, only what was begun is removed.
fn finish(
    slice: &Prepared,
    outline: &Outline,
    whole: bool,
    report: &mut ServiceOutcome,
) -> Result<(), WriteError> {
    let name = |source: usize| slice.index.sources[source].name.as_str();
    let mut lost: HashSet<(usize, Vec<u8>)> = HashSet::new();
    let mut lose = |source: usize, path: &SafePath, report: &mut ServiceOutcome| {
        report.lost += 1;
        if report.first_lost.len() < FIRST {
            report.first_lost.push(shown(name(source), path.as_bytes()));
        }
        lost.insert((source, path.as_bytes().to_vec()));
    };
    for file in &outline.files {
        let mut state = file.state();
        if let Some(handle) = state.handle.take() {
            outline.writers[&file.source].abandon(handle)?;
            state.lost = true;
        }
        if state.lost || state.left > 0 {
            lose(file.source, &file.planned.path, report);
        } else {
            report.files += 1;
            report.bytes += file.entry.size;
        }
    }
    if !whole {
        return Ok(());
    }
    for (source, planned, target) in &outline.links {
        if lost.contains(&(*source, target.clone())) {
            report.lost += 1;
            lost.insert((*source, planned.path.as_bytes().to_vec()));
            continue;
        }
        let target = SafePath::parse(target).expect("it is the path of an entry that was planned");
        outline.writers[source].hard_link(&planned.path, &target)?;
        report.files += 1;
    }
    for (source, writer) in &outline.writers {
        writer.finish_directories()?;
        let (warnings, more) = writer.warnings();
        let told = warnings.into_iter().map(|w| (shown(name(*source), w.path.as_bytes()), w.what));
        report.warnings.extend(told);
        report.more_warnings += more;
    }
    Ok(())
}
