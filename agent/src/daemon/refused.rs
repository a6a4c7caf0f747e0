//! The objects of this service that a slice must not rely on: they are on the lists of sweeps and of pending prunes
//! (DESIGN section 6, "Prune, without keys"), or in quarantine, because they are not what they should be.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::alert::Code;
use muster_protocol::ids::{ObjectId, ServiceName};
use muster_protocol::log::State;
use muster_share::layout::ObjectPath;
use muster_share::lists::{ListError, MAX_OBJECT_LIST_LEN, parse_object_list};
use muster_share::store::{Store, StoreError};

/// Why it is not known what must not be relied on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedError {
    /// The list cannot be read.
    #[error("the list of objects that may go cannot be read")]
    Store(#[from] StoreError),
    /// The list is another one than the log names.
    #[error("lists/{list} does not have the content that the log names")]
    Hash {
        /// Which.
        list: ObjectId,
    },
    /// The list does not parse.
    #[error("lists/{list} is no object list")]
    List {
        /// Which.
        list: ObjectId,
        /// Why.
        source: ListError,
    },
}

impl RefusedError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Store(error) => error.alert().unwrap_or(Code::Verify01),
            Self::Hash { .. } | Self::List { .. } => Code::Verify01,
        }
    }

    /// Whether the next attempt would fail as well.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Store(error) => !error.is_transient(),
            Self::Hash { .. } | Self::List { .. } => true,
        }
    }
}

/// The ids on each list that are this service's; lists never change, so each is read once.
pub(crate) type Lists = BTreeMap<ObjectId, Vec<ObjectId>>;

/// The refused objects of `service`, as the log stands. `known` is what was read before; lists that no longer matter
/// leave it.
pub(crate) async fn refused(
    store: &dyn Store,
    log: &State,
    service: &ServiceName,
    mut known: Lists,
) -> (Lists, Result<BTreeSet<ObjectId>, RefusedError>) {
    let swept = log.sweeps.values().map(|(sweep, _)| sweep.list);
    let wanted: BTreeSet<ObjectId> = swept.chain(log.prunes.values().map(|prune| prune.list)).collect();
    known.retain(|list, _| wanted.contains(list));
    for list in wanted {
        if known.contains_key(&list) {
            continue;
        }
        match read(store, list, service).await {
            Ok(ids) => known.insert(list, ids),
            Err(error) => return (known, Err(error)),
        };
    }
    let quarantined = log.quarantine.get(service).into_iter().flat_map(|of| of.objects.keys());
    let refused = known.values().flatten().chain(quarantined).copied().collect();
    (known, Ok(refused))
}

async fn read(
    store: &dyn Store,
    list: ObjectId,
    service: &ServiceName,
) -> Result<Vec<ObjectId>, RefusedError> {
    let bytes = store.get(&ObjectPath::List(list), MAX_OBJECT_LIST_LEN as u64).await?;
    if ObjectId::of(&bytes) != list {
        return Err(RefusedError::Hash { list });
    }
    let paths = parse_object_list(&bytes).map_err(|source| RefusedError::List { list, source })?;
    Ok(paths.into_iter().filter_map(|path| own(path, service)).collect())
}

fn own(path: ObjectPath, service: &ServiceName) -> Option<ObjectId> {
    match path {
        ObjectPath::Pack { service: owner, id } | ObjectPath::Slice { service: owner, id, .. } => {
            (owner == *service).then_some(id)
        }
        ObjectPath::Format
        | ObjectPath::LogRecord(_)
        | ObjectPath::LogSegment(_)
        | ObjectPath::List(_)
        | ObjectPath::Manifest(_)
        | ObjectPath::Grant(_)
        | ObjectPath::Probe(_)
        | ObjectPath::Copy(_) => None,
    }
}
