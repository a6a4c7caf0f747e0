//! The configuration of an agent: `agents/NAME.toml`.
//!
//! Pure data, checked once when it is loaded. Holds paths of keys, never keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::config::{
    self, BusConfig, Checked, ConfigError, FleetConfig, Invalid, LogConfig, Places, ShareConfig,
    TelemetryConfig,
};
use muster_protocol::ids::ServiceName;
use muster_protocol::units::{HumanDuration, HumanSize};
use muster_share::chunk::ChunkSize;
use muster_share::config_file;
use serde::{Deserialize, Serialize};

use crate::engine::{IoPriority, Priority};
pub use crate::hold::HooksConfig;
use crate::source::config::{SourceConfig, SourceTable};

/// `agents/NAME.toml`. Paths are absolute once it is loaded, but those of sources: [`Config::sources`] resolves them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The fleet, pinned.
    pub fleet: FleetConfig,
    /// Who this is.
    pub agent: AgentConfig,
    /// Where objects go.
    pub share: ShareConfig,
    /// Where the conversation happens.
    pub nats: BusConfig,
    /// How slices are made.
    #[serde(default)]
    pub engine: EngineConfig,
    /// How this service is quiesced while it is captured.
    #[serde(default)]
    pub hooks: HooksConfig,
    /// How this service is restored.
    #[serde(default)]
    pub restore: RestoreConfig,
    /// Lines on standard error.
    #[serde(default)]
    pub log: LogConfig,
    /// Traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// What is captured, as written.
    pub source: Vec<SourceTable>,
    /// Where relative paths of sources start: the file's folder.
    #[serde(skip, default = "root")]
    pub base: PathBuf,
}

/// `[agent]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Its service.
    pub service: ServiceName,
    /// The file of its signing key (PKCS#8 PEM).
    pub key: PathBuf,
    /// The file of the age identity that opens its own chunk index on the share, and nothing else.
    pub sealing_key: PathBuf,
    /// The file of the key that chunk ids are made with: 64 hexadecimal characters.
    pub chunk_key: PathBuf,
    /// Its folder: a cache and the highest log head that it saw. Losing it loses nothing else.
    pub state: PathBuf,
    /// How often it says that it is there.
    #[serde(default = "heartbeat")]
    pub heartbeat: HumanDuration,
}

/// `[restore]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestoreConfig {
    /// How long an offer stands before the order must have come.
    pub offer: HumanDuration,
}

impl Default for RestoreConfig {
    fn default() -> Self {
        Self { offer: HumanDuration(Duration::from_secs(120)) }
    }
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Threads that read, compress and seal; 0: one for each core.
    pub workers: u32,
    /// zstd's level.
    pub zstd_level: i32,
    /// Average length of a chunk: a power of two.
    pub chunk: HumanSize,
    /// Length at which a pack is closed.
    pub pack: HumanSize,
    /// Whether each pack is opened again and compared before it is uploaded.
    pub self_check: bool,
    /// Packs on their way to the share at once, each in memory.
    pub uploads: u32,
    /// Bytes a second that are uploaded at most; 0: no limit.
    pub bandwidth: HumanSize,
    /// Niceness of the threads, 0 to 19.
    pub nice: u8,
    /// Priority of reading and writing.
    pub io: IoPriority,
    /// Live bytes of mostly dead packs that one slice uploads again at most; 0: none.
    pub rewrite: HumanSize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            workers: 0,
            zstd_level: 2,
            chunk: HumanSize(256 << 10),
            pack: HumanSize(muster_share::pack::DEFAULT_TARGET as u64),
            self_check: true,
            uploads: 2,
            bandwidth: HumanSize(0),
            nice: 0,
            io: IoPriority::Normal,
            rewrite: HumanSize(64 << 20),
        }
    }
}

impl EngineConfig {
    /// The size of chunks.
    #[must_use]
    pub fn chunk_size(&self) -> Option<ChunkSize> {
        ChunkSize::new(u32::try_from(self.chunk.0).ok()?).ok()
    }
}

fn heartbeat() -> HumanDuration {
    HumanDuration(Duration::from_secs(15))
}

fn root() -> PathBuf {
    PathBuf::from("/")
}

const HEADING: &str = "An agent of Muster. Every key is here with its default; MUSTER_<SECTION>_<KEY> in the \
                       environment\noverrides it. Relative paths start at the folder of this file.";

