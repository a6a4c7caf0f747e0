//! A fleet of several machines: `init --listen`, one folder for each machine, started as a service manager would.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster_tests::fleet::text;
use muster_tests::netns::Network;
use muster_tests::process::{Running, Said, binaries, have, muster, skip, wait_for};
use tempfile::TempDir;

const SERVICES: [&str; 3] = ["dns", "secrets", "web"];

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A fleet of three machines, each of which is a folder of this one.
struct Machines {
    folder: TempDir,
    port: u16,
}

impl Machines {
    fn init() -> Self {
        Self::init_at("localhost", free_port())
    }

    fn init_at(host: &str, port: u16) -> Self {
        let machines = Self { folder: TempDir::with_prefix("muster-").expect("a folder"), port };
        let mut args = vec!["init".to_owned(), text(&machines.path("fleet")), "--json".into()];
        args.extend([
            "--fleet".into(),
            "three".into(),
            "--listen".into(),
            format!("{host}:{}", machines.port),
        ]);
        args.extend([
            "--share".into(),
            text(&machines.path("share")),
            "--kit".into(),
            text(&machines.path("kit")),
        ]);
        for name in SERVICES {
            let data = machines.path(&format!("data-{name}"));
            fs::create_dir(&data).expect("made");
            fs::write(data.join("file"), format!("of {name}\n")).expect("written");
            args.extend(["--service".into(), format!("{name}=files:{}", data.display())]);
        }
        let made = muster(&args).with_code(0).json();
        for (name, folder) in SERVICES.iter().zip(made["machines"].as_array().expect("folders")) {
            let folder = Path::new(folder.as_str().expect("a path"));
            // As a copy to another machine, after which none stays here.
            fs::rename(folder, machines.path(name)).expect("moved");
        }
        machines
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> String {
        text(&self.path("fleet/operator.toml"))
    }

    fn up(&self) -> Running {
        let mut command = Command::new(binaries().join("muster"));
        command.arg("up").arg(self.path("fleet")).env("MUSTER_ROUND_RECRUIT", "10s");
        Running::start(command, &self.path("up.log"))
    }

    fn wait_for_agents(&self) {
        let config = self.config();
        wait_for("all agents", || {
            let said = muster(["agents", "--json", "--config", &config]);
            let online = said.out.matches("\"online\"").count();
            (online == SERVICES.len()).then_some(())
        });
    }

    fn agent(&self, name: &str, env: &[(&str, String)]) -> Running {
        let mut command = Command::new(binaries().join("muster-agent"));
        command.arg("--config").arg(self.path(name).join("agent.toml")).current_dir("/");
        command.envs(env.iter().map(|(key, value)| (key, value)));
        Running::start(command, &self.path(&format!("{name}.log")))
    }
}

#[test]
fn a_fleet_of_three_machines_backs_up_and_comes_back() {
    let machines = Machines::init();
    let once = muster(["once", &text(&machines.path("fleet"))]).with_code(2);
    assert!(once.err.contains("machines of their own") && once.err.contains("muster up"), "{}", once.err);
    let mut up = machines.up();
    let _agents = SERVICES.map(|name| machines.agent(name, &[]));
    let config = machines.config();
    machines.wait_for_agents();
    let round = muster(["start", "--wait", "--json", "--config", &config]).with_code(0);
    assert!(round.out.contains("\"complete\""), "{}", round.out);
    let out = machines.path("out");
    let recover =
        ["recover", "--share", &text(&machines.path("share")), "--kit", &text(&machines.path("kit"))];
    let _ = muster(recover.into_iter().chain(["--into", &text(&out)])).with_code(0);
    for name in SERVICES {
        let back = fs::read_to_string(out.join(name).join("files/file")).expect("recovered");
        assert_eq!(back, format!("of {name}\n"));
    }
    // What the share keeps of the fleet has the agents of other machines, too.
    let kept = muster(["config", "show", "--config", &config]).with_code(0).out;
    for name in SERVICES {
        assert!(kept.contains(&format!("agents/{name}.toml")), "{kept}");
    }
    up.terminate();
    assert_eq!(up.wait().code(), Some(0));
}

#[test]
fn a_fleet_of_several_machines_is_rebuilt_for_several() {
    let machines = Machines::init();
    let mut up = machines.up();
    let config = machines.config();
    let agents = SERVICES.map(|name| machines.agent(name, &[]));
    machines.wait_for_agents();
    let _ = muster(["start", "--wait", "--config", &config]).with_code(0);
    drop(agents);
    up.terminate();
    assert_eq!(up.wait().code(), Some(0));
    for lost in SERVICES.iter().copied().chain(["fleet"]) {
        fs::rename(machines.path(lost), machines.path(&format!("lost-{lost}"))).expect("lost");
    }
    let places = ["share", "kit", "kit-root", "fleet"].map(|name| text(&machines.path(name)));
    let [share, kit, root, fleet] = &places;
    let place = format!("localhost:{}", machines.port);
    let args = ["rebuild", "--share", share, "--kit", kit, "--root", root, "--into", fleet];
    let said = muster(args.into_iter().chain(["--listen", &place, "--json"])).with_code(0).json();
    assert_eq!(said["nats"], format!("tls://{place}"));
    let folders = said["machines"].as_array().expect("folders");
    assert_eq!(folders.len(), SERVICES.len(), "{said}");
    for folder in folders.iter().map(|folder| PathBuf::from(folder.as_str().expect("a path"))) {
        assert!(folder.join("state/head").is_file(), "the head is pinned");
        let name = folder.file_name().expect("a name").to_owned();
        fs::rename(&folder, machines.folder.path().join(name)).expect("moved");
    }
    let mut up = machines.up();
    let _agents = SERVICES.map(|name| machines.agent(name, &[]));
    machines.wait_for_agents();
    let round = muster(["start", "--wait", "--json", "--config", &config]).with_code(0);
    assert!(round.out.contains("\"complete\""), "{}", round.out);
    let kept = muster(["config", "show", "--config", &config]).with_code(0).out;
    assert!(SERVICES.iter().all(|name| kept.contains(&format!("agents/{name}.toml"))), "{kept}");
    up.terminate();
    assert_eq!(up.wait().code(), Some(0));
}

/// Three machines with a network between them: a cable that is pulled is noticed by nobody's operating system.
#[test]
#[ignore = "needs root, for network namespaces: ./x test --servers"]
fn servers_three_machines_with_cables_lose_one_and_find_it_again() {
    let network = Network::of(SERVICES.len());
    // In a network of its own every port is free.
    let machines = Machines::init_at(network.hub_address(), 4222);
    let config = machines.config();
    let programs = binaries();
    let muster = |words: &[&str]| -> Said {
        let mut command = network.in_hub(&programs.join("muster"));
        command.args(words).args(["--config", &config]).stdin(Stdio::null());
        command.output().expect("muster runs").into()
    };
    let mut up = network.in_hub(&programs.join("muster"));
    up.arg("up").arg(machines.path("fleet")).env("MUSTER_ROUND_RECRUIT", "5s");
    up.env("MUSTER_ROUND_OFFLINE_AFTER", "6s")
        .env("MUSTER_ROUND_ATTEMPTS", "1")
        .env("MUSTER_HTTP_LISTEN", "");
    let mut up = Running::start(up, &machines.path("up.log"));
    let _agents: Vec<Running> = SERVICES
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let mut command = network.on(number, &programs.join("muster-agent"));
            command.arg("--config").arg(machines.path(name).join("agent.toml")).current_dir("/");
            command.env("MUSTER_AGENT_HEARTBEAT", "1s");
            Running::start(command, &machines.path(&format!("{name}.log")))
        })
        .collect();
    let online = |wanted: usize| {
        wait_for("the agents that are there", || {
            let said = muster(&["agents", "--json"]);
            (said.out.matches("\"online\"").count() == wanted).then_some(())
        });
    };
    online(3);
    let round = muster(&["start", "--wait", "--json"]).with_code(0);
    assert!(round.out.contains("\"complete\""), "{}", round.out);
    network.plug(1, false);
    online(2);
    let round = muster(&["start", "--wait", "--json"]);
    assert_eq!(round.code, 3, "{}{}", round.out, round.err);
    assert!(round.out.contains("AGENT-01"), "{}", round.out);
    network.plug(1, true);
    online(3);
    let round = muster(&["start", "--wait", "--json"]).with_code(0);
    assert!(round.out.contains("\"complete\""), "{}", round.out);
    up.terminate();
    assert_eq!(up.wait().code(), Some(0));
}

