//! The operator of the demo: gives commands of this very executable, as a person would, and reads what they answer.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::exit::Exit;
use crate::failure::Failure;

/// Longest that one command may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Gives commands.
#[derive(Debug)]
pub(super) struct Operator {
    program: PathBuf,
    config: PathBuf,
}

/// What a command answered.
#[derive(Debug)]
pub(super) struct Said {
    command: String,
    /// Its exit code; -1 after a signal.
    pub(super) code: i32,
    out: String,
    err: String,
}

impl Operator {
    /// The operator of the fleet whose `operator.toml` is, or will be, `config`.
    pub(super) fn new(config: PathBuf) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(Exit::Failed, "this executable cannot be found").because(error.to_string())
        })?;
        Ok(Self { program, config })
    }

    /// This executable.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// A command of this executable, not yet started: without input, and killed when it is dropped.
    pub(super) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        // What the caller's environment lays over the configuration of another fleet is not for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("MUSTER_") && name != "MUSTER_NATS_SERVER") {
                command.env_remove(name);
            }
        }
        command.env("MUSTER_CONFIG", &self.config);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time.
    pub(super) async fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Said, Failure> {
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        let command = format!("muster {}", words.join(" "));
        let failed = |why: String| Failure::new(Exit::Failed, format!("{command} failed")).because(why);
        let ended = tokio::time::timeout(LIMIT, self.command(arguments).output()).await;
        let output = ended
            .map_err(|_| failed(format!("it did not end within {} s", LIMIT.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        Ok(Said {
            command,
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must end with 0, and takes the last JSON document that it printed.
    ///
    /// # Errors
    /// When it ends otherwise, with what it said.
    pub(super) async fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Value, Failure> {
        let said = self.run(arguments).await?;
        said.expect(0)?;
        said.json()
    }
}

impl Said {
    /// # Errors
    /// When the exit code is another.
    pub(super) fn expect(&self, code: i32) -> Result<(), Failure> {
        if self.code == code {
            return Ok(());
        }
        let mut failure = self.failure(format!("{} ended with {}, not {code}", self.command, self.code));
        for line in self.err.lines().chain(self.out.lines()).take(20) {
            failure = failure.because(line);
        }
        Err(failure)
    }

    /// # Errors
    /// When the last line on standard output is no JSON document.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|error| {
            self.failure(format!("the last line of {} is no JSON", self.command)).because(error.to_string())
        })
    }

    fn failure(&self, what: String) -> Failure {
        Failure::new(Exit::Failed, what)
    }
}