const COMMENTS: &[(&str, &str)] = &[
    (
        "fleet",
        "Pinned: nothing of another fleet, and nothing that this root does not vouch for, is believed.",
    ),
    (
        "agent",
        "None of these keys opens a backup. sealing_key opens only the agent's own chunk index on the share;\n\
         chunk_key names chunks, so that equal ones are stored once.",
    ),
    (
        "share",
        "Where backups go: an absolute path, file:///path, smb://host/share/folder, s3://bucket/prefix or\n\
         azblob://account/container/prefix. credentials: file with what the share asks for. ca: file with certificates that\n\
         are trusted besides the system's.",
    ),
    (
        "nats",
        "Where coordinator and agents talk. nkey: file with the seed that the server knows this client by. ca: file with\nthe certificates that alone are trusted; with it TLS is required.",
    ),
    (
        "engine",
        "workers: 0 for one a core. chunk: average length, a power of two. pack: length of the objects on the share.\n\
         self_check: open each pack again before it is uploaded. uploads: packs on their way at once, each in memory.\n\
         bandwidth: bytes a second, \"0B\" for no limit. nice: 0 to 19. io: \"normal\", \"low\" or \"idle\".\n\
         rewrite: live bytes of mostly dead packs that one slice uploads again, so that those packs can go.",
    ),
    (
        "hooks",
        "How the service is quiesced while it is captured: program and arguments, no shell. release undoes it; it may run\n\
         more than once, and runs within max_hold even if the agent dies. timeout: for one run of either.",
    ),
    ("restore", "offer: how long an operator may take between the agent's offer and the order to restore."),
    (
        "log",
        "Lines on standard error. format: \"text\", \"json\", or \"auto\": for people on a terminal, else JSON.",
    ),
    (
        "telemetry",
        "otlp_endpoint: base URL of an OTLP/HTTP collector for traces, metrics and logs, empty for none. sample: share of traces,\n\
         0 to 1. interval: how often metrics go there. metrics: ADDRESS:PORT where /metrics answers, \"\" for nowhere.",
    ),
    ("source", "What is backed up. What no source names is not backed up."),
];

impl Config {
    /// The configuration in `path`, with the environment laid over it.
    ///
    /// # Errors
    /// One that names file and key, or the variable, and what would be right.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (mut config, places) = config_file::load::<Self>(path)?;
        config.place_keys(&places).map_err(|invalid| ConfigError::invalid(path, invalid))?;
        config.agent.state = places.folder.join(&config.agent.state);
        config.hooks.resolve(&places.folder);
        config.share.url = config_file::share_url(&config.share.url, &places.folder);
        config.base = places.folder;
        // Checked in full only here: the base is known now.
        if let Err(Invalid { key, why, .. }) = config.resolve() {
            let place = format!(", [[source]] {key}").trim_end().to_owned();
            return Err(ConfigError::Value { file: path.to_owned(), place, why });
        }
        Ok(config)
    }

    /// The sources, named and checked.
    ///
    /// # Errors
    /// Names the first that cannot be used; never after [`Config::load`].
    pub fn sources(&self) -> Result<Vec<SourceConfig>, Invalid> {
        self.resolve()
    }

    /// The configuration as text, every key with its value and a comment for each section.
    #[must_use]
    pub fn to_toml_string(&self) -> String {
        config::print(self, HEADING, COMMENTS)
    }

    /// What the process tells about itself.
    #[must_use]
    pub fn telemetry(&self) -> muster_telemetry::Config {
        let (name, fleet) = (self.agent.service.as_str(), self.fleet.name.as_str());
        muster_telemetry::Config::of(&self.log, &self.telemetry, "muster-agent", name, fleet)
    }

    fn place_keys(&mut self, places: &Places) -> Result<(), Invalid> {
        let agent = &mut self.agent;
        places.key_file("agent", "key", &mut agent.key)?;
        places.key_file("agent", "sealing_key", &mut agent.sealing_key)?;
        places.key_file("agent", "chunk_key", &mut agent.chunk_key)?;
        self.nats.resolve(places)?;
        self.share.resolve(places)
    }

    fn resolve(&self) -> Result<Vec<SourceConfig>, Invalid> {
        SourceConfig::resolve(&self.source, &self.base).map_err(|error| {
            let mut why = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                why = format!("{why}: {source}");
            }
            Invalid { section: "source", key: "", why }
        })
    }
}

