//! The session with the leader of the round that the agent works for: what it says and hears there needs no signature.
//!
//! One at a time: the next welcome begins another. Whatever goes wrong under it ends it, and what is said again then is
//! signed; so a leader that lost its side hears of everything all the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_protocol::envelope::Payload;
use muster_protocol::ids::RoundId;
use muster_protocol::session::{Sealed, Session, SessionError};

struct Held {
    round: RoundId,
    epoch: u64,
    session: Session,
}

/// The session there is, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Current(Arc<Mutex<Option<Held>>>);

impl Current {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A welcome to this round began it.
    pub(crate) fn begin(&self, round: RoundId, epoch: u64, session: Session) {
        *self.held() = Some(Held { round, epoch, session });
    }

    /// It counts no longer.
    pub(crate) fn end(&self) {
        *self.held() = None;
    }

    /// `payload`, sealed for the leader of this epoch; none: there is no session with it about this round.
    pub(crate) fn say<P: Payload>(&self, round: RoundId, epoch: u64, payload: &P) -> Option<Vec<u8>> {
        let mut held = self.held();
        let held = held.as_mut().filter(|held| (held.round, held.epoch) == (round, epoch))?;
        Some(held.session.say(payload))
    }

    /// `payload`, sealed for whoever welcomed to this round.
    pub(crate) fn tell<P: Payload>(&self, round: RoundId, payload: &P) -> Option<Vec<u8>> {
        let mut held = self.held();
        let held = held.as_mut().filter(|held| held.round == round)?;
        Some(held.session.say(payload))
    }

    /// What the leader said.
    pub(crate) fn hear<P: Payload>(&self, message: &Sealed<'_>) -> Result<P, SessionError> {
        self.held().as_mut().ok_or(SessionError::NotSealed)?.session.hear(message)
    }
}
