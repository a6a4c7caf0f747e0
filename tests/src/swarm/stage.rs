//! The stage: a fleet of many agents founded on a share by the library, and the two processes that serve it.
//!
//! `muster init` and `muster enroll` would take a key file and a folder for each agent; here the keys stay in memory, and
//! the roster is written in as few records as hold it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use muster_bus::{NatsConfig, Streams};
use muster_coordinator::config::{
    Config, CoordinatorConfig, CutConfig, HttpConfig, LeadConfig, RoundConfig, StreamsConfig,
};
use muster_protocol::age::Identity;
use muster_protocol::config::{BusConfig, FleetConfig, LogConfig, ShareConfig, TelemetryConfig};
use muster_protocol::entropy::random;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, Nonce, ServiceName};
use muster_protocol::log::{Body, Change, Genesis, Keyset, KeysetKey, Member, Role, Roster, seal_statement};
use muster_protocol::pem;
use muster_protocol::subject::{Subject, Subjects};
use muster_protocol::time::UnixMillis;
use muster_share::entropy::OsEntropy;
use muster_share::log::{self, Log};
use muster_share::secret_file;
use muster_share::store::{FileStore, Store};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::Failure;
use crate::nats::NatsServer;
use crate::process::Running;

/// Members in one record of the roster: about 200 bytes each, and a record may have 64 KiB.
const MEMBERS_PER_RECORD: usize = 200;

/// Where a stage is set up, and what runs on it.
#[derive(Debug, Clone)]
pub struct Places {
    /// An empty folder for share, keys, state and logs; in memory, if disks are not to be measured.
    pub folder: PathBuf,
    /// The coordinator's program.
    pub coordinator: PathBuf,
}

/// A fleet with its server and its coordinator.
#[derive(Debug)]
pub struct Stage {
    places: Places,
    /// The fleet, as every configuration pins it.
    pub fleet: FleetConfig,
    /// The services, and the key of each one's agent.
    pub agents: Vec<(ServiceName, Signer)>,
    /// Its share.
    pub store: Arc<dyn Store>,
    /// Its server, once started.
    pub nats: Option<NatsServer>,
    /// Its coordinator, once started.
    pub coordinator: Option<Running>,
    /// Where its server tells of itself.
    pub(super) monitor_port: u16,
    config: Config,
    port: u16,
}

impl Stage {
    /// Founds a fleet of `count` agents. Nothing runs yet.
    ///
    /// # Errors
    /// When the folder or the share cannot be written.
    pub async fn found(places: Places, count: usize, round: RoundConfig) -> Result<Self, Failure> {
        let folder = &places.folder;
        for name in ["share", "keys", "state"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let share = folder.join("share");
        let store: Arc<dyn Store> = Arc::new(FileStore::open(share.clone()).await?);
        let (root, coordinator) = (signer(), signer());
        let agents: Vec<(ServiceName, Signer)> = (0..count)
            .map(|number| Ok::<_, Failure>((format!("s-{number:06}").parse()?, signer())))
            .collect::<Result<_, _>>()?;
        let fleet = found(&store, &root, &coordinator, &agents).await?;
        let key = folder.join("keys/coordinator.key");
        secret_file::create(&key, pem::signing_key_to_pem(&coordinator).as_bytes())?;
        let [port, monitor_port] = free_ports()?;
        let config = Config {
            fleet: fleet.clone(),
            coordinator: CoordinatorConfig {
                name: "coordinator".parse()?,
                key,
                sealing_key: PathBuf::new(),
                state: folder.join("state/coordinator"),
            },
            share: ShareConfig::at(share.display().to_string()),
            nats: BusConfig::at(format!("nats://127.0.0.1:{port}")),
            round,
            cut: CutConfig::default(),
            streams: StreamsConfig::default(),
            lead: LeadConfig::default(),
            http: HttpConfig::nowhere(),
            log: LogConfig { filter: "warn".to_owned(), ..LogConfig::default() },
            telemetry: TelemetryConfig::default(),
            notify: Vec::new(),
        };
        fs::write(folder.join("coordinator.toml"), config.to_toml_string())?;
        fs::write(folder.join("nats-server.conf"), server_config(port, monitor_port, folder))?;
        Ok(Self { places, fleet, agents, store, nats: None, coordinator: None, monitor_port, config, port })
    }

    /// Starts the server.
    pub fn start_server(&mut self) {
        let folder = &self.places.folder;
        let server = NatsServer::start(&folder.join("nats-server.conf"), self.port, &folder.join("nats.log"));
        self.nats = Some(server);
    }

    /// Starts the coordinator.
    pub fn start_coordinator(&mut self) {
        let mut command = Command::new(&self.places.coordinator);
        command.arg("--config").arg(self.places.folder.join("coordinator.toml"));
        self.coordinator = Some(Running::start(command, &self.coordinator_log()));
    }

    /// Where the coordinator's lines go.
    #[must_use]
    pub fn coordinator_log(&self) -> PathBuf {
        self.places.folder.join("coordinator.log")
    }

    /// How a client of its server connects.
    ///
    /// # Errors
    /// When the fleet's name cannot be used on the bus, which no stage has.
    pub fn client(&self, name: &str) -> Result<NatsConfig, Failure> {
        let subjects = Subjects::new(&self.fleet.name);
        let streams = Streams::new(
            self.fleet.name.as_str(),
            &subjects.print(&Subject::State),
            &subjects.print(&Subject::TriggerAsync),
        )?;
        Ok(NatsConfig::new(self.config.nats.url.clone(), name, streams))
    }

    /// The log of its share, read to the head.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn log(&self) -> Result<Log, Failure> {
        let pin = log_pin(&self.fleet);
        Ok(Log::open(Arc::clone(&self.store), pin).await?)
    }
}

