//! What is left of the fleet: its log, and the configuration files that the log's newest configuration keeps sealed. Looks, and
//! writes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_agent::config::Config as AgentFile;
use muster_coordinator::config::Config as CoordinatorFile;
use muster_protocol::causes::causes;
use muster_protocol::config::ShareConfig;
use muster_protocol::config::{self, Checked, FleetConfig};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{MemberName, ServiceName};
use muster_protocol::log::{Member, Pin, ReplayError, Role, Seen, State};
use muster_share::log::{Log, LogError};

use crate::args::Rebuild;
use crate::bus_users::{self, Place, Server};
use crate::command::init::plan::{apart, empty, free_port, real, share_folder};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{hold_to, open_store, share_at};
use crate::kit::Kit;
use crate::operator::{self, Operator};
use crate::saying::root_key;
use crate::sealed_files::{self, AGENTS, COORDINATOR, Files, TOML};

/// What a rebuild works with.
pub(super) struct Found {
    /// The new folder.
    pub(super) dir: PathBuf,
    /// The share's address.
    pub(super) share: ShareConfig,
    pub(super) kit: Kit,
    pub(super) kit_folder: PathBuf,
    pub(super) root: Signer,
    pub(super) root_folder: PathBuf,
    pub(super) log: Log,
    pub(super) fleet: FleetConfig,
    /// Coordinators to make again, with their kept files; at least one.
    pub(super) coordinators: Vec<(MemberName, CoordinatorFile)>,
    /// Agents to make again, with their kept files.
    pub(super) agents: Vec<(ServiceName, AgentFile)>,
    /// The operator to make again.
    pub(super) operator: MemberName,
    /// Members whose former keys go.
    pub(super) replaced: Vec<Member>,
    /// Members that stay as they are.
    pub(super) left: Vec<Member>,
    /// Services whose agent's file nobody kept.
    pub(super) unkept: Vec<ServiceName>,
    /// Where the new folder's NATS server listens.
    pub(super) server: Server,
    /// Where the folders of agents are put.
    pub(super) place: Place,
}

impl Found {
    /// Reads it, and checks everything that can be checked without writing.
    ///
    /// # Errors
    /// Exit 5 for keys that are missing or of another fleet; exit 4 for a log or a configuration that is damaged; exit 2 for
    /// places that cannot be; exit 6 for a share that is not there.
    pub(super) async fn read(args: Rebuild) -> Result<Self, Failure> {
        let (dir, kit_folder, root_folder) = (real(&args.into)?, real(&args.kit)?, real(&args.root)?);
        let share = share_at(&args.share)?;
        let folder = share_folder(&share.url).map(|folder| real(&folder)).transpose()?;
        empty("--into", &dir)?;
        apart(&[("--into", &dir), ("--kit", &kit_folder), ("--root", &root_folder)], folder.as_deref())?;
        let kit = Kit::open(&kit_folder)?;
        let root = root_key(&root_folder, Some(&kit.root))?;
        let store = open_store(&share).await?;
        let pin = Pin { root: Some(kit.root), fleet: None, head: args.expect.expect_head.map(Seen::exactly) };
        hold_to(&store, pin, &args.expect).await?;
        let log = Log::open(Arc::clone(&store), pin).await.map_err(|error| {
            if !matches!(error, LogError::Replay(ReplayError::Genesis { .. })) {
                return error.into();
            }
            Failure::new(Exit::Key, format!("{} and the kit are not of one fleet", share.url))
                .because(causes(&error))
                .next("take the kit and the root key that were made for the fleet of this share")
        })?;
        let state = log.state();
        let files = sealed_files::in_force(store.as_ref(), state, &kit.keys).await?.ok_or_else(|| {
            Failure::new(Exit::Failed, format!("the share of {} keeps no configuration files", name(state)))
                .because("It is kept from the first `muster once` or `muster up` of a folder on.")
                .next("make the folder by hand: muster adopt, muster enroll NAME --root PATH …")
        })?;
        let Kept { coordinators, agents, operator } = Kept::of(&files.files, state)?;
        let (replaced, left) = members(state, &agents, &operator);
        let unkept =
            state.services().into_iter().filter(|s| agents.iter().all(|(name, _)| name != s)).collect();
        let fleet = FleetConfig {
            name: state.name.clone().expect("a log has its genesis"),
            id: state.fleet,
            root: kit.root,
        };
        let place = if args.listen.is_some() { Place::Apart } else { Place::Here };
        let server = match args.listen {
            Some(server) => server,
            None => Server::here(free_port()?),
        };
        Ok(Self {
            dir,
            share,
            kit,
            kit_folder,
            root,
            root_folder,
            log,
            fleet,
            coordinators,
            agents,
            operator,
            replaced,
            left,
            unkept,
            server,
            place,
        })
    }
}

