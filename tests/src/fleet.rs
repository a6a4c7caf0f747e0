//! A whole fleet in a temporary folder: `muster init`, a nats-server, and daemons that can be killed one by one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::nats::NatsServer;
use crate::process::{Running, Said, binaries, wait_for};

/// Quick patience for tests: what a user waits for in seconds, a test waits for in tenths.
const PATIENCE: [(&str, &str); 8] = [
    ("MUSTER_ROUND_RECRUIT", "2s"),
    ("MUSTER_ROUND_OFFLINE_AFTER", "3s"),
    ("MUSTER_ROUND_RETRY_FIRST", "200ms"),
    ("MUSTER_ROUND_RETRY_LONGEST", "1s"),
    ("MUSTER_AGENT_HEARTBEAT", "500ms"),
    ("MUSTER_LEAD_LEASE", "2s"),
    ("MUSTER_LEAD_TAKEOVER", "3s"),
    // Fleets of tests that run at the same time would meet on one port; tests of the API take ports of their own.
    ("MUSTER_HTTP_LISTEN", ""),
];

/// Those of them that the former version does not know.
const LATER: [&str; 1] = ["MUSTER_HTTP_LISTEN"];

/// Writes a file that its owner alone may read.
///
/// # Panics
/// When it cannot be written.
pub fn secret(at: &Path, text: &str) {
    std::fs::write(at, text).expect("written");
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o600)).expect("closed");
}

/// A fleet.
#[derive(Debug)]
pub struct Fleet {
    folder: TempDir,
    share: PathBuf,
    env: BTreeMap<String, String>,
    /// Where its programs lie that are not these: those of a former version.
    former: Option<PathBuf>,
    /// Its server, once started.
    pub nats: Option<NatsServer>,
    coordinator: Option<Running>,
    /// Further coordinators, by name.
    standbys: BTreeMap<String, Running>,
    agents: BTreeMap<String, Running>,
}

