//! What the agent is at: a capture would store a half restored service, so neither it nor the hold that it is made in
//! runs beside a restore.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Doing {
    #[default]
    Nothing,
    /// A capture, the hold around it, or both.
    Capture {
        inside: u32,
    },
    Restore,
}

/// Lets a restore in alone, or a capture with its hold.
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
    /// Enters to capture, or to hold the service for it.
    pub(crate) fn capture(&self) -> Result<Held, Busy> {
        let mut doing = self.doing();
        let inside = match *doing {
            Doing::Nothing => 0,
            Doing::Capture { inside } => inside,
            Doing::Restore => return Err(Busy::Restore),
        };
        *doing = Doing::Capture { inside: inside + 1 };
        drop(doing);
        Ok(Held(self.clone()))
    }

    /// Enters to restore.
    pub(crate) fn restore(&self) -> Result<Held, Busy> {
        let mut doing = self.doing();
        busy(*doing)?;
        *doing = Doing::Restore;
        drop(doing);
        Ok(Held(self.clone()))
    }

    /// Whether nobody is in.
    pub(crate) fn free(&self) -> Result<(), Busy> {
        busy(*self.doing())
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy(doing: Doing) -> Result<(), Busy> {
    match doing {
        Doing::Nothing => Ok(()),
        Doing::Capture { .. } => Err(Busy::Capture),
        Doing::Restore => Err(Busy::Restore),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut doing = self.0.doing();
        *doing = match *doing {
            Doing::Capture { inside } if inside > 1 => Doing::Capture { inside: inside - 1 },
            Doing::Capture { .. } | Doing::Restore | Doing::Nothing => Doing::Nothing,
        };
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

    #[test]
    fn a_hold_and_its_capture_share_the_gate() {
        let gate = Gate::default();
        let (hold, capture) = (gate.capture().expect("free"), gate.capture().expect("its own"));
        drop(capture);
        assert_eq!(gate.restore().map(drop), Err(Busy::Capture));
        drop(hold);
        assert_eq!(gate.restore().map(drop), Ok(()));
        assert_eq!(gate.free(), Ok(()));
    }
}
