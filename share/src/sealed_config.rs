//! The sealed part of the fleet's configuration: what only coordinators and the holders of recovery keys may read.
//!
//! ```text
//! lists/<sha256>   age file to the recovery keys and the coordinators' own keys, "-> muster-config 1 FLEET"
//!                  payload: one zstd frame of MessagePack {version, recipients, files, credentials}, and padding (see `sealed`)
//! ```
//!
//! A `config` record of the log names it by its hash; nothing else makes it count. So `age -d -i recovery.key | zstd -d` shows
//! it, and a fleet's folder is made again from it (`muster rebuild`).

use std::collections::BTreeMap;

use muster_protocol::age::{Header, Identity, Recipient, Stanza};
use muster_protocol::entropy::Entropy;
use muster_protocol::ids::{FleetId, ObjectId};
use muster_protocol::log::State;
use muster_protocol::wire::{self, WireError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::layout::ObjectPath;
use crate::sealed::{Context, SealedError, SealedObject, Unlock, open_content, part, seal_content, the_one};
use crate::store::{Store, StoreError};

/// Name of the stanza that says what this is.
pub const CONFIG_STANZA: &str = "muster-config";
/// Version of stanza and content.
pub const CONFIG_VERSION: u16 = 1;
/// Longest content in bytes: ten thousand agents with a kilobyte and a half each.
pub const MAX_CONTENT_LEN: usize = 16 << 20;
/// Longest object on the share in bytes.
pub const MAX_SEALED_LEN: u64 = (MAX_CONTENT_LEN + (1 << 20)) as u64;
/// Why the sealed part was not made or not read.
#[derive(Debug, thiserror::Error)]
pub enum SealedConfigError {
    /// The object does not open.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// It opens, and does not parse.
    #[error("the sealed configuration does not parse")]
    Content(#[from] WireError),
    /// A later version wrote it.
    #[error("the sealed configuration has version {0}; only {CONFIG_VERSION} is known")]
    Version(u16),
    /// It is of another fleet.
    #[error("the sealed configuration is of fleet {}", .0.short())]
    OtherFleet(FleetId),
    /// It would be longer than [`MAX_CONTENT_LEN`].
    #[error("the sealed configuration would have {0} bytes, more than {MAX_CONTENT_LEN}")]
    TooLong(usize),
}

/// What is sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealedConfig {
    /// To whom it is sealed: those who look whether it has to be sealed anew cannot tell from the header.
    pub recipients: Vec<Recipient>,
    /// The configuration files of the fleet's folder, by path below it, with `/` between folders. They hold no keys.
    pub files: BTreeMap<String, String>,
    /// Credentials of the share, where it needs any.
    pub credentials: Option<Credentials>,
}

/// Why the sealed part in force was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The share does not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not what the log names, or does not open.
    #[error("{object}")]
    Config {
        /// The object.
        object: ObjectPath,
        /// Why.
        source: SealedConfigError,
    },
}

/// The sealed part that the log's newest `config` record names; none when it names none.
///
/// # Errors
/// See [`ReadError`].
pub async fn in_force(
    store: &dyn Store,
    state: &State,
    keys: &[Identity],
) -> Result<Option<SealedConfig>, ReadError> {
    let Some(id) = state.config.as_ref().and_then(|config| config.sealed) else { return Ok(None) };
    let object = ObjectPath::List(id);
    let bytes = store.get(&object, MAX_SEALED_LEN).await?;
    match SealedConfig::open(&bytes, &id, keys, state.fleet) {
        Ok(config) => Ok(Some(config)),
        Err(source) => Err(ReadError::Config { object, source }),
    }
}

#[derive(Serialize)]
struct WireRef<'a> {
    version: u16,
    recipients: &'a [Recipient],
    files: &'a BTreeMap<String, String>,
    credentials: &'a Option<Credentials>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u16,
    recipients: Vec<Recipient>,
    files: BTreeMap<String, String>,
    credentials: Option<Credentials>,
}

#[derive(Debug, PartialEq, Eq)]
struct ConfigContext {
    fleet: FleetId,
}

impl Context for ConfigContext {
    fn stanza(&self) -> Stanza {
        let args = vec![CONFIG_VERSION.to_string(), self.fleet.to_string()];
        Stanza { kind: CONFIG_STANZA.to_owned(), args, body: Vec::new() }
    }

    fn of(header: &Header) -> Result<Self, SealedError> {
        let stanza = the_one(header, CONFIG_STANZA)?;
        let [version, fleet] = stanza.args.as_slice() else { return Err(SealedError::Context) };
        if *version != CONFIG_VERSION.to_string() {
            return Err(SealedError::Version { version: version.chars().take(16).collect() });
        }
        let context = Self { fleet: part(fleet)? };
        if context.stanza() == *stanza { Ok(context) } else { Err(SealedError::Context) }
    }
}

impl SealedConfig {
    /// Seals it for `fleet`, to its recipients.
    ///
    /// # Errors
    /// When it is too long, or the recipients are unusable.
    pub fn seal(&self, fleet: FleetId, entropy: &mut dyn Entropy) -> Result<SealedObject, SealedConfigError> {
        let Self { recipients, files, credentials } = self;
        let wire = WireRef { version: CONFIG_VERSION, recipients, files, credentials };
        let content = Zeroizing::new(wire::encode(&wire));
        if content.len() > MAX_CONTENT_LEN {
            return Err(SealedConfigError::TooLong(content.len()));
        }
        Ok(seal_content(&content, recipients, &ConfigContext { fleet }, entropy)?)
    }