impl Checked for Config {
    fn check(&self) -> Result<(), Invalid> {
        let engine = &self.engine;
        Invalid::unless(
            !self.agent.heartbeat.0.is_zero(),
            "agent",
            "heartbeat",
            "must be longer than nothing",
        )?;
        self.hooks.check()?;
        let right = !self.restore.offer.0.is_zero();
        Invalid::unless(right, "restore", "offer", "must be longer than nothing")?;
        Invalid::unless(
            engine.workers <= 1024,
            "engine",
            "workers",
            "must be at most 1024; 0 for one a core",
        )?;
        Invalid::unless((1..=64).contains(&engine.uploads), "engine", "uploads", "must be from 1 to 64")?;
        Priority::check(engine.nice)?;
        Invalid::unless(
            (1..=19).contains(&engine.zstd_level),
            "engine",
            "zstd_level",
            "must be from 1 to 19",
        )?;
        let right = engine.chunk_size().is_some();
        Invalid::unless(right, "engine", "chunk", "must be a power of two from 4KiB to 2MiB")?;
        let right = (1 << 20..=64 << 20).contains(&engine.pack.0) && engine.pack.0 >= 4 * engine.chunk.0;
        Invalid::unless(right, "engine", "pack", "must be from 1MiB to 64MiB, and at least four chunks")?;
        Invalid::unless(!self.share.url.is_empty(), "share", "url", "must be a path or an address")?;
        Invalid::unless(
            !self.nats.url.is_empty(),
            "nats",
            "url",
            "must be an address such as nats://127.0.0.1:4222",
        )?;
        Invalid::unless(!self.source.is_empty(), "source", "kind", "at least one [[source]] is needed")?;
        self.telemetry.check()
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use muster_protocol::config::ConfigError;
    use std::path::Path;

    const LEAST: &str = "[fleet]\nname = \"prod\"\nid = \"ID\"\nroot = \"ID\"\n\
        [agent]\nservice = \"dns\"\nkey = \"k\"\nsealing_key = \"s\"\nchunk_key = \"c\"\nstate = \"../state\"\n\
        [share]\nurl = \"/srv/share\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n";
    const SOURCE: &str = "[[source]]\nkind = \"files\"\npath = \"data\"\n";

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("dns.toml");
        std::fs::write(&path, text.replace("ID", &"0a".repeat(32))).expect("written");
        Config::load(&path)
    }

    #[test]
    fn defaults_fill_in_and_what_is_written_is_read_back() {
        let config = load(&format!("{LEAST}{SOURCE}")).expect("valid");
        assert_eq!(config.engine.pack.to_string(), "12MiB");
        assert_eq!(config.agent.heartbeat.to_string(), "15s");
        assert!(config.agent.key.is_absolute());
        assert_eq!(config.sources().expect("checked")[0].name().as_str(), "files");
        let text = config.to_toml_string();
        assert!(
            text.contains("bandwidth = \"0B\"\n") && text.contains("\n[[source]]\nkind = \"files\"\n"),
            "{text}"
        );
        let again = load(&text).expect("valid");
        assert_eq!(Config { base: config.base.clone(), ..again }, config);
    }

    #[test]
    fn errors_name_file_and_key() {
        for (more, part) in [
            (SOURCE.to_owned() + SOURCE, "[[source]]: source 2 reads the same as source 1"),
            (SOURCE.replace("path", "pth"), "[source]: unknown key `pth`"),
            (SOURCE.replace("files", "zfs"), "unknown variant `zfs`"),
            (format!("[engine]\nchunk = \"300KiB\"\n{SOURCE}"), "[engine] chunk: must be a power of two"),
            (format!("[engine]\npack = \"1GiB\"\n{SOURCE}"), "[engine] pack: must be from 1MiB"),
            (format!("[engine]\nzstd_level = 23\n{SOURCE}"), "[engine] zstd_level: must be from 1 to 19"),
            (String::new(), "missing key `source`"),
        ] {
            let error = load(&format!("{LEAST}{more}")).expect_err(&more).to_string();
            assert!(error.contains("dns.toml, ") && error.contains(part), "{error}");
        }
        assert!(matches!(Config::load(Path::new("/nowhere/a.toml")), Err(ConfigError::Missing { .. })));
    }
}
