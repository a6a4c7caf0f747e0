//! What all configuration files have in common: the sections that coordinator, agent and operator share, and how a
//! text becomes a checked value with one clear error.
//!
//! ```text
//! text ──TOML, unknown keys refused──▶ T ──MUSTER_<SECTION>_<KEY> of the environment──▶ T ──Checked::check──▶ T
//! ```
//!
//! Pure: the caller brings the file's text and the environment. Precedence, strongest first: environment, file, default.

mod lock;
mod places;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::ids::{FleetId, FleetName, KeyId};
use crate::units::HumanDuration;

pub use lock::{Lock, LockError, LockFor, LockMode};
pub use places::{CREDENTIALS_DIRECTORY, Places, is_loose};

/// `[fleet]`: which fleet, and whose word counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    /// Its name, for people and subjects.
    pub name: FleetName,
    /// Its id, pinned: a share of another fleet is refused.
    pub id: FleetId,
    /// The root public key, pinned.
    pub root: KeyId,
}

/// `[share]`: where objects go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// An absolute path or an address: `file:///path`, `smb://host/share/folder`, `s3://bucket/prefix`,
    /// `azblob://account/container/prefix`. It never holds a secret.
    pub url: String,
    /// File with the credentials that the share asks for; empty: those of the environment, or none.
    #[serde(default)]
    pub credentials: PathBuf,
    /// File with the certificates (PEM) trusted besides the system's; empty: none.
    #[serde(default)]
    pub ca: PathBuf,
    /// Calls to the share that are under way at once; further ones wait.
    #[serde(default = "at_once")]
    pub at_once: NonZeroUsize,
    /// How long what is written is locked, on S3 with Object Lock; empty: not at all.
    #[serde(default)]
    pub lock: LockFor,
    /// Who may take such a lock back.
    #[serde(default)]
    pub lock_mode: LockMode,
}

fn at_once() -> NonZeroUsize {
    ShareConfig::AT_ONCE
}

impl ShareConfig {
    /// What `at_once` is where nothing else is said.
    pub const AT_ONCE: NonZeroUsize = NonZeroUsize::new(32).expect("more than none");

    /// The share at this address, without credentials or certificates of its own.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: PathBuf::new(),
            ca: PathBuf::new(),
            at_once: Self::AT_ONCE,
            lock: LockFor::default(),
            lock_mode: LockMode::default(),
        }
    }

    /// The lock of what is written, if there is one.
    #[must_use]
    pub fn locked(&self) -> Option<Lock> {
        self.lock.0.map(|retain| Lock { retain, mode: self.lock_mode })
    }

    /// Makes the paths of its files absolute.
    ///
    /// # Errors
    /// Those of [`Places::key_file`].
    pub fn resolve(&mut self, places: &Places) -> Result<(), Invalid> {
        places.key_file("share", "credentials", &mut self.credentials)?;
        places.key_file("share", "ca", &mut self.ca)
    }
}

/// `[nats]`: where the conversation happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// `nats://host:port` or `tls://host:port`; several servers of one cluster with commas between them.
    pub url: String,
    /// File with the nkey's seed that the server knows us by; empty: none.
    #[serde(default)]
    pub nkey: PathBuf,
    /// File with the certificates (PEM) that alone are trusted, and make TLS required; empty: the system's.
    #[serde(default)]
    pub ca: PathBuf,
}

impl BusConfig {
    /// The server at this address, without an nkey, with the system's certificates.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), nkey: PathBuf::new(), ca: PathBuf::new() }
    }

    /// Makes its paths absolute.
    ///
    /// # Errors
    /// Those of [`Places::key_file`].
    pub fn resolve(&mut self, places: &Places) -> Result<(), Invalid> {
        places.key_file("nats", "nkey", &mut self.nkey)?;
        places.key_file("nats", "ca", &mut self.ca)
    }
}

/// How lines of the log on standard error look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Directives such as `info` or `info,muster_share=debug`.
    pub filter: String,
    /// `auto`, `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info,async_nats=warn".to_owned(), format: LogFormat::Auto }
    }
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Base URL of an OTLP/HTTP collector; empty: nothing leaves the process.
    pub otlp_endpoint: String,
    /// Share of new traces that is exported, from 0 to 1.
    pub sample: f64,
    /// How often figures go to the collector.
    pub interval: HumanDuration,
    /// `HOST:PORT` where `/metrics` answers; empty: nowhere.
    pub metrics: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        let interval = HumanDuration(Duration::from_secs(15));
        Self { otlp_endpoint: String::new(), sample: 1.0, interval, metrics: String::new() }
    }
}

