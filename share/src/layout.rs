//! Where objects lie on the share (DESIGN section 6): every path is printed and parsed here and nowhere else.
//!
//! A path that exists as an [`ObjectPath`] is a valid one: no `..`, no empty part, no upper case but that of `FORMAT`, exactly
//! one spelling. Where the share itself does not tell upper from lower case, [`respelled`] finds it.

use std::fmt;
use std::str::FromStr;

use muster_protocol::ids::{Nonce, ObjectId, RoundId, ServiceName, hex, unhex};

/// Digits of a log number in a path.
pub const LOG_DIGITS: usize = 10;

/// Greatest log number that a path can name.
pub const MAX_LOG_NUMBER: u64 = 9_999_999_999;

/// Names of unfinished files below `log/` start so. They are never objects.
pub const TEMPORARY: &str = ".tmp-";

/// Which object of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlicePart {
    /// The signed receipt.
    Receipt,
    /// A pack list.
    Packs,
    /// The slice index.
    Index,
    /// A chunk index.
    Chunks,
}

impl SlicePart {
    const ALL: [Self; 4] = [Self::Receipt, Self::Packs, Self::Index, Self::Chunks];

    /// The file name's ending, without the dot.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Packs => "packs",
            Self::Index => "index",
            Self::Chunks => "chunks",
        }
    }
}

/// The path of one object, relative to the share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectPath {
    /// `FORMAT`: version and fleet id.
    Format,
    /// `log/<n>`: one record.
    LogRecord(u64),
    /// `log/segment-<n>`: records n … n+999.
    LogSegment(u64),
    /// `lists/<sha256>`: an object list.
    List(ObjectId),
    /// `manifests/<sha256>`.
    Manifest(ObjectId),
    /// `grants/<sha256>.age`.
    Grant(ObjectId),
    /// `probe/<32 hex digits>`: what a test of the share wrote, under a random name. Nothing ever refers to one.
    Probe([u8; 16]),
    /// `copy/<32 hex digits>`: says that this is a copy of the share of this name ([`crate::copy`]). Counts for as long as
    /// that is the share's name in the log.
    Copy(Nonce),
    /// `agents/<service>/packs/<hh>/<sha256>.age`.
    Pack {
        /// Whose.
        service: ServiceName,
        /// SHA-256 of the file.
        id: ObjectId,
    },
    /// `agents/<service>/slices/<round>/<sha256>.<part>`.
    Slice {
        /// Whose.
        service: ServiceName,
        /// The round that wrote it.
        round: RoundId,
        /// SHA-256 of the file.
        id: ObjectId,
        /// What it is.
        part: SlicePart,
    },
}

/// Why a text is no object path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is not a path of the share's layout")]
pub struct LayoutError {
    /// What was given, cut to 200 characters.
    pub path: String,
}

impl ObjectPath {
    /// The SHA-256 that the name promises; `None` for `FORMAT`, the log, probes and marks of copies, whose
    /// names are not hashes.
    #[must_use]
    pub fn id(&self) -> Option<&ObjectId> {
        match self {
            Self::Format | Self::LogRecord(_) | Self::LogSegment(_) | Self::Probe(_) | Self::Copy(_) => None,
            Self::List(id)
            | Self::Manifest(id)
            | Self::Grant(id)
            | Self::Pack { id, .. }
            | Self::Slice { id, .. } => Some(id),
        }
    }

    /// Whether the object is fleet state whose slot several writers may race for, so that it has to appear whole or not
    /// at all: `FORMAT`, everything below `log/`, marks of copies, and probes, which test just that.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.id().is_none()
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("FORMAT"),
            Self::LogRecord(n) => write!(f, "log/{n:010}"),
            Self::LogSegment(n) => write!(f, "log/segment-{n:010}"),
            Self::List(id) => write!(f, "lists/{id}"),
            Self::Manifest(id) => write!(f, "manifests/{id}"),
            Self::Grant(id) => write!(f, "grants/{id}.age"),
            Self::Probe(name) => write!(f, "probe/{}", hex(name)),
            Self::Copy(share) => write!(f, "copy/{share}"),
            Self::Pack { service, id } => {
                write!(f, "agents/{service}/packs/{:02x}/{id}.age", id.as_bytes()[0])
            }
            Self::Slice { service, round, id, part } => {
                write!(f, "agents/{service}/slices/{round}/{id}.{}", part.ending())
            }
        }
    }
}

