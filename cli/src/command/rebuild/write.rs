//! The rebuilt folder: what was kept of each file, with fresh keys, at the places where `init` puts them.

use std::path::PathBuf;

use muster_agent::config::{AgentConfig, Config as AgentFile};
use muster_coordinator::config::Config as CoordinatorFile;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{MemberName, ServiceName};
use muster_share::log::HeadMemory;

use super::found::Found;
use crate::bus_users::{self, Place, UserKind};
use crate::command::init::keys::{AgentKeys, CoordinatorKeys, signer};
use crate::command::init::undo::Undo;
use crate::command::init::write::{
    AGENT, Writer, agent_places, coordinator_places, machine_folders, machine_places, operator_places,
};
use crate::failure::Failure;
use crate::lock;
use crate::operator::{self, OfflineConfig, Operator};
use crate::sealed_files::coordinator_file;

/// Fresh keys; coordinators and agents in the order of what was found.
pub(super) struct Keys {
    pub(super) operator: Signer,
    pub(super) pruner: Signer,
    pub(super) coordinators: Vec<CoordinatorKeys>,
    pub(super) agents: Vec<AgentKeys>,
}

impl Keys {
    /// Fresh ones.
    pub(super) fn generate(found: &Found) -> Self {
        Self {
            operator: signer(),
            pruner: signer(),
            coordinators: found.coordinators.iter().map(|_| CoordinatorKeys::generate()).collect(),
            agents: found.agents.iter().map(|_| AgentKeys::generate()).collect(),
        }
    }
}

/// Writes it all.
///
/// # Errors
/// When a file cannot be made; those made so far are taken back.
pub(super) fn folder(found: &Found, keys: &Keys, undo: &mut Undo) -> Result<(), Failure> {
    let mut writer = Writer { undo };
    let dir = &found.dir;
    writer.folder(dir)?;
    for name in ["agents", "keys", "state"] {
        writer.folder(&dir.join(name))?;
    }
    if found.place == Place::Apart {
        machine_folders(dir, found.agents.iter().map(|(service, _)| service), &mut writer)?;
    }
    writer.public(&dir.join(lock::FILE), "")?;
    let bus = bus_users::found(
        dir,
        &found.fleet.name,
        &found.server,
        found.place,
        &bus_members(found),
        &mut writer,
    )?;
    let share = found.share.clone();
    for ((name, kept), keys) in found.coordinators.iter().zip(&keys.coordinators) {
        let coordinator = coordinator_places(name);
        writer.folder(&dir.join(&coordinator.state))?;
        writer.coordinator_keys(&dir.join(format!("keys/{name}")), keys)?;
        let file = CoordinatorFile {
            fleet: found.fleet.clone(),
            coordinator,
            share: share.clone(),
            nats: bus.section(UserKind::Coordinator, name.as_str()),
            // Their secrets are not kept, and a coordinator does not start without them.
            notify: Vec::new(),
            ..kept.clone()
        };
        writer.public(&dir.join(coordinator_file(name)), &file.to_toml_string())?;
    }
    for ((service, kept), keys) in found.agents.iter().zip(&keys.agents) {
        let (folder, name, places) = match found.place {
            Place::Here => (dir.join("agents"), format!("{service}.toml"), agent_places(service)),
            Place::Apart => {
                let folder = dir.join(bus_users::machine_path(service.as_str()));
                (folder, AGENT.to_owned(), machine_places(service))
            }
        };
        let agent = AgentConfig { heartbeat: kept.agent.heartbeat, ..places };
        writer.folder(&folder.join(&agent.state))?;
        writer.agent_keys(&folder.join(&agent.key).with_extension(""), keys)?;
        let file = AgentFile {
            fleet: found.fleet.clone(),
            agent,
            share: share.clone(),
            nats: bus.section(UserKind::Agent, service.as_str()),
            ..kept.clone()
        };
        writer.public(&folder.join(name), &file.to_toml_string())?;
    }
    let operator = Operator {
        fleet: found.fleet.clone(),
        operator: operator_places(&found.operator),
        share,
        nats: bus.section(UserKind::Operator, found.operator.as_str()),
        offline: OfflineConfig { kit: found.kit_folder.clone(), root: found.root_folder.clone() },
    };
    writer.folder(&dir.join(&operator.operator.state))?;
    writer.signing_key(&dir.join(&operator.operator.key), &keys.operator)?;
    writer.signing_key(&dir.join("keys/pruner.key"), &keys.pruner)?;
    writer.public(&dir.join(operator::FILE), &operator.to_toml_string())
}

/// Who signs on to the new NATS server.
fn bus_members(found: &Found) -> Vec<(UserKind, MemberName)> {
    let mut members: Vec<_> =
        found.coordinators.iter().map(|(name, _)| (UserKind::Coordinator, name.clone())).collect();
    let agent = |service: &ServiceName| {
        service.as_str().parse().expect("service names and member names follow one rule")
    };
    members.extend(found.agents.iter().map(|(service, _)| (UserKind::Agent, agent(service))));
    members.push((UserKind::Operator, found.operator.clone()));
    members.push((UserKind::Trigger, bus_users::TRIGGER.parse().expect("a fixed name is a name")));
    members
}

/// Pins the log's head for everybody in the folder: a share that goes back behind it is refused.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn pins(found: &Found) -> Result<(), Failure> {
    let states = found
        .coordinators
        .iter()
        .map(|(name, _)| coordinator_places(name).state)
        .chain(found.agents.iter().map(|(service, _)| match found.place {
            Place::Here => PathBuf::from(format!("state/agent-{service}")),
            Place::Apart => bus_users::machine_path(service.as_str()).join("state"),
        }))
        .chain([operator_places(&found.operator).state]);
    for state in states {
        HeadMemory::at(&found.dir.join(state).join("head")).remember(&found.log.seen())?;
    }
    Ok(())
}
