//! What the lead machine needs to know of the log.

use crate::ids::{KeyId, Nonce};
use crate::log::State;

/// The newest `epoch` record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochView {
    /// The epoch.
    pub epoch: u64,
    /// Who appended it.
    pub holder: KeyId,
    /// Its process.
    pub instance: Nonce,
    /// Whether that key still is a coordinator's.
    pub counts: bool,
}

/// The log, read to its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogView {
    /// Who leads; none before the first coordinator.
    pub epoch: Option<EpochView>,
    /// How many rounds have an outcome: somebody has led well since it grew.
    pub settled: u64,
    /// Whether our own key is a coordinator's.
    pub member: bool,
}

impl LogView {
    /// The view of `own` key.
    #[must_use]
    pub fn of(state: &State, own: &KeyId) -> Self {
        let epoch = state.epoch.map(|e| EpochView {
            epoch: e.epoch,
            holder: e.holder,
            instance: e.instance,
            counts: state.is_coordinator(&e.holder),
        });
        let settled = state.rounds.values().filter(|round| round.outcome().is_some()).count();
        Self { epoch, settled: settled as u64, member: state.is_coordinator(own) }
    }
}
