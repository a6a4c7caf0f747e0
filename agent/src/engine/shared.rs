//! What all threads of one capture share: the first failure, and the signal to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    /// One permit for each sealed pack that is not uploaded yet.
    permits: Arc<Semaphore>,
    /// One permit for each pack that is being sealed and so in memory twice.
    sealing: Semaphore,
}

impl Halt {
    /// For so many workers. Sealing and checking a pack takes less than a third of the time that one worker needs to
    /// fill it.
    pub(super) fn new(workers: usize) -> Self {
        let sealing = workers.div_ceil(3);
        Self {
            stop: AtomicBool::new(false),
            failure: Mutex::default(),
            permits: Arc::new(Semaphore::new(sealing + 1)),
            sealing: Semaphore::new(sealing),
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
        self.sealing.close();
    }

    pub(super) fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    pub(super) fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    pub(super) fn sealing(&self) -> &Semaphore {
        &self.sealing
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
