//! The threads of one capture: the caller's walks the sources, the workers read and pack, one assembles.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use muster_share::chunk::ChunkSize;
use muster_share::lists::IndexedSource;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::activity::Activity;
use super::assemble::{Assembled, Assembler, Seeing};
use super::error::EngineError;
use super::feed::Feeder;
use super::fill;
use super::known::Known;
use super::pack::{Lane, Outlet, Packer, Sealing, Upload};
use super::part::Packed;
use super::priority::Priority;
use super::progress::Progress;
use super::queue::Queue;
use super::seen::{Binding, SeenReader};
use super::shared::Halt;
use super::work;
use crate::source::{CaptureContext, Cause, Source, SourceReport, Stopped};

/// The way to the assembler. Never blocks: what may be on its way is bounded by the queue.
pub(super) type Results = Sender<Packed>;

/// Everything that one capture's threads read.
pub(super) struct Run {
    pub(super) sources: Vec<Arc<dyn Source>>,
    pub(super) spool: PathBuf,
    /// Where what was seen of files is kept.
    pub(super) seen: PathBuf,
    /// What was seen is bound to this, what is seen to the next.
    pub(super) binding: Binding,
    pub(super) next_binding: Binding,
    pub(super) workers: usize,
    pub(super) zstd_level: i32,
    pub(super) chunk: ChunkSize,
    pub(super) settle: Duration,
    pub(super) priority: Priority,
    pub(super) sealing: Sealing,
    pub(super) known: Known,
    pub(super) halt: Arc<Halt>,
    pub(super) progress: Arc<Progress>,
}

impl Run {
    /// Nothing more of the sources is needed, unless the capture has failed: then it was not all.
    pub(super) fn sources_read(&self) {
        if self.halt.check().is_ok() {
            self.progress.all_read();
        }
    }
}

/// What the sources gave.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub(super) sources: Vec<IndexedSource>,
    pub(super) source_bytes: u64,
    pub(super) entries: u64,
    pub(super) gaps: u64,
    pub(super) assembled: Assembled,
}

/// Reads, packs and assembles. Blocks; `None` when the capture has been halted. All packs have been handed to `uploads`
/// when it returns.
pub(super) fn run(run: &Run, uploads: mpsc::Sender<Upload>, runtime: Handle) -> Option<Captured> {
    let activities = &run.progress.activities;
    let outlet = Outlet { sealing: &run.sealing, halt: &run.halt, activities, uploads, runtime };
    let (data, entries) = (Lane::new(&outlet, &run.known), Lane::new(&outlet, &run.known));
    let queue = Queue::new(run.workers, fill::buffer_len(run.chunk));
    let (results, packed) = channel();
    let (data, entries, queue) = (&data, &entries, &queue);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..run.workers)
            .map(|_| {
                let results = results.clone();
                scope.spawn(move || guarded(run, || work::work(run, data, queue, &results)))
            })
            .collect();
        let assembler = scope.spawn(move || {
            guarded(run, || {
                let packer = run.halt.keep(Packer::new(entries, run.zstd_level))?;
                let names = run.sources.iter().map(|source| source.name().clone()).collect();
                let seeing = Seeing { folder: &run.seen, binding: &run.next_binding, sources: names };
                let assembled = Assembler::new(packer, &run.halt, seeing).run(&packed, queue)?;
                entries.finish()?;
                Ok(assembled)
            })
        });
        let since = Instant::now();
        let reports = guarded(run, || walk(run, Feeder::new(run, queue, results)));
        activities.did(Activity::Walk, 0, since);
        if queue.end() {
            run.sources_read();
        }
        let worked = workers.into_iter().map(|worker| worker.join().ok().flatten());
        let finished = worked.collect::<Option<Vec<()>>>().and_then(|_| guarded(run, || data.finish()));
        let assembled = assembler.join().ok().flatten();
        finished.and(reports).zip(assembled).map(|(reports, assembled)| captured(run, reports, assembled))
    })
}

/// Runs one thread's part; a panic halts the others, who would wait for it forever.
fn guarded<T>(run: &Run, part: impl FnOnce() -> Result<T, Stopped>) -> Option<T> {
    struct Fuse<'a>(&'a Halt);
    impl Drop for Fuse<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                self.0.fail(EngineError::Crashed);
            }
        }
    }
    let _fuse = Fuse(&run.halt);
    run.priority.apply();
    part().ok()
}

fn walk(run: &Run, mut feeder: Feeder<'_>) -> Result<Vec<SourceReport>, Stopped> {
    let context = CaptureContext { spool: &run.spool, cancel: run.halt.flag() };
    let mut reports = Vec::new();
    for source in &run.sources {
        feeder.start_source(SeenReader::open(&run.seen, source.name(), &run.binding));
        let report = match source.capture(&mut feeder, &context) {
            Ok(report) => report,
            Err(error) => {
                // Sources end so because the engine has stopped; its own reason is the first then.
                let stopped = matches!(*error.cause, Cause::Cancelled | Cause::Stopped(_));
                run.halt.fail(if stopped { EngineError::Cancelled } else { EngineError::Source(error) });
                return Err(Stopped);
            }
        };
        feeder.end_source()?;
        reports.push(report);
    }
    feeder.finish()?;
    Ok(reports)
}

fn captured(run: &Run, reports: Vec<SourceReport>, assembled: Assembled) -> Captured {
    let mut all = Captured::default();
    for ((source, report), tally) in run.sources.iter().zip(reports).zip(&assembled.tallies) {
        all.source_bytes = all.source_bytes.saturating_add(tally.source_bytes);
        all.entries += tally.entries;
        all.gaps += tally.gaps;
        all.sources.push(IndexedSource {
            name: source.name().clone(),
            kind: source.kind().to_owned(),
            entries: tally.entries,
            recipe: report.recipe,
            tool_versions: report.tool_versions,
            skipped: report.sockets,
            mounts: report.mounts,
        });
    }
    Captured { assembled, ..all }
}
