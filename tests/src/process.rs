//! Processes that never outlive their test, and waiting for conditions instead of for time.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The longest that any single condition may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A child process that is killed when the handle is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where its standard error goes.
    pub log: PathBuf,
}

impl Running {
    /// Starts `command` with its output in `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("the log opens");
        let also = file.try_clone().expect("the log is cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(also)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
        Self { child, log: log.to_owned() }
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(mut self) {
        self.end();
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not within [`LIMIT`].
    pub fn wait(&mut self) -> ExitStatus {
        let log = self.log.clone();
        wait_for(&format!("{} ends", log.display()), || self.child.try_wait().ok().flatten())
    }

    /// Asks it to stop, as a service manager would.
    ///
    /// # Panics
    /// When `kill` cannot be run.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal of this name.
    ///
    /// # Panics
    /// When `kill` cannot be run.
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let status = kill.args(["-s", name]).arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(status.success(), "kill failed");
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within [`LIMIT`]; `what` says what was waited for.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The folder of the binaries that this build made: `x` builds them before it runs tests or tools.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn binaries() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    // Beside it, or above it where it is a test: target/PROFILE/deps.
    let mut folders = own.ancestors().skip(1).take(2);
    let found = folders.find(|folder| folder.join("muster").exists());
    found.unwrap_or_else(|| panic!("no muster near {}: run `./x build` first", own.display())).to_owned()
}

/// What a finished command said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// The same, if it ended with this code.
    ///
    /// # Panics
    /// Otherwise, with everything that it said.
    #[must_use]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }

    /// Its standard output as one JSON value.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("no JSON ({e}):\n{}\n{}", self.out, self.err))
    }
}

/// Runs `muster` to its end.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn muster<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Said {
    let mut command = Command::new(binaries().join("muster"));
    command.args(args).stdin(Stdio::null()).env_remove("MUSTER_CONFIG");
    command.output().expect("muster runs").into()
}

/// Whether `program` is on this machine; when it is not, the test says so and is over, except in CI, where it fails.
///
/// # Panics
/// When `CI` is set and it is absent.
#[must_use]
pub fn have(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Says that a test cannot run on this machine, for this reason; in CI, it fails.
///
/// # Panics
/// When `CI` is set.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "needed in CI: {why}");
    eprintln!("skipped: {why}");
}