impl FromStr for ObjectPath {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        parse(text).ok_or_else(|| LayoutError { path: text.chars().take(200).collect() })
    }
}

fn parse(text: &str) -> Option<ObjectPath> {
    let parts: Vec<&str> = text.splitn(7, '/').collect();
    match parts.as_slice() {
        ["FORMAT"] => Some(ObjectPath::Format),
        ["log", name] => match name.strip_prefix("segment-") {
            Some(digits) => log_number(digits).map(ObjectPath::LogSegment),
            None => log_number(name).map(ObjectPath::LogRecord),
        },
        ["lists", id] => id.parse().ok().map(ObjectPath::List),
        ["manifests", id] => id.parse().ok().map(ObjectPath::Manifest),
        ["grants", name] => name.strip_suffix(".age")?.parse().ok().map(ObjectPath::Grant),
        ["probe", name] => {
            let bytes = unhex(name).filter(|bytes| hex(bytes) == *name)?;
            Some(ObjectPath::Probe(bytes))
        }
        ["copy", share] => share.parse().ok().map(ObjectPath::Copy),
        ["agents", service, "packs", shard, name] => {
            let id = name.strip_suffix(".age")?;
            let path = ObjectPath::Pack { service: service.parse().ok()?, id: id.parse().ok()? };
            (id.get(..2) == Some(shard)).then_some(path)
        }
        ["agents", service, "slices", round, name] => {
            let (id, ending) = name.split_once('.')?;
            Some(ObjectPath::Slice {
                service: service.parse().ok()?,
                round: round.parse().ok()?,
                id: id.parse().ok()?,
                part: SlicePart::ALL.into_iter().find(|part| part.ending() == ending)?,
            })
        }
        _ => None,
    }
}

