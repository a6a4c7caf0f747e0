//! A real nats-server for tests: started on a free port of the loopback, killed when dropped.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct TestServer {
    program: PathBuf,
    folder: TempDir,
    child: Option<Child>,
    port: u16,
}

impl TestServer {
    /// A running server; `None`, said on the terminal, when no program is found outside of CI.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    /// The same with this text as its configuration file.
    pub(crate) async fn start_with(config: &str) -> Option<Self> {
        let Some(program) = find() else {
            assert!(env::var_os("CI").is_none(), "no nats-server found: set MUSTER_NATS_SERVER");
            skipped();
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("conf"), config).expect("a configuration");
        let mut server = Self { program, folder, child: None, port: 0 };
        server.restart().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Deletes everything that the server stored, while it is down.
    pub(crate) fn wipe(&self) {
        assert!(self.child.is_none(), "kill the server first");
        fs::remove_dir_all(self.folder.path().join("store")).expect("the store can be deleted");
    }

    /// Starts the server, on the port it had before if it had one.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let folder = self.folder.path();
        let ports = folder.join("ports");
        fs::remove_dir_all(&ports).or_else(absent).expect("old ports can be deleted");
        fs::create_dir(&ports).expect("a folder for the ports");
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let child = Command::new(&self.program)
            .args(["-a", "127.0.0.1", "-p", &port, "-js", "-sd"])
            .arg(folder.join("store"))
            .arg("-c")
            .arg(folder.join("conf"))
            .arg("--ports_file_dir")
            .arg(&ports)
            .arg("-l")
            .arg(folder.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        let deadline = Instant::now() + START_LIMIT;
        self.port = loop {
            if let Some(port) = announced_port(&ports) {
                break port;
            }
            assert!(Instant::now() < deadline, "nats-server announced no port: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The port in the file that the server writes once it listens: `{"nats": ["nats://127.0.0.1:4222"], …}`.
fn announced_port(folder: &Path) -> Option<u16> {
    let file = fs::read_dir(folder).ok()?.next()?.ok()?.path();
    let ports: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("MUSTER_NATS_SERVER") {
        return Some(PathBuf::from(named));
    }
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.build/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    folders.push(built);
    folders.into_iter().map(|folder| folder.join("nats-server")).find(|program| program.is_file())
}

#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn skipped() {
    eprintln!("skipped: no nats-server found");
}