fn log_pin(fleet: &FleetConfig) -> muster_protocol::log::Pin {
    muster_protocol::log::Pin { root: Some(fleet.root), fleet: Some(fleet.id), head: None }
}

/// The first records: genesis, a keyset, and everybody.
async fn found(
    store: &Arc<dyn Store>,
    root: &Signer,
    coordinator: &Signer,
    agents: &[(ServiceName, Signer)],
) -> Result<FleetConfig, Failure> {
    let (name, salt) = ("swarm".parse()?, random(&mut OsEntropy));
    let fleet = FleetConfig { name, id: FleetId::derive(&root.key_id(), &salt), root: root.key_id() };
    let share = Nonce::from_bytes(random(&mut OsEntropy));
    let genesis = Genesis { name: fleet.name.clone(), salt, share, created: UnixMillis(0) };
    let mut log = log::found(Arc::clone(store), root, &genesis).await?;
    let recovery = Identity::generate(&mut OsEntropy).recipient();
    let keys = vec![KeysetKey { recipient: recovery.clone(), label: "kit".to_owned() }];
    let keyset = seal_statement(root, &fleet.id, &Keyset { previous: None, keys, at: None });
    log.append_statement::<Keyset>(root, keyset).await?;
    let mut members =
        vec![Member { key: coordinator.key_id(), name: "coordinator".parse()?, role: Role::Coordinator }];
    for (service, signer) in agents {
        // What is sealed to an agent itself matters to nobody here, so that one recipient does for all.
        let role = Role::Agent { service: service.clone(), sealing: recovery.clone() };
        members.push(Member { key: signer.key_id(), name: service.as_str().parse()?, role });
    }
    for members in members.chunks(MEMBERS_PER_RECORD) {
        let previous = log.state().statements.get(Roster::KIND).copied();
        let roster =
            Roster { previous, changes: members.iter().cloned().map(Change::Admit).collect(), at: None };
        log.append_statement::<Roster>(root, seal_statement(root, &fleet.id, &roster)).await?;
    }
    Ok(fleet)
}

/// A server as `muster init` configures it, but for accounts and TLS, so that it does for the fleet what it does for the
/// bare exchange beside it.
pub(super) fn server_config(port: u16, monitor_port: u16, folder: &Path) -> String {
    format!(
        "listen: \"127.0.0.1:{port}\"\nmax_connections: 64K\nmax_pending: 64MB\nwrite_deadline: \"10s\"\n\
         http: \"127.0.0.1:{monitor_port}\"\njetstream {{ store_dir: \"{}\" }}\n",
        folder.join("jetstream").display()
    )
}

/// Two ports that are free now; the server takes them a moment later.
pub(super) fn free_ports() -> Result<[u16; 2], Failure> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()])
}

fn signer() -> Signer {
    Signer::from_seed(&random(&mut OsEntropy))
}

/// Lets this process, and those it starts, hold as many connections as the system allows; how many that are.
///
/// # Errors
/// When the limit cannot be raised.
pub fn raise_open_files() -> Result<u64, Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.current.unwrap_or(u64::MAX))
}
