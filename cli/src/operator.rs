//! The configuration of an operator: `operator.toml`.
//!
//! Holds paths of keys, never keys. `[offline]` only remembers where `init` put what belongs into a safe, so that
//! commands can warn while it still lies there.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use muster_protocol::config::{self, BusConfig, Checked, ConfigError, FleetConfig, Invalid, ShareConfig};
use muster_protocol::ids::MemberName;
use muster_share::{config_file, reachable};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The file's name in a fleet's folder.
pub(crate) const FILE: &str = "operator.toml";
/// In the state folder: the kits that were made here since `init`, a path a line.
const KITS: &str = "kits";

/// `operator.toml`. Paths are absolute once it is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operator {
    pub(crate) fleet: FleetConfig,
    pub(crate) operator: OperatorConfig,
    pub(crate) share: ShareConfig,
    pub(crate) nats: BusConfig,
    #[serde(default)]
    pub(crate) offline: OfflineConfig,
}

/// `[operator]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperatorConfig {
    /// Name in the roster.
    pub(crate) name: MemberName,
    /// Signing key file (PKCS#8 PEM).
    pub(crate) key: PathBuf,
    /// Where the highest log head that was seen is remembered.
    pub(crate) state: PathBuf,
}

/// `[offline]`: where the private keys were put; empty when that is nobody's business.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OfflineConfig {
    /// The kit's folder.
    pub(crate) kit: PathBuf,
    /// The root key's folder.
    pub(crate) root: PathBuf,
}

const HEADING: &str = "An operator of Muster, for: muster --config operator.toml. MUSTER_<SECTION>_<KEY> in the \
                       environment\noverrides a key. Relative paths start at the folder of this file.";

const COMMENTS: &[(&str, &str)] = &[
    (
        "fleet",
        "Pinned: nothing of another fleet, and nothing that this root does not vouch for, is believed.",
    ),
    ("operator", "The key signs what changes the fleet; state remembers the highest log head that was seen."),
    (
        "share",
        "Where backups go: an absolute path, file:///path, smb://host/share/folder, s3://bucket/prefix or\n\
         azblob://account/container/prefix. credentials: file with what the share asks for. ca: file with certificates that\n\
         are trusted besides the system's.",
    ),
    (
        "nats",
        "Where the coordinator answers. nkey: file with the seed that the server knows this client by. ca: file with\nthe certificates that alone are trusted; with it TLS is required.",
    ),
    (
        "offline",
        "Where init put kit and root. Commands warn while the private keys can still be reached there.",
    ),
];

impl Operator {
    /// The configuration in `path`; a folder means the file of the usual name in it.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let (mut operator, places) = config_file::load::<Self>(&path)?;
        let placed = places.key_file("operator", "key", &mut operator.operator.key);
        placed
            .and_then(|()| operator.nats.resolve(&places))
            .and_then(|()| operator.share.resolve(&places))
            .map_err(|invalid| ConfigError::invalid(&path, invalid))?;
        let folder = places.folder;
        operator.operator.state = folder.join(&operator.operator.state);
        operator.share.url = config_file::share_url(&operator.share.url, &folder);
        for path in [&mut operator.offline.kit, &mut operator.offline.root] {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&*path);
            }
        }
        Ok(operator)
    }

    /// The configuration as text, every key with its value.
    pub(crate) fn to_toml_string(&self) -> String {
        config::print(self, HEADING, COMMENTS)
    }

    /// The file that remembers the highest log head seen.
    pub(crate) fn head_file(&self) -> PathBuf {
        self.operator.state.join("head")
    }

    /// Remembers that a kit was made here, so that commands warn while it still lies there. A member without a state
    /// folder remembers nothing.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub(crate) fn note_offline(&self, kit: &Path) -> Result<(), Failure> {
        let note = self.operator.state.join(KITS);
        if !self.operator.state.is_dir() {
            return Ok(());
        }
        let line = format!("{}\n", kit.display());
        let written = OpenOptions::new().create(true).append(true).open(&note);
        written.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|error| {
            Failure::usage(format!("{} was not noted in {}", kit.display(), note.display()))
                .because(error.to_string())
        })
    }

    /// Private keys that can be reached from here and should not (KEY-02): where kits and root were put, and copies of them
    /// in `folder`, the fleet's own.
    pub(crate) fn reachable_keys(&self, folder: &Path) -> Vec<PathBuf> {
        let noted = std::fs::read_to_string(self.operator.state.join(KITS)).unwrap_or_default();
        let kits = noted.lines().map(PathBuf::from).chain([self.offline.kit.clone()]);
        let mut keys: Vec<_> = kits
            .flat_map(|kit| ["recovery.key", "private-key.html"].map(|name| (kit.clone(), name)))
            .chain([(self.offline.root.clone(), "root.key")])
            .filter(|(folder, _)| !folder.as_os_str().is_empty())
            .map(|(folder, name)| folder.join(name))
            .filter(|path| path.exists())
            .collect();
        keys.extend(reachable::private_keys_below(folder, &self.fleet.root));
        keys.sort();
        keys.dedup();
        keys
    }
}

impl Checked for Operator {
    fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(!self.share.url.is_empty(), "share", "url", "must be a path or an address")?;
        Invalid::unless(
            !self.nats.url.is_empty(),
            "nats",
            "url",
            "must be an address such as nats://127.0.0.1:4222",
        )
    }
}
