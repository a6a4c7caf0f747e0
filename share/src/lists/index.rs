//! The slice index: the secret and the map that a restore starts from. Its entries are not in it: they are a stream
//! ([`super::EntryReader`]) that is chunked and packed like data, and the index says where it lies.

use std::collections::BTreeMap;
use std::fmt;

use muster_protocol::age::Recipient;
use muster_protocol::document::SliceTotals;
use muster_protocol::entropy::Entropy;
use muster_protocol::ids::{ObjectId, RoundId, ServiceName, SourceName};
use muster_protocol::wire;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::{ListError, VERSION, bounded, known};
use crate::chunk::ChunkKey;
use crate::entry::Extent;
use crate::sealed::{PackContext, SealedObject, Unlock, open_object, seal_object};

/// Longest slice index, decompressed, in bytes.
pub const MAX_INDEX_LEN: usize = 64 * 1024 * 1024;

/// One source of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexedSource {
    /// Its name.
    pub name: SourceName,
    /// Its kind, as configured: `files`, `sqlite`, `command`, ….
    pub kind: String,
    /// How many entries it has in the entry stream.
    pub entries: u64,
    /// How a person brings it back without Muster.
    pub recipe: String,
    /// The native tools that captured it, and their versions.
    pub tool_versions: BTreeMap<String, String>,
    /// Sockets, and other things that no backup can hold, that were passed over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Folders of other file systems that were kept as empty folders.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mounts: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The slice index.
#[derive(Clone, PartialEq, Eq)]
pub struct IndexRoot {
    /// The service.
    pub service: ServiceName,
    /// The round.
    pub round: RoundId,
    /// The secret that names the slice's chunks.
    pub chunk_key: ChunkKey,
    /// The sources, in the order of their entries.
    pub sources: Vec<IndexedSource>,
    /// What the slice amounts to.
    pub totals: SliceTotals,
    /// Where the entry stream lies.
    pub entries: Vec<Extent>,
    /// Its length in bytes.
    pub entries_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u16,
    service: ServiceName,
    round: RoundId,
    chunk_key: ByteArray<32>,
    sources: Vec<IndexedSource>,
    totals: SliceTotals,
    entries: Vec<Extent>,
    entries_bytes: u64,
}

impl IndexRoot {
    /// Seals it to the recovery keys.
    ///
    /// # Errors
    /// [`ListError::TooLong`], [`ListError::EntriesEnd`] when the extents do not add up to the stream's length, or
    /// when the recipients are unusable.
    pub fn seal(
        &self,
        recipients: &[Recipient],
        context: &PackContext,
        entropy: &mut dyn Entropy,
    ) -> Result<SealedObject, ListError> {
        self.check()?;
        let bytes = zeroize::Zeroizing::new(wire::encode(&Written {
            version: VERSION,
            service: self.service.clone(),
            round: self.round,
            chunk_key: ByteArray::new(*self.chunk_key.expose()),
            sources: self.sources.clone(),
            totals: self.totals,
            entries: self.entries.clone(),
            entries_bytes: self.entries_bytes,
        }));
        bounded(&bytes, MAX_INDEX_LEN)?;
        Ok(seal_object(&bytes, recipients, context, entropy)?)
    }

    /// Opens a slice index.
    ///
    /// # Errors
    /// Those of the seal; when the content is too long, malformed, of another version, or does not add up.
    pub fn open(
        bytes: &[u8],
        expected: Option<&ObjectId>,
        unlock: Unlock<'_>,
    ) -> Result<(PackContext, Self), ListError> {
        let (context, content) = open_object(bytes, expected, unlock, MAX_INDEX_LEN)?;
        let content = zeroize::Zeroizing::new(content);
        let written: Written = wire::decode(&content)?;
        known(written.version)?;
        let root = Self {
            service: written.service,
            round: written.round,
            chunk_key: ChunkKey::from_bytes(written.chunk_key.into_array()),
            sources: written.sources,
            totals: written.totals,
            entries: written.entries,
            entries_bytes: written.entries_bytes,
        };
        root.check()?;
        Ok((context, root))
    }

    /// How many entries the stream has.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.sources.iter().map(|source| source.entries).fold(0, u64::saturating_add)
    }

    fn check(&self) -> Result<(), ListError> {
        let len = self.entries.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.length()));
        if len == Some(self.entries_bytes) { Ok(()) } else { Err(ListError::EntriesEnd) }
    }
}

impl fmt::Debug for IndexRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexRoot")
            .field("service", &self.service)
            .field("round", &self.round)
            .field("sources", &self.sources.len())
            .field("entries_bytes", &self.entries_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{IndexRoot, IndexedSource};
    use crate::chunk::ChunkKey;
    use crate::entropy::OsEntropy;
    use crate::entry::Extent;
    use crate::lists::ListError;
    use crate::sealed::{PackContext, Unlock};
    use muster_protocol::age::Identity;
    use muster_protocol::document::SliceTotals;
    use muster_protocol::ids::{FleetId, RoundId};
    use std::collections::BTreeMap;

    fn root() -> IndexRoot {
        IndexRoot {
            service: "a".parse().expect("name"),
            round: RoundId::from_bytes([3; 16]),
            chunk_key: ChunkKey::from_bytes([0xab; 32]),
            sources: vec![IndexedSource {
                name: "files".parse().expect("name"),
                kind: "files".to_owned(),
                entries: 7,
                recipe: "copy it back".to_owned(),
                tool_versions: BTreeMap::from([("tar".to_owned(), "1.34".to_owned())]),
                skipped: 3,
                mounts: 0,
            }],
            totals: SliceTotals { source_bytes: 5, ..SliceTotals::default() },
            entries: vec![
                Extent::Data { pack: 1, offset: 0, length: 500 },
                Extent::Data { pack: 2, offset: 9, length: 20 },
            ],
            entries_bytes: 520,
        }
    }

    #[test]
    fn indexes_round_trip_and_show_no_secret() {
        let key = Identity::generate(&mut OsEntropy);
        let context = PackContext {
            fleet: FleetId::from_bytes([1; 32]),
            service: "a".parse().expect("name"),
            keyset: 2,
        };
        let sealed = root().seal(&[key.recipient()], &context, &mut OsEntropy).expect("sealed");
        let keys = [key];
        let opened = IndexRoot::open(&sealed.bytes, Some(&sealed.id), Unlock::Identities(&keys));
        assert_eq!(opened.expect("opens"), (context.clone(), root()));
        assert_eq!(root().entry_count(), 7);
        assert!(!format!("{:?}", root()).contains("ab"));
        let short = IndexRoot { entries_bytes: 521, ..root() };
        assert!(matches!(
            short.seal(&[keys[0].recipient()], &context, &mut OsEntropy),
            Err(ListError::EntriesEnd)
        ));
    }
}
