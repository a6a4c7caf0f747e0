//! Recovery grants: the file keys of one slice's objects, sealed to one agent for one restore.
//!
//! A grant gives away nothing but what it names. It is made from headers alone: the recovery key unwraps a file key
//! there, whose MAC must hold and whose context must be the slice's; the object itself is never fetched for it. Whoever
//! opens a grant still compares every object with its name before decrypting it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use muster_protocol::age::{FileKey, Identity, MAX_HEADER_BYTES, Recipient};
use muster_protocol::entropy::Entropy;
use muster_protocol::ids::{FleetId, ObjectId, RestoreId, RoundId, ServiceName};
use muster_protocol::wire::{self, WireError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteArray;
use zeroize::{Zeroize, Zeroizing};

use crate::layout::ObjectPath;
use crate::sealed::{
    PackContext, SealedError, SealedObject, Unlock, key_of_header, open_object, seal_object,
};
use crate::store::{Store, StoreError};

/// Longest grant, decompressed, in bytes: about a million objects.
pub const MAX_GRANT_LEN: usize = 64 * 1024 * 1024;
/// Longest grant on the share, in bytes: keys do not compress.
pub const MAX_GRANT_SEALED: u64 = MAX_GRANT_LEN as u64 + 4 * 1024 * 1024;

const VERSION: u16 = 1;
/// Headers with a handful of recipients are shorter than this.
const FIRST_READ: u64 = 2048;
/// Headers that are read at once.
const READS: usize = 16;

/// Why a grant is not made or does not count.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// It is longer than a grant may be.
    #[error(
        "the grant has {have} bytes, more than the {MAX_GRANT_LEN} that it may have; restore part of it by --path"
    )]
    TooLong {
        /// Its length in bytes.
        have: usize,
    },
    /// The sealed object around it.
    #[error("the grant does not open")]
    Sealed(#[from] SealedError),
    /// It is no MessagePack value of its type.
    #[error("the grant cannot be read")]
    Wire(#[from] WireError),
    /// A later version wrote it.
    #[error("the grant has version {version}; only {VERSION} is known")]
    Version {
        /// Its version.
        version: u16,
    },
    /// It names objects out of order or twice.
    #[error("the grant names its objects out of order")]
    Order,
    /// A header belongs to another service, fleet or keyset.
    #[error("KEY-03: {path} has the header of an object of {} under keyset {}", found.service, found.keyset)]
    Foreign {
        /// The object that has the header.
        path: ObjectPath,
        /// What the header says.
        found: Box<PackContext>,
    },
    /// Two objects have one file key: one of them has the other's header.
    #[error("KEY-03: {path} has the header of another object")]
    Twice {
        /// The object that has it.
        path: ObjectPath,
    },
    /// A header is damaged, or no key opens it.
    #[error("KEY-03: the header of {path} cannot be believed")]
    Header {
        /// The object.
        path: ObjectPath,
        /// Why.
        #[source]
        source: Box<SealedError>,
    },
    /// The share fails.
    #[error("the headers cannot be read")]
    Store(#[from] StoreError),
}

/// File keys, and what they are for.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The fleet.
    pub fleet: FleetId,
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// The agent's offer.
    pub restore: RestoreId,
    /// The receipt that names all objects.
    pub receipt: ObjectId,
    /// Slice index and packs, each with its file key.
    pub keys: BTreeMap<ObjectId, FileKey>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("restore", &self.restore)
            .field("receipt", &self.receipt)
            .field("objects", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// A file key on its way; wiped when it goes.
struct KeyBytes([u8; 16]);

impl Drop for KeyBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Serialize for KeyBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ByteArray::<16>::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u16,
    fleet: FleetId,
    service: ServiceName,
    round: RoundId,
    restore: RestoreId,
    receipt: ObjectId,
    keys: Vec<(ObjectId, KeyBytes)>,
}

impl Grant {
    /// Seals it to the one who may restore.
    ///
    /// # Errors
    /// When it is too long or the recipient is unusable.
    pub fn seal(
        &self,
        recipient: &Recipient,
        keyset: u64,
        entropy: &mut dyn Entropy,
    ) -> Result<SealedObject, GrantError> {
        let keys = self.keys.iter().map(|(id, key)| (*id, KeyBytes(*key.expose()))).collect();
        let bytes = Zeroizing::new(wire::encode(&Written {
            version: VERSION,
            fleet: self.fleet,
            service: self.service.clone(),
            round: self.round,
            restore: self.restore,
            receipt: self.receipt,
            keys,
        }));
        if bytes.len() > MAX_GRANT_LEN {
            return Err(GrantError::TooLong { have: bytes.len() });
        }
        let context = PackContext { fleet: self.fleet, service: self.service.clone(), keyset };
        Ok(seal_object(&bytes, std::slice::from_ref(recipient), &context, entropy)?)
    }

    /// Opens a grant. What it is for is the caller's to compare.
    ///
    /// # Errors
    /// Those of the seal; when the content is too long, malformed, of another version, or out of order.
    pub fn open(
        bytes: &[u8],
        expected: Option<&ObjectId>,
        unlock: Unlock<'_>,
    ) -> Result<(PackContext, Self), GrantError> {
        let (context, content) = open_object(bytes, expected, unlock, MAX_GRANT_LEN)?;
        let content = Zeroizing::new(content);
        let written: Written = wire::decode(&content)?;
        if written.version != VERSION {
            return Err(GrantError::Version { version: written.version });
        }
        if !written.keys.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(GrantError::Order);
        }
        let keys = written.keys.iter().map(|(id, key)| (*id, FileKey::from_bytes(&key.0))).collect();
        let grant = Self {
            fleet: written.fleet,
            service: written.service,
            round: written.round,
            restore: written.restore,
            receipt: written.receipt,
            keys,
        };
        Ok((context, grant))
    }
}

/// The file keys of these objects, by their headers alone. Reads a few KiB of each.
///
/// # Errors
/// At the first header that is damaged, is not sealed to one of `keys`, or is not of `context`; and when two objects
/// have one header.
pub async fn file_keys(
    store: &dyn Store,
    objects: Vec<(ObjectPath, ObjectId, u64)>,
    context: &PackContext,
    keys: &[Identity],
) -> Result<BTreeMap<ObjectId, FileKey>, GrantError> {
    let read = |(path, id, size): (ObjectPath, ObjectId, u64)| async move {
        let key = file_key(store, &path, size, context, keys).await?;
        Ok::<_, GrantError>((path, id, key))
    };
    let found: Vec<_> = stream::iter(objects).map(read).buffer_unordered(READS).try_collect().await?;
    let mut seen = BTreeSet::new();
    let mut granted = BTreeMap::new();
    for (path, id, key) in found {
        // Two headers with one key are one header.
        if !seen.insert(ObjectId::of(key.expose())) {
            return Err(GrantError::Twice { path });
        }
        granted.insert(id, key);
    }
    Ok(granted)
}

async fn file_key(
    store: &dyn Store,
    path: &ObjectPath,
    size: u64,
    context: &PackContext,
    keys: &[Identity],
) -> Result<FileKey, GrantError> {
    let most = size.min(MAX_HEADER_BYTES as u64);
    let mut bytes = store.get_range(path, 0..most.min(FIRST_READ)).await?;
    let mut opened = key_of_header(&bytes, keys);
    if opened.is_err() && most > FIRST_READ {
        bytes = store.get_range(path, 0..most).await?;
        opened = key_of_header(&bytes, keys);
    }
    let (found, key) =
        opened.map_err(|source| GrantError::Header { path: path.clone(), source: Box::new(source) })?;
    if found == *context {
        Ok(key)
    } else {
        Err(GrantError::Foreign { path: path.clone(), found: Box::new(found) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Grant, GrantError, file_keys};
    use crate::entropy::OsEntropy;
    use crate::layout::ObjectPath;
    use crate::sealed::{PackContext, SealedError, SealedObject, Unlock, open_object, seal_object};
    use crate::store::{Store, create};
    use muster_protocol::age::{FileKey, Identity};
    use muster_protocol::config::ShareConfig;
    use muster_protocol::ids::{FleetId, ObjectId, RestoreId, RoundId, unhex};
    use std::sync::Arc;

    fn context(service: &str) -> PackContext {
        let service = service.parse().expect("a name");
        PackContext { fleet: FleetId::from_bytes([1; 32]), service, keyset: 2 }
    }

    fn grant(keys: impl IntoIterator<Item = (ObjectId, FileKey)>) -> Grant {
        Grant {
            fleet: FleetId::from_bytes([1; 32]),
            service: "dns".parse().expect("a name"),
            round: RoundId::from_bytes([3; 16]),
            restore: RestoreId::from_bytes([4; 16]),
            receipt: ObjectId::of(b"receipt"),
            keys: keys.into_iter().collect(),
        }
    }

    #[test]
    fn grants_open_for_their_recipient_alone_and_show_no_key() {
        let (mine, other) = (Identity::generate(&mut OsEntropy), Identity::generate(&mut OsEntropy));
        let keys = (0..100_u8).map(|n| (ObjectId::of(&[n]), FileKey::from_bytes(&[n; 16])));
        let grant = grant(keys);
        let sealed = grant.seal(&mine.recipient(), 2, &mut OsEntropy).expect("seals");
        let opened = Grant::open(&sealed.bytes, Some(&sealed.id), Unlock::Identities(&[mine]));
        assert_eq!(opened.expect("opens"), (context("dns"), grant.clone()));
        let refused = Grant::open(&sealed.bytes, None, Unlock::Identities(&[other])).expect_err("another's");
        assert!(matches!(refused, GrantError::Sealed(SealedError::NoKey(_))), "{refused}");
        assert!(!format!("{grant:?}").contains("FileKey"));
    }

    /// A grant of version 1, kept: later versions must read it, and this one writes the same.
    const KEPT: &str = concat!(
        "87a776657273696f6e01a5666c656574c4200101010101010101010101010101010101010101010101010101",
        "010101010101a773657276696365a3646e73a5726f756e64c41003030303030303030303030303030303a772",
        "6573746f7265c41004040404040404040404040404040404a772656365697074c4206f32860910ca0fb2a20c",
        "7fda143666b09dbf8db5238195c90a586fb542ff0cada46b6579739292c4204bf5122f344554c53bde2ebb8c",
        "d2b7e3d1600ad631c385a5d7cce23c7785459ac4100101010101010101010101010101010192c4206e340b9c",
        "ffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01dc4100000000000000000000000000000",
        "0000",
    );

    #[test]
    fn the_kept_grant_reads_and_is_written_the_same() {
        let kept: Vec<u8> = KEPT
            .as_bytes()
            .chunks(2)
            .map(|pair| unhex::<1>(std::str::from_utf8(pair).expect("hex")).expect("hex")[0])
            .collect();
        let key = Identity::generate(&mut OsEntropy);
        let sealed = seal_object(&kept, &[key.recipient()], &context("dns"), &mut OsEntropy).expect("seals");
        let (_, read) = Grant::open(&sealed.bytes, None, Unlock::FileKey(&sealed.file_key)).expect("reads");
        let want = grant((0..2_u8).map(|n| (ObjectId::of(&[n]), FileKey::from_bytes(&[n; 16]))));
        assert_eq!(read, want);
        let again = want.seal(&key.recipient(), 2, &mut OsEntropy).expect("seals");
        let opened =
            open_object(&again.bytes, None, Unlock::FileKey(&again.file_key), 1 << 20).expect("opens");
        assert!(opened.1 == kept, "today's bytes are not the kept ones");
    }

    async fn stored(store: &dyn Store, sealed: &SealedObject, service: &str) -> (ObjectPath, ObjectId, u64) {
        let path = ObjectPath::Pack { service: service.parse().expect("a name"), id: sealed.id };
        store.put_new(&path, sealed.bytes.clone()).await.expect("stored");
        (path, sealed.id, sealed.bytes.len() as u64)
    }

    #[tokio::test]
    async fn only_headers_of_the_slice_itself_are_granted() {
        let folder = tempfile::tempdir().expect("folder");
        let store: Arc<dyn Store> =
            create(&ShareConfig::at(folder.path().join("share").display().to_string())).await.expect("share");
        let key = Identity::generate(&mut OsEntropy);
        let recipients = [key.recipient()];
        let seal = |service: &str, content: &[u8]| {
            seal_object(content, &recipients, &context(service), &mut OsEntropy).expect("seals")
        };
        let (one, two, foreign) = (seal("dns", b"one"), seal("dns", b"two"), seal("web", b"theirs"));
        let keys = [key];
        let want = context("dns");
        let objects = vec![stored(&*store, &one, "dns").await, stored(&*store, &two, "dns").await];
        let granted = file_keys(&*store, objects.clone(), &want, &keys).await.expect("granted");
        assert_eq!(granted[&one.id], one.file_key);
        assert_eq!(granted[&two.id], two.file_key);

        // Another service's object under a name of this one's.
        let theirs = stored(&*store, &foreign, "dns").await;
        let refused = file_keys(&*store, vec![theirs], &want, &keys).await.expect_err("foreign");
        assert!(
            matches!(&refused, GrantError::Foreign { found, .. } if found.service.as_str() == "web"),
            "{refused}"
        );

        // The same header twice.
        let mut copy = two.bytes.to_vec();
        copy.push(0);
        let copied =
            SealedObject { id: ObjectId::of(&copy), bytes: copy.into(), file_key: two.file_key.clone() };
        let twice = vec![objects[1].clone(), stored(&*store, &copied, "dns").await];
        let refused = file_keys(&*store, twice, &want, &keys).await.expect_err("twice");
        assert!(matches!(refused, GrantError::Twice { .. }), "{refused}");

        // A changed context breaks the MAC.
        let text = String::from_utf8_lossy(&one.bytes).into_owned();
        let at = text.find(" dns 2").expect("the context");
        let mut changed = one.bytes.to_vec();
        changed[at + 1] = b'x';
        let changed = SealedObject {
            id: ObjectId::of(&changed),
            bytes: changed.into(),
            file_key: one.file_key.clone(),
        };
        let changed = stored(&*store, &changed, "dns").await;
        let refused = file_keys(&*store, vec![changed], &want, &keys).await.expect_err("changed");
        assert!(matches!(refused, GrantError::Header { .. }), "{refused}");
    }
}
