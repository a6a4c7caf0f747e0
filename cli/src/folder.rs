//! A fleet's folder, as `init` made it: all its configurations, loaded and checked before anything starts.

use std::path::{Path, PathBuf};

use muster_agent::config::Config as AgentConfig;
use muster_coordinator::config::Config as CoordinatorConfig;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::lock::Lock;
use crate::operator::{self, Operator};
use crate::screen;

/// A fleet's folder, locked.
#[derive(Debug)]
pub(crate) struct FleetFolder {
    /// The folder, absolute.
    pub(crate) dir: PathBuf,
    /// The operator.
    pub(crate) operator: Operator,
    /// Coordinators with their files; at least one.
    pub(crate) coordinators: Vec<(PathBuf, CoordinatorConfig)>,
    /// Agents with their files; none where each has a machine of its own.
    pub(crate) agents: Vec<(PathBuf, AgentConfig)>,
    _lock: Lock,
}

impl FleetFolder {
    /// Locks and loads it.
    ///
    /// # Errors
    /// Exit 7 when it is in use; exit 2 when it is none, has no agent, or a configuration or key file cannot be used.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let folder = Self::open_with_any_agent(dir)?;
        if folder.agents.is_empty() {
            return Err(Failure::usage(format!("{} has no agents/NAME.toml", dir.display()))
                .because("Its agents run on machines of their own.")
                .next("muster up DIR here, muster-agent there, then: muster start --wait"));
        }
        for (_, config) in &folder.agents {
            drop(muster_share::secret_file::read_signing_key(&config.agent.key)?);
            drop(muster_share::secret_file::read_identities(&config.agent.sealing_key)?);
            drop(muster_share::secret_file::read_hex_key(&config.agent.chunk_key)?);
        }
        Ok(folder)
    }

    /// Locks and loads it; agents whose key files cannot be used are taken along, for the sake of the others.
    ///
    /// # Errors
    /// Exit 7 when it is in use; exit 2 when it is none, or a configuration or a coordinator's key cannot be used.
    pub(crate) fn open_with_any_agent(dir: &Path) -> Result<Self, Failure> {
        let lock = Lock::take(dir)?;
        let dir = std::path::absolute(dir).map_err(|error| {
            Failure::usage(format!("{} is no usable path", dir.display())).because(error.to_string())
        })?;
        let operator = Operator::load(&dir.join(operator::FILE))?;
        let mut coordinators = Vec::new();
        for file in files(&dir, "coordinator")? {
            let config = CoordinatorConfig::load(&file)?;
            drop(muster_share::secret_file::read_signing_key(&config.coordinator.key)?);
            coordinators.push((file, config));
        }
        let mut agents = Vec::new();
        for file in files(&dir.join("agents"), "")? {
            let config = AgentConfig::load(&file)?;
            agents.push((file, config));
        }
        if coordinators.is_empty() {
            return Err(Failure::usage(format!("{} has no coordinator.toml", dir.display()))
                .next("muster init DIR … makes one"));
        }
        let states = coordinators
            .iter()
            .map(|(file, config)| {
                (file, config.coordinator.state.join(muster_coordinator::daemon::LOCK_FILE))
            })
            .chain(
                agents
                    .iter()
                    .map(|(file, config)| (file, config.agent.state.join(muster_agent::daemon::LOCK_FILE))),
            );
        for (file, state) in states {
            not_running(&dir, file, &state)?;
        }
        Ok(Self { dir, operator, coordinators, agents, _lock: lock })
    }

    /// Says which private keys can be reached and should not.
    pub(crate) fn warn_of_keys(&self) {
        for path in self.operator.reachable_keys(&self.dir) {
            screen::aside(format!(
                "warning: KEY-02: the private key {} can be read here: take it away",
                path.display()
            ));
        }
    }
}

/// A daemon on its own holds the lock of its state folder, not that of the fleet's.
fn not_running(dir: &Path, config: &Path, lock: &Path) -> Result<(), Failure> {
    let Ok(file) = std::fs::File::open(lock) else { return Ok(()) };
    match file.try_lock_shared() {
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Refused,
            format!("{} is in use: {} is locked", dir.display(), lock.display()),
        )
        .because(format!("A daemon runs with {}.", config.display()))
        .next("stop it first, or ask it: muster start --wait")),
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => Ok(()),
    }
}

/// The TOML files of a folder whose name starts with `prefix`, sorted.
///
/// # Errors
/// Exit 2 when the folder cannot be read.
pub(crate) fn files(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("the folder {} cannot be read", folder.display())).because(error.to_string())
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(prefix) && name.ends_with(".toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
