//! Pack lists: which number of an agent's is which pack. Not sealed: the coordinator checks with them, without keys,
//! that every pack of a slice is on the share. A slice names several; each round adds a short one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use muster_protocol::entropy::{Entropy, random};
use muster_protocol::ids::{Nonce, ObjectId};
use muster_protocol::wire;
use serde::{Deserialize, Serialize};

use super::{ListError, VERSION, bounded, known};

/// Longest pack list, in bytes: about a million packs, or 16 TiB stored.
pub const MAX_PACK_LIST_LEN: usize = 64 * 1024 * 1024;

/// One pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPack {
    /// The agent's number of it, never given again.
    pub number: u64,
    /// SHA-256 of the object.
    pub id: ObjectId,
    /// Its length in bytes.
    pub size: u64,
}

/// A pack list. Its rows are written as arrays, `[number, id, size]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackList {
    /// The packs.
    pub packs: Vec<ListedPack>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u16,
    /// Random: a list that a crash left torn keeps its name for good, and the next one needs another.
    salt: Nonce,
    packs: Vec<(u64, ObjectId, u64)>,
}

impl PackList {
    /// The object's bytes, different at each call: `entropy` gives the salt.
    ///
    /// # Errors
    /// [`ListError::TooLong`].
    pub fn encode(&self, entropy: &mut dyn Entropy) -> Result<Vec<u8>, ListError> {
        let packs = self.packs.iter().map(|pack| (pack.number, pack.id, pack.size)).collect();
        let salt = Nonce::from_bytes(random(entropy));
        let bytes = wire::encode(&Written { version: VERSION, salt, packs });
        bounded(&bytes, MAX_PACK_LIST_LEN)?;
        Ok(bytes)
    }

    /// Reads the object's bytes.
    ///
    /// # Errors
    /// When they are too long, malformed or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, ListError> {
        bounded(bytes, MAX_PACK_LIST_LEN)?;
        let Written { version, salt: _, packs } = wire::decode(bytes)?;
        known(version)?;
        let packs = packs.into_iter().map(|(number, id, size)| ListedPack { number, id, size }).collect();
        Ok(Self { packs })
    }

    /// All packs of several lists by number: id and length in bytes.
    ///
    /// # Errors
    /// [`ListError::DuplicatePack`] when a number is given twice.
    pub fn union<'a>(
        lists: impl IntoIterator<Item = &'a Self>,
    ) -> Result<BTreeMap<u64, (ObjectId, u64)>, ListError> {
        let mut all = BTreeMap::new();
        for pack in lists.into_iter().flat_map(|list| &list.packs) {
            match all.entry(pack.number) {
                Entry::Vacant(free) => free.insert((pack.id, pack.size)),
                Entry::Occupied(_) => return Err(ListError::DuplicatePack { number: pack.number }),
            };
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::{ListedPack, PackList};
    use crate::entropy::OsEntropy;
    use crate::lists::ListError;
    use muster_protocol::ids::ObjectId;

    fn list(numbers: std::ops::Range<u64>) -> PackList {
        let pack =
            |number: u64| ListedPack { number, id: ObjectId::of(&number.to_be_bytes()), size: number * 10 };
        PackList { packs: numbers.map(pack).collect() }
    }

    #[test]
    fn lists_round_trip_and_join() {
        for numbers in [0..0, 1..2, 5..1000] {
            let list = list(numbers);
            assert_eq!(PackList::decode(&list.encode(&mut OsEntropy).expect("short")).expect("reads"), list);
        }
        let all = PackList::union([&list(1..5), &list(5..9)]).expect("disjoint");
        assert_eq!(all.len(), 8);
        assert_eq!(all[&7], (ObjectId::of(&7u64.to_be_bytes()), 70));
    }

    #[test]
    fn a_number_names_one_pack() {
        let error = PackList::union([&list(1..5), &list(4..9)]).expect_err("4 is given twice");
        assert!(matches!(error, ListError::DuplicatePack { number: 4 }));
        assert!(matches!(
            PackList::decode(b"\x83\xa7version\x02\xa4salt\xc4\x100123456789abcdef\xa5packs\x90"),
            Err(ListError::Version { version: 2 })
        ));
        assert!(matches!(PackList::decode(b"\x80"), Err(ListError::Wire(_))));
    }
}
