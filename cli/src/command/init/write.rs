//! The files of a new fleet: DIR, KIT and ROOT.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use muster_agent::config::{AgentConfig, Config as AgentFile, EngineConfig, HooksConfig, RestoreConfig};
use muster_agent::source::config::SourceTable;
use muster_coordinator::config::{
    Config as CoordinatorFile, CoordinatorConfig, CutConfig, HttpConfig, LeadConfig, RoundConfig,
    StreamsConfig,
};
use muster_protocol::config::{LogConfig, TelemetryConfig};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{MemberName, ServiceName, hex};
use muster_protocol::log::Seen;
use muster_protocol::pem;
use muster_protocol::units::HumanDuration;
use muster_share::log::print_memory;
use muster_share::secret_file;
use std::time::Duration;
use zeroize::Zeroizing;

use super::keys::{AgentKeys, CoordinatorKeys, Keys};
use super::plan::Plan;
use super::undo::Undo;
use crate::bus_users::{self, Founded, Place, UserKind};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lock;
use crate::new_kit::{self, Facts};
use crate::operator::{self, OfflineConfig, Operator, OperatorConfig};
use crate::screen;
use crate::sealed_files::{self, Files};

/// An agent's configuration in the folder of its machine.
pub(crate) const AGENT: &str = "agent.toml";
/// The name of whoever founds the fleet.
const OPERATOR: &str = "operator";

/// Writes them all.
pub(super) fn folders(plan: &Plan, keys: &Keys, undo: &mut Undo) -> Result<(), Failure> {
    let mut writer = Writer { undo };
    let dir = &plan.dir;
    writer.folder(dir)?;
    for name in ["agents", "keys", "state", "state/operator"] {
        writer.folder(&dir.join(name))?;
    }
    if plan.place == Place::Apart {
        machine_folders(dir, plan.services.iter().map(|service| &service.name), &mut writer)?;
    }
    writer.public(&dir.join(lock::FILE), "")?;
    let bus = bus_users::found(dir, &plan.fleet, &plan.server, plan.place, &bus_members(plan), &mut writer)?;
    coordinators(plan, keys, &bus, &mut writer)?;
    agents(plan, keys, &bus, &mut writer)?;
    operator(plan, keys, &bus, &mut writer)?;
    writer.signing_key(&dir.join("keys/pruner.key"), &keys.pruner)?;

    new_kit::write(&plan.kit, &facts(plan, keys), &keys.recovery, &mut writer)?;
    writer.folder(&plan.root)?;
    writer.signing_key(&plan.root.join("root.key"), &keys.root)
}

/// Who signs on to the fleet's NATS server: its members, and whoever triggers by a plain message.
fn bus_members(plan: &Plan) -> Vec<(UserKind, MemberName)> {
    let named =
        |name: &str| name.parse().expect("service names, fixed names and member names follow one rule");
    let mut members: Vec<_> =
        plan.coordinators.iter().map(|name| (UserKind::Coordinator, name.clone())).collect();
    members.extend(plan.services.iter().map(|service| (UserKind::Agent, named(service.name.as_str()))));
    members.push((UserKind::Operator, named(OPERATOR)));
    members.push((UserKind::Trigger, named(bus_users::TRIGGER)));
    members
}

/// What the kit says of the fleet, and is no secret.
pub(super) fn facts(plan: &Plan, keys: &Keys) -> Facts {
    Facts {
        fleet: keys.fleet(plan),
        share: plan.share.url.clone(),
        services: plan.services.iter().map(|service| service.name.to_string()).collect(),
        recipients: keys.recipients(plan),
        created: screen::rfc3339(screen::now()),
    }
}

fn coordinators(plan: &Plan, keys: &Keys, bus: &Founded, writer: &mut Writer<'_>) -> Result<(), Failure> {
    for (place, (name, key)) in plan.coordinators.iter().zip(&keys.coordinators).enumerate() {
        let config = CoordinatorFile {
            fleet: keys.fleet(plan),
            coordinator: coordinator_places(name),
            share: plan.share.clone(),
            nats: bus.section(UserKind::Coordinator, name.as_str()),
            streams: StreamsConfig::default(),
            round: RoundConfig::default(),
            cut: CutConfig::default(),
            lead: LeadConfig::default(),
            http: HttpConfig::of_place(place),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
            notify: Vec::new(),
        };
        writer.folder(&plan.dir.join(&config.coordinator.state))?;
        writer.coordinator_keys(&plan.dir.join(format!("keys/{name}")), key)?;
        writer.public(&plan.dir.join(format!("{name}.toml")), &config.to_toml_string())?;
    }
    Ok(())
}