#[test]
fn an_agent_tells_its_service_manager_that_it_is_up_lives_and_ends() {
    let machines = Machines::init();
    let path = machines.path("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    // There is no server and no coordinator: it waits for them, and is up all the same.
    let env = [("NOTIFY_SOCKET", text(&path)), ("WATCHDOG_USEC", "400000".to_owned())];
    let mut agent = machines.agent("dns", &env);
    let heard = |what: &str| {
        let began = Instant::now();
        let mut said = Vec::new();
        while began.elapsed() < Duration::from_secs(20) {
            let mut bytes = [0; 256];
            let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error}; {said:?}"));
            said.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            if said.last().is_some_and(|last| last.contains(what)) {
                return said.pop().unwrap_or_default();
            }
        }
        panic!("{what} was never said: {said:?}")
    };
    assert!(heard("READY=1").contains("STATUS=agent of dns"));
    let (first, second) = (heard("WATCHDOG=1"), heard("WATCHDOG=1"));
    assert_eq!(first, second);
    agent.terminate();
    let _ = heard("STOPPING=1");
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn the_package_has_programs_that_run_and_units_that_are_valid() {
    for need in ["dpkg-deb", "systemd-analyze"] {
        if !have(need) {
            return skip(&format!("{need} is not here"));
        }
    }
    let folder = TempDir::with_prefix("muster-").expect("a folder");
    let root = folder.path().join("root");
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/debian/build");
    let run = |program: &str, args: &[&std::ffi::OsStr]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect("runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program}: {said}");
        said
    };
    let said = run(build, &[binaries().as_os_str(), folder.path().as_os_str()]);
    let package = said.lines().last().expect("it names the package").to_owned();
    run("dpkg-deb", &["-x".as_ref(), package.as_ref(), root.as_os_str()]);
    for program in ["muster", "muster-agent", "muster-coordinator"] {
        let said = run(&text(&root.join("usr/bin").join(program)), &["--version".as_ref()]);
        assert!(said.starts_with(program), "{said}");
    }
    // The units are looked at beside those that they build on, which belong to the system.
    let units = root.join("usr/lib/systemd/system");
    run("cp", &["-rn".as_ref(), "/lib/systemd/system/.".as_ref(), units.as_os_str()]);
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).expect("linked");
    for unit in ["muster-agent@dns", "muster-coordinator@one", "muster-fleet@prod"] {
        let mut under = std::ffi::OsString::from("--root=");
        under.push(&root);
        run("systemd-analyze", &[&under, "verify".as_ref(), format!("{unit}.service").as_ref()]);
    }
}
