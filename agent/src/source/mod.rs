//! Sources: the things an agent captures, one kind per file. A source pushes entries and bytes into a [`Sink`]; it
//! knows nothing of chunks, packs or the share.

pub mod command;
pub mod config;
mod dump;
pub mod error;
pub mod files;
pub(crate) mod globs;
mod metadata;
mod spec;
pub mod sqlite;
mod stamp;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_protocol::ids::SourceName;
use muster_share::entry::{Entry, Gap};

pub(crate) use config::Restoring;
pub use config::{SourceConfig, SourceConfigError, SourceTable};
pub(crate) use dump::root as made_up_root;
pub use error::{Cause, SourceError};
pub use spec::SpecError;
pub use stamp::Stamp;

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

/// What a capture has to say besides its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceReport {
    /// Sockets (and other kinds that no backup can hold) that were passed over.
    pub sockets: u64,
    /// Folders of other file systems that were kept as empty folders.
    pub mounts: u64,
    /// How to put it back by hand, in a sentence.
    pub recipe: String,
    /// Versions of the tools that took part.
    pub tool_versions: BTreeMap<String, String>,
}

/// The engine has stopped taking data: cancelled, or failed with an error that it keeps. The source returns at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the slice engine has stopped")]
pub struct Stopped;

/// Entries and their content, in the order in which they shall be kept.
pub trait Content {
    /// An entry without content of its own: folder, link, device, a hard link, a gap.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn entry(&mut self, entry: Entry) -> Result<(), Stopped>;

    /// A file that is a gap for good, though other names may follow that lead to it: they are the same gap.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn lost(&mut self, entry: Entry) -> Result<(), Stopped>;

    /// Begins a file's content; `entry` has no extents yet. Data and holes follow, then `end` or `discard`.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn begin(&mut self, entry: Entry) -> Result<(), Stopped>;

    /// Memory to read the file's next bytes into: never empty. `filled` says how many came.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn space(&mut self) -> Result<&mut [u8], Stopped>;

    /// So many bytes were read into the space.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn filled(&mut self, count: usize) -> Result<(), Stopped>;

    /// The next bytes of the file, from elsewhere.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn data(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let (now, later) = bytes.split_at(bytes.len().min(space.len()));
            space[..now.len()].copy_from_slice(now);
            self.filled(now.len())?;
            bytes = later;
        }
        Ok(())
    }

    /// A hole of `length` bytes.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn hole(&mut self, length: u64) -> Result<(), Stopped>;

    /// The file is complete. The engine sets the entry's size to what came. With a stamp, the next capture may go by it
    /// instead of reading the file again.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn end(&mut self, gap: Option<Gap>, stamp: Option<Stamp>) -> Result<(), Stopped>;

    /// Forgets the file that was begun, as it will be begun again or replaced by a gap.
    fn discard(&mut self);
}

/// Where a source puts what it captures. Entries come in ascending order: paths compared part by part, bytewise, a
/// folder before what lies in it.
pub trait Sink: Content {
    /// Whether the engine has this file's content from an earlier capture, and takes the entry with it. `entry` has no
    /// content and no attributes yet; it is complete when this gives true, and nothing more is to be done.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn known(&mut self, entry: &Entry, stamp: &Stamp) -> Result<bool, Stopped>;

    /// A file that some thread of the engine will read.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn file(&mut self, file: Box<dyn Unread>) -> Result<(), Stopped>;
}

/// A file that is to be read, on any thread.
pub trait Unread: Send {
    /// About how many bytes it has.
    fn size(&self) -> u64;

    /// Reads it into `content`: one entry, whatever happens to the file meanwhile. Returns soon after `cancel` is set.
    ///
    /// # Errors
    /// When the engine has stopped.
    fn read(self: Box<Self>, content: &mut dyn Content, cancel: &AtomicBool) -> Result<(), Stopped>;
}
