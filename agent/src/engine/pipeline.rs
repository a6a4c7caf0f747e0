//! The threads of one capture: the caller's reads the sources, the workers pack, one assembles.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use muster_share::chunk::ChunkSize;
use muster_share::lists::IndexedSource;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::assemble::{Assembled, Assembler};
use super::error::EngineError;
use super::feed::{Fed, Feeder};
use super::job::Job;
use super::known::Known;
use super::pack::{Lane, Outlet, Packer, Sealing, Upload};
use super::progress::Progress;
use super::shared::Halt;
use crate::source::{CaptureContext, Cause, Source, Stopped};

/// Everything that one capture's threads read.
pub(super) struct Run {
    pub(super) sources: Vec<Arc<dyn Source>>,
    pub(super) spool: PathBuf,
    pub(super) workers: usize,
    pub(super) zstd_level: i32,
    pub(super) chunk: ChunkSize,
    pub(super) sealing: Sealing,
    pub(super) known: Known,
    pub(super) halt: Arc<Halt>,
    pub(super) progress: Arc<Progress>,
}

/// What the sources gave.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) sources: Vec<IndexedSource>,
    pub(super) source_bytes: u64,
    pub(super) entries: u64,
    pub(super) gaps: u64,
}

/// Reads, packs and assembles. Blocks; `None` when the capture has been halted. All packs have been handed to `uploads`
/// when it returns.
pub(super) fn run(run: &Run, uploads: mpsc::Sender<Upload>, runtime: Handle) -> Option<(Read, Assembled)> {
    let outlet = Outlet { sealing: &run.sealing, halt: &run.halt, uploads, runtime };
    let (data, entries) = (Lane::new(&outlet, &run.known), Lane::new(&outlet, &run.known));
    // Each worker has one job at hand and one waiting; reading and assembling go on meanwhile. No send on a channel
    // ever blocks, as each holds every job.
    let circulating = run.workers * 2 + 2;
    let (job_sender, job_receiver) = sync_channel(circulating);
    let (packed_sender, packed_receiver) = sync_channel(circulating);
    let (pool_sender, pool_receiver) = sync_channel(circulating);
    for _ in 1..circulating {
        pool_sender.send(Job::default()).expect("the channel holds every job");
    }
    let job_receiver = Mutex::new(job_receiver);
    let (job_receiver, data, entries) = (&job_receiver, &data, &entries);
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..run.workers {
            let packed = packed_sender.clone();
            workers.push(scope.spawn(move || guarded(run, || work(run, data, job_receiver, &packed))));
        }
        drop(packed_sender);
        let assembler = scope.spawn(move || {
            guarded(run, || {
                let packer = run.halt.keep(Packer::new(entries, run.zstd_level))?;
                let assembled = Assembler::new(packer, &run.halt).run(&packed_receiver, &pool_sender)?;
                entries.finish()?;
                Ok(assembled)
            })
        });
        let feeder = Feeder::new(run.chunk, job_sender, pool_receiver, &run.halt, &run.progress);
        let read = guarded(run, || read(run, feeder));
        let packed =
            workers.into_iter().map(|worker| worker.join().ok().flatten()).collect::<Option<Vec<()>>>();
        let finished = packed.and_then(|_| guarded(run, || data.finish()));
        let assembled = assembler.join().ok().flatten();
        finished.and(read).zip(assembled)
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
    part().ok()
}

fn read(run: &Run, mut feeder: Feeder<'_>) -> Result<Read, Stopped> {
    let context = CaptureContext { spool: &run.spool, cancel: run.halt.flag() };
    let mut all = Read::default();
    for source in &run.sources {
        let report = match source.capture(&mut feeder, &context) {
            Ok(report) => report,
            Err(error) => {
                // Sources end so because the engine has stopped; its own reason is the first then.
                let stopped = matches!(*error.cause, Cause::Cancelled | Cause::Stopped(_));
                run.halt.fail(if stopped { EngineError::Cancelled } else { EngineError::Source(error) });
                return Err(Stopped);
            }
        };
        let Fed { entries, gaps } = feeder.end_source();
        all.source_bytes += report.source_bytes;
        all.entries += entries;
        all.gaps += gaps;
        all.sources.push(IndexedSource {
            name: source.name().clone(),
            kind: source.kind().to_owned(),
            entries,
            recipe: report.recipe,
            tool_versions: report.tool_versions,
            skipped: report.sockets,
            mounts: report.mounts,
        });
    }
    feeder.finish()?;
    Ok(all)
}

fn work(
    run: &Run,
    lane: &Lane<'_>,
    jobs: &Mutex<Receiver<Job>>,
    packed: &SyncSender<Job>,
) -> Result<(), Stopped> {
    let mut packer = run.halt.keep(Packer::new(lane, run.zstd_level))?;
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = next else { return Ok(()) };
        run.halt.check()?;
        let Job { bytes, lengths, places, .. } = &mut job;
        packer.pack(bytes, lengths, places)?;
        packed.send(job).map_err(|_| Stopped)?;
    }
}
