//! Chunk indexes: which chunks lie in which pack, so that an agent that lost its cache deduplicates again. Sealed to the
//! agent's own key, too; holds no paths and no chunk key.

use muster_protocol::age::Recipient;
use muster_protocol::entropy::Entropy;
use muster_protocol::ids::{ChunkId, ObjectId};
use muster_protocol::wire;
use serde::{Deserialize, Serialize};

use super::{ListError, VERSION, bounded, known};
use crate::sealed::{PackContext, SealedObject, Unlock, open_object, seal_object};

/// Longest chunk index, decompressed, in bytes: about 6 million chunks, or 1.5 TiB of plain bytes. Write several.
pub const MAX_CHUNK_INDEX_LEN: usize = 64 * 1024 * 1024;

/// The chunks of one pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexedPack {
    /// The agent's number of the pack.
    pub number: u64,
    /// Its chunks in order: names and plain lengths in bytes.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// A chunk index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkIndex {
    version: u16,
    /// The packs.
    pub packs: Vec<IndexedPack>,
}

impl ChunkIndex {
    /// An index of these packs.
    #[must_use]
    pub fn new(packs: Vec<IndexedPack>) -> Self {
        Self { version: VERSION, packs }
    }

    /// Seals it to the agent's and the recovery keys.
    ///
    /// # Errors
    /// [`ListError::TooLong`], or when the recipients are unusable.
    pub fn seal(
        &self,
        recipients: &[Recipient],
        context: &PackContext,
        entropy: &mut dyn Entropy,
    ) -> Result<SealedObject, ListError> {
        let bytes = wire::encode(self);
        bounded(&bytes, MAX_CHUNK_INDEX_LEN)?;
        Ok(seal_object(&bytes, recipients, context, entropy)?)
    }

    /// Opens a chunk index.
    ///
    /// # Errors
    /// Those of the seal; when the content is too long, malformed or of another version.
    pub fn open(
        bytes: &[u8],
        expected: Option<&ObjectId>,
        unlock: Unlock<'_>,
    ) -> Result<(PackContext, Self), ListError> {
        let (context, content) = open_object(bytes, expected, unlock, MAX_CHUNK_INDEX_LEN)?;
        let index: Self = wire::decode(&content)?;
        known(index.version)?;
        Ok((context, index))
    }
}

#[cfg(test)]
mod tests {
    use super::{ChunkIndex, IndexedPack};
    use crate::entropy::OsEntropy;
    use crate::lists::ListError;
    use crate::sealed::{PackContext, SealedError, Unlock};
    use muster_protocol::age::Identity;
    use muster_protocol::ids::{ChunkId, FleetId};

    #[test]
    fn indexes_open_for_the_agent_and_for_recovery() {
        let [agent, recovery, other] = [(); 3].map(|()| Identity::generate(&mut OsEntropy));
        let chunks = (0..1000u32)
            .map(|n| (ChunkId::from_bytes([u8::try_from(n % 256).expect("small"); 32]), n))
            .collect();
        let index = ChunkIndex::new(vec![
            IndexedPack { number: 1, chunks },
            IndexedPack { number: 9, chunks: vec![] },
        ]);
        let context = PackContext {
            fleet: FleetId::from_bytes([1; 32]),
            service: "a".parse().expect("name"),
            keyset: 2,
        };
        let sealed =
            index.seal(&[agent.recipient(), recovery.recipient()], &context, &mut OsEntropy).expect("sealed");
        for key in [agent, recovery] {
            let opened =
                ChunkIndex::open(&sealed.bytes, Some(&sealed.id), Unlock::Identities(&[key])).expect("opens");
            assert_eq!(opened, (context.clone(), index.clone()));
        }
        let error =
            ChunkIndex::open(&sealed.bytes, None, Unlock::Identities(&[other])).expect_err("another's");
        assert!(matches!(error, ListError::Sealed(SealedError::NoKey(_))), "{error}");
    }
}
