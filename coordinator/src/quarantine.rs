//! Quarantine: what was read again and is not what it should be is said in the log, once the share was seen to be itself.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::causes::causes;
use muster_protocol::ids::{ObjectId, ServiceName};
use muster_protocol::log::{
    Found, MAX_QUARANTINE_OBJECTS, MAX_QUARANTINED, MAX_RECORD_LEN, Quarantine, State,
};
use muster_share::layout::ObjectPath;
use muster_share::store::{Store, StoreError};
use muster_share::verify::Damage;

use crate::scribe::{Entry, ScribeError, ScribeHandle, unix_now};

/// Why nothing was said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuarantineError {
    /// The share does not hold the log's head: it is another one, or nothing at all, and tells nothing of single objects.
    #[error(
        "the share does not hold log record {number}, which was read from it: nothing is concluded from what it lacks"
    )]
    Strange {
        /// The record's number.
        number: u64,
    },
    /// The share does not answer.
    #[error("the share cannot be read")]
    Store(#[source] StoreError),
    /// The log takes no record.
    #[error(transparent)]
    Scribe(#[from] ScribeError),
}

/// Puts what is damaged into quarantine; what is in it already is not said again. Gives the number of objects that are new.
pub(crate) async fn add(
    store: &dyn Store,
    scribe: &ScribeHandle,
    damaged: &[(ServiceName, Damage)],
    found: Found,
) -> Result<usize, QuarantineError> {
    let state = scribe.state();
    let mut news: BTreeMap<&ServiceName, BTreeSet<ObjectId>> = BTreeMap::new();
    for (service, damage) in damaged {
        if let Some(id) = damage.object.id().filter(|id| !state.is_quarantined(service, id)) {
            news.entry(service).or_default().insert(*id);
        }
    }
    if news.is_empty() {
        return Ok(0);
    }
    recognise(store, &state).await?;
    for (service, damage) in damaged {
        tracing::error!(%service, "VERIFY-01: {damage}");
    }
    let mut count = 0;
    for (service, objects) in news {
        let known = state.quarantine.get(service).map_or(0, |of| of.objects.len());
        let room = MAX_QUARANTINED.saturating_sub(known);
        if objects.len() > room {
            tracing::error!(%service, objects = objects.len() - room, "VERIFY-01: more is damaged than quarantine holds");
        }
        let objects: Vec<ObjectId> = objects.into_iter().take(room).collect();
        for some in objects.chunks(MAX_QUARANTINE_OBJECTS) {
            say(scribe, service, some.to_vec(), found, Vec::new()).await?;
            count += some.len();
        }
    }
    Ok(count)
}

/// Lifts the quarantine of objects that are whole again, or gone and needed by nothing.
pub(crate) async fn lift(
    scribe: &ScribeHandle,
    service: &ServiceName,
    objects: &[ObjectId],
) -> Result<(), ScribeError> {
    for some in objects.chunks(MAX_QUARANTINE_OBJECTS) {
        tracing::info!(%service, objects = some.len(), "objects are out of quarantine");
        say(scribe, service, Vec::new(), Found::Bytes, some.to_vec()).await?;
    }
    Ok(())
}

async fn say(
    scribe: &ScribeHandle,
    service: &ServiceName,
    add: Vec<ObjectId>,
    found: Found,
    lift: Vec<ObjectId>,
) -> Result<(), ScribeError> {
    let said = Quarantine { epoch: 0, service: service.clone(), add, found, lift, at: unix_now() };
    scribe.write(Entry::Quarantine(said)).await
}

/// Whether the share is the one whose log was read: not another, nor an older state of it. That it was there when something was
/// missing is not known from this, but from [`muster_share::log::Sure`].
pub(crate) async fn recognise(store: &dyn Store, state: &State) -> Result<(), QuarantineError> {
    let number = state.head.number;
    let strange = QuarantineError::Strange { number };
    match store.get(&ObjectPath::LogRecord(number), MAX_RECORD_LEN as u64).await {
        Ok(bytes) if ObjectId::of(&bytes) == state.head.hash => Ok(()),
        Ok(_)
        | Err(StoreError::NotFound { .. } | StoreError::TooLong { .. } | StoreError::Damaged { .. }) => {
            tracing::warn!("{}", causes(&strange));
            Err(strange)
        }
        Err(error) => Err(QuarantineError::Store(error)),
    }
}