    /// Opens what `bytes` hold, if they hash to `expected` and one of the keys is a recipient.
    ///
    /// # Errors
    /// When they are anything else, or another fleet's.
    pub fn open(
        bytes: &[u8],
        expected: &ObjectId,
        keys: &[Identity],
        fleet: FleetId,
    ) -> Result<Self, SealedConfigError> {
        let (context, content) =
            open_content::<ConfigContext>(bytes, Some(expected), Unlock::Identities(keys), MAX_CONTENT_LEN)?;
        let content = Zeroizing::new(content);
        if context.fleet != fleet {
            return Err(SealedConfigError::OtherFleet(context.fleet));
        }
        let Wire { version, recipients, files, credentials } = wire::decode(&content)?;
        if version != CONFIG_VERSION {
            return Err(SealedConfigError::Version(version));
        }
        Ok(Self { recipients, files, credentials })
    }
}

#[cfg(test)]
mod tests {
    use super::{SealedConfig, SealedConfigError};
    use crate::credentials::Credentials;
    use crate::entropy::OsEntropy;
    use crate::sealed::{PackContext, SealedError, Unlock, open_object, seal_object};
    use muster_protocol::age::Identity;
    use muster_protocol::ids::{FleetId, ObjectId};
    use zeroize::Zeroizing;

    const FLEET: FleetId = FleetId::from_bytes([7; 32]);

    fn config(keys: &[Identity]) -> SealedConfig {
        let secret = Zeroizing::new(b"user=backup\npassword=correct horse\n".to_vec());
        SealedConfig {
            recipients: keys.iter().map(Identity::recipient).collect(),
            files: [("agents/dns.toml".to_owned(), "[agent]\nservice = \"dns\"\n".to_owned())].into(),
            credentials: Some(Credentials::new(secret, &mut OsEntropy)),
        }
    }

    #[test]
    fn it_opens_for_coordinators_and_recovery_keys_and_nobody_else() {
        let keys: Vec<_> = (0..3).map(|_| Identity::generate(&mut OsEntropy)).collect();
        let sealed = config(&keys[..2]).seal(FLEET, &mut OsEntropy).expect("sealed");
        for key in &keys[..2] {
            let opened = SealedConfig::open(&sealed.bytes, &sealed.id, std::slice::from_ref(key), FLEET);
            let opened = opened.expect("opens");
            assert_eq!((opened.files, opened.recipients.len()), (config(&[]).files, 2));
            assert_eq!(opened.credentials.expect("some").expose(), b"user=backup\npassword=correct horse\n");
        }
        let open = |bytes: &[u8], keys: &[Identity], fleet| {
            SealedConfig::open(bytes, &ObjectId::of(bytes), keys, fleet)
        };
        let stranger = open(&sealed.bytes, &keys[2..], FLEET);
        assert!(matches!(stranger, Err(SealedConfigError::Sealed(SealedError::NoKey(_)))));
        let other = FleetId::from_bytes([8; 32]);
        assert!(matches!(open(&sealed.bytes, &keys[..1], other), Err(SealedConfigError::OtherFleet(FLEET))));
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.to_vec();
            bytes[at] ^= 1;
            assert!(open(&bytes, &keys[..1], FLEET).is_err(), "byte {at}");
            let named = SealedConfig::open(&bytes, &sealed.id, &keys[..1], FLEET);
            assert!(matches!(named, Err(SealedConfigError::Sealed(SealedError::HashMismatch { .. }))));
        }
    }

    #[test]
    fn a_pack_is_no_configuration_nor_the_other_way_round() {
        let key = Identity::generate(&mut OsEntropy);
        let context =
            PackContext { fleet: FLEET, service: "muster-config".parse().expect("a name"), keyset: 1 };
        let pack = seal_object(b"content", &[key.recipient()], &context, &mut OsEntropy).expect("sealed");
        let opened = SealedConfig::open(&pack.bytes, &pack.id, std::slice::from_ref(&key), FLEET);
        assert!(matches!(opened, Err(SealedConfigError::Sealed(SealedError::Context))));
        let sealed = config(std::slice::from_ref(&key)).seal(FLEET, &mut OsEntropy).expect("sealed");
        let opened = open_object(&sealed.bytes, None, Unlock::FileKey(&sealed.file_key), 1 << 20);
        assert!(matches!(opened, Err(SealedError::Context)));
    }

    /// Written by version 1; every later version reads it.
    #[test]
    fn a_kept_one_is_still_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/");
        let (object, identity) = (format!("{folder}config.v1.age"), format!("{folder}config.v1.key"));
        if std::env::var_os("MUSTER_GOLDEN").is_some_and(|how| how == "write") {
            let key = Identity::generate(&mut OsEntropy);
            let sealed = config(std::slice::from_ref(&key)).seal(FLEET, &mut OsEntropy).expect("sealed");
            std::fs::create_dir_all(folder).expect("a folder");
            std::fs::write(&object, &sealed.bytes).expect("written");
            std::fs::write(&identity, key.to_file_text("a test sample").as_bytes()).expect("written");
        }
        let bytes = std::fs::read(object).expect("kept");
        let keys = Identity::parse_file(&std::fs::read_to_string(identity).expect("kept")).expect("a key");
        let opened = SealedConfig::open(&bytes, &ObjectId::of(&bytes), &keys, FLEET).expect("reads");
        assert_eq!(opened.files, config(&[]).files);
        let want = config(&[]).credentials.expect("some");
        assert_eq!(opened.credentials.expect("some").expose(), want.expose());
    }
}
