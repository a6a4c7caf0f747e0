//! What the agents of a swarm believe: each checks every document's signature itself, but they share one reader of the
//! log, for the log of the fleet is read once on each machine, and here they are all on one.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use muster_protocol::envelope::open_as;
use muster_protocol::ids::{FleetId, KeyId, Nonce, RoundId, ServiceName};
use muster_protocol::log::{Head, RoundPhase, State};
use muster_protocol::message::{CutOrder, OpenRound, ServiceState, StateDocument};
use muster_share::log::Log;
use tokio::sync::Mutex;

use super::Failure;

/// A slice that the leader wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) epoch: u64,
    pub(super) round: RoundId,
    pub(super) attempt: u32,
    pub(super) leader: KeyId,
    pub(super) leader_ephemeral: [u8; 32],
    /// The round's; every attempt's follows from it.
    pub(super) nonce: Nonce,
    pub(super) turn: u32,
    pub(super) cut: Option<CutOrder>,
    /// The keyset in force when the round was opened.
    pub(super) keyset: u64,
    /// The head of the log, as the receipt will name it.
    pub(super) head: Head,
}

/// The log, followed for all.
#[derive(Debug)]
pub(super) struct Beliefs {
    pub(super) fleet: FleetId,
    log: Mutex<Log>,
    state: RwLock<Arc<State>>,
}

impl Beliefs {
    pub(super) fn new(log: Log) -> Self {
        let state = Arc::new(log.state().clone());
        Self { fleet: state.fleet, log: Mutex::new(log), state: RwLock::new(state) }
    }

    /// What the fleet's document asks of `service`; none: nothing. An error is a document that does not count.
    pub(super) async fn wish(&self, bytes: &Bytes, service: &ServiceName) -> Result<Option<Order>, Failure> {
        let (leader, document) = open_as::<StateDocument>(bytes, &self.fleet)?;
        let mut state = self.state();
        if !covers(&state, &document) {
            state = self.read_for(&document).await?;
        }
        let epoch = state.epoch.filter(|epoch| epoch.epoch == document.epoch && epoch.holder == leader);
        if epoch.is_none() || !state.is_coordinator(&leader) {
            return Err("the log does not say that the document's signer leads".into());
        }
        Ok(document.rounds.iter().find_map(|open| order(&state, &document, leader, open, service)))
    }

    /// The attempt that a retry order of the leader of `order` asks for.
    pub(super) fn retry(&self, bytes: &Bytes, order: &Order) -> Option<u32> {
        let (leader, retry) = open_as::<ServiceState>(bytes, &self.fleet).ok()?;
        let same = (retry.epoch, leader, retry.round) == (order.epoch, order.leader, order.round);
        same.then_some(retry.attempt)
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read_for(&self, document: &StateDocument) -> Result<Arc<State>, Failure> {
        let mut log = self.log.lock().await;
        let state = self.state();
        // Somebody else may have read it while this one waited.
        if covers(&state, document) {
            return Ok(state);
        }
        log.refresh().await?;
        let state = Arc::new(log.state().clone());
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&state);
        Ok(state)
    }
}

/// Whether the log was read as far as the document supposes.
fn covers(state: &State, document: &StateDocument) -> bool {
    state.epoch.is_some_and(|epoch| epoch.epoch >= document.epoch)
        && document.rounds.iter().all(|open| open.position < state.next)
}

fn order(
    state: &State,
    document: &StateDocument,
    leader: KeyId,
    open: &OpenRound,
    service: &ServiceName,
) -> Option<Order> {
    let round = state.rounds.get(&open.round)?;
    let wanted = round.position == open.position
        && round.phase == RoundPhase::Open
        && round.open.scope.contains(service);
    wanted.then(|| Order {
        epoch: document.epoch,
        round: open.round,
        attempt: 1,
        turn: open.turn,
        cut: open.cut,
        leader,
        leader_ephemeral: open.ephemeral,
        nonce: round.open.nonce,
        keyset: state.keyset_at(round.position).map_or(0, |(number, _)| number),
        head: state.head,
    })
}