/// Where a coordinator's keys and state lie, from the fleet's folder on.
pub(crate) fn coordinator_places(name: &MemberName) -> CoordinatorConfig {
    CoordinatorConfig {
        name: name.clone(),
        key: PathBuf::from(format!("keys/{name}.key")),
        sealing_key: PathBuf::from(format!("keys/{name}.sealing")),
        state: PathBuf::from(format!("state/{name}")),
    }
}

/// Where an agent's keys and state lie, from the folder of its file on, with the usual heartbeat.
pub(crate) fn agent_places(name: &ServiceName) -> AgentConfig {
    AgentConfig {
        service: name.clone(),
        key: PathBuf::from(format!("../keys/agent-{name}.key")),
        sealing_key: PathBuf::from(format!("../keys/agent-{name}.sealing")),
        chunk_key: PathBuf::from(format!("../keys/agent-{name}.chunk")),
        state: PathBuf::from(format!("../state/agent-{name}")),
        heartbeat: HumanDuration(Duration::from_secs(15)),
    }
}

/// Where the operator's key and state lie, from the fleet's folder on.
pub(crate) fn operator_places(name: &MemberName) -> OperatorConfig {
    OperatorConfig {
        name: name.clone(),
        key: PathBuf::from("keys/operator.key"),
        state: PathBuf::from("state/operator"),
    }
}

fn agents(plan: &Plan, keys: &Keys, bus: &Founded, writer: &mut Writer<'_>) -> Result<(), Failure> {
    for (service, keys_of) in plan.services.iter().zip(&keys.agents) {
        let name = &service.name;
        let (folder, places) = match plan.place {
            Place::Here => (plan.dir.join("agents"), agent_places(name)),
            Place::Apart => (plan.dir.join(bus_users::machine_path(name.as_str())), machine_places(name)),
        };
        let file = match plan.place {
            Place::Here => format!("{name}.toml"),
            Place::Apart => AGENT.to_owned(),
        };
        writer.folder(&folder.join(&places.state))?;
        writer.agent_keys(&folder.join(&places.key).with_extension(""), keys_of)?;
        let config = AgentFile {
            fleet: keys.fleet(plan),
            agent: places,
            share: plan.share.clone(),
            nats: bus.section(UserKind::Agent, name.as_str()),
            hooks: HooksConfig::default(),
            engine: EngineConfig::default(),
            restore: RestoreConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
            source: SourceTable::spelled_out(service.sources.clone())
                .expect("sources of a checked plan have names of their own"),
            base: folder.clone(),
        };
        writer.public(&folder.join(file), &config.to_toml_string())?;
    }
    Ok(())
}

/// The folders that are copied to the machines of these services.
pub(crate) fn machine_folders<'a>(
    dir: &Path,
    services: impl Iterator<Item = &'a ServiceName>,
    writer: &mut Writer<'_>,
) -> Result<(), Failure> {
    writer.folder(&dir.join("machines"))?;
    for service in services {
        let folder = dir.join(bus_users::machine_path(service.as_str()));
        for name in ["", "keys", "state"] {
            writer.folder(&folder.join(name))?;
        }
    }
    Ok(())
}

/// Where an agent's keys and state lie in the folder of its machine, with the usual heartbeat.
pub(crate) fn machine_places(name: &ServiceName) -> AgentConfig {
    AgentConfig {
        service: name.clone(),
        key: PathBuf::from("keys/agent.key"),
        sealing_key: PathBuf::from("keys/agent.sealing"),
        chunk_key: PathBuf::from("keys/agent.chunk"),
        state: PathBuf::from("state"),
        heartbeat: HumanDuration(Duration::from_secs(15)),
    }
}