impl TelemetryConfig {
    /// The collector, if there is one.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        Some(self.otlp_endpoint.as_str()).filter(|endpoint| !endpoint.is_empty())
    }

    /// Where `/metrics` answers, if it does.
    #[must_use]
    pub fn listen(&self) -> Option<&str> {
        Some(self.metrics.as_str()).filter(|address| !address.is_empty())
    }

    /// Checks ratio and interval.
    ///
    /// # Errors
    /// When the ratio is not from 0 to 1, or the interval shorter than a second or longer than an hour.
    pub fn check(&self) -> Result<(), Invalid> {
        Invalid::unless((0.0..=1.0).contains(&self.sample), "telemetry", "sample", "must be from 0 to 1")?;
        let interval = self.interval.0.as_secs();
        Invalid::unless((1..=3_600).contains(&interval), "telemetry", "interval", "must be from 1s to 1h")
    }
}

/// A value that parses and still cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[{section}] {key}{}{why}", if key.is_empty() { "" } else { ": " })]
pub struct Invalid {
    /// Its section.
    pub section: &'static str,
    /// Its key.
    pub key: &'static str,
    /// What would be right: `must be …`.
    pub why: String,
}

impl Invalid {
    /// `Ok` if `right`.
    ///
    /// # Errors
    /// Names the key unless `right`.
    pub fn unless(right: bool, section: &'static str, key: &'static str, why: &str) -> Result<(), Self> {
        if right { Ok(()) } else { Err(Self { section, key, why: why.to_owned() }) }
    }
}

/// A configuration whose values can be checked against each other and against what is possible. Touches no file.
pub trait Checked: Serialize + DeserializeOwned {
    /// Checks all values.
    ///
    /// # Errors
    /// Names the first that cannot be used.
    fn check(&self) -> Result<(), Invalid>;
}

/// Why a configuration cannot be used. The text names file, place and what would be right; nothing more is needed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("the configuration {} is missing", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// No TOML, an unknown key, a missing key, or a value that cannot be.
    #[error("{}{place}: {why}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// `, line 7, [round] deadline`, as far as it is known.
        place: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The environment overrides a key with a value that cannot be.
    #[error("the environment variable {variable}, which overrides {}: {why}", file.display())]
    Environment {
        /// Its name.
        variable: String,
        /// The file whose key it overrides.
        file: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
}

impl ConfigError {
    /// The file holds this value.
    #[must_use]
    pub fn invalid(file: &Path, Invalid { section, key, why }: Invalid) -> Self {
        Self::Value { file: file.to_owned(), place: format!(", [{section}] {key}"), why }
    }
}

/// The name of the variable that overrides a key: `MUSTER_ROUND_DEADLINE` for `deadline` of `[round]`.
#[must_use]
pub fn variable(section: &str, key: &str) -> String {
    format!("MUSTER_{section}_{key}").to_uppercase().replace('-', "_")
}

