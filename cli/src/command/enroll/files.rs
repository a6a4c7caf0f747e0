//! The files of a new member: keys, configuration, and the head of the log that it pins.
//!
//! Private keys are 0600 in folders of 0700. What is written is taken back if the log refuses the member.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_agent::config::{AgentConfig, Config as AgentFile, EngineConfig, HooksConfig, RestoreConfig};
use muster_agent::source::config::SourceTable;
use muster_coordinator::config::{
    Config as CoordinatorFile, CoordinatorConfig, CutConfig, HttpConfig, LeadConfig, RoundConfig,
    StreamsConfig,
};
use muster_protocol::config::{BusConfig, LogConfig, TelemetryConfig};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{Role, Seen};
use muster_protocol::units::HumanDuration;
use muster_share::log::print_memory;

use super::bus::{self, NewUser};
use super::request::{Place, Request, Wanted};
use crate::command::init::keys::{AgentKeys, CoordinatorKeys, signer};
use crate::command::init::undo::Undo;
use crate::command::init::write::Writer;
use crate::failure::Failure;
use crate::operator::{OfflineConfig, Operator, OperatorConfig};
use crate::sealed_files::{self, Files};

/// The keys of the new member.
pub(super) enum Keys {
    Agent(AgentKeys),
    Coordinator(CoordinatorKeys),
    Other(Signer),
}

impl Keys {
    pub(super) fn generate(wanted: &Wanted) -> Self {
        match wanted {
            Wanted::Agent { .. } => Self::Agent(AgentKeys::generate()),
            Wanted::Other(Role::Coordinator) => Self::Coordinator(CoordinatorKeys::generate()),
            Wanted::Other(_) => Self::Other(signer()),
        }
    }

    pub(super) fn signer(&self) -> &Signer {
        match self {
            Self::Agent(keys) => &keys.signer,
            Self::Coordinator(keys) => &keys.signer,
            Self::Other(signer) => signer,
        }
    }

    /// The role as the roster holds it.
    pub(super) fn role(&self, wanted: &Wanted) -> Role {
        match (self, wanted) {
            (Self::Agent(keys), Wanted::Agent { service, .. }) => {
                Role::Agent { service: service.clone(), sealing: keys.sealing.recipient() }
            }
            (_, Wanted::Other(role)) => role.clone(),
            (Self::Coordinator(_) | Self::Other(_), Wanted::Agent { .. }) => {
                unreachable!("keys are made for what is wanted")
            }
        }
    }
}

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    /// The folder of the member, or the fleet's.
    pub(super) folder: PathBuf,
    /// Its configuration.
    pub(super) config: PathBuf,
    /// Its state folder.
    pub(super) state: PathBuf,
    /// A new configuration that waits for the old one's place.
    pending: Option<PathBuf>,
}

/// Where one member's files lie, below its folder.
struct Names {
    config: PathBuf,
    /// Of the key files, without their ending.
    stem: PathBuf,
    state: PathBuf,
    /// From the configuration's folder to `folder`.
    up: &'static str,
}

fn names(request: &Request, keys: &Keys) -> Names {
    let (name, apart) = (&request.name, matches!(request.place, Place::Apart(_)));
    let short = keys.signer().key_id().short();
    match (&request.role, apart) {
        (Wanted::Agent { .. }, true) => {
            Names { config: "agent.toml".into(), stem: "keys/agent".into(), state: "state".into(), up: "" }
        }
        (Wanted::Agent { .. }, false) => {
            // The keys of the agent before it stay, so that a refusal leaves everything as it was.
            let name = if request.replace { format!("{name}-{short}") } else { name.to_string() };
            Names {
                config: format!("agents/{}.toml", request.name).into(),
                stem: format!("keys/agent-{name}").into(),
                state: format!("state/agent-{name}").into(),
                up: "../",
            }
        }
        (Wanted::Other(Role::Coordinator), _) => {
            // `muster up` runs every coordinator*.toml of the folder.
            let file = match name.as_str().starts_with("coordinator") {
                true => format!("{name}.toml"),
                false => format!("coordinator-{name}.toml"),
            };
            let (stem, state) = (format!("keys/{name}").into(), format!("state/{name}").into());
            Names { config: file.into(), stem, state, up: "" }
        }
        (Wanted::Other(_), true) => {
            let stem = format!("keys/{name}").into();
            Names { config: crate::operator::FILE.into(), stem, state: "state".into(), up: "" }
        }
        (Wanted::Other(_), false) => Names {
            config: format!("operator-{name}.toml").into(),
            stem: format!("keys/operator-{name}").into(),
            state: format!("state/operator-{name}").into(),
            up: "",
        },
    }
}

