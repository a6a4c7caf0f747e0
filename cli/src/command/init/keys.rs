//! Every key of a new fleet, in memory.

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::config::FleetConfig;
use muster_protocol::entropy::random;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::FleetId;
use muster_share::chunk::ChunkKey;
use muster_share::entropy::OsEntropy;
use zeroize::Zeroizing;

use super::plan::Plan;

/// The keys of one agent.
pub(crate) struct AgentKeys {
    pub(crate) signer: Signer,
    pub(crate) sealing: Identity,
    pub(crate) chunk: ChunkKey,
}

impl AgentKeys {
    /// Fresh ones.
    pub(crate) fn generate() -> Self {
        Self {
            signer: signer(),
            sealing: Identity::generate(&mut OsEntropy),
            chunk: ChunkKey::generate(&mut OsEntropy),
        }
    }
}

/// The keys of one coordinator.
pub(crate) struct CoordinatorKeys {
    pub(crate) signer: Signer,
    /// Opens the sealed part of the fleet's configuration, and no backup.
    pub(crate) sealing: Identity,
}

impl CoordinatorKeys {
    /// Fresh ones.
    pub(crate) fn generate() -> Self {
        Self { signer: signer(), sealing: Identity::generate(&mut OsEntropy) }
    }
}

/// The keys of a fleet; coordinators and agents in the plan's order.
pub(super) struct Keys {
    pub(super) salt: [u8; 32],
    pub(super) root: Signer,
    pub(super) recovery: Identity,
    pub(super) operator: Signer,
    pub(super) pruner: Signer,
    pub(super) coordinators: Vec<CoordinatorKeys>,
    pub(super) agents: Vec<AgentKeys>,
}

impl Keys {
    /// Fresh keys.
    pub(super) fn generate(plan: &Plan) -> Self {
        Self {
            salt: random(&mut OsEntropy),
            root: signer(),
            recovery: Identity::generate(&mut OsEntropy),
            operator: signer(),
            pruner: signer(),
            coordinators: plan.coordinators.iter().map(|_| CoordinatorKeys::generate()).collect(),
            agents: plan.services.iter().map(|_| AgentKeys::generate()).collect(),
        }
    }

    /// What every configuration pins.
    pub(super) fn fleet(&self, plan: &Plan) -> FleetConfig {
        let root = self.root.key_id();
        FleetConfig { name: plan.fleet.clone(), id: FleetId::derive(&root, &self.salt), root }
    }

    /// The kit's recipient, then those that were given.
    pub(super) fn recipients(&self, plan: &Plan) -> Vec<Recipient> {
        let mut recipients = vec![self.recovery.recipient()];
        recipients.extend(plan.recipients.iter().cloned());
        recipients
    }
}

/// A fresh signing key.
pub(crate) fn signer() -> Signer {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random(&mut OsEntropy));
    Signer::from_seed(&seed)
}
