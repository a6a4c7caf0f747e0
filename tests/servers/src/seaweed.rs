//! SeaweedFS as an S3 service: creates conditionally, as AWS does.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Server, bytes_below, free_port, installed, wait_for};

/// Longest run of the server's shell, in seconds.
const SHELL: &str = "30";

/// The bucket that is there from the start.
const BUCKET: &str = "backups";

/// Whose object an account may write, by the folders below the bucket's `fleet/`, and whether it may delete.
const ACCOUNTS: [(&str, &[&str], bool); 3] = [
    ("agent", &["agents/dns-2"], false),
    ("coordinator", &["log", "lists", "manifests", "grants", "probe"], false),
    ("pruner", &["log", "lists"], true),
];

/// The server's users: an admin, one that only reads, and those of a fleet below `fleet/` with the rights that docs/shares.md
/// gives them.
fn identities() -> String {
    let user = |name: &str, rights: &str| {
        let key = name.to_uppercase();
        format!(
            r#"{{"name": "{name}", "credentials": [{{"accessKey": "AK{key}", "secretKey": "SK{key}"}}], {rights}}}"#
        )
    };
    let mut users = vec![
        user("admin", r#""actions": ["Admin"]"#),
        user("reader", r#""actions": ["Read:backups", "List:backups"]"#),
    ];
    let mut policies = Vec::new();
    for (name, folders, deletes) in ACCOUNTS {
        users.push(user(name, &format!(r#""policyNames": ["{name}"]"#)));
        let policy = policy(folders, deletes).replace('"', "\\\"");
        policies.push(format!(r#"{{"name": "{name}", "content": "{policy}"}}"#));
    }
    format!(r#"{{"identities": [{}], "policies": [{}]}}"#, users.join(", "), policies.join(", "))
}

/// A policy in the language of AWS: reads and lists everything, writes below these folders.
fn policy(folders: &[&str], deletes: bool) -> String {
    let objects = format!("arn:aws:s3:::{BUCKET}/fleet");
    let writes: Vec<_> = folders.iter().map(|folder| format!(r#""{objects}/{folder}/*""#)).collect();
    let mut statements = vec![
        format!(r#"{{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::{BUCKET}"]}}"#),
        format!(r#"{{"Effect":"Allow","Action":["s3:GetObject"],"Resource":["{objects}/*"]}}"#),
        format!(r#"{{"Effect":"Allow","Action":["s3:PutObject"],"Resource":[{}]}}"#, writes.join(",")),
    ];
    if deletes {
        statements
            .push(format!(r#"{{"Effect":"Allow","Action":["s3:DeleteObject"],"Resource":["{objects}/*"]}}"#));
    }
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

/// A running SeaweedFS with one bucket.
#[derive(Debug)]
pub struct SeaweedFs {
    server: Server,
    ports: [u16; 4],
    volume_mib: u32,
    folder: TempDir,
}

impl SeaweedFs {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        Self::with_volumes_of(64)
    }

    /// Starts one that keeps its objects in up to a hundred volumes of so many MiB.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn with_volumes_of(mib: u32) -> Self {
        let started = (0..5).find_map(|_| Self::attempt(mib).ok());
        started.expect("SeaweedFS starts on one of five choices of ports")
    }

    /// One choice of ports. A server that lost one to somebody else ends at once, or as soon as it is asked for something.
    fn attempt(volume_mib: u32) -> Result<Self, String> {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("identities.json"), identities()).expect("written");
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let server = serve(folder.path(), ports, volume_mib)?;
        let this = Self { server, ports, volume_mib, folder };
        this.ask(&format!("s3.bucket.create -name {BUCKET}"))?;
        Ok(this)
    }

    /// `s3://BUCKET/PREFIX?…`; an empty prefix for the whole bucket.
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        self.url_of(BUCKET, prefix)
    }

    /// The same for any bucket.
    #[must_use]
    pub fn url_of(&self, bucket: &str, prefix: &str) -> String {
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("s3://{bucket}{slash}{prefix}?endpoint={}", self.endpoint())
    }

    /// `http://host:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[3])
    }

    /// The port of the service.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports[3]
    }

    /// The credentials file of `admin` or `reader`; or of `agent`, `coordinator` or `pruner` of a fleet below `fleet/`.
    #[must_use]
    pub fn credentials(user: &str) -> String {
        let name = user.to_uppercase();
        format!("access_key_id = AK{name}\nsecret_access_key = SK{name}\n")
    }

    /// Makes a bucket with Object Lock.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_locked(&self, bucket: &str) {
        self.shell(&format!("s3.bucket.create -name {bucket} -withLock"));
    }

    /// Gives the bucket so little room that it is used up, and waits until the server knows.
    ///
    /// # Panics
    /// When there is nothing in the bucket, or the server does not notice.
    pub fn use_up_quota(&self) {
        self.shell(&format!("s3.bucket.quota -name {BUCKET} -op set -sizeMB 1"));
        // Sizes come with the next word of its volumes.
        wait_for("the quota is used up", || self.enforce().contains("read only"));
    }

    /// Gives the bucket so much room.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn set_quota(&self, mib: u32) {
        self.shell(&format!("s3.bucket.quota -name {BUCKET} -op set -sizeMB {mib}"));
        wait_for("the bucket is written to again", || self.enforce().contains("writable"));
    }

    /// What a timer does elsewhere: a bucket becomes read-only, or is none any more. Tells which.
    fn enforce(&self) -> String {
        self.ask("s3.bucket.quota.enforce -apply").unwrap_or_else(|why| panic!("{why}"))
    }

    /// Bytes in its folder: they grow while something is written.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        bytes_below(self.folder.path())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again over what it holds.
    pub fn restart(&mut self) {
        self.server =
            serve(self.folder.path(), self.ports, self.volume_mib).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Runs one line of the server's own shell.
    ///
    /// # Panics
    /// When the shell fails.
    pub fn shell(&self, line: &str) {
        let _ = self.ask(line).unwrap_or_else(|why| panic!("{why}"));
    }

    /// As [`shell`](Self::shell), and what it said. It waits for a master for as long as there is none, so `timeout` (coreutils) ends it.
    fn ask(&self, line: &str) -> Result<String, String> {
        let mut shell = Command::new("timeout")
            .arg(SHELL)
            .arg(installed("weed"))
            .args(["shell", &format!("-master=127.0.0.1:{}", self.ports[0])])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("timeout starts");
        // Where it has ended, its status tells why.
        let _ = shell.stdin.take().expect("piped").write_all(format!("{line}\n").as_bytes());
        let done = shell.wait_with_output().expect("weed shell ends");
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        match done.status.success() && !said.contains("error:") {
            true => Ok(said.into_owned()),
            false => Err(format!("weed shell {line}: {}: {said}", done.status)),
        }
    }
}

fn serve(folder: &Path, ports: [u16; 4], volume_mib: u32) -> Result<Server, String> {
    let [master, volume, filer, s3] = ports;
    let mut command = Command::new(installed("weed"));
    command.current_dir(folder).args(["server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
    command.args([format!("-master.port={master}"), format!("-volume.port={volume}")]);
    command.args(["-filer".to_owned(), format!("-filer.port={filer}")]);
    command.args(["-s3".to_owned(), format!("-s3.port={s3}"), "-s3.config=identities.json".to_owned()]);
    command.args([
        &format!("-master.volumeSizeLimitMB={volume_mib}"),
        "-volume.max=100",
        "-volume.preStopSeconds=0",
    ]);
    // Services besides S3, on ports that are the same for every server.
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    Server::attempt("weed", command, folder, s3)
}
