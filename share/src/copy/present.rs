//! What is on the copy already: a few bytes for each object, so that a share of millions fits into memory.

use std::collections::HashMap;

use futures::StreamExt;

use crate::layout::{ObjectPath, Prefix};
use crate::store::{Listed, Store, StoreError};

/// Objects of the copy by the first 128 bits of their path's BLAKE3, with their lengths in bytes.
#[derive(Debug, Default)]
pub(super) struct Present(HashMap<u128, u64>);

impl Present {
    /// Everything that the copy lists.
    ///
    /// # Errors
    /// When it cannot be listed to the end.
    pub(super) async fn list(store: &dyn Store) -> Result<Self, StoreError> {
        let mut present = Self::default();
        let mut listing = store.list(&Prefix::Everything);
        while let Some(listed) = listing.next().await {
            match listed? {
                Listed::Object { path, size } => present.add(&path, size),
                Listed::Foreign { .. } => {}
            }
        }
        Ok(present)
    }

    /// It is there now, with this length.
    pub(super) fn add(&mut self, path: &ObjectPath, size: u64) {
        self.0.insert(key(path), size);
    }

    /// It is gone.
    pub(super) fn remove(&mut self, path: &ObjectPath) {
        self.0.remove(&key(path));
    }

    /// Its length, if it is there.
    pub(super) fn size(&self, path: &ObjectPath) -> Option<u64> {
        self.0.get(&key(path)).copied()
    }
}

fn key(path: &ObjectPath) -> u128 {
    let hash = blake3::hash(path.to_string().as_bytes());
    let (first, _) = hash.as_bytes().split_first_chunk::<16>().expect("a hash has 32 bytes");
    u128::from_be_bytes(*first)
}
