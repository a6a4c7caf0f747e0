//! The object lists that `prune` and `sweep` records name, read and compared with their names.

use std::collections::BTreeSet;

use muster_protocol::causes::causes;
use muster_protocol::ids::ObjectId;
use muster_protocol::log::State;
use muster_protocol::prune::sweeps_after;

use crate::layout::ObjectPath;
use crate::lists::{MAX_OBJECT_LIST_LEN, parse_object_list};
use crate::store::{Store, StoreError};

/// Why an object list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectListError {
    /// The share does not give it.
    #[error("a list of objects that go cannot be read")]
    Store(#[from] StoreError),
    /// It has other bytes than the log names, or they are no object list.
    #[error("lists/{list}: {why}")]
    Content {
        /// Which.
        list: ObjectId,
        /// What is wrong with it.
        why: String,
    },
}

/// The objects of a list, in byte order of their paths.
///
/// # Errors
/// When it cannot be read, or is another one than its name says.
pub async fn read_object_list(store: &dyn Store, list: ObjectId) -> Result<Vec<ObjectPath>, ObjectListError> {
    let bytes = store.get(&ObjectPath::List(list), MAX_OBJECT_LIST_LEN as u64).await?;
    if ObjectId::of(&bytes) != list {
        let why = "it does not have the hash that it is named by".to_owned();
        return Err(ObjectListError::Content { list, why });
    }
    parse_object_list(&bytes).map_err(|error| ObjectListError::Content { list, why: causes(&error) })
}

/// The objects of all sweeps behind log number `after`: what was checked when the log stood there may be committed only
/// if it names none of them. Reads nothing when there was no sweep since.
///
/// # Errors
/// When a list cannot be read; then it is not known, and nothing may be committed.
pub async fn swept_since(
    store: &dyn Store,
    state: &State,
    after: u64,
) -> Result<BTreeSet<ObjectPath>, ObjectListError> {
    let mut swept = BTreeSet::new();
    for list in sweeps_after(state, after) {
        swept.extend(read_object_list(store, list).await?);
    }
    Ok(swept)
}
