//! Sources: the things an agent captures, one kind per file. A source pushes entries and bytes into a [`Sink`]; it
//! knows nothing of chunks, packs or the share.

pub mod command;
pub mod config;
mod dump;
pub mod error;
pub mod files;
mod globs;
mod metadata;
mod spec;
pub mod sqlite;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_protocol::ids::SourceName;
use muster_share::entry::{Entry, Gap};

pub use config::{SourceConfig, SourceConfigError, SourceTable};
pub use error::{Cause, SourceError};
pub use spec::SpecError;

/// Size of the buffer that sources read with, in bytes.
pub(crate) const BUFFER_BYTES: usize = 1 << 20;

/// One thing that an agent captures.
pub trait Source: fmt::Debug + Send + Sync {
    /// Its name, unique within the service.
    fn name(&self) -> &SourceName;

    /// Its kind, as configuration writes it.
    fn kind(&self) -> &'static str;

    /// Whether a capture could start: what it reads is there and readable. Captures nothing and changes nothing.
    ///
    /// # Errors
    /// What a capture would fail with.
    fn preflight(&self) -> Result<(), SourceError>;

    /// Captures everything into `sink`. What single entries lack is recorded as gaps; an error means that the source
    /// as a whole is not captured and that what was pushed so far must not count. Blocks; returns soon after
    /// `context.cancel` is set.
    ///
    /// # Errors
    /// When the source as a whole cannot be captured, when it was cancelled, or when the sink has stopped.
    fn capture(&self, sink: &mut dyn Sink, context: &CaptureContext<'_>)
    -> Result<SourceReport, SourceError>;
}

/// What a capture may use.
#[derive(Debug, Clone, Copy)]
pub struct CaptureContext<'a> {
    /// A folder of the agent's own, on this machine, for spool files. A source removes what it puts there.
    pub spool: &'a Path,
    /// Set when the capture shall end early.
    pub cancel: &'a AtomicBool,
}

impl CaptureContext<'_> {
    /// Whether the capture shall end.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), Cause> {
        if self.cancelled() { Err(Cause::Cancelled) } else { Ok(()) }
    }
}

/// What a capture saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceReport {
    /// Content of files in bytes, holes included.
    pub source_bytes: u64,
    /// Entries pushed, the source's root and those with gaps included.
    pub entries: u64,
    /// Entries with a gap.
    pub gaps: u64,
    /// Sockets (and other kinds that no backup can hold) that were passed over.
    pub sockets: u64,
    /// Folders of other file systems that were kept as empty folders.
    pub mounts: u64,
    /// Extended attributes that could not be read.
    pub unread_xattrs: u64,
    /// How to put it back by hand, in a sentence.
    pub recipe: String,
    /// Versions of the tools that took part.
    pub tool_versions: BTreeMap<String, String>,
}

/// The engine has stopped taking data: cancelled, or failed with an error that it keeps. The source returns at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the slice engine has stopped")]
pub struct Stopped;

/// Where a source puts what it captures. Entries come parents first, siblings in byte order of their names.
pub trait Sink {
    /// An entry without content of its own: folder, link, device, a hard link, a gap.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn entry(&mut self, entry: Entry) -> Result<(), Stopped>;

    /// Begins a file's content; `entry` has no extents yet. `data` and `hole` follow, then `end` or `discard`.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn begin(&mut self, entry: Entry) -> Result<(), Stopped>;

    /// The next bytes of the file.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Stopped>;

    /// A hole of `length` bytes.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn hole(&mut self, length: u64) -> Result<(), Stopped>;

    /// The file is complete. The engine sets the entry's size to what came.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn end(&mut self, gap: Option<Gap>) -> Result<(), Stopped>;

    /// Forgets the file that was begun, as it will be begun again or replaced by a gap.
    fn discard(&mut self);
}