impl Found {
    /// Addresses of the bus, in the kept files, that are none of this machine alone.
    pub(super) fn former_servers(&self) -> BTreeSet<String> {
        let urls = self.agents.iter().map(|(_, file)| file.nats.url.as_str());
        let alone =
            |url: &str| url.contains("//127.") || url.contains("//localhost") || url.contains("//[::1]");
        urls.filter(|url| !url.is_empty() && !alone(url)).map(str::to_owned).collect()
    }
}

/// Members that count, apart: those that are made again, whose former keys count no longer then, and those that are left as they
/// are.
fn members(
    state: &State,
    agents: &[(ServiceName, AgentFile)],
    operator: &MemberName,
) -> (Vec<Member>, Vec<Member>) {
    let counting = state.members.values().filter(|member| member.revoked.is_none());
    counting.map(|member| member.member.clone()).partition(|member| match &member.role {
        // None of them may go on: the next epoch is that of the new ones.
        Role::Coordinator | Role::Pruner => true,
        Role::Agent { service, .. } => agents.iter().any(|(name, _)| name == service),
        Role::Operator | Role::Admin => member.name == *operator,
        Role::Viewer | Role::Enroller { .. } => false,
    })
}

fn name(state: &State) -> String {
    state.name.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The files that were kept, read.
struct Kept {
    coordinators: Vec<(MemberName, CoordinatorFile)>,
    agents: Vec<(ServiceName, AgentFile)>,
    operator: MemberName,
}

impl Kept {
    fn of(files: &Files, state: &State) -> Result<Self, Failure> {
        let (mut coordinators, mut agents, mut operator) = (Vec::new(), Vec::new(), None);
        for (name, text) in files {
            if let Some(service) = name.strip_prefix(AGENTS).and_then(|name| name.strip_suffix(TOML)) {
                let file: AgentFile = parse(name, text)?;
                if file.agent.service.as_str() != service {
                    return Err(unusable(name, "it is the file of another service"));
                }
                // Who was revoked stays so.
                if state.agent(&file.agent.service).is_some() {
                    agents.push((file.agent.service.clone(), file));
                }
            } else if name.starts_with(COORDINATOR) && !name.contains('/') {
                let file: CoordinatorFile = parse(name, text)?;
                if coordinators.iter().all(|(name, _)| *name != file.coordinator.name) {
                    coordinators.push((file.coordinator.name.clone(), file));
                }
            } else if name == operator::FILE {
                operator = Some(parse::<Operator>(name, text)?.operator.name);
            } else {
                return Err(unusable(name, "no file of a fleet's folder has this name"));
            }
        }
        if coordinators.is_empty() {
            return Err(unusable("coordinator.toml", "it is not among the kept files"));
        }
        // Its files are named after it, beside those of the others.
        let taken = |name: &MemberName| {
            name.as_str() == bus_users::TRIGGER || coordinators.iter().any(|(other, _)| other == name)
        };
        let operator = operator.filter(|name| !taken(name));
        let operator = operator.unwrap_or_else(|| "operator".parse().expect("a fixed name is a name"));
        Ok(Self { coordinators, agents, operator })
    }
}

/// What was kept was checked when it was kept; the environment of this command has no say in it.
fn parse<T: Checked>(name: &str, text: &str) -> Result<T, Failure> {
    config::parse(Path::new(name), text, |_| None).map_err(|error| unusable(name, &error.to_string()))
}

fn unusable(name: &str, why: &str) -> Failure {
    Failure::new(Exit::Damaged, format!("the kept configuration file {name:?} cannot be used"))
        .because(why.to_owned())
        .next("look for another copy of the share, or keep it anew from a fleet's folder: muster once DIR")
}