/// Writes them all.
pub(super) fn write(
    request: &Request,
    keys: &Keys,
    user: Option<&NewUser>,
    seen: &Seen,
    undo: &mut Undo,
) -> Result<Written, Failure> {
    let folder = match &request.place {
        Place::Apart(folder) | Place::Here(folder) => folder.clone(),
    };
    let names = names(request, keys);
    let mut writer = Writer { undo };
    writer.folder(&folder)?;
    for name in ["keys", "state"] {
        writer.folder(&folder.join(name))?;
    }
    let state = folder.join(&names.state);
    writer.folder(&state)?;
    match keys {
        Keys::Agent(keys) => writer.agent_keys(&folder.join(&names.stem), keys)?,
        Keys::Coordinator(keys) => writer.coordinator_keys(&folder.join(&names.stem), keys)?,
        Keys::Other(signer) => writer.signing_key(&folder.join(&names.stem).with_extension("key"), signer)?,
    }
    let nats = bus::write(request, user, &names.stem, names.up, &mut writer)?;
    let config = folder.join(&names.config);
    let text = match &request.role {
        Wanted::Agent { service, sources } => {
            agent(request, &config, service, sources, &names, nats)?.to_toml_string()
        }
        Wanted::Other(Role::Coordinator) => coordinator(request, &names, nats).to_toml_string(),
        Wanted::Other(_) => operator(request, &names, nats).to_toml_string(),
    };
    let pending = config.exists().then(|| config.with_extension("toml.new"));
    writer.public(pending.as_ref().unwrap_or(&config), &text)?;
    // Pinned: a share that does not hold it is refused from the first reading on.
    writer.public(&state.join("head"), &print_memory(seen))?;
    Ok(Written { folder, config, state, pending })
}

/// The configuration of a new agent or coordinator under its name in the fleet's folder: what the share keeps.
pub(super) fn published(request: &Request, written: &Written) -> Result<Files, Failure> {
    let name = match &request.role {
        Wanted::Agent { service, .. } => sealed_files::agent_file(service),
        Wanted::Other(Role::Coordinator) => sealed_files::coordinator_file(&request.name),
        Wanted::Other(_) => return Ok(Files::new()),
    };
    Ok([(name, sealed_files::read(&written.config)?)].into())
}

/// Puts a replaced agent's new configuration into the place of the old one, and keeps that beside it.
pub(super) fn set_aside(request: &Request, written: &Written) -> Result<Option<PathBuf>, Failure> {
    let Some(pending) = written.pending.as_ref().filter(|_| request.replace) else { return Ok(None) };
    let failed = |error: std::io::Error| {
        Failure::usage(format!("{} was not put into its place", pending.display()))
            .because(error.to_string())
            .next(format!(
                "the new agent is in the roster: mv {} {}",
                pending.display(),
                written.config.display()
            ))
    };
    let former = written.config.with_extension("toml.replaced");
    std::fs::rename(&written.config, &former).map_err(failed)?;
    std::fs::rename(pending, &written.config).map_err(failed)?;
    Ok(Some(former))
}

fn agent(
    request: &Request,
    file: &Path,
    service: &ServiceName,
    sources: &[SourceTable],
    names: &Names,
    nats: BusConfig,
) -> Result<AgentFile, Failure> {
    let up = |path: PathBuf| PathBuf::from(names.up).join(path);
    let own = AgentConfig {
        service: service.clone(),
        key: up(names.stem.with_extension("key")),
        sealing_key: up(names.stem.with_extension("sealing")),
        chunk_key: up(names.stem.with_extension("chunk")),
        state: up(names.state.clone()),
        heartbeat: HumanDuration(Duration::from_secs(15)),
    };
    let operator = &request.operator;
    if request.replace && file.is_file() {
        // What the agent before it was told stays; only who it is changes.
        let former = AgentFile::load(file)?;
        let heartbeat = former.agent.heartbeat;
        let nats = BusConfig { url: former.nats.url.clone(), ..nats };
        let source = if sources.is_empty() { former.source.clone() } else { spelled_out(sources)? };
        return Ok(AgentFile { agent: AgentConfig { heartbeat, ..own }, nats, source, ..former });
    }
    if sources.is_empty() {
        return Err(Failure::usage(format!(
            "--source is missing: {} is not there to take it from",
            file.display()
        )));
    }
    Ok(AgentFile {
        fleet: operator.fleet.clone(),
        agent: own,
        share: operator.share.clone(),
        nats,
        hooks: HooksConfig::default(),
        engine: EngineConfig::default(),
        restore: RestoreConfig::default(),
        log: LogConfig::default(),
        telemetry: TelemetryConfig::default(),
        source: spelled_out(sources)?,
        base: PathBuf::from("/"),
    })
}

fn spelled_out(sources: &[SourceTable]) -> Result<Vec<SourceTable>, Failure> {
    SourceTable::spelled_out(sources.to_vec())
        .map_err(|error| Failure::usage(format!("--source: {error}")).caused_by(&error))
}

fn coordinator(request: &Request, names: &Names, nats: BusConfig) -> CoordinatorFile {
    let operator = &request.operator;
    CoordinatorFile {
        fleet: operator.fleet.clone(),
        coordinator: CoordinatorConfig {
            name: request.name.clone(),
            key: names.stem.with_extension("key"),
            sealing_key: names.stem.with_extension("sealing"),
            state: names.state.clone(),
        },
        share: operator.share.clone(),
        nats,
        round: RoundConfig::default(),
        cut: CutConfig::default(),
        streams: StreamsConfig::default(),
        lead: LeadConfig::default(),
        http: HttpConfig::default(),
        log: LogConfig::default(),
        telemetry: TelemetryConfig::default(),
        notify: Vec::new(),
    }
}

fn operator(request: &Request, names: &Names, nats: BusConfig) -> Operator {
    let operator = &request.operator;
    Operator {
        fleet: operator.fleet.clone(),
        operator: OperatorConfig {
            name: request.name.clone(),
            key: names.stem.with_extension("key"),
            state: names.state.clone(),
        },
        share: operator.share.clone(),
        nats,
        // Where kit and root lie is nobody's business but that of whoever founded the fleet.
        offline: OfflineConfig::default(),
    }
}
