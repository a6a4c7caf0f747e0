//! The bare exchange beside a round: a program that lets as many clients say as much over the same server, unsigned and
//! unchecked. Its interface: `PROGRAM setup|agents|coord URL AGENTS PER-CONNECTION core`; `agents` says a line that begins
//! with `READY` once all are connected, `coord` one that holds `total_ms=MILLISECONDS`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::Failure;
use super::stage::{free_ports, server_config};
use crate::nats::NatsServer;

/// Runs it once against a server of its own; seconds from the first message to the last.
pub(super) fn measure(program: &Path, folder: &Path, agents: usize) -> Result<f64, Failure> {
    let folder = folder.join("baseline");
    fs::create_dir_all(&folder)?;
    let [port, monitor_port] = free_ports()?;
    let config = folder.join("nats-server.conf");
    fs::write(&config, server_config(port, monitor_port, &folder))?;
    let _server = NatsServer::start(&config, port, &folder.join("nats.log"));
    let role = |role: &str| {
        let mut command = Command::new(program);
        command.args([role, &format!("nats://127.0.0.1:{port}"), &agents.to_string(), "1", "core"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    };
    let set_up = role("setup").output()?;
    if !set_up.status.success() {
        return Err(format!("{} setup: {}", program.display(), set_up.status).into());
    }
    let mut clients = Clients(role("agents").spawn()?);
    let said = clients.0.stdout.take().ok_or("its output is piped")?;
    let mut line = String::new();
    // The pipe is kept open until the end: what the clients say last must have somewhere to go.
    let mut said = BufReader::new(said);
    said.read_line(&mut line)?;
    if !line.starts_with("READY") {
        return Err(format!("{} agents: {line}", program.display()).into());
    }
    let coordinated = role("coord").output()?;
    let text = String::from_utf8_lossy(&coordinated.stdout).into_owned();
    let millis = text.split("total_ms=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let millis: f64 =
        millis.and_then(|text| text.parse().ok()).ok_or_else(|| format!("coord said {text:?}"))?;
    Ok(millis / 1000.0)
}

/// The clients' process; ended with its handle.
struct Clients(Child);

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