/// The files of agents on other machines, as the share keeps them.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn machine_files<'a>(
    dir: &Path,
    services: impl Iterator<Item = &'a ServiceName>,
) -> Result<Files, Failure> {
    let file = |service: &ServiceName| {
        let path = dir.join(bus_users::machine_path(service.as_str())).join(AGENT);
        Ok((sealed_files::agent_file(service), sealed_files::read(&path)?))
    };
    services.map(file).collect()
}

/// Pins the log's head for agents on other machines: a share that does not hold it is refused from the first reading on.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn pins(plan: &Plan, seen: &Seen, writer: &mut Writer<'_>) -> Result<(), Failure> {
    if plan.place == Place::Here {
        return Ok(());
    }
    for service in &plan.services {
        let folder = plan.dir.join(bus_users::machine_path(service.name.as_str()));
        writer.public(&folder.join("state/head"), &print_memory(seen))?;
    }
    Ok(())
}

fn operator(plan: &Plan, keys: &Keys, bus: &Founded, writer: &mut Writer<'_>) -> Result<(), Failure> {
    let config = Operator {
        fleet: keys.fleet(plan),
        operator: operator_places(&OPERATOR.parse().expect("a fixed name is a name")),
        share: plan.share.clone(),
        nats: bus.section(UserKind::Operator, OPERATOR),
        offline: OfflineConfig { kit: plan.kit.clone(), root: plan.root.clone() },
    };
    writer.signing_key(&plan.dir.join(&config.operator.key), &keys.operator)?;
    writer.public(&plan.dir.join(operator::FILE), &config.to_toml_string())
}

/// Makes files and folders, and tells [`Undo`] of each.
pub(crate) struct Writer<'a> {
    pub(crate) undo: &'a mut Undo,
}

impl Writer<'_> {
    /// A folder for its owner alone; one that is there already stays as it is.
    pub(crate) fn folder(&mut self, path: &Path) -> Result<(), Failure> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {
                self.undo.folder(path.to_owned());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => {
                Err(Failure::new(Exit::Usage, format!("the folder {} cannot be made", path.display()))
                    .because(error.to_string()))
            }
        }
    }

    /// A file for its owner alone.
    pub(crate) fn secret(&mut self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        secret_file::create(path, bytes)?;
        self.undo.file(path.to_owned());
        Ok(())
    }

    /// A signing key, for its owner alone.
    pub(crate) fn signing_key(&mut self, path: &Path, key: &Signer) -> Result<(), Failure> {
        self.secret(path, pem::signing_key_to_pem(key).as_bytes())
    }

    /// The two key files of a coordinator: `stem` with the endings `key` and `sealing`.
    pub(crate) fn coordinator_keys(&mut self, stem: &Path, keys: &CoordinatorKeys) -> Result<(), Failure> {
        self.signing_key(&stem.with_extension("key"), &keys.signer)?;
        let sealing = keys.sealing.to_file_text(&screen::rfc3339(screen::now()));
        self.secret(&stem.with_extension("sealing"), sealing.as_bytes())
    }

    /// The three key files of an agent: `stem` with the endings `key`, `sealing` and `chunk`.
    pub(crate) fn agent_keys(&mut self, stem: &Path, keys: &AgentKeys) -> Result<(), Failure> {
        self.signing_key(&stem.with_extension("key"), &keys.signer)?;
        let sealing = keys.sealing.to_file_text(&screen::rfc3339(screen::now()));
        self.secret(&stem.with_extension("sealing"), sealing.as_bytes())?;
        let chunk = Zeroizing::new(format!("{}\n", hex(keys.chunk.expose())));
        self.secret(&stem.with_extension("chunk"), chunk.as_bytes())
    }

    /// A program that its owner may run.
    pub(crate) fn program(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        self.secret(path, text.as_bytes())?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|error| {
            Failure::new(Exit::Usage, format!("{} cannot be made a program", path.display()))
                .because(error.to_string())
        })
    }

    /// A file that everybody may read.
    pub(crate) fn public(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        secret_file::create_public(path, text.as_bytes())?;
        self.undo.file(path.to_owned());
        Ok(())
    }
}
