//! The mark that makes a share a copy: an object that names the share it is a copy of.

use bytes::Bytes;
use muster_protocol::ids::Nonce;

use crate::layout::ObjectPath;
use crate::store::{Store, StoreError};

/// What the mark says to people who find it. Its name alone counts.
const TEXT: &str = "a copy of the share of this name: see docs/shares.md\n";

/// Whether `store` is a copy of the share of this name.
///
/// # Errors
/// When the share does not tell.
pub async fn is_copy(store: &dyn Store, share: &Nonce) -> Result<bool, StoreError> {
    match store.head(&ObjectPath::Copy(*share)).await {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Marks `store` as a copy of the share of this name.
///
/// # Errors
/// When it takes no mark.
pub(super) async fn mark(store: &dyn Store, share: &Nonce) -> Result<(), StoreError> {
    match store.put_new(&ObjectPath::Copy(*share), Bytes::from_static(TEXT.as_bytes())).await {
        Ok(()) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
