//! Why a command gives up: one object, one cause, the next step, and the exit code that goes with it.
//!
//! ```text
//! error: what is wrong
//!   why, indented
//!   → what to do
//! ```

use std::error::Error;
use std::fmt;

use muster_bus::{BusError, ConnectError};
use muster_protocol::alert::Code;
use muster_protocol::config::ConfigError;
use muster_protocol::log::ReplayError;
use muster_share::log::{AppendError, FormatError, LogError, MemoryError};
use muster_share::secret_file::SecretFileError;
use muster_share::store::{OpenStoreError, StoreError};

use crate::exit::Exit;
use crate::screen::plain;

/// What every command returns.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command gives up. `Display` is what the operator reads.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    why: Vec<String>,
    next: Vec<String>,
}

impl Failure {
    /// A failure in one sentence.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: Vec::new(), next: Vec::new() }
    }

    /// Wrong usage or configuration.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Adds a line that explains.
    #[must_use]
    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// Adds the chain of causes below an error, one line for each.
    #[must_use]
    pub(crate) fn caused_by(mut self, error: &dyn Error) -> Self {
        let mut next = error.source();
        while let Some(source) = next {
            let text = source.to_string();
            // Errors of libraries repeat their cause at the end of their own line.
            let is_said = |line: &String| line.ends_with(&text);
            if !is_said(&self.what) && !self.why.iter().any(is_said) {
                self.why.push(text);
            }
            next = source.source();
        }
        self
    }

    /// Adds a step that helps.
    #[must_use]
    pub(crate) fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }

    /// What is wrong, in one sentence, without cause and steps.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// What to do.
    pub(crate) fn steps(&self) -> &[String] {
        &self.next
    }

    /// The alert that the sentence begins with, if it does.
    pub(crate) fn alert(&self) -> Option<Code> {
        self.what.split(':').next().and_then(|code| code.parse().ok())
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The log ends before a head that was seen: whoever goes on would take an old copy for the newest.
    pub(crate) fn shortened(head: u64, seen: u64) -> Self {
        Self::new(
            Exit::Damaged,
            format!("SHARE-08: the share ends at record {head}, but {seen} was noted: newer rounds are gone"),
        )
        .because("Either records were removed, or this is an older copy of the share.")
        .next(COPY)
        .next(ADOPT)
    }

    /// A copy lacks what was seen on the share that it is a copy of: nothing is lost, and nothing is to be adopted.
    pub(crate) fn lags(share: &str, error: &LogError) -> Self {
        Self::new(
            Exit::Damaged,
            format!("SHARE-08: {share} is a copy of the fleet's share, and lags behind what was seen there"),
        )
        .because(error.to_string())
        .next(NOT_THE_COPY)
        .next("to read the copy as it is: --share URL in place of --config; to bring it up to date: muster share copy")
        .next(LOST)
    }

    /// The same with its alert code in front.
    fn coded(mut self, code: Code) -> Self {
        self.what = format!("{code}: {}", self.what);
        self
    }

    fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        Self::new(exit, error.to_string()).caused_by(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", plain(&self.what))?;
        for why in &self.why {
            write!(f, "\n  {}", plain(why))?;
        }
        for next in &self.next {
            write!(f, "\n  → {}", plain(next))?;
        }
        Ok(())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::of(Exit::Usage, &error);
        match error {
            ConfigError::Missing { .. } | ConfigError::Read { .. } => {
                failure.next("name it with --config DIR/operator.toml or MUSTER_CONFIG")
            }
            ConfigError::Value { .. } | ConfigError::Environment { .. } => failure,
        }
    }
}

impl From<SecretFileError> for Failure {
    fn from(error: SecretFileError) -> Self {
        Self::of(Exit::Usage, &error)
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        Self::of(Exit::Failed, &error)
    }
}