/// The configuration in `text`, with the variables of `environment` laid over it, checked. `file` is for messages.
/// Variables that name no key of this configuration are ignored: one environment serves several binaries.
///
/// # Errors
/// Names file, line and key, or the variable.
pub fn parse<T: Checked>(
    file: &Path,
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<T, ConfigError> {
    let mut config: T = toml::from_str(text).map_err(|error| located(file, text, &error))?;
    let (mut overridden, mut values) = (Vec::new(), Vec::new());
    let mut table = Table::try_from(&config).expect("a configuration that was parsed can be written");
    for (section, keys) in &mut table {
        let Value::Table(keys) = keys else { continue };
        for (key, value) in keys {
            let name = variable(section, key);
            let Some(given) = environment(&name) else { continue };
            let wrong =
                |why: String| ConfigError::Environment { variable: name.clone(), file: file.to_owned(), why };
            *value = like(value, &given).map_err(wrong)?;
            overridden.push((section.clone(), key.clone(), name));
            values.push(given);
        }
    }
    if let Some((_, _, variable)) = overridden.last() {
        let variable = match overridden.as_slice() {
            [_] => variable.clone(),
            several => several.iter().map(|(_, _, name)| name.as_str()).collect::<Vec<_>>().join(" or "),
        };
        config = table.try_into().map_err(|error: toml::de::Error| ConfigError::Environment {
            variable,
            file: file.to_owned(),
            why: without(&values, &in_our_words(error.message())),
        })?;
    }
    match config.check() {
        Ok(()) => Ok(config),
        Err(Invalid { section, key, why }) => {
            let by = overridden.into_iter().find(|(over, name, _)| over == section && name == key);
            Err(match by {
                Some((_, _, variable)) => {
                    ConfigError::Environment { variable, file: file.to_owned(), why: without(&values, &why) }
                }
                None => ConfigError::Value { file: file.to_owned(), place: place(text, section, key), why },
            })
        }
    }
}

/// The text of a configuration with every key, and a comment above each section that has one in `comments`.
#[must_use]
pub fn print<T: Checked>(config: &T, heading: &str, comments: &[(&str, &str)]) -> String {
    let plain = toml::to_string(config).expect("a configuration can be written");
    let mut out = String::new();
    for line in heading.lines() {
        out.push_str(&format!("# {line}\n"));
    }
    for line in plain.lines().filter(|line| !line.is_empty()) {
        if let Some(section) = header(line) {
            out.push('\n');
            for comment in
                comments.iter().filter(|(name, _)| *name == section).flat_map(|(_, text)| text.lines())
            {
                out.push_str(&format!("# {comment}\n"));
            }
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The text given for a key, in the type that the key has.
fn like(value: &Value, given: &str) -> Result<Value, String> {
    match value {
        Value::Integer(_) => {
            given.parse().map(Value::Integer).map_err(|_| "must be a whole number".to_owned())
        }
        Value::Float(_) => given.parse().map(Value::Float).map_err(|_| "must be a number".to_owned()),
        Value::Boolean(_) => {
            given.parse().map(Value::Boolean).map_err(|_| "must be true or false".to_owned())
        }
        Value::String(_) => Ok(Value::String(given.to_owned())),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err("a list cannot be overridden: write it into the file".to_owned())
        }
    }
}

fn located(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let place = error.span().map(|span| {
        let start = span.start.min(text.len());
        let line = text.get(..start).map_or(0, |before| before.matches('\n').count());
        let mut place = format!(", line {}", line + 1);
        let section = text.lines().take(line + 1).filter_map(header).last();
        let key = text.lines().nth(line).filter(|line| header(line).is_none()).and_then(key);
        if let Some(section) = section {
            place.push_str(&format!(", [{section}]"));
        }
        if let Some(key) = key {
            place.push_str(&format!(" {key}"));
        }
        place
    });
    ConfigError::Value {
        file: file.to_owned(),
        place: place.unwrap_or_default(),
        why: in_our_words(error.message()),
    }
}

/// Where a key stands, with its line if it is written at all.
fn place(text: &str, section: &str, wanted: &str) -> String {
    let mut current = None;
    for (index, line) in text.lines().enumerate() {
        match header(line) {
            Some(name) => current = Some(name),
            None if current == Some(section) && key(line) == Some(wanted) => {
                return format!(", line {}, [{section}] {wanted}", index + 1);
            }
            None => {}
        }
    }
    format!(", [{section}] {wanted}")
}

fn header(line: &str) -> Option<&str> {
    let inner = line.trim().strip_prefix('[')?.trim_start_matches('[');
    inner.split(']').next().map(str::trim)
}

fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && !key.starts_with('#')).then_some(key)
}

/// The parser speaks of fields, and ends some messages with line breaks.
fn in_our_words(message: &str) -> String {
    let message = message.trim().replace('\n', ", ");
    match message.strip_prefix("unknown field") {
        Some(rest) => format!("unknown key{rest}"),
        None => match message.strip_prefix("missing field") {
            Some(rest) => format!("missing key{rest}: add it"),
            None => message,
        },
    }
}

/// `why` without what variables hold: it may be a secret that stands in the wrong one. What is short is only left out where
/// it is quoted, or else the words around it would go as well.
fn without(values: &[String], why: &str) -> String {
    const HIDDEN: &str = "(not shown)";
    let mut why = why.to_owned();
    // Messages cut what is long to 64 characters.
    let cut = values.iter().map(|value| value.chars().take(64).collect::<String>());
    let forms: Vec<String> = values.iter().cloned().chain(cut).filter(|value| !value.is_empty()).collect();
    for value in &forms {
        for quoted in [format!("{value:?}"), format!("`{value}`"), format!("'{value}'")] {
            why = why.replace(&quoted, HIDDEN);
        }
        if value.len() >= LONG {
            why = why.replace(value, HIDDEN);
        }
    }
    why
}

/// From so many bytes on a value is hardly a word of ours.
const LONG: usize = 8;

#[cfg(test)]
mod tests {
    use super::{Checked, ConfigError, Invalid, TelemetryConfig, parse, print};
    use crate::units::HumanDuration;
    use serde::{Deserialize, Serialize};
    use std::path::Path;
    use std::time::Duration;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        round: Round,
        #[serde(default)]
        telemetry: TelemetryConfig,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Round {
        deadline: HumanDuration,
        #[serde(default)]
        attempts: u32,
    }

    impl Checked for Sample {
        fn check(&self) -> Result<(), Invalid> {
            Invalid::unless(self.round.attempts < 10, "round", "attempts", "must be below 10")?;
            self.telemetry.check()
        }
    }

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Sample, ConfigError> {
        let look =
            |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        parse(Path::new("dir/a.toml"), text, look)
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, parts) in [
            ("[round]\ndeadline = \"4x\"", ["dir/a.toml, line 2, [round] deadline: ", "such as \"30s\""]),
            ("[round]\ndeadline = 4", ["dir/a.toml, line 2, [round] deadline: ", "in quotes"]),
            (
                "[round]\n\ndedline = \"4h\"",
                ["dir/a.toml, line 3, [round] dedline: unknown key", "`deadline`"],
            ),
            ("[round]\nattempts = 3", ["dir/a.toml, line 1, [round]: missing key `deadline`", "add it"]),
            ("[ruond]\n", ["dir/a.toml, line 1, [ruond]: unknown key `ruond`", "`round`"]),
            ("[round]\ndeadline = \"4h\"\nattempts = 11", ["line 3, [round] attempts: must be below 10", ""]),
            ("[round]\ndeadline = \"4h\"\nattempts = \"3\"", ["line 3, [round] attempts: ", "expected u32"]),
            ("[round]\ndeadline = \"4h\"\ndeadline = \"4h\"", ["line 3, [round] deadline: ", "duplicate"]),
            (
                "[round]\ndeadline = \"4h\"\n[telemetry]\nsample = 2.0",
                ["line 4, [telemetry] sample: must be", ""],
            ),
            ("[round", ["dir/a.toml, line 1, [round", ""]),
        ] {
            let error = read(text, &[]).expect_err(text).to_string();
            assert!(parts.iter().all(|part| error.contains(part)) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_environment_overrides_and_is_named_when_wrong() {
        let text = "[round]\ndeadline = \"4h\"";
        let config = read(
            text,
            &[
                ("MUSTER_ROUND_DEADLINE", "10s"),
                ("MUSTER_ROUND_ATTEMPTS", "4"),
                ("MUSTER_TELEMETRY_OTLP_ENDPOINT", "http://collector.example.org"),
                ("MUSTER_OTHER_KEY", "x"),
            ],
        )
        .expect("valid");
        assert_eq!(config.round.deadline.0, Duration::from_secs(10));
        assert_eq!(config.round.attempts, 4);
        assert_eq!(config.telemetry.endpoint(), Some("http://collector.example.org"));
        for (name, value) in [
            ("MUSTER_ROUND_DEADLINE", "10"),
            ("MUSTER_ROUND_ATTEMPTS", "many"),
            ("MUSTER_ROUND_ATTEMPTS", "12"),
        ] {
            let error = read(text, &[(name, value)]).expect_err(value).to_string();
            assert!(error.contains(name) && error.contains("dir/a.toml"), "{error}");
            assert!(!error.contains(&format!("{value:?}")), "{error}");
        }
        let secret = "hunter2-and-more";
        let error = read(text, &[("MUSTER_ROUND_DEADLINE", secret)]).expect_err("none").to_string();
        assert!(error.contains("such as") && !error.contains("hunter2"), "{error}");
        let long = secret.repeat(9);
        let error = read(text, &[("MUSTER_ROUND_DEADLINE", &long)]).expect_err("none").to_string();
        assert!(error.contains("such as") && !error.contains("hunter2"), "{error}");
        let why = "https://hunter2-and-more must be below 3, not '3' or \"3\"";
        let shown = super::without(&[format!("https://{secret}"), "3".to_owned()], why);
        assert_eq!(shown, "(not shown) must be below 3, not (not shown) or (not shown)");
    }

    #[test]
    fn what_is_printed_is_read_back_with_every_key() {
        let config = read("[round]\ndeadline = \"90m\"", &[]).expect("valid");
        let text = print(&config, "A sample.", &[("round", "How rounds go.\nAnd end.")]);
        assert_eq!(
            text,
            "# A sample.\n\n# How rounds go.\n# And end.\n[round]\ndeadline = \"90m\"\nattempts = 0\n\n\
             [telemetry]\notlp_endpoint = \"\"\nsample = 1.0\ninterval = \"15s\"\nmetrics = \"\"\n"
        );
        assert_eq!(read(&text, &[]).expect("valid"), config);
    }
}