fn log_number(digits: &str) -> Option<u64> {
    (digits.len() == LOG_DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// The folders of the layout, directly below the share.
const FOLDERS: [&str; 7] = ["agents", "copy", "grants", "lists", "log", "manifests", "probe"];

/// The layout's spelling of a file's or folder's name, relative to the share, that differs from it in upper and lower case
/// alone; `None` for whatever is spelled right, or lies in no folder of the layout. Whether both spellings are one file, the
/// share has to tell.
#[must_use]
pub fn respelled(name: &str) -> Option<String> {
    let format = ObjectPath::Format.to_string();
    if name.eq_ignore_ascii_case(&format) {
        return (name != format).then_some(format);
    }
    let own = name.to_ascii_lowercase();
    let is_ours = own.split('/').next().is_some_and(|folder| FOLDERS.contains(&folder));
    (is_ours && own != name).then_some(own)
}

/// A folder of the share that can be listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The whole share.
    Everything,
    /// `log/`.
    Log,
    /// `lists/`.
    Lists,
    /// `manifests/`.
    Manifests,
    /// `grants/`.
    Grants,
    /// `probe/`.
    Probes,
    /// `agents/<service>/`: all that one agent wrote.
    Agent(ServiceName),
    /// `agents/<service>/packs/`.
    Packs(ServiceName),
    /// `agents/<service>/packs/<hh>/`.
    PackShard(ServiceName, u8),
    /// `agents/<service>/slices/`.
    Slices(ServiceName),
    /// `agents/<service>/slices/<round>/`.
    RoundSlices(ServiceName, RoundId),
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => Ok(()),
            Self::Log => f.write_str("log/"),
            Self::Lists => f.write_str("lists/"),
            Self::Manifests => f.write_str("manifests/"),
            Self::Grants => f.write_str("grants/"),
            Self::Probes => f.write_str("probe/"),
            Self::Agent(service) => write!(f, "agents/{service}/"),
            Self::Packs(service) => write!(f, "agents/{service}/packs/"),
            Self::PackShard(service, shard) => write!(f, "agents/{service}/packs/{shard:02x}/"),
            Self::Slices(service) => write!(f, "agents/{service}/slices/"),
            Self::RoundSlices(service, round) => write!(f, "agents/{service}/slices/{round}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LOG_NUMBER, ObjectPath, Prefix, SlicePart, respelled};
    use muster_protocol::ids::{Nonce, ObjectId, RoundId};

    fn samples() -> Vec<ObjectPath> {
        let id = ObjectId::of(b"abc");
        let service = || "dns-2".parse().expect("name");
        let mut all = vec![
            ObjectPath::Format,
            ObjectPath::LogRecord(0),
            ObjectPath::LogRecord(MAX_LOG_NUMBER),
            ObjectPath::LogSegment(1000),
            ObjectPath::List(id),
            ObjectPath::Manifest(id),
            ObjectPath::Grant(id),
            ObjectPath::Probe([9; 16]),
            ObjectPath::Copy(Nonce::from_bytes([9; 16])),
            ObjectPath::Pack { service: service(), id },
        ];
        let round = RoundId::from_bytes([9; 16]);
        all.extend(SlicePart::ALL.map(|part| ObjectPath::Slice { service: service(), round, id, part }));
        all
    }

    #[test]
    fn printing_and_parsing_are_inverse() {
        for path in samples() {
            assert_eq!(path.to_string().parse(), Ok(path.clone()), "{path}");
        }
        let id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(samples()[9].to_string(), format!("agents/dns-2/packs/ba/{id}.age"));
        assert_eq!(ObjectPath::LogRecord(7).to_string(), "log/0000000007");
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let id = ObjectId::of(b"abc").to_string();
        let mut bad = vec![
            String::new(),
            "format".into(),
            "log".into(),
            "log/".into(),
            "log/1".into(),
            "log/+000000001".into(),
            "log/00000000001".into(),
            "log/.tmp-0000000001".into(),
            "../FORMAT".into(),
            format!("lists/{}", id.to_uppercase()),
            format!("lists/{id}.age"),
            format!("grants/{id}"),
            format!("agents/a/packs/bb/{id}.age"),
            format!("agents/../packs/ba/{id}.age"),
            format!("agents/a/slices/00/{id}.index"),
            format!("agents/a/slices/{}/{id}.other", "0".repeat(32)),
            format!("agents/a/slices/{}/x/{id}.index", "0".repeat(32)),
        ];
        for path in samples() {
            bad.extend([format!("/{path}"), format!("{path}/"), format!("./{path}"), format!("{path}\n")]);
        }
        for text in bad {
            assert!(text.parse::<ObjectPath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn other_case_is_found_and_nothing_else() {
        for path in samples() {
            let path = path.to_string();
            assert_eq!(respelled(&path), None, "{path}");
            let folder = path.split('/').next().expect("a part");
            for name in [path.to_uppercase(), path.to_lowercase(), path.replacen(['g', 's', 'c'], "X", 1)] {
                let same = name.eq_ignore_ascii_case(&path) && name != path;
                assert_eq!(respelled(&name).as_ref(), same.then_some(&path), "{name}");
            }
            let upper = folder.to_uppercase();
            assert_eq!(respelled(&upper).as_deref(), (upper != folder).then_some(folder), "{upper}");
        }
        for foreign in ["Lost+Found", "formats", "FORMAT/Log", "Logs/0000000001", "", "logo", "Agent/dns"] {
            assert_eq!(respelled(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn prefixes_begin_the_paths_below_them() {
        let service: muster_protocol::ids::ServiceName = "dns-2".parse().expect("name");
        let round = RoundId::from_bytes([9; 16]);
        let below = |prefix: &Prefix| {
            samples().iter().filter(|path| path.to_string().starts_with(&prefix.to_string())).count()
        };
        for (prefix, count) in [
            (Prefix::Everything, 14),
            (Prefix::Log, 3),
            (Prefix::Lists, 1),
            (Prefix::Manifests, 1),
            (Prefix::Grants, 1),
            (Prefix::Probes, 1),
            (Prefix::Agent(service.clone()), 5),
            (Prefix::Packs(service.clone()), 1),
            (Prefix::PackShard(service.clone(), 0xba), 1),
            (Prefix::PackShard(service.clone(), 0xbb), 0),
            (Prefix::Slices(service.clone()), 4),
            (Prefix::RoundSlices(service, round), 4),
        ] {
            assert_eq!(below(&prefix), count, "{prefix}");
        }
    }
}