impl From<OpenStoreError> for Failure {
    fn from(error: OpenStoreError) -> Self {
        match error {
            OpenStoreError::Address(_) => Self::of(Exit::Usage, &error),
            OpenStoreError::NoLocks { .. } => {
                Self::of(Exit::Usage, &error).next("docs/shares.md, Object Lock, says what a bucket needs")
            }
            OpenStoreError::File(_) | OpenStoreError::Secret(_) => {
                Self::of(Exit::Key, &error).next("docs/shares.md shows the file with the share's credentials")
            }
            OpenStoreError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::InvalidPath { .. } => Exit::Usage,
            StoreError::NotFound { .. } | StoreError::TooLong { .. } | StoreError::Damaged { .. } => {
                Exit::Damaged
            }
            StoreError::AlreadyExists { .. } | StoreError::Locked { .. } => Exit::Refused,
            StoreError::Full { .. }
            | StoreError::Denied { .. }
            | StoreError::WriteRefused { .. }
            | StoreError::Unreachable { .. }
            | StoreError::Strange { .. }
            | StoreError::NotKept { .. }
            | StoreError::TimedOut { .. }
            | StoreError::Io { .. } => Exit::Unreachable,
        };
        let mut failure = Self::of(exit, &error);
        if let Some(code) = error.alert() {
            failure.what = format!("{code}: {}", failure.what);
            for step in code.steps() {
                failure.next.push((*step).to_owned());
            }
        }
        failure
    }
}

/// Whoever works with a copy while its share is there.
pub(crate) const NOT_THE_COPY: &str = "while that share is there: name it, not its copy";
const LOST: &str = "once it is lost for good: muster adopt --share URL --root PATH makes the copy the share";
const COPY: &str = "look for the newest copy of the share; restore its log/ folder";
const ADOPT: &str = "only if the newer records are gone for good: muster adopt --root PATH";

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let went_back = matches!(error, LogError::Replay(ReplayError::WentBack { .. }));
        match error {
            LogError::Store(error) => error.into(),
            LogError::NotAShare { .. } => Self::of(Exit::Usage, &error)
                .coded(Code::Share02)
                .next("mount the share, or give the path that `muster init` was given"),
            LogError::Strange { .. } => Self::of(Exit::Unreachable, &error)
                .coded(Code::Share02)
                .next("mount the share again; then the same command"),
            LogError::Format { source: FormatError::Version { .. }, .. } => Self::of(Exit::Failed, &error),
            LogError::Shortened { head, seen } => Self::shortened(head, seen),
            LogError::Format { .. } | LogError::Replay(_) | LogError::Gap { .. } => {
                let mut failure = Self::of(Exit::Damaged, &error);
                failure.what = format!("SHARE-08: {}", failure.what);
                match went_back {
                    true => failure.next(COPY).next(ADOPT),
                    false => failure,
                }
            }
        }
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Store(error) => error.into(),
            AppendError::Log(error) => error.into(),
            AppendError::Copy { .. } => Self::of(Exit::Refused, &error)
                .because("Records here would part it from the share that it is a copy of.")
                .next(NOT_THE_COPY)
                .next(LOST),
            AppendError::Lost | AppendError::Refused { .. } | AppendError::TooLong { .. } => {
                Self::of(Exit::Failed, &error)
            }
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = if error.is_configuration() { Exit::Usage } else { Exit::Unreachable };
        let mut failure = Self::of(exit, &error);
        if error.is_transient() {
            failure.what = format!("BUS-01: {}", failure.what);
            failure =
                failure.next("start it with: muster up DIR; or run a round without NATS: muster once DIR");
        }
        failure
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        let silent = matches!(error, BusError::NoResponders { .. } | BusError::Timeout { .. });
        let failure = Self::of(Exit::Unreachable, &error);
        if silent { failure.next("is a coordinator running? start it with: muster up DIR") } else { failure }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;
    use crate::exit::Exit;
    use muster_share::store::StoreError;

    #[test]
    fn a_failure_reads_as_object_cause_and_next_step() {
        let failure =
            Failure::usage("--kit is missing").because("It must lie outside.").next("add --kit /media/kit");
        assert_eq!(
            failure.to_string(),
            "error: --kit is missing\n  It must lie outside.\n  → add --kit /media/kit"
        );
    }

    #[test]
    fn share_errors_carry_their_alert_and_the_systems_words() {
        let error = StoreError::Unreachable {
            path: "/srv/share".to_owned(),
            source: std::io::Error::other("host is down"),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.exit(), Exit::Unreachable);
        let text = failure.to_string();
        assert!(
            text.starts_with("error: SHARE-01: ") && text.contains("\n  host is down") && text.contains("→"),
            "{text}"
        );
    }
}
