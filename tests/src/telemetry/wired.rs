//! A fleet whose processes tell of themselves: each has a page of metrics on a port of its own, and a Prometheus that reads them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use muster_test_servers::Prometheus;

use super::prom::Prom;
use crate::fleet::Fleet;

/// A folder or file below `deploy/`.
#[must_use]
pub fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// A fleet and its ports.
#[derive(Debug)]
pub struct Wired {
    /// The fleet, not started.
    pub fleet: Fleet,
    /// Where each configuration's process serves `/metrics`, by the file's path below the fleet's folder.
    pub ports: BTreeMap<String, u16>,
}

impl Wired {
    /// Gives every process of the fleet a port for its metrics; with `collector`, they push there every second as well.
    ///
    /// # Panics
    /// When a configuration cannot be read or written.
    #[must_use]
    pub fn new(fleet: Fleet, collector: Option<&str>) -> Self {
        let coordinators = std::fs::read_dir(fleet.dir()).expect("a folder").flatten();
        let coordinators = coordinators.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let coordinators =
            coordinators.filter(|name| name.starts_with("coordinator") && name.ends_with(".toml"));
        let agents = fleet.services().into_iter().map(|service| format!("agents/{service}.toml"));
        let files: Vec<String> = coordinators.chain(agents).collect();
        // All at once, so that no two get the same.
        let listeners: Vec<TcpListener> =
            files.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let ports: BTreeMap<String, u16> = files.into_iter().zip(listeners.iter().map(port)).collect();
        for (file, port) in &ports {
            set_telemetry(&fleet.dir().join(file), *port, collector);
        }
        Self { fleet, ports }
    }

    /// Targets of Prometheus: job and port.
    #[must_use]
    pub fn targets(&self, job: &str) -> Vec<u16> {
        let agents = job == "muster-agent";
        let of_job = self.ports.iter().filter(|(file, _)| file.starts_with("agents/") == agents);
        of_job.map(|(_, port)| *port).collect()
    }

    /// Starts a Prometheus that scrapes every second, with the rules that are shipped; `hasty`: an alert fires as soon as its
    /// expression holds, and what looks back hours looks back twenty seconds.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn prometheus(&self, hasty: bool) -> (Prometheus, Prom) {
        let read = |name: &str| std::fs::read_to_string(deploy("prometheus").join(name)).expect("rules");
        let (mut alerts, mut recording) = (read("alerts.yml"), read("recording.yml"));
        if hasty {
            let line = |line: &str| match line.trim_start().starts_with("for: ") {
                true => "        for: 0s".to_owned(),
                false => hasty_windows(line),
            };
            alerts = alerts.lines().map(line).collect::<Vec<_>>().join("\n");
            recording = hasty_windows(&recording);
        }
        let job = |name: &str| {
            let targets: Vec<String> =
                self.targets(name).iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
            let targets = targets.join(", ");
            format!(
                "  - job_name: {name}\n    static_configs:\n      - targets: [{targets}]\n        labels: {{ muster_fleet: test }}\n"
            )
        };
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [recording.yml, alerts.yml]\nscrape_configs:\n{}{}",
            job("muster-coordinator"),
            job("muster-agent")
        );
        let beside = [("recording.yml", recording), ("alerts.yml", alerts)];
        let beside: Vec<(&str, &str)> = beside.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let server = Prometheus::start(&config, &beside);
        let prom = Prom::at(server.port());
        (server, prom)
    }
}

fn hasty_windows(text: &str) -> String {
    let windows = ["[15m]", "[1h]", "[6h]", "[1d]"];
    let text = text.replace("[50d:1h]", "[1h:1s]");
    windows.iter().fold(text, |text, window| text.replace(window, "[20s]"))
}

/// Turns telemetry on in a configuration file.
///
/// # Panics
/// When it cannot be read or written, or has no section for it.
pub fn set_telemetry(file: &Path, port: u16, collector: Option<&str>) {
    const SET: [&str; 3] = ["metrics", "otlp_endpoint", "interval"];
    let text = std::fs::read_to_string(file).expect("a configuration");
    let (before, rest) = text.split_once("[telemetry]\n").expect("it has a section for telemetry");
    let (section, after) = match rest.find("\n[") {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let is_set =
        |line: &str| SET.iter().any(|key| line.split('=').next().is_some_and(|name| name.trim() == *key));
    let kept: Vec<&str> = section.lines().filter(|line| !is_set(line)).collect();
    let kept = kept.join("\n");
    let endpoint = collector.unwrap_or_default();
    let set = format!("metrics = \"127.0.0.1:{port}\"\notlp_endpoint = \"{endpoint}\"\ninterval = \"1s\"\n");
    std::fs::write(file, format!("{before}[telemetry]\n{set}{kept}\n{after}")).expect("written");
}
