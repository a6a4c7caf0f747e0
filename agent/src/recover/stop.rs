//! Why a slice's recovery ends before its end, and the flag that tells all of its threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_share::verify::Trouble;

use super::write::WriteError;

/// Why it ends.
#[derive(Debug)]
pub(super) enum Halt {
    /// The share fails, or the slice's entries are damaged.
    Trouble(Trouble),
    /// The target cannot be written.
    Write(WriteError),
    /// A filter cuts more hard links off their files than can be kept in mind.
    CutLinks,
    /// Nobody waits for it any more, or another thread has failed.
    Stopped,
}

impl From<Trouble> for Halt {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<WriteError> for Halt {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// Set once, for good. Every loop of a recovery looks at it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<(), Halt> {
        if self.is_set() { Err(Halt::Stopped) } else { Ok(()) }
    }
}

/// Stops the threads when it is dropped: what a recovery's own future holds.
#[derive(Debug)]
pub(super) struct StopOnDrop(pub(super) Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}
