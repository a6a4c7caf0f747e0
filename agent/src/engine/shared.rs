//! What all threads of one capture share: the first failure, and the signal to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::error::EngineError;
use crate::source::Stopped;

/// How often a thread that waits looks whether it should stop.
pub(super) const WATCH: Duration = Duration::from_millis(50);

/// Stops every thread of a capture once one of them fails.
#[derive(Debug)]
pub(super) struct Halt {
    stop: AtomicBool,
    failure: Mutex<Option<EngineError>>,
    /// One permit for each pack in memory: open, or sealed and not uploaded yet.
    permits: Arc<Semaphore>,
    /// Memory of packs that have been uploaded.
    memory: Mutex<Vec<Vec<u8>>>,
}

impl Halt {
    /// With so many packs in memory at most, two of which may be open: data and entries.
    pub(super) fn new(packs: usize) -> Self {
        Self {
            stop: AtomicBool::new(false),
            failure: Mutex::default(),
            permits: Arc::new(Semaphore::new(packs)),
            memory: Mutex::default(),
        }
    }

    /// Ends the capture; the first reason is the one that is told.
    pub(super) fn fail(&self, error: EngineError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.permits.close();
    }

    pub(super) fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    pub(super) fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// Memory for a pack, used before if there is some: fresh memory costs the kernel a page at a time.
    pub(super) fn memory(&self) -> Vec<u8> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps the memory of a pack that is uploaded, if nobody else holds it.
    pub(super) fn give_back(&self, bytes: Bytes) {
        if let Ok(memory) = bytes.try_into_mut() {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(memory.into());
        }
    }

    pub(super) fn check(&self) -> Result<(), Stopped> {
        if self.stop.load(Ordering::Relaxed) { Err(Stopped) } else { Ok(()) }
    }

    /// Keeps the error, or gives the value.
    pub(super) fn keep<T>(&self, done: Result<T, EngineError>) -> Result<T, Stopped> {
        done.map_err(|error| {
            self.fail(error);
            Stopped
        })
    }

    /// Why the capture ended, if it did.
    pub(super) fn failure(&self) -> Option<EngineError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Stops the capture when the task that drives it is dropped.
pub(super) struct StopOnDrop(pub(super) Arc<Halt>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
