//! What the agent is at: a capture would store a half restored service, so it never runs beside a restore.

use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Doing {
    #[default]
    Nothing,
    Capture,
    Restore,
}

/// Lets one in at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Doing>>);

/// The gate is held until this goes.
#[derive(Debug)]
pub(crate) struct Held(Gate);

/// Why the gate is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Busy {
    /// A slice is captured.
    #[error("the agent is capturing a slice")]
    Capture,
    /// A restore runs.
    #[error("the agent is restoring this service")]
    Restore,
}

impl Gate {
    /// Enters to capture.
    pub(crate) fn capture(&self) -> Result<Held, Busy> {
        self.enter(Doing::Capture)
    }

    /// Enters to restore.
    pub(crate) fn restore(&self) -> Result<Held, Busy> {
        self.enter(Doing::Restore)
    }

    /// Whether nobody is in.
    pub(crate) fn free(&self) -> Result<(), Busy> {
        busy(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, to: Doing) -> Result<Held, Busy> {
        let mut doing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        busy(*doing)?;
        *doing = to;
        drop(doing);
        Ok(Held(self.clone()))
    }
}

fn busy(doing: Doing) -> Result<(), Busy> {
    match doing {
        Doing::Nothing => Ok(()),
        Doing::Capture => Err(Busy::Capture),
        Doing::Restore => Err(Busy::Restore),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Doing::Nothing;
    }
}

#[cfg(test)]
mod tests {
    use super::{Busy, Gate};

    #[test]
    fn one_at_a_time() {
        let gate = Gate::default();
        let held = gate.capture().expect("free");
        assert_eq!(gate.clone().restore().map(drop), Err(Busy::Capture));
        assert_eq!(gate.free(), Err(Busy::Capture));
        drop(held);
        let held = gate.restore().expect("free again");
        assert_eq!(gate.capture().map(drop), Err(Busy::Restore));
        assert_eq!(gate.restore().map(drop), Err(Busy::Restore));
        drop(held);
        assert_eq!(gate.free(), Ok(()));
    }
}