impl Fleet {
    /// `muster init` with these services (`NAME=KIND:ARG`) in a new folder.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn init(services: &[String]) -> Self {
        let folder = TempDir::with_prefix("muster-").expect("a temporary folder");
        let share = folder.path().join("share");
        Self::init_in(folder, share, services, 1, None)
    }

    /// The same, with its share at an address and these credentials. Loopback is `localhost` in it: the number is what
    /// [`Fleet::take_own_port`] looks for.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn init_at(url: &str, credentials: &str, services: &[String]) -> Self {
        let folder = TempDir::with_prefix("muster-").expect("a temporary folder");
        let file = folder.path().join("share.credentials");
        secret(&file, credentials);
        Self::init_in(folder, PathBuf::from(url), services, 1, Some(&file))
    }

    /// The same with this many coordinators.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn init_with_coordinators(coordinators: u8, services: &[String]) -> Self {
        let folder = TempDir::with_prefix("muster-").expect("a temporary folder");
        let share = folder.path().join("share");
        Self::init_in(folder, share, services, coordinators, None)
    }

    /// The same, with its share at this path.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn init_on(share: &Path, services: &[String]) -> Self {
        let folder = TempDir::with_prefix("muster-").expect("a temporary folder");
        Self::init_in(folder, share.to_owned(), services, 1, None)
    }

    /// The same by the programs of a former version in this folder, which start everything from then on, until
    /// [`Fleet::upgrade`].
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn init_by_former(programs: &Path, services: &[String]) -> Self {
        let folder = TempDir::with_prefix("muster-").expect("a temporary folder");
        let share = folder.path().join("share");
        Self::init_by(Some(programs.to_owned()), folder, share, services, 1, None)
    }

    /// From here on the programs of this version are started. What runs, runs on.
    pub fn upgrade(&mut self) {
        self.former = None;
    }

    fn init_in(
        folder: TempDir,
        share: PathBuf,
        services: &[String],
        coordinators: u8,
        credentials: Option<&Path>,
    ) -> Self {
        Self::init_by(None, folder, share, services, coordinators, credentials)
    }

    fn init_by(
        former: Option<PathBuf>,
        folder: TempDir,
        share: PathBuf,
        services: &[String],
        coordinators: u8,
        credentials: Option<&Path>,
    ) -> Self {
        let env = PATIENCE.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let fleet = Self {
            folder,
            share,
            env,
            former,
            nats: None,
            coordinator: None,
            standbys: BTreeMap::new(),
            agents: BTreeMap::new(),
        };
        let mut args = vec!["init".to_owned(), text(&fleet.dir()), "--fleet".into(), "test".into()];
        args.extend(["--share".into(), text(&fleet.share()), "--kit".into(), text(&fleet.kit())]);
        args.extend(["--coordinators".into(), coordinators.to_string()]);
        args.extend(credentials.into_iter().flat_map(|file| ["--share-credentials".into(), text(file)]));
        for service in services {
            args.extend(["--service".into(), service.clone()]);
        }
        let _ = fleet.run(&args).with_code(0);
        fleet.take_own_port();
        fleet
    }

    /// Fleets of tests that run at the same time must not meet: `init` gives all of them the port that is free now.
    ///
    /// # Panics
    /// When a configuration cannot be read or written.
    pub fn take_own_port(&self) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let dir = self.dir();
        let agents = self.services().into_iter().map(|agent| dir.join(format!("agents/{agent}.toml")));
        let files = ["operator.toml", "coordinator.toml", "nats-server.conf"].map(|name| dir.join(name));
        let standbys =
            (2..=9).map(|n| dir.join(format!("coordinator-{n}.toml"))).filter(|file| file.exists());
        for file in files.into_iter().chain(standbys).chain(agents) {
            let text = std::fs::read_to_string(&file).expect("a configuration");
            let (before, rest) = text.split_once("127.0.0.1:").expect("it names the server");
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            std::fs::write(&file, format!("{before}127.0.0.1:{port}{rest}")).expect("written");
        }
    }

    /// The fleet's folder.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("fleet")
    }

    /// The share.
    #[must_use]
    pub fn share(&self) -> PathBuf {
        self.share.clone()
    }

    /// The kit.
    #[must_use]
    pub fn kit(&self) -> PathBuf {
        self.folder.path().join("kit")
    }

    /// A path for something else of the test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lays a variable over the configuration of everything started from here on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.env.insert(key.to_owned(), value.to_owned());
    }

    /// Runs `muster` with the fleet's configuration to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Said {
        let mut command = self.command("muster");
        command.args(args).stdin(Stdio::null()).env("MUSTER_CONFIG", self.dir().join("operator.toml"));
        let accounts = || std::fs::read(self.dir().join("nats-accounts.conf")).ok();
        let before = accounts();
        let said = command.output().expect("muster runs").into();
        // As `muster up` would.
        if let Some(nats) = self.nats.as_ref().filter(|_| accounts() != before) {
            nats.reload();
        }
        said
    }

    /// Starts nats-server, coordinator and every agent.
    pub fn up(&mut self) {
        self.start_nats();
        self.start_coordinator();
        for agent in self.services() {
            self.start_agent(&agent);
        }
    }

    /// Kills all of it, as a fire would.
    pub fn down(&mut self) {
        self.agents.clear();
        self.coordinator = None;
        self.standbys.clear();
        self.nats = None;
    }

    /// The services that the folder configures.
    ///
    /// # Panics
    /// When the folder cannot be read.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.dir().join("agents"))
            .expect("agents")
            .map(|e| e.expect("entry").path())
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .map(|p| p.file_stem().expect("name").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Starts the server of the fleet's folder.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_nats(&mut self) {
        let config = self.dir().join("nats-server.conf");
        let server = NatsServer::start(&config, self.port(), &self.path("nats.log"));
        self.nats = Some(server);
    }

    /// How a client of the fleet's server begins that has the nkey in this file; with none, it is nobody.
    ///
    /// # Panics
    /// When the file cannot be read.
    #[must_use]
    pub fn client_options(&self, seed: Option<&Path>) -> async_nats::ConnectOptions {
        let options = match seed {
            Some(seed) => {
                let seed = std::fs::read_to_string(seed).expect("a seed");
                async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
            }
            None => async_nats::ConnectOptions::new(),
        };
        options.add_root_certificates(self.dir().join("keys/bus-ca.crt")).require_tls(true)
    }

    /// The address of its server.
    ///
    /// # Panics
    /// When `operator.toml` names none.
    #[must_use]
    pub fn nats_url(&self) -> String {
        format!("tls://127.0.0.1:{}", self.port())
    }

    fn port(&self) -> u16 {
        let text = std::fs::read_to_string(self.dir().join("operator.toml")).expect("operator.toml");
        let port = text.split("127.0.0.1:").nth(1).and_then(|rest| {
            rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
        });
        port.expect("operator.toml names the server's port")
    }

    /// A plain client that may start rounds, and no more.
    ///
    /// # Panics
    /// When it cannot connect.
    pub async fn trigger_client(&self) -> async_nats::Client {
        let seed = self.dir().join("keys/trigger.nk");
        self.client_options(Some(&seed)).connect(self.nats_url()).await.expect("connects")
    }

    /// Makes its server let everybody in without TLS, as one without accounts would: for tests that must hear
    /// everything.
    ///
    /// # Panics
    /// When the server's configuration is not what `init` writes.
    pub fn open_the_bus(&mut self) {
        let path = self.dir().join("nats-server.conf");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let (before, rest) = text.split_once("tls {").expect("it has TLS");
        let (_, rest) = rest.split_once('}').expect("it ends");
        let (rest, _) = rest.split_once("include").expect("it has accounts");
        std::fs::write(&path, format!("{before}{rest}")).expect("written");
        let listen = text.lines().find_map(|line| line.strip_prefix("listen: ")).expect("it listens");
        self.set("MUSTER_NATS_URL", &format!("nats://{}", listen.trim_matches('"')));
        self.set("MUSTER_NATS_CA", "");
        self.set("MUSTER_NATS_NKEY", "");
    }

    /// Makes its server speak in clear, with accounts and nkeys as `init` makes them: for tests that speak by hand.
    ///
    /// # Panics
    /// When the server's configuration is not what `init` writes.
    pub fn take_tls_off_the_bus(&mut self) {
        let path = self.dir().join("nats-server.conf");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let (before, rest) = text.split_once("tls {").expect("it has TLS");
        let (_, rest) = rest.split_once('}').expect("it ends");
        std::fs::write(&path, format!("{before}{rest}")).expect("written");
        self.set("MUSTER_NATS_URL", &format!("nats://127.0.0.1:{}", self.port()));
        self.set("MUSTER_NATS_CA", "");
    }

    /// Starts the coordinator.
    pub fn start_coordinator(&mut self) {
        let mut command = self.command("muster-coordinator");
        command.arg("--config").arg(self.dir().join("coordinator.toml"));
        self.coordinator = Some(Running::start(command, &self.path("coordinator.log")));
    }

    /// Starts a further coordinator of [`Fleet::init_with_coordinators`]: `coordinator-2`, and so on.
    pub fn start_standby(&mut self, name: &str) {
        let mut command = self.command("muster-coordinator");
        command.arg("--config").arg(self.dir().join(format!("{name}.toml")));
        let running = Running::start(command, &self.path(&format!("{name}.log")));
        self.standbys.insert(name.to_owned(), running);
    }

    /// The process of a coordinator by its name, while it runs.
    ///
    /// # Panics
    /// When it was not started.
    pub fn coordinator_named(&mut self, name: &str) -> &mut Running {
        let running =
            if name == "coordinator" { self.coordinator.as_mut() } else { self.standbys.get_mut(name) };
        running.expect("it was started")
    }

    /// Kills a coordinator by its name.
    pub fn kill_coordinator_named(&mut self, name: &str) {
        if name == "coordinator" {
            self.coordinator = None;
        } else {
            self.standbys.remove(name);
        }
    }

    /// Kills the coordinator.
    pub fn kill_coordinator(&mut self) {
        self.coordinator = None;
    }

    /// Waits until the coordinator ends by itself; its exit code.
    ///
    /// # Panics
    /// When it does not run, or goes on.
    pub fn coordinator_ends(&mut self) -> Option<i32> {
        self.coordinator.as_mut().expect("it runs").wait().code()
    }

    /// A client of the fleet's server, as anybody is one who reaches it once its bus is open ([`Fleet::open_the_bus`]).
    ///
    /// # Panics
    /// When there is no server, or it takes no clients.
    pub async fn client(&self) -> async_nats::Client {
        let port = self.nats.as_ref().expect("the fleet's server runs").port;
        async_nats::connect(format!("127.0.0.1:{port}")).await.expect("the server takes a client")
    }

    /// The ids of the processes that run for this fleet: server, coordinator, agents.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let server = self.nats.as_ref().and_then(NatsServer::id);
        let coordinators = self.coordinator.iter().chain(self.standbys.values());
        let ours = coordinators.chain(self.agents.values()).map(Running::id);
        server.into_iter().chain(ours).collect()
    }

    /// The folder of the private root key.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("kit-root")
    }

    /// Starts a service's agent.
    pub fn start_agent(&mut self, service: &str) {
        let mut command = self.command("muster-agent");
        command.arg("--config").arg(self.dir().join(format!("agents/{service}.toml")));
        let log = self.path(&format!("agent-{service}.log"));
        self.agents.insert(service.to_owned(), Running::start(command, &log));
    }

    /// Kills a service's agent.
    pub fn kill_agent(&mut self, service: &str) {
        self.agents.remove(service);
    }

    /// Starts a service's agent beneath a program that runs it, e.g. `strace`, with these arguments before it.
    pub fn start_agent_under(&mut self, wrapper: &[String], service: &str) {
        let mut command = self.command_under(wrapper, "muster-agent");
        command.arg("--config").arg(self.dir().join(format!("agents/{service}.toml")));
        let log = self.path(&format!("agent-{service}.log"));
        self.agents.insert(service.to_owned(), Running::start(command, &log));
    }

    /// The same with the coordinator.
    pub fn start_coordinator_under(&mut self, wrapper: &[String]) {
        let mut command = self.command_under(wrapper, "muster-coordinator");
        command.arg("--config").arg(self.dir().join("coordinator.toml"));
        self.coordinator = Some(Running::start(command, &self.path("coordinator.log")));
    }

    /// The process of a service's agent.
    ///
    /// # Panics
    /// When it was not started.
    pub fn agent(&mut self, service: &str) -> &mut Running {
        self.agents.get_mut(service).expect("its agent was started")
    }

    /// The process of the coordinator.
    ///
    /// # Panics
    /// When it was not started.
    pub fn coordinator(&mut self) -> &mut Running {
        self.coordinator.as_mut().expect("the coordinator was started")
    }

    /// Starts something with `muster` in the background.
    #[must_use]
    pub fn spawn<S: AsRef<std::ffi::OsStr>>(&self, args: &[S], log: &str) -> Running {
        let mut command = self.command("muster");
        command.args(args).env("MUSTER_CONFIG", self.dir().join("operator.toml"));
        Running::start(command, &self.path(log))
    }

    /// The share's rounds, as `muster rounds --json` tells them.
    ///
    /// # Panics
    /// When the command fails.
    #[must_use]
    pub fn rounds(&self) -> Vec<Value> {
        let said = self.run(&["rounds", "--last", "0", "--json"]).with_code(0);
        said.json()["rounds"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the round of this number is in one of these states.
    ///
    /// # Panics
    /// When it is not within the limit; the logs' ends are printed.
    pub fn wait_for_round(&self, number: u64, states: &[&str]) -> Value {
        let guard = LogsOnPanic(self.folder.path());
        let round = wait_for(&format!("round {number} is one of {states:?}"), || {
            let said = self.run(&["rounds", "--last", "0", "--json"]);
            let json: Value = serde_json::from_str(&said.out).ok()?;
            let rounds = json["rounds"].as_array()?;
            let state_fits = |r: &&Value| r["state"].as_str().is_some_and(|s| states.contains(&s));
            rounds.iter().filter(|r| r["number"] == number).find(state_fits).cloned()
        });
        std::mem::forget(guard);
        round
    }

    /// Recovers the newest round into `into`.
    #[must_use]
    pub fn recover(&self, into: &Path) -> Said {
        let (share, kit, into) = (text(&self.share()), text(&self.kit()), text(into));
        self.run(&["recover", "--share", &share, "--kit", &kit, "--into", &into])
    }

    fn command_under(&self, wrapper: &[String], program: &str) -> Command {
        let Some((outer, args)) = wrapper.split_first() else { return self.command(program) };
        let mut command = Command::new(outer);
        command.args(args).arg(self.program(program)).envs(&self.env);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command.envs(&self.env);
        if self.former.is_some() {
            // Of a key that came later it knows nothing.
            for key in LATER {
                command.env_remove(key);
            }
        }
        command
    }

    fn program(&self, name: &str) -> PathBuf {
        self.former.clone().unwrap_or_else(binaries).join(name)
    }
}

/// A path as text, which temporary paths are.
#[must_use]
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

struct LogsOnPanic<'a>(&'a Path);

impl Drop for LogsOnPanic<'_> {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.0).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let tail: Vec<_> = text.lines().rev().take(25).collect();
                eprintln!("--- {}", entry.path().display());
                for line in tail.into_iter().rev() {
                    eprintln!("{line}");
                }
            }
        }
    }
}
